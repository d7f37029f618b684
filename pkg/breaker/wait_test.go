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

// askedStore counts the questions to a store.
type askedStore struct {
	breaker.Store

	inspects, acquires, busy atomic.Int64
}

func (s *askedStore) Inspect(ctx context.Context, agent string, p breaker.Policy) (breaker.View, error) {
	s.inspects.Add(1)
	return s.Store.Inspect(ctx, agent, p)
}

func (s *askedStore) Apply(ctx context.Context, agent string, p breaker.Policy, op machine.Op) (machine.Result, error) {
	r, err := s.Store.Apply(ctx, agent, p, op)
	if op.Verb == machine.VerbAcquire {
		s.acquires.Add(1)
		if r.Code == machine.CodeRefused {
			s.busy.Add(1)
		}
	}
	return r, err
}

// waitPolicy is open for ten seconds, and then takes one probe.
func waitPolicy(c breaker.Consistency) breaker.Policy {
	return breaker.Policy{Consistency: c, FailureThreshold: 1, Timeout: 10 * time.Second, HalfOpenMaxCalls: 1}
}

// waited is a Manager over a counted store.
type waited struct {
	*breaker.Manager

	store *askedStore
}

func newWaited(t *testing.T, store breaker.Store, p breaker.Policy, edit func(*breaker.Options)) *waited {
	t.Helper()
	w := &waited{store: &askedStore{Store: store}}
	o := breaker.Options{Store: w.store, Policy: p}
	if edit != nil {
		edit(&o)
	}
	m, err := breaker.NewManager(o)
	if err != nil {
		t.Fatal(err)
	}
	w.Manager = m
	t.Cleanup(func() { _ = m.Close(context.Background()) })
	return w
}

// inWaitTime runs a test in virtual time and in both modes, with a breaker that has just opened.
func inWaitTime(t *testing.T, test func(t *testing.T, w *waited)) {
	t.Helper()
	for _, consistency := range []breaker.Consistency{breaker.Strict, breaker.Cached} {
		t.Run(string(consistency), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWaited(t, breaker.NewMemory(nil, 0), waitPolicy(consistency), nil)
				w.open(t)
				test(t, w)
			})
		})
	}
}

func (w *waited) open(t *testing.T) {
	t.Helper()
	_ = w.Do(t.Context(), "a", fail)
	if err := w.Do(t.Context(), "a", succeed); !errors.Is(err, breaker.ErrOpen) {
		t.Fatalf("not open: %v", err)
	}
}

// waitFor returns how long a Wait took.
func (w *waited) waitFor(t *testing.T) time.Duration {
	t.Helper()
	start := time.Now()
	if err := w.Wait(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	return time.Since(start)
}

// within fails unless least <= got <= most.
func within(t *testing.T, what string, got, least, most time.Duration) {
	t.Helper()
	if got < least || got > most {
		t.Errorf("%s after %v, want between %v and %v", what, got, least, most)
	}
}

func (w *waited) force(t *testing.T, f breaker.Force) {
	t.Helper()
	f.Actor = "alice"
	if _, err := w.Force(t.Context(), "a", f); err != nil {
		t.Fatal(err)
	}
}

func TestWait_ReturnsAtOnceWhileCallsAreAdmitted(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		policy breaker.Policy
		edit   func(*breaker.Options)
		force  breaker.Target
	}{
		"closed":      {policy: breaker.Policy{}},
		"disabled":    {policy: breaker.Policy{Disabled: true}, force: breaker.ResetHalfOpen},
		"all off":     {edit: func(o *breaker.Options) { o.Disabled = true }, force: breaker.HoldOpen},
		"observe":     {policy: breaker.Policy{Mode: breaker.Observe, FailureThreshold: 1}},
		"held closed": {policy: breaker.Policy{FailureThreshold: 1}, force: breaker.HoldClosed},
		"half-open":   {force: breaker.ResetHalfOpen},
		"untracked":   {edit: func(o *breaker.Options) { o.Tracking.StoreFull = func() bool { return true } }},
	} {
		for _, consistency := range []breaker.Consistency{breaker.Strict, breaker.Cached} {
			t.Run(name+" "+string(consistency), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					p := c.policy
					p.Consistency = consistency
					w := newWaited(t, breaker.NewMemory(nil, 0), p, c.edit)
					_ = w.Do(t.Context(), "a", fail)
					if c.force != "" {
						w.force(t, breaker.Force{Target: c.force})
					}
					for range 3 {
						within(t, "went on", w.waitFor(t), 0, 0)
					}
					if n := w.store.inspects.Load(); n > 1 {
						t.Errorf("%d questions for three calls at one moment", n)
					}
				})
			})
		}
	}
}

