package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/redisstore"
	"golang.org/x/sync/errgroup"
)

// trackedAgent is an agent that all replicas call for some seconds, and whose counts are compared at its end.
type trackedAgent struct {
	name     string
	account  *account
	outages  int64   // soak.outages at its begin
	failing  float64 // the share of its calls that fail until recovers
	recovers time.Time
	ends     time.Time

	mu    sync.RWMutex // held for reading while it is called
	ended bool
}

func (s *soak) newTracked(now time.Time) *trackedAgent {
	n := s.names.Add(1)
	a := &trackedAgent{name: fmt.Sprintf("tracked-%d", n), outages: s.outages.Load()}
	life := s.life/2 + rand.N(s.life/2)
	a.ends, a.recovers = now.Add(life), now.Add(life/2)
	switch x := rand.Float64(); {
	case x < 0.7:
		a.failing, a.recovers = 0.01, a.ends
	case x < 0.9:
		a.failing, a.recovers = 0.3, a.ends
	default:
		a.failing = 1
	}
	a.account = s.accounts.open(a.name)
	return a
}

// use calls do unless the agent has ended.
func (a *trackedAgent) use(do func()) {
	if !a.mu.TryRLock() {
		return
	}
	defer a.mu.RUnlock()
	if !a.ended {
		do()
	}
}

const (
	soakCallers       = 64
	soakBurstCallers  = 16
	soakOneOffCallers = 56
	soakEnders        = 16
)

// load is the tasks that call agents.
func (s *soak) load() (tasks []func(context.Context)) {
	for share := range soakCallers {
		tasks = append(tasks, func(ctx context.Context) { s.callTracked(ctx, share) })
	}
	for range soakBurstCallers {
		tasks = append(tasks, s.callHot)
	}
	for range soakOneOffCallers {
		tasks = append(tasks, func(ctx context.Context) {
			atPace(ctx, float64(s.oneOff)/soakOneOffCallers, func() {
				s.call(ctx, s.replica(), fmt.Sprintf("one-off-%d", s.names.Add(1)), 0.1)
			})
		})
	}
	for share := range soakEnders {
		tasks = append(tasks, func(ctx context.Context) { s.replaceTracked(ctx, share) })
	}
	return tasks
}

// atPace calls do at most perSecond times a second until ctx ends. It does not make up for what it missed.
func atPace(ctx context.Context, perSecond float64, do func()) {
	tick := time.NewTicker(time.Duration(float64(time.Second) / perSecond))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			do()
		}
	}
}

// callTracked calls the tracked agents of one share in turn.
func (s *soak) callTracked(ctx context.Context, share int) {
	turn := share
	atPace(ctx, float64(s.calls)/soakCallers, func() {
		if turn += soakCallers; turn >= len(s.slots) {
			turn = share
		}
		a := s.slots[turn].Load()
		a.use(func() { s.call(ctx, s.replica(), a.name, a.failingNow()) })
	})
}

// soakBurst is the longest burst of calls of a hot agent. Bursts make records carry many outcomes.
const soakBurst = 50

// callHot calls hot agents in bursts, each through one cached replica, until it refuses.
func (s *soak) callHot(ctx context.Context) {
	atPace(ctx, float64(s.bursts)/soakBurstCallers, func() {
		a, at := s.slots[rand.IntN(s.hot)].Load(), s.fleet[rand.IntN(s.cached)]
		a.use(func() {
			for range 1 + rand.IntN(soakBurst) {
				if !s.call(ctx, at, a.name, a.failingNow()) {
					return
				}
			}
		})
	})
}

// failingNow is the share of its calls that fail now.
func (a *trackedAgent) failingNow() float64 {
	if time.Now().After(a.recovers) {
		return 0
	}
	return a.failing
}

func (s *soak) replica() *soakReplica { return s.fleet[rand.IntN(len(s.fleet))] }

