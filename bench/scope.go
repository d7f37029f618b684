package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/breakerd/breakerd/internal/testkit"
)

// scope is the [testkit.T] of one section: what the section starts ends with it, and what fails in the kit is the
// section's error.
type scope struct {
	ctx  context.Context //nolint:containedctx // as in testing.T, whose Context has the life of the test
	out  io.Writer
	ends []func()
}

var _ testkit.T = (*scope)(nil)

// fatal is what Fatalf panics with, to leave the section.
type fatal struct{ error }

// within runs a section in a scope of its own.
func within(ctx context.Context, out io.Writer, section func(testkit.T) (string, error)) (text string, err error) {
	s := &scope{ctx: ctx, out: out}
	defer func() {
		failed := recover()
		for _, end := range slices.Backward(s.ends) {
			end()
		}
		if f, ok := failed.(fatal); ok {
			err = f.error
		} else if failed != nil {
			panic(failed)
		}
	}()
	return section(s)
}

func (s *scope) Helper() {}

func (s *scope) Logf(format string, args ...any) { fmt.Fprintf(s.out, format+"\n", args...) }

func (s *scope) Fatalf(format string, args ...any) { panic(fatal{fmt.Errorf(format, args...)}) }

func (s *scope) Cleanup(f func()) { s.ends = append(s.ends, f) }

func (s *scope) Context() context.Context { return s.ctx }

func (s *scope) TempDir() string {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		s.Fatalf("a directory for the bench: %v", err)
	}
	s.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}
