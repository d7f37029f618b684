package breaker_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// awayStore never answers.
type awayStore struct{}

func (awayStore) Apply(_ context.Context, agent string, _ breaker.Policy, op machine.Op) (machine.Result, error) {
	return machine.Result{}, &breaker.StoreError{Verb: op.Verb, Agent: agent, Err: errors.New("away")}
}

func (awayStore) Inspect(_ context.Context, agent string, _ breaker.Policy) (breaker.View, error) {
	return breaker.View{}, &breaker.StoreError{Verb: "inspect", Agent: agent, Err: errors.New("away")}
}

// switched is a Memory that can be away: quick or, when hang is set, after the caller's patience.
type switched struct {
	*breaker.Memory
	away  atomic.Bool
	hang  atomic.Bool
	pings atomic.Bool // it answers pings all the same
	asked atomic.Int64
}

func (s *switched) Apply(ctx context.Context, agent string, p breaker.Policy, op machine.Op) (machine.Result, error) {
	s.asked.Add(1)
	if err := s.trouble(ctx, agent, op.Verb); err != nil {
		return machine.Result{}, err
	}
	return s.Memory.Apply(ctx, agent, p, op)
}

func (s *switched) trouble(ctx context.Context, agent string, v machine.Verb) error {
	if s.hang.Load() {
		ctx, cancel := context.WithTimeout(ctx, 250*time.Millisecond)
		defer cancel()
		<-ctx.Done()
		return &breaker.StoreError{Verb: v, Agent: agent, Unknown: true, Err: ctx.Err()}
	}
	if s.away.Load() {
		return &breaker.StoreError{Verb: v, Agent: agent, Err: errors.New("connection refused")}
	}
	return nil
}

func (s *switched) ping(ctx context.Context) error {
	if s.pings.Load() {
		return nil
	}
	return s.trouble(ctx, "", "ping")
}

type outage struct {
	store    *switched
	fallback *breaker.Fallback
	manager  *breaker.Manager
	changes  []bool
	mu       sync.Mutex
}

func newOutage(t *testing.T, edit func(*breaker.Policy)) *outage {
	t.Helper()
	o := &outage{store: &switched{Memory: breaker.NewMemory(nil, 0)}}
	o.fallback = breaker.NewFallback(o.store, o.store.ping, 0, func(degraded bool, _ error) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.changes = append(o.changes, degraded)
	})
	t.Cleanup(o.fallback.Close)
	o.manager = managerOn(t, o.fallback, edit)
	return o
}

func TestFallbackGoesOnFromTheLastStateItSaw(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOutage(t, nil)
		defer o.fallback.Close()
		for range 5 {
			_ = o.manager.Do(t.Context(), "open", fail)
		}
		for range 3 {
			_ = o.manager.Do(t.Context(), "run", fail)
		}
		<-time.After(10 * time.Second)
		o.store.away.Store(true)
		var refused *breaker.OpenError
		if err := o.manager.Do(t.Context(), "open", succeed); !errors.As(err, &refused) || !refused.Degraded || refused.RetryAfter != 50*time.Second {
			t.Errorf("open agent: %v %+v, want a degraded refusal for 50 s", err, refused)
		}
		// the run of three goes on: two more open it, here alone
		for range 2 {
			_ = o.manager.Do(t.Context(), "run", fail)
		}
		if err := o.manager.Do(t.Context(), "run", succeed); !errors.As(err, &refused) || refused.Reason != breaker.ReasonOpen {
			t.Errorf("agent with a run: %v, want open", err)
		}
		o.store.away.Store(false)
		<-time.After(2 * time.Second)
		synctest.Wait()
		if o.fallback.Degraded() {
			t.Fatal("still degraded")
		}
		// the shared store wins: there the run is three
		if err := o.manager.Do(t.Context(), "run", succeed); err != nil {
			t.Errorf("after the return: %v", err)
		}
		if len(o.changes) != 2 || !o.changes[0] || o.changes[1] {
			t.Errorf("changes %v, want degraded once and back once", o.changes)
		}
	})
}

