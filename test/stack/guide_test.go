//go:build docker

package stack_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
)

// stepTimeout is how long what a step wants may take to come true, when the machine is busy.
const stepTimeout = time.Minute

// TestDeploymentGuideWorksWordForWord is the guide from top to bottom, on the ports that it names; so nothing else may be on them.
func TestDeploymentGuideWorksWordForWord(t *testing.T) {
	t.Parallel()
	s := newStack(t, []string{"docker-compose.yml"}, "BRIDGE_PORTS=8000", "DEMO_PORT=9000")
	shell := newSession(s)
	for _, st := range parseScript(t, "deployment-guide.txt") {
		shell.play(st)
	}
}

// session runs a script's commands in bash, in the directory of a stack.
type session struct {
	*stack
	setup string // session.sh
}

func newSession(s *stack) *session {
	s.t.Helper()
	home := s.t.TempDir()
	curlrc, err := os.ReadFile("testdata/curlrc")
	if err == nil {
		err = os.WriteFile(filepath.Join(home, ".curlrc"), curlrc, 0o600)
	}
	setup, readErr := os.ReadFile("testdata/session.sh")
	if err := errors.Join(err, readErr); err != nil {
		s.t.Fatal(err)
	}
	s.environ = append(s.environ, "HOME="+home, "LC_ALL=C.UTF-8", "COMPOSE_PROJECT_NAME="+s.project,
		"COMPOSE_FILE="+strings.Join(s.files, ":"), "COMPOSE_PROFILES=demo")
	return &session{s, string(setup)}
}

// play runs a step, and ends the test if it is not as wanted: what follows builds on it.
func (s *session) play(st *step) {
	s.t.Helper()
	command := st.command
	if st.instead != "" {
		command = st.instead
	}
	name, value, _ := strings.Cut(command, "=")
	where := fmt.Sprintf("line %d, %s", st.line, st.heading)
	switch {
	case st.leftOut != "":
	case regexp.MustCompile(`^[A-Z_]+=\S*$`).MatchString(command):
		s.set(name, value)
	case st.again:
		testkit.Eventually(s.t, where, stepTimeout, func() error { return s.bash(st, command) })
	default:
		if err := s.bash(st, command); err != nil {
			s.t.Fatalf("%s: %v", where, err)
		}
	}
}

func (s *session) bash(st *step, command string) error {
	cmd := exec.CommandContext(s.t.Context(), "bash", "-c", s.setup+command)
	cmd.Dir, cmd.Env = s.dir, slices.Concat(os.Environ(), s.environ)
	var out, words bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &words
	err := cmd.Run()
	text := strings.TrimSpace(out.String())
	for _, w := range st.wants {
		err = errors.Join(err, w.check(text))
	}
	if err != nil {
		return fmt.Errorf("%s\nprinted %s\n%s\n%w", command, text, words.String(), err)
	}
	if st.show {
		s.t.Logf("%s\n%s", command, text)
	}
	return nil
}
