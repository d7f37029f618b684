package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
)

const fleetPath = "/v1/admin/fleet"

// asker asks one program for calls, again and again.
type asker struct {
	admitted func() (bool, error)
	last     atomic.Int64 // when it asked for the last call that was admitted, in ns
	asked    atomic.Int64
}

func (a *asker) run(ctx context.Context) {
	for ctx.Err() == nil {
		begin := time.Now().UnixNano()
		ok, err := a.admitted()
		if err != nil {
			return
		}
		a.asked.Add(1)
		if ok {
			a.last.Store(begin)
		}
	}
}

// askers are one for each program.
func (m *mixed) askers() map[string]*asker {
	status := func(d *daemon, method, path, body string, wants ...int) func() (bool, error) {
		return func() (bool, error) {
			r, err := d.try(method, path, body)
			if err == nil && r.status != http.StatusServiceUnavailable && !slices.Contains(wants, r.status) {
				m.t.Errorf("%s: status %d: %s", r.what, r.status, r.body)
			}
			return r.status != http.StatusServiceUnavailable, err
		}
	}
	return map[string]*asker{
		"breakerd": {admitted: status(m.core, http.MethodPost, "/v1/circuit_breakers/Any/acquire", "", http.StatusOK)},
		"gateway":  {admitted: status(m.proxy, http.MethodGet, "/agents/Agent/", "", http.StatusOK)},
		"workflow": {admitted: status(m.proxy, http.MethodPost, "/api/v1/workflows/gated/execute", `{"input":{}}`, http.StatusOK)},
		"go": {admitted: func() (bool, error) {
			r, err := m.a.try(http.MethodPost, "/call/Agent?fail=false", "")
			return r.get("called") == true, err
		}},
	}
}

// One request stops every call of every program, and one lets them return.
func TestGate_StopReachesEveryProgram(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, consistency string) {
		t.Helper()
		m := newMixed(t, "Agent").in(consistency)
		m.proxy.call(http.MethodPost, "/api/v1/workflows", `{"workflow_id":"gated","steps":{"s":{"agent_name":"Agent"}}}`).want(http.StatusCreated)
		askers := m.askers()
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		defer all.Wait()
		defer cancel()
		for _, a := range askers {
			all.Go(func() { a.run(ctx) })
		}
		flowing := func() error {
			for name, a := range askers {
				if since := time.Since(time.Unix(0, a.last.Load())); since > time.Second {
					return fmt.Errorf("%s: nothing was admitted for %s", name, since)
				}
			}
			return nil
		}
		var late []time.Duration
		const rounds = 5
		for range rounds {
			testkit.Eventually(t, "calls to flow", 20*time.Second, flowing)
			r := m.core.call(http.MethodPut, fleetPath, `{"action":"stop","reason":"fire"}`, "X-Actor", "ops").want(http.StatusOK).
				has("action", "stop").has("share", 0.0)
			answered := time.Now()
			if acknowledged, _ := r.get("acknowledged").([]any); len(acknowledged) != 4 {
				t.Errorf("acknowledged by %v: %s", acknowledged, r.body)
			}
			time.Sleep(1500 * time.Millisecond) // what is admitted meanwhile is what is measured
			for name, a := range askers {
				after := time.Unix(0, a.last.Load()).Sub(answered)
				late = append(late, max(after, 0))
				if after > promised {
					t.Errorf("%s: a call was admitted %s after the answer", name, after)
				}
			}
			m.core.acquire("nobody-knows").want(http.StatusServiceUnavailable).has("code", "circuit_breaker_open").
				has("reason", "emergency_stop").has("state", "OPEN")
			m.proxy.through("Agent", "/").want(http.StatusServiceUnavailable).has("reason", "emergency_stop")
			m.core.call(http.MethodDelete, fleetPath, "").want(http.StatusOK).has("action", "none")
		}
		testkit.Eventually(t, "calls to flow", 20*time.Second, flowing)
		slices.Sort(late)
		t.Logf("%d stops of %d ways to call: the last call was admitted %s after the answer at the worst", rounds, len(askers), late[len(late)-1])
		if line, ok := m.proxy.logged("circuit_breaker.fleet_gate"); !ok {
			t.Errorf("bridge logged nothing: %s", line)
		}
	})
}

// A replica that does not hear of the gate is named, and one that starts later obeys it.
func TestGate_ReplicaThatIsCutOffIsNamed(t *testing.T) {
	t.Parallel()
	m := newMixed(t, "Agent").in("strict")
	off := start(t, "REDIS_URL="+m.redis.URL(), "REPLICA_ID=off", "CIRCUIT_BREAKER_ENABLED=false")
	frozen := start(t, "REDIS_URL="+m.redis.URL(), "REPLICA_ID=frozen")
	testkit.Eventually(t, "six replicas", 20*time.Second, func() error {
		list, _ := m.core.call(http.MethodGet, "/v1/admin/replicas", "").want(http.StatusOK).get("replicas").([]any)
		if len(list) != 6 {
			return fmt.Errorf("%d", len(list))
		}
		return nil
	})
	frozen.signal(syscall.SIGSTOP)
	begin := time.Now()
	r := m.core.call(http.MethodPut, fleetPath, `{"action":"stop","reason":"fire"}`).want(http.StatusOK)
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("answered after %s", took)
	}
	for field, want := range map[string]string{"missing": "[frozen]", "not_covered": "[off]"} {
		if got := fmt.Sprint(r.get(field)); got != want {
			t.Errorf("%s: %s, want %s: %s", field, got, want, r.body)
		}
	}
	off.acquire("Agent").want(http.StatusOK)
	frozen.signal(syscall.SIGCONT)
	testkit.Eventually(t, "the replica to obey", 10*time.Second, func() error {
		if r := frozen.acquire("Agent"); r.status != http.StatusServiceUnavailable {
			return errors.New(string(r.body))
		}
		return nil
	})
	for _, d := range []*daemon{m.core, m.proxy, m.a, m.b, off, frozen} { // the gate outlives every replica
		d.signal(syscall.SIGTERM)
		d.ExitCode()
	}
	again := start(t, "REDIS_URL="+m.redis.URL())
	testkit.Eventually(t, "the new replica to obey", 5*time.Second, func() error {
		if r := again.acquire("Agent"); r.status != http.StatusServiceUnavailable {
			return errors.New(string(r.body))
		}
		return nil
	})
}
