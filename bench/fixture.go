package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// fixture is the processes that a measurement by wrk needs. They end with its section.
type fixture struct {
	t        testkit.T
	redis    *redisServer
	wrk      *wrkTool
	dir      string
	programs []*testkit.Process
}

func newFixture(t testkit.T, b *bench) *fixture {
	t.Helper()
	f := &fixture{t: t, redis: startRedis(t), dir: t.TempDir()}
	var err error
	if f.wrk, err = newWrk(f.dir, b.load); err != nil {
		t.Fatalf("scripts of wrk: %v", err)
	}
	return f
}

// settings is the environment that bridge and breakerd share.
func (f *fixture) settings(mode breaker.Consistency) []string {
	return []string{
		"REDIS_URL=" + f.redis.URL(),
		"REDIS_TIMEOUT_MS=" + strconv.FormatInt(storeTimeout.Milliseconds(), 10),
		"CIRCUIT_BREAKER_CONSISTENCY=" + string(mode),
		"CIRCUIT_BREAKER_KEY_PREFIX=" + modePrefix(mode),
	}
}

// modePrefix separates the breakers of the modes.
func modePrefix(mode breaker.Consistency) string { return "bench_" + string(mode) }

// explain adds to an error the last lines that the programs wrote on stderr.
func (f *fixture) explain(err error) error {
	const most = 4000
	for _, p := range f.programs {
		if text := p.Stderr(); err != nil && text != "" {
			err = fmt.Errorf("%w\n%s", err, text[max(0, len(text)-most):])
		}
	}
	return err
}

// process is a program that serves HTTP.
type process struct {
	url string // http://host:port
	pid int
}

// role starts this program as one of the fixture's servers.
func (f *fixture) role(args ...string) process {
	f.t.Helper()
	self, err := os.Executable()
	if err != nil {
		f.t.Fatalf("path of this program: %v", err)
	}
	return f.start(append([]string{self}, args...))
}

// build makes a program of the parent module, and returns its path.
func (f *fixture) build(name string) string {
	f.t.Helper()
	const module = "github.com/breakerd/breakerd"
	root, err := exec.CommandContext(f.t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		f.t.Fatalf("find %s: %v", module, err)
	}
	path := filepath.Join(f.dir, name)
	args := []string{"build", "-trimpath", "-buildvcs=false", "-o", path, "./cmd/" + name}
	cmd := exec.CommandContext(f.t.Context(), "go", args...) //nolint:gosec // name is one of two
	cmd.Dir, cmd.Env = strings.TrimSpace(string(root)), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		f.t.Fatalf("build %s: %v\n%s", name, err, out)
	}
	return path
}

// listening matches the log line with which our programs say where they listen.
var listening = regexp.MustCompile(`"msg":"listening".*?"address":"([^"]+)"`)

// start starts a program and waits until it listens.
func (f *fixture) start(argv []string, env ...string) (served process) {
	f.t.Helper()
	p := testkit.Run(f.t, argv, append(os.Environ(), env...))
	f.programs = append(f.programs, p)
	served.pid = p.PID()
	testkit.Eventually(f.t, argv[0]+" to listen", 30*time.Second, func() error {
		log := p.Stderr()
		if found := listening.FindStringSubmatch(log); found != nil {
			served.url = "http://" + found[1]
			return nil
		}
		if !p.Running() {
			f.t.Fatalf("%s ended: %s", argv[0], log)
		}
		return fmt.Errorf("no such line in its log:\n%s", log)
	})
	return served
}

// fetch gets a page.
func fetch(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return "", err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", url, res.Status, text)
	}
	return string(text), err
}
