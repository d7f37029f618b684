// Package testkit starts what tests and benchmarks need: Redis servers (one, with Sentinel, as a Cluster, with TLS or
// on a unix socket), certificates, and other programs.
//
// Every Redis is a redis-server process of its own on a free loopback port, with its own directory and without
// persistence. A process ends with the test that started it: t.Cleanup kills it, and on Linux the kernel does so if
// the test process dies first. The kit never skips: where redis-server is not installed, the test fails and names the
// package.
//
// A failure stops the test, so the functions and methods that fail must be called from the test's own goroutine. A
// Server may be used concurrently, but for Kill, Pause, Resume and Restart.
package testkit

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"time"
)

// T is the part of [testing.TB] that the kit uses. A program that is no test, such as bench, can implement it as well.
type T interface {
	Helper()
	Logf(format string, args ...any)
	// Fatalf reports a failure and does not return.
	Fatalf(format string, args ...any)
	// Cleanup has f called when the test ends, the last f first.
	Cleanup(f func())
	Context() context.Context
	// TempDir returns a new directory, which is removed when the test ends.
	TempDir() string
}

const (
	// pollEvery is the pause between two checks of a condition.
	pollEvery = 10 * time.Millisecond
	// startTimeout bounds the start of one process on a busy machine.
	startTimeout = 30 * time.Second
	// quorumTimeout bounds what several servers must agree upon.
	quorumTimeout = 60 * time.Second
)

// Eventually calls check until it returns nil, and stops the test with its last error if that takes longer than
// timeout. what completes the sentence "waiting for …".
func Eventually(t T, what string, timeout time.Duration, check func() error) {
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

// must stops the test if err is not nil.
func must(t T, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("testkit: %v", err)
	}
}

// FreeAddress returns a loopback address, host:port, whose port is free now. Another process can take it.
func FreeAddress(t T) string {
	t.Helper()
	port, err := freePort()
	must(t, err)
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

// freePort asks the kernel for a loopback port that is free now. Another process can take it before Redis binds it,
// so the caller must be ready to try another.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("choose a free port: %w", err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	return port, l.Close()
}
