package breaker_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// TestManager_OperatesAsForceDoes: each verb, what it leaves behind, and what the log says.
func TestManager_OperatesAsForceDoes(t *testing.T) {
	t.Parallel()
	m, err := breaker.NewManager(breaker.Options{Store: breaker.NewMemory(nil, 0)})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	for _, c := range []struct {
		name  string
		do    func() error
		state breaker.State
		event string // kind, actor and text of the newest
	}{
		{"open", func() error { return m.Open(ctx, "a", breaker.Hold{}) }, breaker.Open, "manual_open library "},
		{"release", func() error { return m.Release(ctx, "a", breaker.Release{Reason: "fixed", Actor: "ann"}) }, breaker.HalfOpen, "manual_release ann fixed"},
		{"reset", func() error { return m.Reset(ctx, "a", breaker.Reset{}) }, breaker.Closed, "manual_reset library "},
		{"half", func() error { return m.Reset(ctx, "a", breaker.Reset{HalfOpen: true, Reason: "try"}) }, breaker.HalfOpen, "manual_reset library try"},
		{"protect", func() error { return m.Open(ctx, "a", breaker.Hold{Protected: true, Actor: "ann"}) }, breaker.Open, "manual_open ann "},
		{"force", func() error { return m.Reset(ctx, "a", breaker.Reset{Force: true, Gradual: time.Minute}) }, breaker.Closed, "manual_reset library "},
		{"protect", func() error { return m.Open(ctx, "a", breaker.Hold{Protected: true}) }, breaker.Open, "manual_open library "},
		{"replace", func() error { return m.Open(ctx, "a", breaker.Hold{Force: true, Protected: true}) }, breaker.Open, "manual_open library "},
		{"force", func() error { return m.Release(ctx, "a", breaker.Release{Force: true}) }, breaker.HalfOpen, "manual_release library "},
	} {
		if err := c.do(); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		v, _, err := m.Inspect(ctx, "a")
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join([]string{v.Log[0].Kind, v.Log[0].Actor, v.Log[0].Text}, " "); v.State != c.state || got != c.event {
			t.Errorf("%s: %s, %q; want %s, %q", c.name, v.State, got, c.state, c.event)
		}
	}
}

// TestManager_OperateRefuses what cannot be done, with the error that says so.
func TestManager_OperateRefuses(t *testing.T) {
	t.Parallel()
	m, err := breaker.NewManager(breaker.Options{Store: breaker.NewMemory(nil, 0), Reporter: "r1"})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if err := m.Open(ctx, "held", breaker.Hold{Protected: true}); err != nil {
		t.Fatal(err)
	}
	if v, _, err := m.Inspect(ctx, "held"); err != nil || v.Hold.Actor != "r1" {
		t.Errorf("the actor is %q, %v", v.Hold.Actor, err)
	}
	for name, c := range map[string]struct{ err, want error }{
		"protected from hold":    {m.Open(ctx, "held", breaker.Hold{}), breaker.ErrHoldProtected},
		"protected from reset":   {m.Reset(ctx, "held", breaker.Reset{}), breaker.ErrHoldProtected},
		"protected from release": {m.Release(ctx, "held", breaker.Release{}), breaker.ErrHoldProtected},
		"not held":               {m.Release(ctx, "a", breaker.Release{}), breaker.ErrNotHeld},
		"not held, by force":     {m.Release(ctx, "a", breaker.Release{Force: true}), breaker.ErrNotHeld},
		"name":                   {m.Release(ctx, "", breaker.Release{}), breaker.ErrBadName},
		"nil":                    {(*breaker.Manager)(nil).Release(ctx, "a", breaker.Release{}), breaker.ErrUnset},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("%s: %v, want %v", name, c.err, c.want)
		}
	}
	for field, err := range map[string]error{
		"reason":    m.Release(ctx, "a", breaker.Release{Reason: "two\nlines"}),
		"actor":     m.Reset(ctx, "a", breaker.Reset{Actor: "two words"}),
		"length_ms": m.Open(ctx, "a", breaker.Hold{For: -time.Nanosecond}),
		"ramp_ms":   m.Reset(ctx, "a", breaker.Reset{Gradual: time.Second, HalfOpen: true}),
	} {
		if bad, ok := errors.AsType[*breaker.ForceError](err); !ok || bad.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	if err := m.Reset(ctx, "a", breaker.Reset{Gradual: breaker.MaxDuration + 1}); err == nil {
		t.Error("a ramp longer than allowed")
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if err := m.Open(cancelled, "a", breaker.Hold{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if v, _, err := m.Inspect(ctx, "a"); err != nil || len(v.Log) != 0 {
		t.Errorf("log %v, %v", v.Log, err)
	}
}

// TestManager_OpenRoundsUp: a hold of less than a millisecond is not one without end.
func TestManager_OpenRoundsUp(t *testing.T) {
	t.Parallel()
	m, err := breaker.NewManager(breaker.Options{Store: breaker.NewMemory(func() int64 { return 1e12 }, 0)})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Open(t.Context(), "a", breaker.Hold{For: time.Microsecond}); err != nil {
		t.Fatal(err)
	}
	if v, _, err := m.Inspect(t.Context(), "a"); err != nil || v.Hold != (machine.Hold{Kind: breaker.Open, StartMs: 1e12, LengthMs: 1, Actor: "library"}) {
		t.Errorf("%+v, %v", v.Hold, err)
	}
}
