//go:build docker

package stack_test

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
)

const (
	guide = "/api/v1/workflows/circuit-breaker-test/execute"
	admin = "/v1/admin/circuit_breakers/"
)

// fleet is docker-compose.yml with three bridges on one Redis.
type fleet struct{ *stack }

const bridges = 3

// newFleet starts a fleet. A round is one probe, whose lease lasts two seconds.
func newFleet(t testing.TB) *fleet {
	t.Helper()
	f := &fleet{single(t)}
	f.set("CIRCUIT_BREAKER_HALF_OPEN_MAX_CALLS", "1")
	f.set("CIRCUIT_BREAKER_PROBE_TIMEOUT_SECONDS", "2")
	f.rewrite("deploy/compose/agents.json", func(before string) string {
		return strings.Replace(before, `"agents": [`, `"agents": [
    {"name": "ProbedAgent", "url": "http://demo-agent:9000/ProbedAgent", "timeout_seconds": 6, "circuit_breaker_config":
      {"failure_threshold": 1, "timeout_seconds": 1}},`, 1)
	})
	f.compose("up", "--detach", "--no-build", "--scale", "bridge="+strconv.Itoa(bridges), "bridge", "breakerd", "demo-agent")
	f.awaitHealthy("bridge", "breakerd", "demo-agent")
	return f
}

// bridge returns the address of the n-th bridge, from 1.
func (s *stack) bridge(n int) string {
	s.t.Helper()
	return s.address("bridge", n, 8000)
}

// through calls an agent through the n-th bridge.
func (s *stack) through(n int, agent string) reply {
	s.t.Helper()
	return s.call(http.MethodGet, s.bridge(n), "/agents/"+agent+"/", "")
}

// execute runs the workflow of the guide on the n-th bridge.
func (s *stack) execute(n int) reply {
	s.t.Helper()
	return s.call(http.MethodPost, s.bridge(n), guide, "")
}

// mode sets the mode of a demo agent.
func (s *stack) mode(agent, mode string) {
	s.t.Helper()
	s.call(http.MethodPut, s.address("demo-agent", 1, 9000), "/modes/"+agent, `{"mode":"`+mode+`"}`).want(http.StatusOK)
}

// demoFigure returns a figure of a demo agent, such as the number of its calls.
func (s *stack) demoFigure(agent, figure string) any {
	s.t.Helper()
	return s.call(http.MethodGet, s.address("demo-agent", 1, 9000), "/modes/"+agent, "").want(http.StatusOK).get(figure)
}

// breaker waits until breakerd answers from Redis, and returns its view of the breaker.
func (s *stack) breaker(agent string) (r reply) {
	s.t.Helper()
	testkit.Eventually(s.t, "the breaker of "+agent, stepTimeout, func() error {
		if r = s.call(http.MethodGet, s.breakerd(), admin+agent, ""); r.status != http.StatusOK || r.get("degraded") != false {
			return errors.New(r.body)
		}
		return nil
	})
	return r
}

// operate makes a manual action on a breaker through breakerd.
func (s *stack) operate(method, agent, verb, body string) {
	s.t.Helper()
	if r := s.call(method, s.breakerd(), admin+agent+"/"+verb, body); r.status/100 != 2 {
		s.t.Fatalf("%s: status %d: %s", r.what, r.status, r.body)
	}
}

// refused stops the test unless the reply is a refusal for this reason, from Redis or from memory.
func (r reply) refused(reason string, degraded bool) {
	r.t.Helper()
	if err := r.refusal(reason, degraded); err != nil {
		r.t.Fatal(err)
	}
}

// refusal returns nil if the reply is a refusal for this reason.
func (r reply) refusal(reason string, degraded bool) error {
	status := http.StatusTooManyRequests
	if strings.HasSuffix(r.what, guide) {
		status = http.StatusServiceUnavailable
	}
	if r.status != status || r.get("reason") != reason || (r.get("degraded") == true) != degraded {
		return fmt.Errorf("%s: status %d, want %d, reason %s, degraded %v: %s", r.what, r.status, status, reason, degraded, r.body)
	}
	return nil
}

func TestFleet_SharesOpenBreakerAndReplacesProbeOfPausedBridge(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	for range 5 {
		f.through(1, "FailingAgent").want(http.StatusInternalServerError)
	}
	for n := 1; n <= bridges; n++ {
		f.through(n, "FailingAgent").refused("open", false)
		f.execute(n).refused("open", false)
	}
	if calls := f.demoFigure("FailingAgent", "calls"); calls != 5.0 {
		t.Errorf("the agent had %v calls, want 5", calls)
	}

	f.mode("ProbedAgent", "failing")
	f.through(1, "ProbedAgent").want(http.StatusInternalServerError)
	f.mode("ProbedAgent", "hanging")
	testkit.Eventually(t, "the wait to be over", stepTimeout, func() error {
		if state := f.breaker("ProbedAgent").get("state"); state != "HALF_OPEN" {
			return fmt.Errorf("state %v", state)
		}
		return nil
	})
	probe, first := make(chan error, 1), f.bridge(1)
	go func() {
		r, err := f.try(http.MethodGet, first, "/agents/ProbedAgent/", "")
		if err == nil && r.status != http.StatusGatewayTimeout {
			err = fmt.Errorf("status %d, want 504: %s", r.status, r.body)
		}
		probe <- err
	}()
	testkit.Eventually(t, "the probe", stepTimeout, func() error {
		if f.demoFigure("ProbedAgent", "in_flight") != 1.0 {
			return errors.New("not there")
		}
		return nil
	})
	for n := 2; n <= 3; n++ {
		f.through(n, "ProbedAgent").refused("probes_busy", false)
	}
	f.replaceProbe()
	f.settleLate(probe)
}

