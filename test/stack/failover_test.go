//go:build docker

package stack_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
)

// withDemo adds the demo agents to the production stack.
const withDemo = `services:
  demo-agent:
    extends: {file: docker-compose.yml, service: demo-agent}
`

// loaded returns the production stack with two bridges and demo agents, where the breaker of FailingAgent is open in
// all three Redises.
func loaded(t testing.TB) *stack {
	t.Helper()
	s := production(t, "demo.yml")
	for path, text := range map[string]string{"demo.yml": withDemo, "deploy/compose/workflows/steady.json": steady} {
		if err := os.WriteFile(filepath.Join(s.dir, path), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s.compose("up", "--detach", "--no-build", "--scale", "bridge=2", "breakerd", "bridge", "demo-agent")
	s.awaitHealthy("breakerd", "bridge", "demo-agent")
	testkit.Eventually(t, "FailingAgent's breaker to open", time.Minute, func() error {
		s.through(1, "FailingAgent")
		return s.inStep()
	})
	// WAIT waits for the writes of its own connection.
	if n := s.cli(s.master(), "<<END | tail -1\nSET marker 1\nWAIT 2 10000\nEND"); n != "2" {
		t.Fatalf("%s replicas have what was written", n)
	}
	return s
}

// inStep returns nil if both bridges and breakerd refuse FailingAgent as open, and not from memory.
func (s *stack) inStep() error {
	s.t.Helper()
	return errors.Join(s.execute(1).refusal("open", false), s.execute(2).refusal("open", false), s.acquire("FailingAgent").refusal("open", false))
}

// After a failover the compose file still names the old master, so the master that the Sentinels know must win.
func TestProduction_SurvivesFailoverUnderLoadAndRestart(t *testing.T) {
	t.Parallel()
	s := loaded(t)
	epoch, called := s.breaker("FailingAgent").get("epoch"), s.demoFigure("FailingAgent", "calls")
	old := s.master()
	tr := s.drive(2)
	tr.awaitMore(300)

	killed := time.Now()
	s.kill(old, 1)
	s.awaitMasterOtherThan(old)
	promoted := time.Since(killed)
	testkit.Eventually(t, "all to be in step", time.Minute, s.inStep)
	tr.awaitMore(200)
	s.start(old, 1)
	s.awaitFollowing(old)
	tr.awaitMore(200)
	tr.end()

	tr.report(killed, promoted)
	if after := s.breaker("FailingAgent").get("epoch"); after != epoch {
		t.Errorf("epoch %v, was %v: the open breaker is not the one that the replicas had", after, epoch)
	}
	if calls := s.demoFigure("FailingAgent", "calls"); calls != called {
		t.Errorf("FailingAgent has had %v calls, had %v", calls, called)
	}
	s.sameEverywhere()

	before := s.master()
	s.compose("down")
	s.up("breakerd")
	if after := s.master(); after != before {
		t.Errorf("master %s, was %s", after, before)
	}
	testkit.Eventually(t, "the breaker to be open", time.Minute, func() error { return s.acquire("FailingAgent").refusal("open", false) })
	if after := s.breaker("FailingAgent").get("epoch"); after != epoch {
		t.Errorf("epoch %v, was %v: the open breaker is not the one from before", after, epoch)
	}
}

// awaitMore waits until n more calls are answered.
func (tr *traffic) awaitMore(n int) {
	tr.t.Helper()
	begin := tr.calls()
	testkit.Eventually(tr.t, "traffic", time.Minute, func() error {
		if tr.calls() < begin+n {
			return errors.New("too few calls")
		}
		return nil
	})
}

// report logs the failover, and fails if an answer was wrong, if Redis has more outcomes than were sent, or if it
// lacks more than a few of those that were acknowledged.
func (tr *traffic) report(killed time.Time, promoted time.Duration) {
	tr.t.Helper()
	o := tr.outageSince(killed)
	worker, healthy := tr.recorded("Worker"), tr.recorded("HealthyAgent")
	lost := max(0, tr.acknowledged+tr.inMemory-worker) // what was counted in memory was replayed
	ms := func(d time.Duration) int64 { return d.Milliseconds() }
	tr.t.Logf(`failover {"promoted_ms":%d,"in_step_ms":%d,"calls":%d,"degraded":%d,"later":%d,"slowest_ms":%d,"wrong":%d,"errors":%d,`+
		`"acknowledged":%d,"lost":%d,"unknown":%d,"in_memory":%d,"bridged":%d,"bridged_in_redis":%d}`,
		ms(promoted), ms(o.over.Sub(killed)), len(tr.answers), o.degraded, o.later, ms(o.slowest), len(tr.wrong), len(tr.errs),
		tr.acknowledged, lost, tr.unknown, tr.inMemory, tr.bridged, healthy)
	if err := errors.Join(tr.wrong...); err != nil {
		tr.t.Errorf("%d wrong answers: %v", len(tr.wrong), err)
	}
	if err := errors.Join(tr.errs...); err != nil {
		tr.t.Errorf("%d errors: %v", len(tr.errs), err)
	}
	if o.noticed != 3 {
		tr.t.Errorf("%d of 3 replicas noticed", o.noticed)
	}
	if o.slowest > 2*time.Second {
		tr.t.Errorf("a call took %v", o.slowest)
	}
	if worker > tr.acknowledged+tr.inMemory+tr.unknown || healthy > tr.bridged {
		tr.t.Errorf("Redis has %d outcomes of %d and %d more at most, and %d of %d: some count twice",
			worker, tr.acknowledged+tr.inMemory, tr.unknown, healthy, tr.bridged)
	}
	if lost > 25 {
		tr.t.Errorf("%d acknowledged outcomes are lost: more than a second's", lost)
	}
}

// recorded returns the number of successes of an agent in Redis.
func (s *stack) recorded(agent string) int {
	s.t.Helper()
	totals, _ := s.breaker(agent).get("totals").(map[string]any)
	n, _ := totals["successes"].(float64)
	return int(n)
}

// sameEverywhere waits until all three Redises hold the same.
func (s *stack) sameEverywhere() {
	s.t.Helper()
	const dump = `<<END
HGETALL circuit_breaker:FailingAgent:control
HGETALL circuit_breaker:Worker:control
HGETALL circuit_breaker:Worker:calls
HGETALL circuit_breaker:HealthyAgent:calls
END`
	testkit.Eventually(s.t, "the replicas to hold what the master does", time.Minute, func() error {
		held := s.cli(s.master(), dump)
		for _, node := range []string{"redis-master", "redis-replica-1", "redis-replica-2"} {
			if here := s.cli(node, dump); here != held {
				return fmt.Errorf("%s holds\n%s\nand the master\n%s", node, here, held)
			}
		}
		return nil
	})
}
