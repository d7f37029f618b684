package testkit

import (
	"fmt"
	"runtime"
	"testing"
)

// recorder is a T that records a failure instead of failing.
type recorder struct {
	T

	failed bool
	text   string
}

// record runs f as a test would run it, in a goroutine that Fatalf ends.
func record(t *testing.T, f func(T)) *recorder {
	rec := &recorder{T: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(rec)
	}()
	<-done
	return rec
}

func (r *recorder) Helper() {}

func (r *recorder) Logf(format string, args ...any) { r.text += fmt.Sprintf(format, args...) + "\n" }

func (r *recorder) Fatalf(format string, args ...any) {
	r.Logf(format, args...)
	r.failed = true
	runtime.Goexit()
}
