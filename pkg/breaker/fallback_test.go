package breaker_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// downStore is always down.
type downStore struct{}

func (downStore) Apply(_ context.Context, agent string, _ breaker.Policy, op machine.Op) (machine.Result, error) {
	return machine.Result{}, &breaker.StoreError{Verb: op.Verb, Agent: agent, Err: errors.New("down")}
}

func (downStore) Inspect(_ context.Context, agent string, _ breaker.Policy) (breaker.View, error) {
	return breaker.View{}, &breaker.StoreError{Verb: "inspect", Agent: agent, Err: errors.New("down")}
}

// switchableStore is a Memory that can be down: it fails at once or, if hang is set, after 250 ms.
type switchableStore struct {
	*breaker.Memory
	down  atomic.Bool
	hang  atomic.Bool
	pings atomic.Bool // pings succeed although it is down
	asked atomic.Int64

	lost      atomic.Bool // operations are carried out, and their answers are lost
	cut       atomic.Bool // likewise, and the connection breaks
	pingsFail atomic.Bool
	refusing  atomic.Pointer[refusing]
}

// refusing is an operation that the store refuses.
type refusing struct {
	agent string
	verb  machine.Verb
}

func (s *switchableStore) refuse(agent string, verb machine.Verb) {
	s.refusing.Store(&refusing{agent, verb})
}

func (s *switchableStore) Apply(ctx context.Context, agent string, p breaker.Policy, op machine.Op) (machine.Result, error) {
	s.asked.Add(1)
	if err := s.failure(ctx, agent, op.Verb); err != nil {
		return machine.Result{}, err
	}
	if no := s.refusing.Load(); no != nil && *no == (refusing{agent, op.Verb}) {
		return machine.Result{}, &breaker.StoreError{Verb: op.Verb, Agent: agent, Refused: true, Err: errors.New("WRONGTYPE")}
	}
	r, err := s.Memory.Apply(ctx, agent, p, op)
	switch {
	case s.lost.Load():
		return machine.Result{}, &breaker.StoreError{Verb: op.Verb, Agent: agent, Unknown: true, Err: context.DeadlineExceeded}
	case s.cut.Load():
		return machine.Result{}, &breaker.StoreError{Verb: op.Verb, Agent: agent, Unknown: true, Cut: true, Err: io.EOF}
	}
	return r, err
}

func (s *switchableStore) failure(ctx context.Context, agent string, v machine.Verb) error {
	if s.hang.Load() {
		ctx, cancel := context.WithTimeout(ctx, 250*time.Millisecond)
		defer cancel()
		<-ctx.Done()
		return &breaker.StoreError{Verb: v, Agent: agent, Unknown: true, Err: ctx.Err()}
	}
	if s.down.Load() {
		return &breaker.StoreError{Verb: v, Agent: agent, Err: errors.New("connection refused")}
	}
	return nil
}

func (s *switchableStore) ping(ctx context.Context) error {
	if s.pings.Load() {
		return nil
	}
	if s.pingsFail.Load() {
		return errors.New("no pong")
	}
	return s.failure(ctx, "", "ping")
}

type outage struct {
	store    *switchableStore
	fallback *breaker.Fallback
	manager  *breaker.Manager
	changes  []bool
	mu       sync.Mutex
	log      testkit.Buffer // of the Fallback
}

func newOutage(t *testing.T, edit func(*breaker.Policy)) *outage {
	t.Helper()
	o := &outage{store: &switchableStore{Memory: breaker.NewMemory(nil, 0)}}
	change := func(degraded bool, _ error) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.changes = append(o.changes, degraded)
	}
	o.fallback = breaker.NewFallback(breaker.FallbackOptions{
		Store: o.store, Ping: o.store.ping, OnChange: change, Logger: slog.New(slog.NewTextHandler(&o.log, nil)),
	})
	t.Cleanup(o.fallback.Close)
	o.manager = newManagerOn(t, o.fallback, edit)
	return o
}

