package breaker_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// An agent that was refused once is asked for again, whatever verb comes next.
func TestFallback_RefusedOnceIsNotRefusedForEver(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		verb machine.Verb
		mode breaker.OnStoreError
	}{
		"record, local": {machine.VerbRecord, breaker.OnStoreErrorLocal}, "record, deny": {machine.VerbRecord, breaker.OnStoreErrorDeny},
		"renew, local": {machine.VerbRenew, breaker.OnStoreErrorLocal}, "renew, deny": {machine.VerbRenew, breaker.OnStoreErrorDeny},
		"acquire, deny": {machine.VerbAcquire, breaker.OnStoreErrorDeny}, "acquire, allow": {machine.VerbAcquire, breaker.OnStoreErrorAllow},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newReplica(t, func(p *breaker.Policy) { p.HalfOpenMaxCalls, p.OnStoreError = 1, c.mode })
			defer r.fallback.Close()
			for range 5 {
				settle(t.Context(), t, r.manager, "a", breaker.Failure)
			}
			<-time.After(time.Minute)
			if c.verb == machine.VerbAcquire {
				r.store.refuse("a", c.verb)
			}
			probe, err := r.manager.Acquire(t.Context(), "a")
			r.store.refuse("a", c.verb)
			if err == nil {
				_ = probe.Renew(t.Context())
				_, _ = probe.Success(t.Context())
			}
			r.store.refuse("", "")
			for range 10 {
				<-time.After(time.Second)
				_ = r.manager.Do(t.Context(), "a", succeed)
			}
			if v, _, err := r.manager.Inspect(t.Context(), "a"); err != nil || v.State != breaker.Closed || v.Degraded {
				t.Errorf("%s: %s, degraded %v, %v", name, v.State, v.Degraded, err)
			}
			if n := r.fallback.Refusals().Agents; n != 0 || wantSum(t, r.manager).Unsent.Outcomes != 0 {
				t.Errorf("%s: %d agents are refused", name, n)
			}
		})
	}
}

// What memory answered once is forgotten when the store answers.
func TestFallback_MemoryBeginsInTheLastAnswer(t *testing.T) {
	t.Parallel()
	for name, trouble := range map[string]func(r *replica) (end func()){
		"outage": func(r *replica) func() {
			r.store.down.Store(true)
			return func() { r.store.down.Store(false) }
		},
		"cut": func(r *replica) func() {
			r.store.cut.Store(true)
			return func() { r.store.cut.Store(false) }
		},
		"refused": func(r *replica) func() {
			r.store.refuse("a", machine.VerbAcquire)
			return func() { r.store.refuse("", "") }
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newReplica(t, func(p *breaker.Policy) { p.Timeout = time.Hour })
			defer r.fallback.Close()
			for range 5 {
				settle(t.Context(), t, r.manager, "a", breaker.Failure)
			}
			end := trouble(r)
			if err := r.manager.Do(t.Context(), "a", succeed); err == nil {
				t.Fatalf("%s: admitted by an open breaker", name)
			}
			end()
			<-time.After(2 * time.Second)
			_ = r.manager.Do(t.Context(), "a", succeed)
			if _, err := r.manager.Force(t.Context(), "a", breaker.Force{Target: breaker.ResetClosed, Actor: "me"}); err != nil {
				t.Fatal(name, err)
			}
			if err := r.manager.Do(t.Context(), "a", succeed); err != nil {
				t.Errorf("%s: after the reset: %v", name, err)
			}
			for again, trouble := range map[string]func(){
				"cut": func() { r.store.cut.Store(true) }, "down": func() { r.store.down.Store(true) },
			} {
				trouble()
				if err := r.manager.Do(t.Context(), "a", succeed); err != nil {
					t.Errorf("%s, then %s: %v", name, again, err)
				}
				r.store.cut.Store(false)
				r.store.down.Store(false)
				<-time.After(10 * time.Second)
			}
		})
	}
}

// A flush whose connection breaks does not end the epoch: what comes after it counts.
func TestCached_CutFlushDoesNotEndTheEpoch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newReplica(t, cached)
		defer r.fallback.Close()
		var permits []breaker.Permit
		for range 6 {
			permits = append(permits, acquire(t, r.manager, "a"))
		}
		r.store.cut.Store(true)
		_, _ = permits[0].Failure(t.Context(), "")
		<-time.After(50 * time.Millisecond)
		r.store.cut.Store(false)
		for i := range permits[1:] {
			_, _ = permits[1+i].Failure(t.Context(), "")
		}
		<-time.After(time.Second)
		if v, _, err := r.manager.Inspect(t.Context(), "a"); err != nil || v.State != breaker.Open {
			t.Errorf("%s, %v; %+v", v.State, err, r.manager.Outcomes())
		}
	})
}

