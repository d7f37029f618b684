package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// fixture is the processes that wrk's measurements need; all of them end with it.
type fixture struct {
	redis *redisServer
	wrk   *wrkTool
	dir   string
	said  words // what the programs said on stderr
	ends  []func()
}

// words keeps what was written last. It is safe for concurrent use.
type words struct {
	mu   sync.Mutex
	text []byte
}

const wordsKept = 4000

func (w *words) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text = append(w.text, p...)
	w.text = w.text[max(0, len(w.text)-wordsKept):]
	return len(p), nil
}

func (w *words) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return string(w.text)
}

func newFixture(ctx context.Context, b *bench) (*fixture, error) {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return nil, err
	}
	s := &fixture{dir: dir, ends: []func(){func() { _ = os.RemoveAll(dir) }}}
	if s.wrk, err = newWrk(dir, b.load); err == nil {
		s.redis, err = startRedis(ctx)
	}
	if err != nil {
		s.close()
		return nil, err
	}
	s.ends = append(s.ends, s.redis.close)
	return s, nil
}

// settings is the environment that bridge and breakerd share.
func (s *fixture) settings(mode breaker.Consistency) []string {
	return []string{
		"REDIS_URL=" + s.redis.url(), "CIRCUIT_BREAKER_CONSISTENCY=" + string(mode), "CIRCUIT_BREAKER_KEY_PREFIX=" + sidePrefix(mode),
		"REDIS_TIMEOUT_MS=" + strconv.FormatInt(storeTimeout.Milliseconds(), 10),
	}
}

// sidePrefix keeps the modes' breakers apart.
func sidePrefix(mode breaker.Consistency) string { return "bench_" + string(mode) }

// explain adds to an error what the programs said.
func (s *fixture) explain(err error) error {
	if said := s.said.String(); err != nil && said != "" {
		return fmt.Errorf("%w\n%s", err, said)
	}
	return err
}

func (s *fixture) close() {
	for _, end := range slices.Backward(s.ends) {
		end()
	}
}

// process is a program that serves.
type process struct {
	url string // http://host:port
	pid int
}

// role starts this program as one of the stand's processes.
func (s *fixture) role(ctx context.Context, args ...string) (process, error) {
	self, err := os.Executable()
	if err != nil {
		return process{}, err
	}
	return s.start(ctx, append([]string{self}, args...))
}

// build makes a program of the parent module.
func (s *fixture) build(ctx context.Context, name string) (path string, err error) {
	const module = "github.com/breakerd/breakerd"
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		return "", fmt.Errorf("find %s: %w", module, err)
	}
	path = filepath.Join(s.dir, name)
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-o", path, "./cmd/"+name) //nolint:gosec // one of two names
	cmd.Dir, cmd.Env = strings.TrimSpace(string(root)), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", name, err, out)
	}
	return path, nil
}

// start starts a program that prints a line which ends with the URL that it serves.
func (s *fixture) start(ctx context.Context, argv []string, env ...string) (process, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...) //nolint:gosec // the bench's own programs
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = &s.said
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return process{}, fmt.Errorf("start %s: %w", argv[0], err)
	}
	s.ends = append(s.ends, func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	lines := bufio.NewReader(out)
	line, err := lines.ReadString('\n')
	i := strings.LastIndex(line, "http://")
	if err != nil || i < 0 {
		return process{}, fmt.Errorf("%s does not say where it listens: %q: %w", argv[0], line, errors.Join(err, errNoURL))
	}
	go func() { _, _ = io.Copy(io.Discard, lines) }()
	return process{strings.TrimSpace(line[i:]), cmd.Process.Pid}, nil
}

var errNoURL = errors.New("no URL")

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
