package ctl_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/client"
)

// TestWatch_ShowsAgentsThatFlap, each change once, until it is interrupted.
func TestWatch_ShowsAgentsThatFlap(t *testing.T) {
	t.Parallel()
	_, address := launch(t, "breakerd", "REDIS_URL="+testkit.Start(t).URL(), "BREAKERD_LISTEN=127.0.0.1:0")
	to, err := client.New(client.Options{Servers: []string{address}})
	if err != nil {
		t.Fatal(err)
	}
	defer to.CloseIdleConnections()
	environ := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "BREAKERCTL_SERVER=" + address}
	list := testkit.Run(t, []string{which(t), "get", "-w", "-o", "jsonl"}, environ)
	events := testkit.Run(t, []string{which(t), "events", "-w", "-o", "jsonl"}, environ)
	open := func(agent string) {
		t.Helper()
		if _, err := to.OpenCircuitBreaker(t.Context(), agent, client.HoldRequest{Reason: "ban", TimeoutSeconds: 600}); err != nil {
			t.Fatal(err)
		}
	}
	n := 0
	testkit.Eventually(t, "both to listen", 20*time.Second, func() error {
		n++
		open(fmt.Sprintf("ready-%d", n))
		for _, p := range []*testkit.Process{list, events} {
			if !strings.Contains(p.Stdout(), `"agent_id":"ready-`) {
				return errors.New("not yet")
			}
		}
		return nil
	})
	const flaps = 5
	for i := range flaps {
		for range 5 {
			if _, err := to.Report(t.Context(), "flaps", client.ReportRequest{Outcome: "failure"}, ""); err != nil {
				t.Fatal(err)
			}
		}
		reset := client.ResetRequest{TargetState: "CLOSED", Reason: fmt.Sprintf("flap %d", i)}
		if _, err := to.ResetCircuitBreaker(t.Context(), "flaps", reset); err != nil {
			t.Fatal(err)
		}
	}
	open("last")
	for name, p := range map[string]*testkit.Process{"list": list, "events": events} {
		testkit.Eventually(t, "the end in the "+name, 20*time.Second, func() error {
			if !strings.Contains(p.Stdout(), `"agent_id":"last"`) {
				return errors.New(p.Stdout() + p.Stderr())
			}
			return nil
		})
		p.Signal(syscall.SIGINT)
		if code := p.ExitCode(); code != 130 {
			t.Errorf("%s ended with exit code %d: %s", name, code, p.Stderr())
		}
	}
	opened, reset := 0, 0
	for line := range strings.Lines(events.Stdout()) {
		if strings.Contains(line, `"agent_id":"flaps"`) {
			opened += strings.Count(line, `"event":"opened"`)
			reset += strings.Count(line, `"event":"manual_reset"`)
		}
	}
	if opened != flaps || reset != flaps {
		t.Errorf("%d opened, %d reset: %s", opened, reset, events.Stdout())
	}
	// A list shows where a breaker is, not each place where it was.
	var last string
	for line := range strings.Lines(list.Stdout()) {
		if strings.Contains(line, `"agent_id":"flaps"`) {
			last = line
		}
	}
	if !strings.Contains(last, `"state":"CLOSED"`) {
		t.Errorf("the list ends with %q", last)
	}
}
