package e2e

import (
	"errors"
	"fmt"
	"os"
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

// process is one program that a test runs.
type process struct {
	*testkit.Process

	t         testing.TB
	signalled bool // the test has ended it
}

// spawn starts a program with exactly this environment, and files as its descriptors from 3 on.
func spawn(t testing.TB, argv, environ []string, files ...*os.File) *process {
	t.Helper()
	return &process{Process: testkit.Run(t, argv, environ, files...), t: t}
}

func (p *process) signal(sig syscall.Signal) {
	p.t.Helper()
	p.signalled = true
	p.Signal(sig)
}

// awaitText waits for a line of stderr that contains all of these texts.
func (p *process) awaitText(parts ...string) string {
	p.t.Helper()
	found := ""
	testkit.Eventually(p.t, fmt.Sprintf("a log line with %q", parts), startTimeout, func() error {
		running := p.Running()
		var ok bool
		if found, ok = p.logged(parts...); ok {
			return nil
		}
		if !running {
			p.t.Fatalf("it ended without a log line with %q", parts)
		}
		return errors.New("there is none")
	})
	return found
}

// logged returns the first line of stderr that contains all of these texts.
func (p *process) logged(parts ...string) (line string, ok bool) {
	lines := p.allLogged(parts...)
	if len(lines) == 0 {
		return "", false
	}
	return lines[0], true
}

// allLogged returns the complete lines of stderr that contain all of these texts.
func (p *process) allLogged(parts ...string) []string {
	var found []string
	for line := range strings.Lines(p.Stderr()) {
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
