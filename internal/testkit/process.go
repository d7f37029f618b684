package testkit

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
)

const installHint = "redis-server is not installed; run: apt-get install redis-server"

// process is one run of redis-server, its output in a file.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended and been reaped
}

// startProcess runs redis-server with args, its output appended to logPath.
//
// The goroutine that forks stays locked to its thread for as long as the child
// lives: Pdeathsig fires when the forking *thread* ends, not the process.
func startProcess(args []string, logPath string) (*process, error) {
	bin, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, fmt.Errorf("%s (%w)", installHint, err)
	}
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	p := &process{cmd: exec.Command(bin, args...), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	dieWithParent(p.cmd)
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with us
		defer close(p.done)
		defer func() { _ = log.Close() }()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait() // killed on purpose: its exit status says nothing
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", bin, err)
	}
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// signal sends sig, and is content with a process that has already ended.
func (p *process) signal(sig syscall.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal %v to redis-server %d: %w", sig, p.pid(), err)
	}
	return nil
}

// kill ends the process and waits until it is gone.
func (p *process) kill() error {
	err := p.signal(syscall.SIGKILL)
	if err == nil {
		<-p.done
	}
	return err
}

// portTaken tells from Redis's own words that another process has the port.
func portTaken(log string) bool {
	return strings.Contains(log, "Address already in use")
}
