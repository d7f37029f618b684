package httpapi

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/redisdocs"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// fleet is a Fleet in memory, under the clock of the records.
type fleet struct {
	records *records

	mu      sync.Mutex
	gate    redisdocs.Gate
	heard   []redisdocs.Heard
	self    redisdocs.Heard
	others  int // changes of others that come between a read and a write
	changes int

	slow    bool // actions are not carried out
	actions map[string]redisdocs.Action
	asked   string // of the last one, for the audit
	force   func(ctx context.Context, agent string, f breaker.Force) (breaker.State, error)
}

// Act carries an action out at once.
func (f *fleet) Act(
	ctx context.Context, force breaker.Force, agents []string, text string, _ time.Duration,
) (string, error) {
	if err := f.records.Down(); err != nil {
		return "", err
	}
	id := fmt.Sprintf("%016x", len(f.actions)+1)
	a := redisdocs.Action{ID: id, Force: force, CreatedMs: f.records.NowMs.Load(), Results: map[string]string{}}
	for _, agent := range agents {
		a.Results[agent] = ""
		if f.slow {
			continue
		}
		a.Results[agent], a.FinishedMs = redisdocs.ActionDone, f.records.NowMs.Load()
		switch _, err := f.force(ctx, agent, force); {
		case errors.Is(err, breaker.ErrHoldExists):
			a.Results[agent] = redisdocs.ActionHoldExists
		case errors.Is(err, breaker.ErrHoldProtected):
			a.Results[agent] = redisdocs.ActionHoldProtected
		case errors.Is(err, breaker.ErrNotHeld):
			a.Results[agent] = redisdocs.ActionNotHeld
		}
	}
	if f.actions == nil {
		f.actions = map[string]redisdocs.Action{}
	}
	f.actions[id], f.asked = a, text
	return id, nil
}

func (f *fleet) Action(_ context.Context, id string) (redisdocs.Action, bool, error) {
	a, ok := f.actions[id]
	return a, ok, f.records.Down()
}

func (f *fleet) Gate(context.Context) (redisdocs.Gate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	g := f.gate
	g.NowMs = f.records.NowMs.Load()
	return g, f.records.Down()
}

func (f *fleet) PutGate(_ context.Context, was *redisdocs.Gate, c *redisdocs.GateChange, _ string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.others > 0 {
		f.others--
		f.put(&redisdocs.GateChange{From: 0.5, To: 0.5, Reason: "another"})
	}
	if err := f.records.Down(); err != nil {
		return err
	}
	if was.Version != f.gate.Version {
		return ErrConflict
	}
	f.put(c)
	return nil
}

func (f *fleet) put(c *redisdocs.GateChange) {
	f.gate = redisdocs.Gate{}
	if c == nil {
		return
	}
	f.changes++
	now := f.records.NowMs.Load()
	f.gate = redisdocs.Gate{Reason: c.Reason, Actor: c.Actor, Version: strings.Repeat("v", f.changes)}
	f.gate.Gate = breaker.Gate{From: c.From, To: c.To, StartMs: now, LengthMs: c.Length.Milliseconds()}
	if c.Until > 0 {
		f.gate.UntilMs = now + c.Until.Milliseconds()
	}
}

func (f *fleet) Self() redisdocs.Heard { return f.self }

func (f *fleet) Replicas(context.Context) ([]redisdocs.Heard, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]redisdocs.Heard, len(f.heard))
	for i, h := range f.heard {
		if out[i] = h; h.Gate == "follows" {
			out[i].Gate = f.gate.Version
		}
	}
	return out, f.records.Down()
}

func heard(id, gate string, age time.Duration, enabled bool) redisdocs.Heard {
	h := redisdocs.Heard{ID: id, Age: age}
	h.Gate, h.Enabled, h.Policy, h.Host = gate, enabled, "p", "host"
	return h
}

func TestFleet_StopShedRecoverLift(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.fleet.heard = []redisdocs.Heard{
		heard("a", "follows", time.Second, true), heard("b", "follows", time.Second, true),
		heard("cut", "old", 8*time.Second, true), heard("dead", "old", time.Minute, true),
		heard("off", "follows", time.Second, false),
	}
	none := f.Do("GET", "/v1/admin/fleet", "").Want(200, `action="none"`, `share=1`)
	if none.Header.Get("ETag") != "" {
		t.Error("an ETag of nothing")
	}
	stop := f.Do("PUT", "/v1/admin/fleet", `{"action":"stop","reason":"fire"}`, "X-Actor", "ops").Want(200, `action="stop"`, `share=0`, `reason="fire"`, `actor="ops"`, `until=null`, `acknowledged.0="a"`, `acknowledged.1="b"`, `missing.0="cut"`, `missing.1="dead"`, `not_covered.0="off"`)
	etag := stop.Header.Get("ETag")
	f.Do("PUT", "/v1/admin/fleet", `{"action":"recover","duration_seconds":10,"reason":"over"}`, "If-Match", etag).Want(200, `action="recover"`, `from=0`, `to=1`, `length_seconds=10`)
	f.advance(2500 * time.Millisecond)
	f.Do("GET", "/v1/admin/fleet", "").Want(200, `share=0.25`)
	f.Do("PUT", "/v1/admin/fleet", `{"action":"recover","duration_seconds":20,"reason":"slower"}`).Want(200, `from=0.25`)
	f.Do("DELETE", "/v1/admin/fleet", "", "If-Match", etag).WantProblem(412, problem.PreconditionFailed)
	f.Do("PUT", "/v1/admin/fleet", `{"action":"shed","percentage":20,"until_seconds":60,"reason":"load"}`).Want(200, `action="shed"`, `share=0.8`)
	f.advance(time.Minute)
	f.Do("GET", "/v1/admin/fleet", "").Want(200, `action="none"`, `share=1`)
	f.Do("PUT", "/v1/admin/fleet", `{"action":"recover","duration_seconds":600,"reason":"all anew"}`).Want(200, `from=0`)
	f.Do("DELETE", "/v1/admin/fleet", "").Want(200, `action="none"`)
	f.Do("DELETE", "/v1/admin/fleet", "").Want(200)
}

