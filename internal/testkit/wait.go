package testkit

import (
	"fmt"
	"net"
	"testing"
	"time"
)

const (
	// pollEvery is the pause between two looks at a condition.
	pollEvery = 10 * time.Millisecond
	// startTimeout bounds one server's start, on a busy machine.
	startTimeout = 30 * time.Second
	// quorumTimeout bounds what several servers must agree upon.
	quorumTimeout = 60 * time.Second
)

// Eventually polls until check returns nil, and stops the test with the last
// error if it has not within timeout. what completes the sentence "waiting
// for …".
func Eventually(t testing.TB, what string, timeout time.Duration, check func() error) {
	t.Helper()
	if err := poll(timeout, check); err != nil {
		t.Fatalf("testkit: waiting for %s: %v", what, err)
	}
}

// poll calls check until it returns nil or timeout has passed.
func poll(timeout time.Duration, check func() error) error {
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-deadline.C:
			return fmt.Errorf("still not after %v: %w", timeout, err)
		case <-tick.C:
		}
	}
}

// freePort asks the kernel for a loopback port that is free now. Another
// process can take it before Redis binds it: whoever uses it must try again.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("choose a free port: %w", err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	return port, l.Close()
}