func TestWait_ReturnsOnceTheWaitIsOver(t *testing.T) {
	t.Parallel()
	inWaitTime(t, func(t *testing.T, w *waited) {
		within(t, "went on", w.waitFor(t), 10*time.Second, 11*time.Second)
		if n := w.store.inspects.Load(); n > 7 {
			t.Errorf("%d questions", n)
		}
		if err := w.Do(t.Context(), "a", succeed); err != nil {
			t.Error(err)
		}
		<-time.After(time.Second)
		synctest.Wait()
		if n := w.Watched(); n != 0 {
			t.Errorf("%d watchers, and nobody waits", n)
		}
	})
}

func TestWait_SpreadIsATenthOfTheWait(t *testing.T) {
	t.Parallel()
	for _, draw := range []float64{0, 0.5, 0.999} {
		synctest.Test(t, func(t *testing.T) {
			w := newWaited(t, breaker.NewMemory(nil, 0), waitPolicy(breaker.Strict), nil)
			w.SetWaitDraw(func() float64 { return draw })
			w.open(t)
			want := 10*time.Second + time.Duration(draw*float64(time.Second))
			within(t, "went on", w.waitFor(t), want, want+5*time.Millisecond)
		})
	}
}

// 1,000 loops on an agent that is down for a while: the agent gets one call a round until it works, and then each.
func TestWait_CrowdSendsOneProbeARound(t *testing.T) {
	t.Parallel()
	inWaitTime(t, func(t *testing.T, w *waited) {
		const n = 1000
		var calls, done atomic.Int64
		down := func(context.Context) error {
			calls.Add(1)
			<-time.After(20 * time.Millisecond)
			return errAgent
		}
		w.store.inspects.Store(0)
		w.store.acquires.Store(0)
		w.store.busy.Store(0)
		var works atomic.Bool
		var all sync.WaitGroup
		for range n {
			all.Go(func() {
				call := func(ctx context.Context) error {
					if !works.Load() {
						return down(ctx)
					}
					calls.Add(1)
					return nil
				}
				var err error
				for err = errAgent; errors.Is(err, errAgent); {
					err = w.loop(t.Context(), call)
				}
				if err != nil {
					t.Error(err)
				}
				done.Add(1)
			})
		}
		<-time.After(25 * time.Second)
		if got := calls.Load(); got != 2 {
			t.Errorf("%d calls in two rounds of one probe", got)
		}
		t.Logf("until then %d inspects, %d acquires, of which %d refused", w.store.inspects.Load(), w.store.acquires.Load(), w.store.busy.Load())
		if i, a := w.store.inspects.Load(), w.store.acquires.Load(); i > 20 || a > 4 {
			t.Errorf("%d inspects, %d acquires", i, a)
		}
		works.Store(true)
		start := time.Now()
		all.Wait()
		within(t, "all went on", time.Since(start), 0, 20*time.Second)
		if calls.Load() != n+2 || done.Load() != n {
			t.Errorf("%d calls, %d done", calls.Load(), done.Load())
		}
		t.Logf("in all %d inspects, %d acquires, of which %d refused", w.store.inspects.Load(), w.store.acquires.Load(), w.store.busy.Load())
	})
}