// replaceProbe pauses the first bridge, which has the only probe. The lease expires, and another bridge gets the place.
func (f *fleet) replaceProbe() {
	f.t.Helper()
	f.pause("bridge", 1)
	paused := time.Now()
	f.mode("ProbedAgent", "healthy")
	testkit.Eventually(f.t, "the place of the paused bridge's probe", stepTimeout, func() error {
		if r := f.through(2, "ProbedAgent"); r.status != http.StatusOK {
			r.refused("probes_busy", false)
			return errors.New("taken")
		}
		return nil
	})
	f.t.Logf("another bridge had the probe %v after the pause", time.Since(paused).Round(time.Millisecond))
	if state := f.breaker("ProbedAgent").get("state"); state != "CLOSED" {
		f.t.Errorf("after its probe the breaker is %v", state)
	}
	f.through(3, "ProbedAgent").want(http.StatusOK)
}

// settleLate resumes the paused bridge. Its probe ends, and its late outcome must change nothing.
func (f *fleet) settleLate(probe <-chan error) {
	f.t.Helper()
	before := f.breaker("ProbedAgent")
	f.unpause("bridge", 1)
	if err := <-probe; err != nil {
		f.t.Errorf("the paused bridge's own call: %v", err)
	}
	testkit.Eventually(f.t, "the late outcome", stepTimeout, func() error {
		page := f.call(http.MethodGet, f.bridge(1), "/metrics", "").want(http.StatusOK).body
		if line := `circuit_breaker_outcomes_uncounted_total{agent="ProbedAgent",why="late"} 1`; !strings.Contains(page, line) {
			return fmt.Errorf("no %s", line)
		}
		return nil
	})
	after := f.breaker("ProbedAgent")
	for _, field := range []string{"state", "epoch", "consecutive_failures", "totals"} {
		if was, is := fmt.Sprint(before.get(field)), fmt.Sprint(after.get(field)); was != is {
			f.t.Errorf("%s is %s after the late outcome, was %s", field, is, was)
		}
	}
	f.through(1, "ProbedAgent").want(http.StatusOK)
}

// What the bridge counts without Redis may be lost. What the fleet decides meanwhile holds.
func TestBridge_AnswersWithoutRedisAndFollowsTheFleetAfterwards(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	for range 5 {
		f.through(1, "FailingAgent").want(http.StatusInternalServerError)
	}
	f.through(3, "FailingAgent").refused("open", false)
	reconnect := f.disconnect("private", "bridge", 3)
	for range 10 {
		f.through(3, "FailingAgent").refused("open", true)
		f.through(3, "HealthyAgent").want(http.StatusOK)
		f.execute(3).refused("open", true)
	}
	f.call(http.MethodGet, f.bridge(3), "/readyz", "").want(http.StatusOK)
	if status := f.call(http.MethodGet, f.bridge(3), "/health", "").want(http.StatusOK).get("status"); status != "degraded" {
		t.Errorf("health %v, want degraded", status)
	}

	f.operate(http.MethodPost, "CriticalAgent", "open", `{"reason":"maintenance"}`)
	f.operate(http.MethodPut, "FailingAgent", "config", `{"failure_threshold":2}`)
	f.operate(http.MethodPost, "FailingAgent", "reset", `{"target_state":"CLOSED","reason":"repaired"}`)
	for n := 1; n <= 2; n++ {
		f.through(n, "CriticalAgent").refused("forced_open", false)
	}
	f.through(3, "CriticalAgent").want(http.StatusOK)
	f.through(3, "FailingAgent").refused("open", true)

	reconnect()
	begin := time.Now()
	testkit.Eventually(t, "the operator's hold", stepTimeout, func() error { return f.through(3, "CriticalAgent").refusal("forced_open", false) })
	state := time.Since(begin)
	testkit.Eventually(t, "the operator's policy", stepTimeout, func() error {
		f.operate(http.MethodPost, "FailingAgent", "reset", `{"target_state":"CLOSED","reason":"test"}`)
		for range 2 {
			f.through(3, "FailingAgent").want(http.StatusInternalServerError)
		}
		return f.through(3, "FailingAgent").refusal("open", false)
	})
	policy := time.Since(begin)
	t.Logf("back in its network, the bridge had the fleet's state after %v and its policy after %v",
		state.Round(time.Millisecond), policy.Round(time.Millisecond))
	if policy > 10*time.Second {
		t.Errorf("the policy took %v, want at most 10s", policy)
	}
	for n := 1; n <= 2; n++ {
		f.through(n, "FailingAgent").refused("open", false)
	}
}
