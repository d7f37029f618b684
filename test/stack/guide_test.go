//go:build docker

package stack_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/breakerd/breakerd/test/runbook"
)

// stepTimeout bounds the time until the expectation of a step holds on a busy machine.
const stepTimeout = time.Minute

// TestGuide_WorksWordForWord runs the guide from top to bottom on the ports that it names, which must be free.
func TestGuide_WorksWordForWord(t *testing.T) {
	t.Parallel()
	s := newStack(t, []string{"docker-compose.yml"}, "BRIDGE_PORTS=8000", "DEMO_PORT=9000")
	home := t.TempDir()
	curlrc, err := os.ReadFile("testdata/curlrc")
	if err = errors.Join(err, os.WriteFile(filepath.Join(home, ".curlrc"), curlrc, 0o600)); err != nil {
		t.Fatal(err)
	}
	s.environ = append(s.environ, "HOME="+home, "LC_ALL=C.UTF-8", "COMPOSE_PROJECT_NAME="+s.project,
		"COMPOSE_FILE="+strings.Join(s.files, ":"), "COMPOSE_PROFILES=demo")
	session := runbook.Session{Dir: s.dir, Environ: slices.Concat(os.Environ(), s.environ), Within: stepTimeout, Set: s.set}
	session.Play(t, runbook.Parse(t, "deployment-guide.txt"))
}
