package registry_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/registry"
	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/breaker"
)

const soon = 20 * time.Second

// follow runs a registry on a file until the test ends. changes counts the good changes.
func follow(t *testing.T, path string, log *logLines) (r *registry.Registry, changes *atomic.Int32) {
	t.Helper()
	changes = &atomic.Int32{}
	r, err := registry.New(registry.Options{
		Path: path, Default: breaker.DefaultPolicy(), Logger: log.logger(), Every: 5 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.Run(ctx, func() { changes.Add(1) })
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return r, changes
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// replace renames a new file to path, as editors do.
func replace(t *testing.T, path, text string) {
	t.Helper()
	write(t, path+".new", text)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// one is a file with one agent.
func one(name, host string) string {
	return fmt.Sprintf(`[{"name": %q, "url": "http://%s"}]`, name, host)
}

func waitForHost(t *testing.T, r *registry.Registry, name, host string) {
	t.Helper()
	testkit.Eventually(t, name+" at "+host, soon, func() error {
		a, err := r.Agent(t.Context(), name)
		if err == nil && a.URL.Host != host {
			err = errors.New("it is at " + a.URL.Host)
		}
		return err
	})
}

func waitForProblem(t *testing.T, r *registry.Registry, text string) {
	t.Helper()
	testkit.Eventually(t, "the problem "+text, soon, func() error {
		if err := r.Status().Problem; err == nil || !strings.Contains(err.Error(), text) {
			return fmt.Errorf("it is %w", err)
		}
		return nil
	})
}

func TestFile_EditCountsHoweverItIsMade(t *testing.T) {
	t.Parallel()
	path, log := filepath.Join(t.TempDir(), "agents.json"), &logLines{}
	write(t, path, one("a", "h1"))
	r, changes := follow(t, path, log)
	write(t, path, one("a", "h2")) // in place, with the same size and perhaps the same time
	waitForHost(t, r, "a", "h2")
	replace(t, path, one("a", "h3"))
	waitForHost(t, r, "a", "h3")
	testkit.Eventually(t, "onChange", soon, func() error {
		if n := changes.Load(); n != 2 {
			return fmt.Errorf("called %d times", n)
		}
		return nil
	})
	replace(t, path, `{"agents": [{"name": "b", "url": "http://b1"}, {"name": "c"}]}`)
	waitForHost(t, r, "b", "b1")
	if _, err := r.Agent(t.Context(), "a"); !errors.Is(err, registry.ErrUnknown) {
		t.Errorf("a is gone from the file, and here: %v", err)
	}
	testkit.Eventually(t, "the log", soon, func() error {
		lines := log.with("registry_loaded")
		if len(lines) != 3 || !strings.Contains(lines[2], "level=INFO") || !strings.Contains(lines[2], "agents=2 added=2 changed=0 removed=1") ||
			!strings.Contains(lines[0], "added=0 changed=1 removed=0") {
			return fmt.Errorf("got %q", lines)
		}
		return nil
	})
}

// A coarse clock, or a tool that keeps times, gives another text the same time and size.
func TestFile_EditOfAYoungFileCountsThoughItsTimeDoesNotChange(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "agents.json")
	write(t, path, one("a", "h1"))
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	r, _ := follow(t, path, &logLines{})
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if _, err := f.WriteString(one("a", "h2")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, before.ModTime(), before.ModTime()); err != nil {
		t.Fatal(err)
	}
	waitForHost(t, r, "a", "h2")
}

// Kubernetes mounts a ConfigMap as agents.json -> ..data/agents.json, ..data -> ..2026_01, and replaces ..data.
func TestFile_FollowsLinks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	old := time.Now().Add(-time.Hour)
	for i, version := range []string{"..1", "..2"} {
		if err := os.Mkdir(filepath.Join(dir, version), 0o700); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, version, "agents.json")
		write(t, file, one("a", fmt.Sprint("h", i+1)))
		if err := os.Chtimes(file, old, old); err != nil { // same size, same time
			t.Fatal(err)
		}
	}
	path, data := filepath.Join(dir, "agents.json"), filepath.Join(dir, "..data")
	for _, link := range [][2]string{{"..1", data}, {"..data/agents.json", path}, {"..2", data + "_tmp"}} {
		if err := os.Symlink(link[0], link[1]); err != nil {
			t.Fatal(err)
		}
	}
	r, _ := follow(t, path, &logLines{})
	waitForHost(t, r, "a", "h1")
	if err := os.Rename(data+"_tmp", data); err != nil {
		t.Fatal(err)
	}
	waitForHost(t, r, "a", "h2")
}

func TestFile_BadEditLeavesTheLastGoodOne(t *testing.T) {
	t.Parallel()
	path, log := filepath.Join(t.TempDir(), "agents.json"), &logLines{}
	write(t, path, one("a", "h1"))
	r, changes := follow(t, path, log)
	loaded := r.Status().LoadedAt

	replace(t, path, one("a", "h2")[:20]) // half written
	waitForProblem(t, r, "agents.json:1:21: unexpected end")
	replace(t, path, one("a b", "h2"))
	waitForProblem(t, r, `agents.json:1: agents[0].name: "a b" is not allowed`)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	waitForProblem(t, r, "no such file")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	waitForProblem(t, r, "is a directory (Docker makes one when the file to mount is missing)")
	waitForHost(t, r, "a", "h1")
	if s := r.Status(); s.Agents != 1 || !s.LoadedAt.Equal(loaded) || changes.Load() != 0 {
		t.Errorf("got %+v after %d changes", s, changes.Load())
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	replace(t, path, one("a", "h1"))
	testkit.Eventually(t, "the problem's end", soon, func() error { return r.Status().Problem })
	testkit.Eventually(t, "the log", soon, func() error {
		bad, good := log.with("registry_bad"), log.with("registry_loaded")
		if len(bad) < 4 || len(bad) > 5 || len(good) != 1 || !strings.Contains(bad[0], "level=ERROR") { // its absence may be seen twice
			return fmt.Errorf("%d bad, %d loaded: %q", len(bad), len(good), bad)
		}
		return nil
	})
}

func TestStatus_DoesNotWaitForARead(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "agents.json")
	write(t, path, one("a", "h1"))
	r, err := registry.New(registry.Options{Path: path, Default: breaker.DefaultPolicy(), Every: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	reading, goOn, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	r.BeforeRead(sync.OnceFunc(func() {
		close(reading)
		<-goOn
	}))
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer close(ended)
		r.Run(ctx, func() {})
	}()
	<-reading // a young file is read at each poll
	status := make(chan registry.Status, 1)
	go func() { status <- r.Status() }()
	select {
	case s := <-status:
		if s.Agents != 1 || s.Problem != nil {
			t.Errorf("got %+v", s)
		}
	case <-time.After(soon):
		t.Error("Status waits for the read")
	}
	close(goOn)
	cancel()
	<-ended
}

func TestFile_ProblemIsLoggedOnce(t *testing.T) {
	t.Parallel()
	path, log := filepath.Join(t.TempDir(), "agents.json"), &logLines{}
	write(t, path, one("a", "h1"))
	r, _ := follow(t, path, log)
	replace(t, path, `{`)
	waitForProblem(t, r, "unexpected end")
	replace(t, path, `{`) // the same text; a young file is read at each poll
	replace(t, path, `[null]`)
	waitForProblem(t, r, "agents[0]: null is not allowed")
	testkit.Eventually(t, "the log", soon, func() error {
		if bad := log.with("registry_bad"); len(bad) != 2 {
			return fmt.Errorf("%d lines: %q", len(bad), bad)
		}
		return nil
	})
}

func TestNew_FailsOnABadFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	long := filepath.Join(dir, "long.json")
	write(t, long, "[]"+strings.Repeat(" ", 16<<20))
	bad := filepath.Join(dir, "bad.json")
	write(t, bad, `[{}]`)
	tests := map[string]string{
		filepath.Join(dir, "none.json"): "no such file or directory",
		dir:                             "is a directory (Docker makes one when the file to mount is missing)",
		pipe:                            "is not a regular file",
		long:                            "long.json:1: larger than 16777216 bytes",
		bad:                             "bad.json:1: agents[0].name: missing: want a name",
	}
	for path, want := range tests {
		_, err := registry.New(registry.Options{Path: path, Default: breaker.DefaultPolicy()})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v, want %s", path, err, want)
		}
	}
	if _, err := registry.New(registry.Options{Default: breaker.Policy{Timeout: -1}}); err == nil {
		t.Error("a registry with a bad default policy was made")
	}
}

// policycache.Cache compares pointers.
func TestOverride_PointerStaysUntilItChanges(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "agents.json")
	const text = `[{"name": "a", "circuit_breaker_config": {"failure_threshold": 2}}, {"name": "b", "circuit_breaker_config": {"failure_threshold": %d}}, %s]`
	write(t, path, fmt.Sprintf(text, 2, `{"name": "c"}`))
	r, changes := follow(t, path, &logLines{})
	a, b := r.Override("a"), r.Override("b")
	replace(t, path, fmt.Sprintf(text, 3, `{"name": "c", "circuit_breaker_config": {"enabled": false}}`))
	testkit.Eventually(t, "the change", soon, func() error {
		if changes.Load() == 0 {
			return errors.New("not yet")
		}
		return nil
	})
	if r.Override("a") != a || r.Override("b") == b || r.Override("b").Value("failure_threshold") != 3 || r.Override("c").Value("enabled") != false {
		t.Errorf("a: same %v, b: same %v, c: %v", r.Override("a") == a, r.Override("b") == b, r.Override("c"))
	}
}