// call makes one guarded call through a replica. It reports the outcome even if ctx has ended.
func (s *soak) call(ctx context.Context, at *soakReplica, agent string, failing float64) (admitted bool) {
	p, err := at.m.Acquire(ctx, agent)
	var refused *breaker.OpenError
	switch {
	case errors.As(err, &refused), err != nil && breaker.TimeIsUp(ctx):
		return false
	case err != nil:
		s.faultf("acquire of %s: %v", agent, err)
		return false
	}
	o := breaker.Outcome{Kind: breaker.Success, Slow: rand.IntN(30) == 0}
	if rand.Float64() < failing {
		o = breaker.Outcome{Kind: breaker.Failure, Class: "soak"}
		if rand.IntN(20) == 0 {
			o.RetryAfter = 100 * time.Millisecond
		}
	}
	s.report(context.WithoutCancel(ctx), agent, p, o)
	return true
}

// report reports the outcome in one of the ways that callers have.
func (s *soak) report(ctx context.Context, agent string, p breaker.Permit, o breaker.Outcome) {
	var err error
	switch x := rand.IntN(100); {
	case x == 0: // the caller died
	case x < 3:
		_, err = p.Ignore(ctx)
	case x < 5: // through another replica
		var other breaker.Permit
		if other, err = s.replica().m.Resume(agent, p.String()); err == nil {
			_, err = other.Settle(ctx, o)
		}
	case x < 6: // without the permit
		_, err = s.replica().m.Record(ctx, agent, o)
	case x < 8:
		err = p.Renew(ctx)
		if err == nil || errors.Is(err, breaker.ErrLeaseLost) || errors.Is(err, breaker.ErrStoreUnavailable) {
			_, err = p.Settle(ctx, o)
		}
	default:
		_, err = p.Settle(ctx, o)
	}
	if err != nil && !errors.Is(err, breaker.ErrStoreUnavailable) {
		s.faultf("outcome of %s: %v", agent, err)
	}
}

// operate acts as an operator would, 50 times a second.
func (s *soak) operate(ctx context.Context) {
	atPace(ctx, 50, func() {
		a := s.slots[rand.IntN(len(s.slots))].Load()
		a.use(func() {
			if err := s.act(ctx, a.name); err != nil && ctx.Err() == nil && !errors.Is(err, breaker.ErrStoreUnavailable) {
				s.faultf("operator on %s: %v", a.name, err)
			}
		})
	})
}

// act forces an agent, writes or deletes its override, or reads it.
func (s *soak) act(ctx context.Context, agent string) error {
	at := s.replica()
	forces := []breaker.Force{
		{Target: breaker.HoldOpen, LengthMs: 200},
		{Target: breaker.HoldClosed, LengthMs: 300},
		{Target: breaker.ResetHalfOpen},
		{Target: breaker.ResetClosed, RampMs: 300},
		{Target: breaker.ResetClosed},
		{Target: breaker.ReleaseHold},
	}
	texts := []string{
		`{"failure_threshold":2}`, `{"consistency":"strict"}`, `{"consistency":"cached"}`, `{"recovery_ramp_seconds":0.2}`,
		`{"retry_after":"open"}`, `{"mode":"observe"}`, `{"enabled":false}`, "",
	}
	s.manual.Add(1)
	switch rand.IntN(3) {
	case 0:
		f := forces[rand.IntN(len(forces))]
		f.Actor, f.Reason = "soak", "because it may"
		_, err := at.m.Force(ctx, agent, f)
		if errors.Is(err, breaker.ErrNotHeld) {
			return nil
		}
		return err
	case 1:
		s.overrides.Add(1)
		return at.docs.PutOverride(ctx, agent, redisstore.AnyVersion, texts[rand.IntN(len(texts))], "soak")
	default:
		_, _, err := at.m.Inspect(ctx, agent)
		return err
	}
}

// replaceTracked ends the tracked agents of one share that are due, and begins others in their slots.
func (s *soak) replaceTracked(ctx context.Context, share int) {
	for pause(ctx, 10*time.Millisecond) {
		for i := share; i < len(s.slots); i += soakEnders {
			now := time.Now()
			old := s.slots[i].Load()
			if now.Before(old.ends) {
				continue
			}
			s.slots[i].Store(s.newTracked(now))
			s.end(context.WithoutCancel(ctx), old)
		}
	}
}

