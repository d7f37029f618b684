package breaker_test

import (
	"errors"
	"testing"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// verbs returns operations that fail only with an invalid policy.
func verbs() []machine.Op {
	draw := machine.ZeroEpoch[1:]
	return []machine.Op{
		{Verb: machine.VerbAcquire, Token: "0000000000000001", Draw: draw},
		{Verb: machine.VerbRecord, Draw: draw, Summary: machine.One(true, false, 0)},
		{Verb: machine.VerbRecord, Draw: draw, ReportID: "x", Summary: machine.One(false, true, 0)},
		{Verb: machine.VerbRenew, Token: "0000000000000001", Epoch: machine.ZeroEpoch, Draw: draw},
		{Verb: machine.VerbForce, Draw: draw, Force: breaker.Force{Target: breaker.ResetHalfOpen, Actor: "test"}},
		{Verb: machine.VerbInspect, Draw: draw},
	}
}

func TestMemory_FillsInDefaults(t *testing.T) {
	t.Parallel()
	for _, p := range []breaker.Policy{
		{},
		{FailureThreshold: 3, Timeout: time.Second},
		{HalfOpenMaxCalls: 1},
		{WindowSize: time.Hour},
		{Mode: breaker.Observe},
		{FailureThreshold: breaker.Off, FailureRateThreshold: breaker.Off, RampFloor: breaker.Off},
		{Disabled: true},
	} {
		partial, full := breaker.NewMemory(func() int64 { return 1e12 }, 0), breaker.NewMemory(func() int64 { return 1e12 }, 0)
		for _, op := range verbs() {
			got, err := partial.Apply(t.Context(), "a", p, op)
			want, _ := full.Apply(t.Context(), "a", p.WithDefaults(), op)
			if err != nil || got.Code != want.Code || got.State != want.State || got.RetryAfterMs != want.RetryAfterMs || got.LeaseMs != want.LeaseMs {
				t.Errorf("%+v, %s: got %+v, %v, want %+v", p, op.Verb, got, err, want)
			}
		}
		v, err := partial.Inspect(t.Context(), "a", p)
		if want, _ := full.Inspect(t.Context(), "a", p.WithDefaults()); err != nil || v.State != want.State || v.Run != want.Run {
			t.Errorf("%+v: Inspect gave %+v, %v, want %+v", p, v, err, want)
		}
	}
}

func TestMemory_RefusesAnInvalidPolicy(t *testing.T) {
	t.Parallel()
	m := breaker.NewMemory(nil, 0)
	for field, all := range invalidPolicies() {
		for _, p := range all {
			for _, op := range verbs() {
				r, err := m.Apply(t.Context(), "a", p, op)
				if bad, is := errors.AsType[*breaker.PolicyError](err); !is || bad.Field != field || r.Code != "" {
					t.Errorf("%+v, %s: got %+v, %v, want an error of %s", p, op.Verb, r, err, field)
				}
			}
			if _, err := m.Inspect(t.Context(), "a", p); err == nil {
				t.Errorf("%+v: Inspect gave no error", p)
			}
		}
	}
	if v, err := m.Inspect(t.Context(), "a", breaker.Policy{}); err != nil || v.State != breaker.Closed || v.Failures+v.Successes != 0 {
		t.Errorf("an outcome was counted: %+v, %v", v, err)
	}
}
