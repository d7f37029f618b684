package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
)

const (
	startTimeout = 20 * time.Second // a race-detecting binary on a busy machine
	endTimeout   = 20 * time.Second
)

// process is one program that a test runs, its output in files. It ends with the test.
type process struct {
	t              testing.TB
	cmd            *exec.Cmd
	done           chan struct{} // closed when it has ended and been reaped
	stdout, stderr string        // paths
	signalled      bool          // the test has seen to its end
}

// spawn starts a program with this environment and no other.
//
// The goroutine that forks stays locked to its thread for as long as the child lives: Pdeathsig fires when the forking thread
// ends, not the process.
func spawn(t testing.TB, argv, environ []string) *process {
	t.Helper()
	dir := t.TempDir()
	p := &process{
		t: t, cmd: exec.Command(argv[0], argv[1:]...), done: make(chan struct{}),
		stdout: filepath.Join(dir, "stdout"), stderr: filepath.Join(dir, "stderr"),
	}
	var files []*os.File
	for _, path := range []string{p.stdout, p.stderr} {
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.Env, p.cmd.Dir = files[0], files[1], environ, dir
	dieWithParent(p.cmd)
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with us
		defer close(p.done)
		err := p.cmd.Start()
		for _, f := range files {
			_ = f.Close() // the child has its own
		}
		started <- err
		if err == nil {
			_ = p.cmd.Wait() // exitCode tells
		}
	}()
	if err := <-started; err != nil {
		t.Fatalf("start %s: %v", argv[0], err)
	}
	t.Cleanup(func() {
		p.signal(syscall.SIGKILL)
		<-p.done
	})
	return p
}

func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// signal is content with a process that has already ended.
func (p *process) signal(sig syscall.Signal) {
	p.t.Helper()
	p.signalled = true
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Errorf("signal %v: %v", sig, err)
	}
}

// exitCode waits until the process has ended by itself.
func (p *process) exitCode() int {
	p.t.Helper()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(endTimeout):
		p.t.Fatalf("still running after %v; stderr:\n%s", endTimeout, p.errText())
		return -1
	}
}

func (p *process) outText() string { return p.read(p.stdout) }
func (p *process) errText() string { return p.read(p.stderr) }

func (p *process) read(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		p.t.Errorf("output of a process: %v", err)
	}
	return string(text)
}

// awaitText waits for a line on stderr that holds all of these.
func (p *process) awaitText(parts ...string) string {
	p.t.Helper()
	found := ""
	testkit.Eventually(p.t, fmt.Sprintf("a log line with %q", parts), startTimeout, func() error {
		var ok bool
		if found, ok = p.logged(parts...); !ok {
			return errors.New("there is none")
		}
		return nil
	})
	return found
}

// logged is the first line on stderr that holds all of these.
func (p *process) logged(parts ...string) (line string, ok bool) {
	lines := p.allLogged(parts...)
	if len(lines) == 0 {
		return "", false
	}
	return lines[0], true
}

// allLogged are the whole lines on stderr that hold all of these.
func (p *process) allLogged(parts ...string) []string {
	var found []string
	for line := range strings.Lines(p.errText()) {
		all := strings.HasSuffix(line, "\n")
		for _, part := range parts {
			all = all && strings.Contains(line, part)
		}
		if all {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}
