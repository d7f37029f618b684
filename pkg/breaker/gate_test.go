package breaker_test

import (
	"context"
	"errors"
	"math"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/breaker"
)

func TestGate_ShareIsLinearBetweenItsEnds(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		gate breaker.Gate
		at   int64
		want float64
		over bool
	}{
		{breaker.Gate{}, 0, 0, false},
		{breaker.Gate{}, math.MaxInt64, 0, false},
		{breaker.Gate{From: 0.8, To: 0.8, StartMs: 5}, 3, 0.8, false},
		{breaker.Gate{To: 1, StartMs: 1000, LengthMs: 10_000}, 0, 0, false},
		{breaker.Gate{To: 1, StartMs: 1000, LengthMs: 10_000}, 1000, 0, false},
		{breaker.Gate{To: 1, StartMs: 1000, LengthMs: 10_000}, 3500, 0.25, false},
		{breaker.Gate{To: 1, StartMs: 1000, LengthMs: 10_000}, 10_999, 0.9999, false},
		{breaker.Gate{To: 1, StartMs: 1000, LengthMs: 10_000}, 11_000, 1, true},
		{breaker.Gate{From: 0.5, To: 0.1, LengthMs: 100}, 50, 0.3, false},
		{breaker.Gate{UntilMs: 100}, 99, 0, false},
		{breaker.Gate{UntilMs: 100}, 100, 1, true},
		{breaker.Gate{From: 1, To: 1}, 0, 1, true},
	} {
		if got := c.gate.Share(c.at); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%+v at %d: %v, want %v", c.gate, c.at, got, c.want)
		}
		if got := c.gate.Over(c.at); got != c.over {
			t.Errorf("%+v at %d: over %v", c.gate, c.at, got)
		}
	}
}

// ways are the ways to ask for a call.
func ways(m *breaker.Manager) map[string]func(ctx context.Context, agent string) error {
	return map[string]func(context.Context, string) error{
		"Acquire": func(ctx context.Context, agent string) error {
			p, err := m.Acquire(ctx, agent)
			if err == nil {
				_, err = p.Settle(ctx, breaker.Outcome{Kind: breaker.Success})
			}
			return err
		},
		"Enter": func(ctx context.Context, agent string) error {
			ctx, p, err := m.Enter(ctx, agent)
			if err == nil {
				_, err = p.Settle(ctx, breaker.Outcome{Kind: breaker.Success})
			}
			return err
		},
		"Do": func(ctx context.Context, agent string) error {
			return m.Do(ctx, agent, func(context.Context) error { return nil })
		},
		"Call": func(ctx context.Context, agent string) error {
			_, err := breaker.Call(ctx, m, agent, func(context.Context) (int, error) { return 1, nil })
			return err
		},
		"Agent.Acquire": func(ctx context.Context, agent string) error {
			a, err := m.Agent(agent)
			if err != nil {
				return err
			}
			_, err = a.Acquire(ctx)
			return err
		},
		"Agent.Do": func(ctx context.Context, agent string) error {
			a, err := m.Agent(agent)
			if err != nil {
				return err
			}
			return a.Do(ctx, func(context.Context) error { return nil })
		},
		"Classic": func(ctx context.Context, agent string) error {
			c, err := m.Classic(agent)
			if err == nil && !c.CanExecute(ctx) {
				err = breaker.ErrOpen
			}
			return err
		},
	}
}

func TestGate_StopRefusesEveryCallOfEveryAgent(t *testing.T) {
	t.Parallel()
	for _, c := range []breaker.Policy{
		{Consistency: breaker.Strict}, {Consistency: breaker.Cached}, {Mode: breaker.Observe}, {Disabled: true},
	} {
		w := newWaited(t, breaker.NewMemory(nil, 0), c, nil)
		for name, ask := range ways(w.Manager) {
			ctx := t.Context()
			if err := ask(ctx, "known"); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			w.SetGate(&breaker.Gate{})
			asked := w.store.acquires.Load()
			for _, agent := range []string{"known", "unknown"} {
				err := ask(ctx, agent)
				open, refused := errors.AsType[*breaker.OpenError](err)
				if !errors.Is(err, breaker.ErrOpen) || refused && (open.Reason != breaker.ReasonEmergencyStop ||
					open.State != breaker.Open || open.Wait <= 0 || open.Agent != agent) {
					t.Errorf("%+v, %s of %s: %v", c, name, agent, err)
				}
			}
			if n := w.store.acquires.Load(); n != asked {
				t.Errorf("%s: the store was asked", name)
			}
			if err := ask(ctx, "bad name"); errors.Is(err, breaker.ErrOpen) {
				t.Errorf("%s of a bad name: %v", name, err)
			}
			w.SetGate(nil)
			if err := ask(ctx, "known"); err != nil {
				t.Errorf("%s after the stop: %v", name, err)
			}
		}
	}
}

