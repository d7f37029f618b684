// Package testkit gives tests real Redis servers.
//
// Every server is a redis-server process of its own on a free loopback port,
// with its own directory and no persistence. It ends with the test that
// started it: by t.Cleanup, and by the kernel should the test process die
// first (Linux). A missing redis-server binary fails the test: it never skips.
//
// The functions take testing.TB, stop the test on failure, and therefore must
// be called from the test's own goroutine. Servers may be used concurrently.
package testkit