func TestWait_ErrorsSayWhatIsWrong(t *testing.T) {
	t.Parallel()
	inWaitTime(t, func(t *testing.T, w *waited) {
		if err := w.Wait(t.Context(), "no name"); !errors.Is(err, breaker.ErrBadName) {
			t.Errorf("a bad name: %v", err)
		}
		if err := w.Wait(nil, "a"); !errors.Is(err, breaker.ErrUnset) { //nolint:staticcheck // it is what the test is about
			t.Errorf("no context: %v", err)
		}
		if err := (*breaker.Agent)(nil).Wait(t.Context()); !errors.Is(err, breaker.ErrUnset) {
			t.Errorf("no agent: %v", err)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		before := w.store.inspects.Load()
		if err := w.Wait(ended, "a"); err != context.Canceled || w.store.inspects.Load() != before { //nolint:errorlint // as it is
			t.Errorf("an ended context: %v", err)
		}
	})
}

func TestWait_EndsWithItsContext(t *testing.T) {
	t.Parallel()
	inWaitTime(t, func(t *testing.T, w *waited) {
		agent, err := w.Agent("a")
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		var all sync.WaitGroup
		for i := range 100 {
			all.Go(func() {
				limit := time.Duration(i+1) * time.Millisecond
				ctx, cancel := context.WithTimeout(t.Context(), limit)
				defer cancel()
				if err := agent.Wait(ctx); err != context.DeadlineExceeded { //nolint:errorlint // as it is
					t.Errorf("%v", err)
				}
				within(t, "ended", time.Since(start), limit, limit)
			})
		}
		all.Wait()
		<-time.After(time.Second)
		if n := w.Watched(); n != 0 {
			t.Errorf("%d watchers, and nobody waits", n)
		}
	})
}

// silentStore answers no question until its context ends.
type silentStore struct{ breaker.Store }

func (silentStore) Inspect(ctx context.Context, agent string, _ breaker.Policy) (breaker.View, error) {
	<-ctx.Done()
	return breaker.View{}, &breaker.StoreError{Verb: machine.VerbInspect, Agent: agent, Err: ctx.Err()}
}

func TestWait_EndsThoughTheStoreIsSilent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWaited(t, silentStore{breaker.NewMemory(nil, 0)}, waitPolicy(breaker.Strict), nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		if err := w.Wait(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		within(t, "ended", time.Since(start), time.Second, time.Second)
		closed := make(chan error, 1)
		go func() { closed <- w.Wait(t.Context(), "a") }()
		synctest.Wait()
		if err := w.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if err := <-closed; !errors.Is(err, breaker.ErrManagerClosed) {
			t.Error(err)
		}
	})
}

func TestWait_EndsWithTheManager(t *testing.T) {
	t.Parallel()
	inWaitTime(t, func(t *testing.T, w *waited) {
		const n = 100
		errs := make(chan error, n)
		for range n {
			go func() { errs <- w.Wait(t.Context(), "a") }()
		}
		<-time.After(time.Second)
		start := time.Now()
		if err := w.Close(t.Context()); err != nil {
			t.Error(err)
		}
		for range n {
			if err := <-errs; !errors.Is(err, breaker.ErrManagerClosed) {
				t.Error(err)
			}
		}
		if err := w.Wait(t.Context(), "a"); !errors.Is(err, breaker.ErrManagerClosed) {
			t.Errorf("after Close: %v", err)
		}
		within(t, "ended", time.Since(start), 0, 0)
	})
}

// loop waits and calls until the breaker admits the call.
func (w *waited) loop(ctx context.Context, call func(context.Context) error) error {
	for {
		if err := w.Wait(ctx, "a"); err != nil {
			return err
		}
		if err := w.Do(ctx, "a", call); !errors.Is(err, breaker.ErrOpen) {
			return err
		}
	}
}

// start starts n waiters and returns a function that waits for them, and says how long they took from then.
func (w *waited) start(t *testing.T, n int) (end func() time.Duration) {
	t.Helper()
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			if err := w.Wait(t.Context(), "a"); err != nil {
				t.Error(err)
			}
		})
	}
	<-time.After(time.Second)
	return func() time.Duration {
		begun := time.Now()
		all.Wait()
		return time.Since(begun)
	}
}

func TestWait_IsWokenByWhatHappensHere(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]breaker.Force{
		"reset": {Target: breaker.ResetClosed}, "held closed": {Target: breaker.HoldClosed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWaitTime(t, func(t *testing.T, w *waited) {
				end := w.start(t, 10)
				w.force(t, f)
				within(t, "all went on", end(), 0, 101*time.Millisecond)
			})
		})
	}
}