func TestFallback_LocalContinuesFromTheLastAnswer(t *testing.T) {
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
		o.store.down.Store(true)
		var refused *breaker.OpenError
		if err := o.manager.Do(t.Context(), "open", succeed); !errors.As(err, &refused) || !refused.Degraded || refused.RetryAfter() != 50*time.Second {
			t.Errorf("open agent: %v %+v, want a degraded refusal for 50 s", err, refused)
		}
		// the run of three continues: two more failures open the breaker in memory
		for range 2 {
			_ = o.manager.Do(t.Context(), "run", fail)
		}
		if err := o.manager.Do(t.Context(), "run", succeed); !errors.As(err, &refused) || refused.Reason != breaker.ReasonOpen {
			t.Errorf("agent with a run: %v, want open", err)
		}
		o.store.down.Store(false)
		<-time.After(2 * time.Second)
		synctest.Wait()
		if o.fallback.Degraded() {
			t.Fatal("still degraded")
		}
		// in the store the run is three
		if err := o.manager.Do(t.Context(), "run", succeed); err != nil {
			t.Errorf("after the outage: %v", err)
		}
		if len(o.changes) != 2 || !o.changes[0] || o.changes[1] {
			t.Errorf("changes %v, want degraded once and back once", o.changes)
		}
	})
}

func TestFallback_OnlyTheFirstCallerWaits(t *testing.T) {
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

func TestFallback_KeepsTheStoresEpochUntilALocalTransition(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOutage(t, nil)
		defer o.fallback.Close()
		_ = o.manager.Do(t.Context(), "a", fail)
		o.store.down.Store(true)
		_ = o.manager.Do(t.Context(), "other", succeed) // meets the outage
		early, err := o.manager.Acquire(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		for range 5 {
			_ = o.manager.Do(t.Context(), "a", fail)
		}
		<-time.After(time.Minute)
		late, err := o.manager.Acquire(t.Context(), "a") // half-open in memory
		if err != nil {
			t.Fatal(err)
		}
		o.store.down.Store(false)
		<-time.After(2 * time.Second)
		if r, err := early.Report(t.Context(), breaker.Outcome{Kind: breaker.Success}); err != nil || !r.Counted {
			t.Errorf("permit of Redis's epoch: %+v %v, want counted", r, err)
		}
		if r, err := late.Report(t.Context(), breaker.Outcome{Kind: breaker.Success}); err != nil || r.Counted || r.Why != machine.CodeLost {
			t.Errorf("permit of a local epoch: %+v %v, want lost", r, err)
		}
	})
}

func TestFallback_AllowAdmitsAndDenyRefuses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		deny := newOutage(t, func(p *breaker.Policy) { p.OnStoreError = breaker.OnStoreErrorDeny })
		defer deny.fallback.Close()
		deny.store.down.Store(true)
		var refused *breaker.OpenError
		if err := deny.manager.Do(t.Context(), "a", succeed); !errors.As(err, &refused) || refused.Reason != breaker.ReasonStoreUnavailable || refused.State != "" {
			t.Errorf("deny: %v", err)
		}
		allow := newOutage(t, func(p *breaker.Policy) { p.OnStoreError = breaker.OnStoreErrorAllow })
		defer allow.fallback.Close()
		allow.store.down.Store(true)
		for range 50 {
			if err := allow.manager.Do(t.Context(), "a", fail); !errors.Is(err, errAgent) {
				t.Fatalf("allow: %v", err)
			}
		}
	})
}

func TestFallback_ForceNeedsTheStore(t *testing.T) {
	t.Parallel()
	o := newOutage(t, nil)
	o.store.down.Store(true)
	if _, err := o.manager.Force(t.Context(), "a", breaker.Force{Target: breaker.HoldOpen, Actor: "alice"}); !errors.Is(err, breaker.ErrStoreUnavailable) {
		t.Errorf("force: %v, want ErrStoreUnavailable", err)
	}
}

func TestDo_StoreErrorDoesNotReplaceTheResultOfTheCall(t *testing.T) {
	t.Parallel()
	store := &switchableStore{Memory: breaker.NewMemory(nil, 0)}
	m := newManagerOn(t, store, nil)
	err := m.Do(t.Context(), "a", func(context.Context) error { store.down.Store(true); return nil })
	if err != nil {
		t.Errorf("successful call gave %v", err)
	}
	store.down.Store(false)
	if err := m.Do(t.Context(), "a", func(context.Context) error { store.down.Store(true); return errAgent }); !errors.Is(err, errAgent) {
		t.Errorf("failed call gave %v", err)
	}
}

func TestFallback_RecordThatTimesOutIsUnknown(t *testing.T) {
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

func TestFallback_CancelledCallerIsNoOutage(t *testing.T) {
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

func TestFallback_LocalProbesSettle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOutage(t, nil)
		defer o.fallback.Close()
		o.store.down.Store(true)
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
			if r, err := again.Report(t.Context(), breaker.Outcome{Kind: breaker.Success}); err != nil || r.Why != machine.CodeLost {
				t.Errorf("probe %d: %+v %v, want lost: it counts in memory only", i, r, err)
			}
		}
		if _, _, state := totals(t, o.manager); state != breaker.Closed {
			t.Errorf("state %s after three successes", state)
		}
	})
}

