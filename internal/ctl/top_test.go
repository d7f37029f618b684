package ctl_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/client"
)

// terminal is a program in a terminal, which tmux draws.
type terminal struct {
	t    *testing.T
	tmux func(args ...string) (string, error)
}

func openTerminal(t *testing.T, command string) *terminal {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "tmux")
	tmux := func(args ...string) (string, error) {
		out, err := exec.Command("tmux", append([]string{"-S", socket, "-f", "/dev/null"}, args...)...).CombinedOutput()
		return string(out), err
	}
	if out, err := tmux("new-session", "-d", "-x", "100", "-y", "30", command); err != nil {
		t.Fatalf("tmux (apt-get install tmux): %v %s", err, out)
	}
	t.Cleanup(func() { _, _ = tmux("kill-server") })
	return &terminal{t: t, tmux: tmux}
}

func (s *terminal) types(keys ...string) {
	s.t.Helper()
	if out, err := s.tmux(append([]string{"send-keys"}, keys...)...); err != nil {
		s.t.Fatal(err, out)
	}
}

// shows waits until the screen holds each text.
func (s *terminal) shows(texts ...string) {
	s.t.Helper()
	testkit.Eventually(s.t, fmt.Sprintf("the screen to show %q", texts), 20*time.Second, func() error {
		screen, err := s.tmux("capture-pane", "-p")
		if err != nil {
			return err
		}
		for _, text := range texts {
			if !strings.Contains(screen, text) {
				return fmt.Errorf("%q is not there:\n%s", text, screen)
			}
		}
		return nil
	})
}

// TestTop_FollowsTenThousandAgents, with keys typed in a terminal.
func TestTop_FollowsTenThousandAgents(t *testing.T) {
	t.Parallel()
	const agents = 10_000
	_, address := launch(t, "breakerd", "REDIS_URL="+testkit.Start(t).URL(), "BREAKERD_LISTEN=127.0.0.1:0",
		"NEW_AGENTS_PER_SECOND=1000000")
	to, err := client.New(client.Options{Servers: []string{address}})
	if err != nil {
		t.Fatal(err)
	}
	defer to.CloseIdleConnections()
	report := func(ops []client.BatchOp) {
		t.Helper()
		results, err := to.Batch(t.Context(), ops)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range results {
			if r.Err != nil {
				t.Fatalf("%+v", r)
			}
		}
	}
	var ops []client.BatchOp
	for i := range agents {
		if ops = append(ops, client.BatchOp{Op: "report", Agent: fmt.Sprintf("agent-%05d", i), Outcome: "success"}); len(ops) == 250 {
			report(ops)
			ops = ops[:0]
		}
	}
	fails := func(agent string) {
		t.Helper()
		var ops []client.BatchOp
		for range 5 {
			ops = append(ops, client.BatchOp{Op: "report", Agent: agent, Outcome: "failure"})
		}
		report(ops)
	}
	fails("agent-07777")
	screen := openTerminal(t, fmt.Sprintf("env PATH=%s BREAKERCTL_SERVER=%s %s top", os.Getenv("PATH"), address, which(t)))
	screen.shows("agents 10000", "OPEN 1 ", "CLOSED 9999", "agent-07777", "of 10000 by worst")
	fails("agent-04242") // it follows
	screen.shows("OPEN 2 ", "agent-04242")
	screen.types("o")
	screen.shows("2 of 2 by worst, not closed")
	screen.types("o", "s", "s", "s", "s")
	screen.shows(">agent-00000", "by agent_id")
	screen.types("j", "j", "Down", "k")
	screen.shows(">agent-00002")
	screen.types("/")
	screen.types("0424")
	screen.shows("name contains: 0424_")
	screen.types("Enter")
	screen.shows(">agent-00424", "agent-04242", "of 11 by agent_id, *0424*")
	screen.types("o")
	screen.shows(">agent-04242")
	screen.types("Enter")
	screen.shows("agent-04242 is OPEN", "5 failures in a row reached failure_threshold")
	screen.types("Escape")
	screen.shows("FAILED", "1 of 1 by agent_id")
	if _, err := screen.tmux("resize-window", "-x", "60", "-y", "12"); err != nil {
		t.Fatal(err)
	}
	screen.shows(">agent-04242")
	screen.types("Space")
	screen.shows("PAUSED")
	screen.types("q")
	testkit.Eventually(t, "the screen to end", 10*time.Second, func() error {
		if out, err := screen.tmux("has-session"); err == nil {
			return fmt.Errorf("it is there %s", out)
		}
		return nil
	})
}