// What hears of changes may use the Manager, and holds nobody up.
func TestFallback_OnChangeMayUseTheManager(t *testing.T) { // sony/gobreaker issue 37
	t.Parallel()
	for _, mode := range []breaker.Consistency{breaker.Strict, breaker.Cached} {
		synctest.Test(t, func(t *testing.T) {
			s := &switchableStore{Memory: breaker.NewMemory(nil, 0)}
			var m *breaker.Manager
			changes := make(chan error, 10)
			f := breaker.NewFallback(breaker.FallbackOptions{Store: s, Ping: s.ping, OnChange: func(bool, error) {
				ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
				defer cancel()
				_, err := m.Acquire(ctx, "a")
				_, _, err2 := m.Inspect(ctx, "a")
				changes <- errors.Join(err, err2)
				<-time.After(time.Second) // it is slow as well
			}})
			defer f.Close()
			m = newManagerOn(t, f, func(p *breaker.Policy) { p.Consistency = mode })
			_ = m.Do(t.Context(), "a", succeed)
			<-time.After(2 * time.Second)
			s.down.Store(true)
			begin := time.Now()
			if err := m.Do(t.Context(), "a", succeed); err != nil || time.Since(begin) > 100*time.Millisecond {
				t.Errorf("%s: %v after %v", mode, err, time.Since(begin))
			}
			s.down.Store(false)
			<-time.After(5 * time.Second)
			for range 2 {
				if err := <-changes; err != nil {
					t.Errorf("%s: %v", mode, err)
				}
			}
			if err := m.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// A store that refuses to tell its identity is up all the same.
func TestFallback_ReturnsWithoutAnIdentity(t *testing.T) {
	t.Parallel()
	for name, born := range map[string]func(context.Context) (string, error){
		"refused": func(context.Context) (string, error) {
			return "", &breaker.StoreError{Refused: true, Err: errors.New("NOPERM")}
		},
		"panics": func(context.Context) (string, error) { panic("born") },
	} {
		synctest.Test(t, func(t *testing.T) {
			s := &switchableStore{Memory: breaker.NewMemory(nil, 0)}
			f := breaker.NewFallback(breaker.FallbackOptions{Store: s, Ping: s.ping, Born: born})
			defer f.Close()
			m := newManagerOn(t, f, nil)
			s.down.Store(true)
			_ = m.Do(t.Context(), "a", succeed)
			s.down.Store(false)
			if <-time.After(5 * time.Second); f.Degraded() {
				t.Errorf("%s: still degraded", name)
			}
			_ = m.Close(t.Context())
		})
	}
}

// panickingStore panics once.
type panickingStore struct {
	*breaker.Memory

	panics bool
}

func (s *panickingStore) Apply(ctx context.Context, agent string, p breaker.Policy, op machine.Op) (machine.Result, error) {
	if s.panics {
		s.panics = false
		panic("store")
	}
	return s.Memory.Apply(ctx, agent, p, op)
}

// A panic below leaves nobody waiting for its answer.
func TestCached_PanicOfAStoreLeavesNobodyWaiting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newCachedManager(t, &panickingStore{breaker.NewMemory(nil, 0), true}, nil, nil)
		func() {
			defer func() { _ = recover() }()
			_, _ = m.Acquire(t.Context(), "a")
		}()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := m.Acquire(ctx, "a"); err != nil {
			t.Error(err)
		}
		_ = m.Close(t.Context())
	})
}

// While an agent's batch is not answered, what comes next is bounded like any sum.
func TestReplay_OneBatchAnAgent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newReplica(t, func(p *breaker.Policy) { p.WindowSize = time.Hour })
		defer r.fallback.Close()
		settle(t.Context(), t, r.manager, "a", breaker.Success)
		r.store.refuse("a", machine.VerbReplay)
		r.store.down.Store(true)
		settle(t.Context(), t, r.manager, "a", breaker.Success)
		r.store.down.Store(false)
		<-time.After(2 * time.Second)
		r.store.refuse("a", machine.VerbRecord)
		for range 120 {
			_ = r.manager.Do(t.Context(), "a", succeed)
			<-time.After(time.Second)
		}
		if n := r.fallback.Refusals().Operations; n > 400 {
			t.Errorf("%d refused operations in two minutes", n)
		}
		r.store.refuse("", "")
		for range 20 {
			<-time.After(time.Second)
			_ = r.manager.Do(t.Context(), "a", succeed)
		}
		if o := wantSum(t, r.manager); o.Unsent.Outcomes != 0 || o.Settled[machine.CodeOK] < 100 {
			t.Errorf("%+v", o)
		}
	})
}

func TestFallback_ReportOfARefusalChangesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newReplica(t, nil)
		defer r.fallback.Close()
		for _, err := range []error{
			nil, errAgent, context.Canceled, breaker.ErrBadName, &breaker.StoreError{Refused: true, Err: errors.New("NOPERM")},
			&breaker.PolicyError{},
		} {
			if r.fallback.Report(err); r.fallback.Degraded() {
				t.Fatalf("degraded by %v", err)
			}
		}
		if r.fallback.Report(&breaker.StoreError{Err: errors.New("down")}); !r.fallback.Degraded() {
			t.Error("not degraded")
		}
	})
}
