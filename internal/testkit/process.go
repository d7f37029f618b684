package testkit

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// Process is one run of a program, in a directory of its own. It ends with the test that started it.
type Process struct {
	StdoutFile, StderrFile string // take its output

	t    T
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended and been reaped
}

// Run starts argv[0], which is a name in PATH or an absolute path, with the variables of environ and no others. It
// inherits files as its descriptors from 3 on.
func Run(t T, argv, environ []string, files ...*os.File) *Process {
	t.Helper()
	dir := t.TempDir()
	p := &Process{
		t: t, cmd: exec.Command(argv[0], argv[1:]...), done: make(chan struct{}),
		StdoutFile: filepath.Join(dir, "stdout"), StderrFile: filepath.Join(dir, "stderr"),
	}
	stdout, err := os.Create(p.StdoutFile)
	must(t, err)
	defer func() { _ = stdout.Close() }() // the process has a descriptor of its own
	stderr, err := os.Create(p.StderrFile)
	must(t, err)
	defer func() { _ = stderr.Close() }()
	p.cmd.Dir, p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr, p.cmd.ExtraFiles = dir, environ, stdout, stderr, files
	dieWithParent(p.cmd)
	started := make(chan error)
	go func() {
		// The kernel sends the parent-death signal when the thread that forked ends, so the goroutine keeps its thread
		// until the process has ended. It never unlocks it: the thread ends with the goroutine.
		runtime.LockOSThread()
		defer close(p.done)
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait() // ExitCode returns the status
		}
	}()
	if err := <-started; err != nil {
		t.Fatalf("testkit: start %s: %v", argv[0], err)
	}
	t.Cleanup(p.kill)
	return p
}

// PID returns the id of the process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done returns a channel that is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Running reports whether the process has not ended yet.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Signal sends sig. A process that has ended ignores it.
func (p *Process) Signal(sig syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Fatalf("testkit: signal %v to %s: %v", sig, p.cmd.Path, err)
	}
}

// kill ends the process as a crash would (SIGKILL), and waits until it has ended.
func (p *Process) kill() {
	p.t.Helper()
	p.Signal(syscall.SIGKILL)
	<-p.done
}

// ExitCode waits until the process has ended by itself and returns its status, -1 if a signal ended it.
func (p *Process) ExitCode() int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(startTimeout):
		p.t.Fatalf("testkit: %s still runs after %v; stderr:\n%s", p.cmd.Path, startTimeout, p.Stderr())
	}
	return p.cmd.ProcessState.ExitCode()
}

// Stdout returns what the process has written to its standard output so far.
func (p *Process) Stdout() string { return p.read(p.StdoutFile) }

// Stderr returns what the process has written to its standard error so far.
func (p *Process) Stderr() string { return p.read(p.StderrFile) }

func (p *Process) read(path string) string {
	p.t.Helper()
	text, err := os.ReadFile(path)
	must(p.t, err)
	return string(text)
}