func TestGate_GlobalSwitchIsAboveIt(t *testing.T) {
	t.Parallel()
	w := newWaited(t, breaker.NewMemory(nil, 0), breaker.Policy{}, func(o *breaker.Options) { o.Disabled = true })
	w.SetGate(&breaker.Gate{})
	for name, ask := range ways(w.Manager) {
		if err := ask(t.Context(), "a"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if s := w.Share(); s != 1 {
		t.Errorf("share %v", s)
	}
}

// refusals counts what an Observer is told.
type refusals struct {
	breaker.NopObserver

	n atomic.Int64
}

func (r *refusals) Refused(string, *breaker.OpenError) { r.n.Add(1) }

func TestGate_ShedsItsShare(t *testing.T) {
	t.Parallel()
	for _, consistency := range []breaker.Consistency{breaker.Strict, breaker.Cached} {
		seen := &refusals{}
		w := newWaited(t, breaker.NewMemory(nil, 0), breaker.Policy{Consistency: consistency}, func(o *breaker.Options) {
			o.Observer = seen
		})
		w.SetGate(&breaker.Gate{From: 0.8, To: 0.8})
		const calls = 100_000
		admitted := 0
		for range calls {
			err := w.Do(t.Context(), "a", func(context.Context) error { admitted++; return nil })
			if open, refused := errors.AsType[*breaker.OpenError](err); refused &&
				(open.Reason != breaker.ReasonShedding || open.State != "" || open.Wait != time.Second) {
				t.Fatal(err)
			}
		}
		if share := float64(admitted) / calls; math.Abs(share-0.8) > 0.01 || seen.n.Load() != int64(calls-admitted) {
			t.Errorf("%s: %v were admitted, and %d refusals observed", consistency, share, seen.n.Load())
		}
	}
}

func TestGate_RecoversInALine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWaited(t, breaker.NewMemory(nil, 0), breaker.Policy{}, nil)
		w.SetGate(&breaker.Gate{To: 1, StartMs: time.Now().UnixMilli(), LengthMs: 10_000})
		for second := range 11 {
			const calls = 10_000
			admitted := 0
			for range calls {
				_ = w.Do(t.Context(), "a", func(context.Context) error { admitted++; return nil })
			}
			if share := float64(admitted) / calls; math.Abs(share-float64(second)/10) > 0.02 {
				t.Errorf("after %d s %v were admitted", second, share)
			}
			<-time.After(time.Second)
		}
	})
}

func TestGate_WaitEndsWhenItIsLifted(t *testing.T) {
	t.Parallel()
	for _, consistency := range []breaker.Consistency{breaker.Strict, breaker.Cached} {
		synctest.Test(t, func(t *testing.T) {
			w := newWaited(t, breaker.NewMemory(nil, 0), breaker.Policy{Consistency: consistency}, nil)
			defer w.Close(context.Background())
			if err := w.Do(t.Context(), "a", func(context.Context) error { return nil }); err != nil {
				t.Fatal(err)
			}
			w.SetGate(&breaker.Gate{})
			begin := time.Now()
			time.AfterFunc(7*time.Second, func() { w.SetGate(nil) })
			if err := w.Wait(t.Context(), "a"); err != nil {
				t.Error(err)
			}
			if waited := time.Since(begin); waited < 7*time.Second || waited > 9*time.Second {
				t.Errorf("waited %s", waited)
			}
			w.SetGate(&breaker.Gate{From: 0.5, To: 0.5})
			if err := w.Wait(t.Context(), "a"); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestGate_CostsNoAllocationInCachedMode(t *testing.T) {
	w := newWaited(t, breaker.NewMemory(nil, 0), breaker.Policy{Consistency: breaker.Cached}, nil)
	defer w.Close(context.Background())
	pair := func() {
		p, err := w.Acquire(t.Context(), "a")
		if err == nil {
			_, _ = p.Settle(t.Context(), breaker.Outcome{Kind: breaker.Success})
		}
	}
	pair()
	for name, gate := range map[string]*breaker.Gate{"none": nil, "all": {From: 1, To: 1}} {
		w.SetGate(gate)
		if n := testkit.FewestAllocs(pair); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