// An agent that is back does not get a thousand calls at once.
func TestWait_CrowdLeavesAClosedBreakerWithinASecond(t *testing.T) {
	t.Parallel()
	inWaitTime(t, func(t *testing.T, w *waited) {
		var left atomic.Int64
		var all sync.WaitGroup
		for range 1000 {
			all.Go(func() {
				if err := w.Wait(t.Context(), "a"); err != nil {
					t.Error(err)
				}
				left.Add(1)
			})
		}
		<-time.After(time.Second)
		w.force(t, breaker.Force{Target: breaker.ResetClosed})
		start := time.Now()
		<-time.After(300 * time.Millisecond)
		if n := left.Load(); n < 100 || n > 500 {
			t.Errorf("%d of 1000 left within 300 ms", n)
		}
		all.Wait()
		within(t, "all left", time.Since(start), 900*time.Millisecond, 1060*time.Millisecond)
	})
}

// Another replica resets the breaker. An event says so, or is lost.
func TestWait_IsWokenByWhatHappensElsewhere(t *testing.T) {
	t.Parallel()
	for name, pushed := range map[string]bool{"pushed": true, "lost": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store := breaker.NewMemory(nil, 0)
				w := newWaited(t, store, breaker.Policy{FailureThreshold: 1, Timeout: time.Hour}, nil)
				other := newWaited(t, store, breaker.Policy{}, nil)
				w.open(t)
				end := w.start(t, 10)
				other.force(t, breaker.Force{Target: breaker.ResetClosed})
				most := 5100 * time.Millisecond
				if pushed {
					w.Invalidate("a")
					most = 101 * time.Millisecond
				}
				within(t, "all went on", end(), 0, most)
			})
		})
	}
}

// A probe that its caller gives back makes room for the next one, in this process at once.
func TestWait_IsWokenByAPlaceGivenBack(t *testing.T) {
	t.Parallel()
	inWaitTime(t, func(t *testing.T, w *waited) {
		<-time.After(10 * time.Second)
		probe, err := w.Acquire(t.Context(), "a")
		if err != nil || probe.State() != breaker.HalfOpen {
			t.Fatalf("%v, %v", probe, err)
		}
		end := w.start(t, 1)
		_, _ = probe.Ignore(t.Context())
		within(t, "went on", end(), 0, 160*time.Millisecond) // a pause between questions, and a tenth of a second
	})
}