func TestFallbackLetsNobodyWaitTwice(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOutage(t, nil)
		defer o.fallback.Close()
		o.store.hang.Store(true)
		start := time.Now()
		if _, err := o.manager.Acquire(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != 250*time.Millisecond {
			t.Errorf("first caller waited %v, want one time-out", took)
		}
		start = time.Now()
		for range 100 {
			if p, err := o.manager.Acquire(t.Context(), "a"); err != nil || !p.Degraded() {
				t.Fatalf("degraded acquire: %v", err)
			}
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("100 callers waited %v", took)
		}
		o.store.hang.Store(false)
	})
}

func TestFallbackKeepsRedisEpochUntilTheFirstLocalTransition(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOutage(t, nil)
		defer o.fallback.Close()
		_ = o.manager.Do(t.Context(), "a", fail)
		o.store.away.Store(true)
		_ = o.manager.Do(t.Context(), "other", succeed) // notices
		early, err := o.manager.Acquire(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		for range 5 {
			_ = o.manager.Do(t.Context(), "a", fail)
		}
		<-time.After(time.Minute)
		late, err := o.manager.Acquire(t.Context(), "a") // half-open, here alone
		if err != nil {
			t.Fatal(err)
		}
		o.store.away.Store(false)
		<-time.After(2 * time.Second)
		if r, err := early.Report(t.Context(), breaker.Outcome{Kind: breaker.Success}); err != nil || !r.Counted {
			t.Errorf("permit of Redis's epoch: %+v %v, want counted", r, err)
		}
		if r, err := late.Report(t.Context(), breaker.Outcome{Kind: breaker.Success}); err != nil || r.Counted || r.Why != machine.CodeLost {
			t.Errorf("permit of a local epoch: %+v %v, want lost", r, err)
		}
	})
}

func TestFallbackAllowAndDeny(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		deny := newOutage(t, func(p *breaker.Policy) { p.OnStoreError = breaker.OnStoreErrorDeny })
		defer deny.fallback.Close()
		deny.store.away.Store(true)
		var refused *breaker.OpenError
		if err := deny.manager.Do(t.Context(), "a", succeed); !errors.As(err, &refused) || refused.Reason != breaker.ReasonStoreUnavailable || refused.State != "" {
			t.Errorf("deny: %v", err)
		}
		allow := newOutage(t, func(p *breaker.Policy) { p.OnStoreError = breaker.OnStoreErrorAllow })
		defer allow.fallback.Close()
		allow.store.away.Store(true)
		for range 50 {
			if err := allow.manager.Do(t.Context(), "a", fail); !errors.Is(err, errAgent) {
				t.Fatalf("allow: %v", err)
			}
		}
	})
}

func TestFallbackAnswersNoOperatorFromMemory(t *testing.T) {
	t.Parallel()
	o := newOutage(t, nil)
	o.store.away.Store(true)
	if _, err := o.manager.Force(t.Context(), "a", breaker.Force{Target: breaker.HoldOpen, Actor: "alice"}); !errors.Is(err, breaker.ErrStoreUnavailable) {
		t.Errorf("force: %v, want ErrStoreUnavailable", err)
	}
}

func TestAStoreErrorNeverReplacesTheCallsOwnResult(t *testing.T) {
	t.Parallel()
	store := &switched{Memory: breaker.NewMemory(nil, 0)}
	m := managerOn(t, store, nil)
	err := m.Do(t.Context(), "a", func(context.Context) error { store.away.Store(true); return nil })
	if err != nil {
		t.Errorf("successful call gave %v", err)
	}
	store.away.Store(false)
	if err := m.Do(t.Context(), "a", func(context.Context) error { store.away.Store(true); return errAgent }); !errors.Is(err, errAgent) {
		t.Errorf("failed call gave %v", err)
	}
}

func TestAnUnknownOutcomeIsToldAsUnknown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOutage(t, nil)
		defer o.fallback.Close()
		p, err := o.manager.Acquire(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		o.store.hang.Store(true)
		if r, err := p.Report(t.Context(), breaker.Outcome{Kind: breaker.Failure}); err != nil || r.Why != breaker.CodeUnknown || r.Counted {
			t.Errorf("report %+v %v, want unknown", r, err)
		}
		o.store.hang.Store(false)
	})
}

func TestACallersImpatienceIsNotAnOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOutage(t, nil)
		defer o.fallback.Close()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		o.store.hang.Store(true)
		_, err := o.manager.Acquire(ctx, "a")
		if err == nil {
			t.Fatal("a cancelled caller got a permit")
		}
		o.store.hang.Store(false)
		synctest.Wait()
		if o.fallback.Degraded() {
			t.Error("degraded by a caller's own cancellation")
		}
	})
}

func TestALocalRoundSettlesWhileTheStoreIsAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOutage(t, nil)
		defer o.fallback.Close()
		o.store.away.Store(true)
		for range 5 {
			_ = o.manager.Do(t.Context(), "a", fail)
		}
		<-time.After(time.Minute)
		for i := range 3 {
			p, err := o.manager.Acquire(t.Context(), "a")
			if err != nil {
				t.Fatalf("probe %d: %v", i, err)
			}
			if p.State() != breaker.HalfOpen || p.Lease() != time.Minute || p.Renew(t.Context()) != nil {
				t.Errorf("probe %d: state %s, lease %v", i, p.State(), p.Lease())
			}
			again, err := o.manager.Resume("a", p.String())
			if err != nil {
				t.Fatal(err)
			}
			if r, err := again.Report(t.Context(), breaker.Outcome{Kind: breaker.Success}); err != nil || !r.Counted {
				t.Errorf("probe %d: %+v %v", i, r, err)
			}
		}
		if _, _, state := totals(t, o.manager); state != breaker.Closed {
			t.Errorf("state %s after three successes", state)
		}
	})
}

func TestAloneOneReporterIsEnough(t *testing.T) {
	t.Parallel()
	m := manager(t, func(p *breaker.Policy) { p.MinimumReporters = 3 })
	for range 5 {
		_ = m.Do(t.Context(), "a", fail)
	}
	if _, _, state := totals(t, m); state != breaker.Open {
		t.Errorf("state %s, want open: a process alone is the only reporter there is", state)
	}
}

// lateContext is a context whose deadline has passed and that does not know yet.
type lateContext struct{ context.Context } //nolint:containedctx // it is one

func (lateContext) Deadline() (time.Time, bool) { return time.Now().Add(-time.Millisecond), true }

func TestASocketDeadlineThatIsTheCallersIsNotAnOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOutage(t, nil)
		defer o.fallback.Close()
		o.store.away.Store(true)
		o.store.pings.Store(true)
		ctx := lateContext{t.Context()}
		if _, err := o.manager.Acquire(ctx, "a"); !errors.Is(err, breaker.ErrStoreUnavailable) {
			t.Errorf("acquire: %v", err)
		}
		synctest.Wait()
		if o.fallback.Degraded() {
			t.Error("degraded by one caller's short deadline")
		}
	})
}

func TestProbeKeepsItsLeaseOverAMomentWithoutTheStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOutage(t, func(p *breaker.Policy) { p.HalfOpenMaxCalls, p.ProbeTimeout = 1, 6*time.Second })
		defer o.fallback.Close()
		for range 5 {
			_ = o.manager.Do(t.Context(), "a", fail)
		}
		<-time.After(time.Minute)
		p, err := o.manager.Acquire(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		stop := p.Keep(t.Context())
		defer stop()
		<-time.After(1900 * time.Millisecond)
		o.store.away.Store(true) // the renewal at 2 s finds nobody
		<-time.After(200 * time.Millisecond)
		o.store.away.Store(false)
		<-time.After(10 * time.Second)
		if _, err := o.manager.Acquire(t.Context(), "a"); err == nil {
			t.Error("a second probe was admitted while the first one is under way")
		}
		if counted, err := p.Success(t.Context()); !counted || err != nil {
			t.Errorf("the probe's success: counted %v, %v", counted, err)
		}
	})
}