// settleAll ends every tracked agent.
func (s *soak) settleAll(ctx context.Context) {
	var g errgroup.Group
	g.SetLimit(soakCallers)
	for i := range s.slots {
		g.Go(func() error {
			s.end(ctx, s.slots[i].Load())
			return nil
		})
	}
	_ = g.Wait() // end records faults itself
}

// endsWithin bounds the time until the last outcome of an agent has its report.
const endsWithin = 20 * time.Second

// end waits until every outcome of an agent has its report, compares the counts with those of Redis, and deletes the
// agent.
func (s *soak) end(ctx context.Context, a *trackedAgent) {
	a.mu.Lock()
	a.ended = true
	a.mu.Unlock()
	defer s.accounts.close(a.name)
	ctx, cancel := context.WithTimeout(ctx, endsWithin)
	defer cancel()
	for {
		v, ok := s.final(ctx, a)
		if ok {
			a.account.recorded(time.Since(s.accounts.began))
			s.compare(a, v.Successes+v.Failures)
			break
		}
		if !pause(ctx, 10*time.Millisecond) {
			s.faultf("%s: after %v, %d outcomes have no report", a.name, endsWithin, a.account.pending.Load())
			return
		}
	}
	for tries := 0; ; tries++ { // a cut connection may hide that the agent is deleted
		err := s.fleet[0].store.Forget(ctx, a.name, "soak", true)
		if err == nil {
			return
		}
		if tries == 100 || !pause(ctx, 50*time.Millisecond) {
			s.faultf("%s was not deleted: %v", a.name, err)
			return
		}
	}
}

// final is the breaker after the last outcome. ok is false if an outcome may still be on its way.
func (s *soak) final(ctx context.Context, a *trackedAgent) (v breaker.View, ok bool) {
	for _, at := range s.fleet {
		if v, _, err := at.m.Inspect(ctx, a.name); err != nil || v.Degraded {
			return v, false
		}
	}
	if a.account.pending.Load() != 0 {
		return v, false
	}
	v, _, err := s.fleet[0].m.Inspect(ctx, a.name)
	return v, err == nil && !v.Degraded
}

// compare compares the outcomes that Redis acknowledged with those that it has counted.
func (s *soak) compare(a *trackedAgent, counted int64) {
	acked, unknown := a.account.acked.Load(), a.account.unknown.Load()
	switch {
	case a.outages != s.outages.Load():
		s.lost.Add(1)
	case time.Duration(a.account.gap.Load()) > s.ttl*3/4: // its keys may have expired meanwhile
		s.expired.Add(1)
	case counted < acked || counted > acked+unknown:
		s.faultf("%s: Redis counted %d, acknowledged were %d, unknown %d", a.name, counted, acked, unknown)
	case unknown > 0:
		s.within.Add(1)
	default:
		s.exact.Add(1)
	}
}

func TestSoakCompare_FaultsAWrongCount(t *testing.T) {
	t.Parallel()
	s := &soak{soakPlan: soakPlan{ttl: time.Minute}, accounts: newAccounts()}
	a := &trackedAgent{name: "a", account: &account{}}
	a.account.acked.Store(5)
	a.account.unknown.Store(2)
	for _, counted := range []int64{5, 7} {
		s.compare(a, counted)
	}
	if len(s.faults) != 0 || s.within.Load() != 2 {
		t.Fatalf("%v, %d", s.faults, s.within.Load())
	}
	for _, counted := range []int64{4, 8} {
		s.compare(a, counted)
	}
	if len(s.faults) != 2 {
		t.Fatalf("%v", s.faults)
	}
	s.outages.Add(2)
	s.compare(a, 0)
	if len(s.faults) != 2 || s.lost.Load() != 1 {
		t.Fatalf("after an outage: %v, %d", s.faults, s.lost.Load())
	}
	a.outages = s.outages.Load()
	a.account.recorded(50 * time.Second)
	a.account.recorded(51 * time.Second)
	s.compare(a, 0)
	if len(s.faults) != 2 || s.expired.Load() != 1 {
		t.Fatalf("after the TTL: %v, %d", s.faults, s.expired.Load())
	}
}