// Who took a place and never settled it holds up the others for one lease.
func TestWait_GoesOnWhenALeaseLapses(t *testing.T) {
	t.Parallel()
	inWaitTime(t, func(t *testing.T, w *waited) {
		<-time.After(10 * time.Second)
		if _, err := w.Acquire(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		within(t, "went on", w.waitFor(t), time.Minute, 66*time.Second)
		if n := w.store.inspects.Load(); n > 125 {
			t.Errorf("%d questions in a minute", n)
		}
	})
}

// Inside a probe a call rides on its permit, so there is nothing to wait for.
func TestWait_InsideAProbeReturns(t *testing.T) {
	t.Parallel()
	inWaitTime(t, func(t *testing.T, w *waited) {
		within(t, "went on", w.waitFor(t), 10*time.Second, 11*time.Second)
		err := w.Do(t.Context(), "a", func(ctx context.Context) error {
			start := time.Now()
			err := w.Wait(ctx, "a")
			within(t, "went on", time.Since(start), 0, 0)
			return errors.Join(err, w.Do(ctx, "a", succeed))
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// The pace of a ramp is that of callers who ask again when their refusal says: a share is admitted at once, a share of
// the rest a second later.
func TestWait_KeepsToThePaceOfARamp(t *testing.T) {
	t.Parallel()
	inWaitTime(t, func(t *testing.T, w *waited) {
		w.force(t, breaker.Force{Target: breaker.ResetClosed, RampMs: 1_000_000})
		w.store.acquires.Store(0)
		const n = 1000
		var done atomic.Int64
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var all sync.WaitGroup
		for range n {
			all.Go(func() {
				if w.loop(ctx, succeed) == nil {
					done.Add(1)
				}
			})
		}
		<-time.After(300 * time.Millisecond)
		if got := done.Load(); got > 60 { // a tenth of a tenth
			t.Errorf("%d of %d calls at the start of a ramp", got, n)
		}
		<-time.After(10 * time.Second)
		got, asked := done.Load(), w.store.acquires.Load()
		if got < 300 || got > 900 || asked > 12*n {
			t.Errorf("%d of %d calls were admitted in ten seconds of a ramp, of %d that were tried", got, n, asked)
		}
		cancel()
		all.Wait()
	})
}

func TestWait_FallbackDecides(t *testing.T) {
	t.Parallel()
	for on, c := range map[breaker.OnStoreError]struct{ least, most time.Duration }{
		breaker.OnStoreErrorAllow: {0, time.Second},
		breaker.OnStoreErrorDeny:  {time.Minute, time.Minute + 2*time.Second},
		breaker.OnStoreErrorLocal: {9 * time.Second, 11 * time.Second},
	} {
		t.Run(string(on), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store := &switchableStore{Memory: breaker.NewMemory(nil, 0)}
				var returned atomic.Pointer[time.Time]
				f := breaker.NewFallback(breaker.FallbackOptions{Store: store, Ping: store.ping, OnChange: func(degraded bool, _ error) {
					if now := time.Now(); !degraded {
						returned.Store(&now)
					}
				}})
				defer f.Close()
				p := waitPolicy(breaker.Strict)
				p.OnStoreError = on
				w := newWaited(t, store, p, func(o *breaker.Options) { o.Store = f })
				w.SetWaitDraw(func() float64 { return 0 })
				w.open(t)
				store.down.Store(true)
				_ = w.Do(t.Context(), "a", succeed)
				start := time.Now()
				back := time.AfterFunc(time.Minute, func() { store.down.Store(false) })
				defer back.Stop()
				var all sync.WaitGroup
				for range 100 {
					all.Go(func() {
						if err := w.loop(t.Context(), succeed); err != nil {
							t.Error(err)
						}
					})
				}
				all.Wait()
				within(t, "all went on", time.Since(start), c.least, c.most)
				if on == breaker.OnStoreErrorDeny {
					within(t, "all went on, since the store is back,", time.Since(*returned.Load()), 0, 200*time.Millisecond)
				}
			})
		})
	}
}

// readOnlyStore shows each breaker, and refuses what writes.
type readOnlyStore struct {
	breaker.Store

	writable atomic.Bool
}

func (s *readOnlyStore) Apply(ctx context.Context, agent string, p breaker.Policy, op machine.Op) (machine.Result, error) {
	if !s.writable.Load() {
		return machine.Result{}, &breaker.StoreError{Verb: op.Verb, Agent: agent, Refused: true, Err: errors.New("NOPERM")}
	}
	return s.Store.Apply(ctx, agent, p, op)
}

// The store shows a closed breaker, but the Fallback answers: it is asked for what it would answer, until an acquire is
// to ask the store again.
func TestWait_FallbackDecidesForAnAgentWhoseOperationsAreRefused(t *testing.T) {
	t.Parallel()
	for on, most := range map[breaker.OnStoreError]int{breaker.OnStoreErrorDeny: 10, breaker.OnStoreErrorLocal: 5} {
		t.Run(string(on), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store := &readOnlyStore{Store: breaker.NewMemory(nil, 0)}
				f := breaker.NewFallback(breaker.FallbackOptions{Store: store, Ping: func(context.Context) error { return nil }})
				defer f.Close()
				p := waitPolicy(breaker.Strict)
				p.OnStoreError = on
				w := newWaited(t, store, p, func(o *breaker.Options) { o.Store = f })
				_ = w.Do(t.Context(), "a", fail)
				ctx, cancel := context.WithTimeout(t.Context(), 9*time.Second)
				defer cancel()
				rounds := 0
				for ; w.Wait(ctx, "a") == nil; rounds++ {
					// ctx may end between the two.
					if err := w.Do(ctx, "a", succeed); !errors.Is(err, breaker.ErrOpen) && ctx.Err() == nil {
						t.Fatal(err)
					}
				}
				if rounds > most {
					t.Errorf("%d rounds in nine seconds, want at most %d", rounds, most)
				}
				store.writable.Store(true)
				start := time.Now()
				if err := w.loop(t.Context(), succeed); err != nil {
					t.Fatal(err)
				}
				within(t, "went on, since the store takes operations again,", time.Since(start), 0, 6*time.Second)
			})
		})
	}
}

