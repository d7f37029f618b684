package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
)

// program is one of our programs; listen is the variable of its address, dir has its package.
type program struct{ name, listen, dir string }

var (
	breakerd   = program{"breakerd", "BREAKERD_LISTEN", "cmd/breakerd"}
	bridge     = program{"bridge", "BRIDGE_LISTEN", "cmd/bridge"}
	demoAgent  = program{"demo-agent", "DEMO_LISTEN", "cmd/demo-agent"}
	breakerctl = program{"breakerctl", "", "cmd/breakerctl"}
	member     = program{"member", "MEMBER_LISTEN", "test/e2e/internal/member"}

	// binaries is where TestMain has built them, with the race detector.
	binaries string
)

func (p program) binary() string { return filepath.Join(binaries, p.name) }

func TestMain(m *testing.M) {
	redis.SetLogger(quiet{})
	dir, err := os.MkdirTemp("", "breakerd-e2e")
	if err == nil {
		binaries = dir
		err = build(dir, "-race", breakerd, bridge, demoAgent, member, breakerctl)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(dir)
		os.Exit(code)
	}))
}

// build compiles programs into a directory. how is a flag of go build. VCS stamping is off, for another process may be
// writing to the repository.
func build(to, how string, programs ...program) error {
	args := []string{"build", how, "-buildvcs=false", "-o", to + string(filepath.Separator)}
	for _, p := range programs {
		args = append(args, "github.com/breakerd/breakerd/"+p.dir)
	}
	cmd := exec.Command("go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %q: %w\n%s", args, err, out)
	}
	return nil
}

// quiet drops go-redis's own log lines: these tests break connections.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

// packages maps a tool to its Debian package.
var packages = map[string]string{
	"redis-server": "redis-server", "redis-cli": "redis-tools", "jq": "jq", "curl": "curl", "bash": "bash", "grep": "grep",
	"script": "bsdutils", "unshare": "util-linux", "nsenter": "util-linux", "ip": "iproute2",
	"systemd-analyze": "systemd", "nginx": "nginx-light", "haproxy": "haproxy", "caddy": "caddy", "logrotate": "logrotate",
}

// need fails the test if a tool is missing.
func need(t testing.TB, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%s is not installed; run: apt-get install %s", tool, packages[tool])
		}
	}
}