func TestFleet_MissingIsNamedAfterASecond(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.fleet.heard = []redisdocs.Heard{heard("a", "follows", 0, true), heard("slow", "old", 0, true)}
	begin := time.Now()
	f.Do("PUT", "/v1/admin/fleet", `{"action":"stop","reason":"fire"}`).Want(200, `missing.0="slow"`)
	if took := time.Since(begin); took < ackWait {
		t.Errorf("answered after %s", took)
	}
}

func TestFleet_ChangeWithoutAConditionIsTriedAgain(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.fleet.others = 2
	f.Do("PUT", "/v1/admin/fleet", `{"action":"recover","duration_seconds":10,"reason":"x"}`).Want(200, `from=0.5`)
	f.fleet.others = 100
	f.Do("DELETE", "/v1/admin/fleet", "").WantProblem(412, problem.PreconditionFailed)
}

func TestFleet_BadChangesAreRefused(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, body := range []string{
		`{}`, `{"action":"stop"}`, `{"action":"halt","reason":"x"}`, `{"action":"stop","reason":""}`, `{"action":"stop","reason":"a\nb"}`,
		`{"action":"stop","reason":"a\u202eb"}`, `{"action":"stop","reason":"` + strings.Repeat("r", 501) + `"}`,
		`{"action":"stop","reason":"x","percentage":5}`, `{"action":"stop","reason":"x","duration_seconds":5}`,
		`{"action":"stop","reason":"x","until_seconds":0}`, `{"action":"stop","reason":"x","until_seconds":-1}`,
		`{"action":"stop","reason":"x","until_seconds":1e18}`, `{"action":"stop","reason":"x","until_seconds":1e-9}`,
		`{"action":"shed","reason":"x"}`, `{"action":"shed","reason":"x","percentage":0}`, `{"action":"shed","reason":"x","percentage":101}`,
		`{"action":"shed","reason":"x","percentage":-1}`, `{"action":"shed","reason":"x","percentage":"20"}`,
		`{"action":"shed","reason":"x","percentage":20,"duration_seconds":1}`, `{"action":"recover","reason":"x"}`,
		`{"action":"recover","reason":"x","duration_seconds":0}`, `{"action":"recover","reason":"x","duration_seconds":5,"until_seconds":5}`,
		`{"action":"recover","reason":"x","duration_seconds":5,"percentage":5}`,
	} {
		g := f.Do("PUT", "/v1/admin/fleet", body)
		if g.Status != 422 || g.JSON["code"] == nil {
			t.Errorf("%s: %d %s", body, g.Status, g.Text)
		}
	}
	f.Do("PUT", "/v1/admin/fleet", `{"action":"stop","reason":"x"}`, "X-Actor", "a b").WantProblem(422, problem.InvalidValue)
	f.Do("GET", "/v1/admin/fleet?x=1", "").WantProblem(422, problem.InvalidValue)
	if f.fleet.changes != 0 {
		t.Errorf("%d changes", f.fleet.changes)
	}
}

func TestFleet_WithoutRedisIs503(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.records.TakeDown(false)
	f.Do("GET", "/v1/admin/fleet", "").WantProblem(503, problem.StoreUnavailable)
	f.Do("PUT", "/v1/admin/fleet", `{"action":"stop","reason":"x"}`).WantProblem(503, problem.StoreUnavailable)
	f.Do("DELETE", "/v1/admin/fleet", "").WantProblem(503, problem.StoreUnavailable)
	f.Do("GET", "/v1/admin/replicas", "").Want(200, "degraded=true") // what it knows of itself
}

func TestReplicas_ShowStateAndDrift(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	odd := heard("odd", "", 0, true)
	odd.Policy, odd.DegradedMs, odd.Waiting, odd.LastError, odd.LastErrorMs = "q", 1000, 7, "boom", 2000
	f.fleet.heard = []redisdocs.Heard{
		heard("a", "", 0, true), heard("b", "", 7*time.Second, true), heard("c", "", 11*time.Second, true), odd,
	}
	got := f.Do("GET", "/v1/admin/replicas", "").Want(200)
	for i, want := range []string{"alive", "suspect", "gone", "alive"} {
		entry := "replicas." + string(rune('0'+i))
		got.Want(200, fmt.Sprintf("%s.state=%q", entry, want), fmt.Sprintf("%s.drifts=%v", entry, i == 3))
	}
	got.Want(200, `replicas.3.degraded_since="1970-01-01T00:00:01Z"`, `replicas.3.waiting.outcomes=7`,
		`replicas.3.last_error="boom"`, `replicas.0.last_error=null`)
}