// 100 replicas with one loop each, on one store, which all hear of the opening at one moment. When the breaker becomes
// half-open they do not all ask at once, and those that ask while the round is full do not call.
func TestWait_ReplicasDoNotStampede(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const n = 100
		store := &askedStore{Store: breaker.NewMemory(nil, 0)}
		var replicas []*waited
		for range n {
			replicas = append(replicas, newWaited(t, store, waitPolicy(breaker.Strict), nil))
		}
		replicas[0].open(t)
		var calls atomic.Int64
		var all sync.WaitGroup
		verdict := make(chan struct{})
		for _, r := range replicas {
			all.Go(func() {
				err := r.loop(t.Context(), func(context.Context) error {
					if calls.Add(1) == 1 {
						<-time.After(50 * time.Millisecond)
						if i, a := store.inspects.Load(), store.acquires.Load(); i > 30 || a > 2 {
							t.Errorf("%d questions and %d acquires in a round of one probe", i, a)
						}
						store.inspects.Store(0)
						close(verdict)
					}
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		<-time.After(9900 * time.Millisecond)
		store.inspects.Store(0)
		store.acquires.Store(0)
		<-verdict
		for _, r := range replicas { // as the store's events would
			r.Invalidate("a")
		}
		all.Wait()
		if i, c := store.inspects.Load(), calls.Load(); i > 2*n || c != n {
			t.Errorf("%d questions after the verdict, %d calls", i, c)
		}
	})
}

func TestWait_WithoutFallbackReturnsTheStoresError(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWaited(t, downStore{}, waitPolicy(breaker.Strict), nil)
		if err := w.Wait(t.Context(), "a"); !errors.As(err, new(*breaker.StoreError)) {
			t.Error(err)
		}
	})
}

// What refuses a call without the breaker keeps waiters too, and a loop whose Do is refused whatever Wait says asks no
// faster than 20 times a second.
func TestWait_LoopNeverSpins(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		store breaker.Store
		edit  func(*breaker.Options)
		most  int
	}{
		"too many agents": {
			breaker.NewMemory(nil, 0),
			func(o *breaker.Options) {
				o.Tracking = breaker.Tracking{StoreFull: func() bool { return true }, Refuse: true}
			}, 0,
		},
		"a store that contradicts itself": {contradictingStore{breaker.NewMemory(nil, 0)}, nil, 201},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWaited(t, c.store, waitPolicy(breaker.Strict), c.edit)
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				rounds := 0
				for ; w.Wait(ctx, "a") == nil; rounds++ {
					// ctx may end between the two.
					if err := w.Do(ctx, "a", succeed); !errors.Is(err, breaker.ErrOpen) && ctx.Err() == nil {
						t.Fatal(err)
					}
				}
				if rounds > c.most {
					t.Errorf("%d rounds in ten seconds", rounds)
				}
			})
		})
	}
}

// contradictingStore shows a closed breaker, and refuses every call.
type contradictingStore struct{ breaker.Store }

func (contradictingStore) Apply(context.Context, string, breaker.Policy, machine.Op) (machine.Result, error) {
	return machine.Result{Code: machine.CodeRefused, State: breaker.Open, Reason: breaker.ReasonOpen}, nil
}

func TestWait_HoldsWhileForcedOpen(t *testing.T) {
	t.Parallel()
	inWaitTime(t, func(t *testing.T, w *waited) {
		w.force(t, breaker.Force{Target: breaker.HoldOpen})
		before := w.store.inspects.Load()
		end := w.start(t, 10)
		<-time.After(time.Hour)
		if n := w.store.inspects.Load() - before; n > 1450 {
			t.Errorf("%d questions in an hour", n)
		}
		w.force(t, breaker.Force{Target: breaker.ResetClosed})
		within(t, "all went on", end(), 0, 160*time.Millisecond) // after a pause between questions
	})
}