func TestMemory_OneReporterIsEnough(t *testing.T) {
	t.Parallel()
	m := newManager(t, func(p *breaker.Policy) { p.MinimumReporters = 3 })
	for range 5 {
		_ = m.Do(t.Context(), "a", fail)
	}
	if _, _, state := totals(t, m); state != breaker.Open {
		t.Errorf("state %s, want open: a process alone is the only reporter there is", state)
	}
}

// lateContext is a context whose deadline has passed, and that has not ended yet.
type lateContext struct{ context.Context } //nolint:containedctx // it is one

func (lateContext) Deadline() (time.Time, bool) { return time.Now().Add(-time.Millisecond), true }

func TestFallback_CallersDeadlineIsNoOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOutage(t, nil)
		defer o.fallback.Close()
		o.store.down.Store(true)
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

func TestPermit_KeepSurvivesAShortOutage(t *testing.T) {
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
		o.store.down.Store(true) // the renewal at 2 s fails
		<-time.After(200 * time.Millisecond)
		o.store.down.Store(false)
		<-time.After(10 * time.Second)
		if _, err := o.manager.Acquire(t.Context(), "a"); err == nil {
			t.Error("a second probe was admitted while the first one is under way")
		}
		if counted, err := p.Success(t.Context()); !counted || err != nil {
			t.Errorf("the probe's success: counted %v, %v", counted, err)
		}
	})
}

// What the user's functions do is nobody's loss.
func TestFallback_PanicsOfItsFunctionsAreRecovered(t *testing.T) { // Kevlar 24
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &switchableStore{Memory: breaker.NewMemory(nil, 0)}
		var quiet atomic.Bool
		loud := func(what string) {
			if !quiet.Load() {
				panic(what)
			}
		}
		f := breaker.NewFallback(breaker.FallbackOptions{
			Store: s, OnChange: func(bool, error) { panic("OnChange") },
			Ping: func(context.Context) error { loud("Ping"); return nil },
			Born: func(context.Context) (string, error) { loud("Born"); return "id", nil },
		})
		defer f.Close()
		m := newManagerOn(t, f, nil)
		_ = m.Do(t.Context(), "a", succeed)
		s.down.Store(true)
		if err := m.Do(t.Context(), "a", succeed); err != nil || !f.Degraded() {
			t.Error(err)
		}
		s.down.Store(false)
		if <-time.After(time.Second); !f.Degraded() {
			t.Error("a ping that panics is taken for an answer")
		}
		quiet.Store(true)
		if <-time.After(time.Second); f.Degraded() {
			t.Error("still degraded")
		}
		_ = m.Close(t.Context())
	})
}

// A probe that this process admits without the store does not have the lease that the store may have given: nobody may
// take that for its own, for it is given back.
func TestFallback_LocalProbeHasNoLeaseOfTheStore(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"lost", "cut", "down"} {
		synctest.Test(t, func(t *testing.T) {
			r := newReplica(t, func(p *breaker.Policy) { p.HalfOpenMaxCalls = 3 })
			defer r.fallback.Close()
			for range 5 {
				settle(t.Context(), t, r.manager, "a", breaker.Failure)
			}
			<-time.After(time.Minute)
			first, err := r.manager.Acquire(t.Context(), "a")
			if err != nil {
				t.Fatal(err)
			}
			r.store.lost.Store(mode == "lost")
			r.store.cut.Store(mode == "cut")
			r.store.down.Store(mode == "down")
			second, err := r.manager.Acquire(t.Context(), "a")
			if err != nil || !second.Degraded() {
				t.Fatalf("%s: %v", mode, err)
			}
			r.store.lost.Store(false)
			r.store.cut.Store(false)
			r.store.down.Store(false)
			<-time.After(time.Second)
			if rep, err := second.Report(t.Context(), breaker.Outcome{Kind: breaker.Success}); rep.Why != machine.CodeLost || err != nil {
				t.Errorf("%s: the local probe: %+v, %v", mode, rep, err)
			}
			if rep, err := first.Report(t.Context(), breaker.Outcome{Kind: breaker.Success}); !rep.Counted || err != nil {
				t.Errorf("%s: the probe of the store: %+v, %v", mode, rep, err)
			}
			wantSum(t, r.manager)
		})
	}
}
