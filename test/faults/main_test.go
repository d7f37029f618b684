package faults

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
)

var (
	everything = flag.Bool("all", false, "run every fault, and each at full length")

	// breakerd is the path of the program, which TestMain has built with the race detector.
	breakerd string
)

func TestMain(m *testing.M) {
	flag.Parse()
	redis.SetLogger(quiet{})
	dir, err := os.MkdirTemp("", "breakerd-faults")
	if err == nil {
		breakerd = filepath.Join(dir, "breakerd")
		err = build(breakerd)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(dir)
		os.Exit(code)
	}))
}

// build compiles breakerd. VCS stamping is off, for another process may be writing to the repository.
func build(to string) error {
	cmd := exec.Command("go", "build", "-race", "-buildvcs=false", "-o", to, "github.com/breakerd/breakerd/cmd/breakerd")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%q: %w\n%s", cmd.Args, err, out)
	}
	return nil
}

// quiet drops go-redis's own log lines: these tests break connections.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}
