package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/redisstore"
	"golang.org/x/sync/errgroup"
)

// resident is an agent that is called for some seconds, by all replicas, and counted at its end.
type resident struct {
	name    string
	account *account
	era     int64
	failing float64   // share of its calls, until
	mends   time.Time // it is well
	ends    time.Time

	mu   sync.RWMutex // held for reading by those who use it
	gone bool
}

func (s *soak) newResident(now time.Time) *resident {
	n := s.names.Add(1)
	r := &resident{name: fmt.Sprintf("resident-%d", n), era: s.era.Load()}
	life := s.life/2 + rand.N(s.life/2)
	r.ends, r.mends = now.Add(life), now.Add(life/2)
	switch x := rand.Float64(); {
	case x < 0.7:
		r.failing, r.mends = 0.01, r.ends
	case x < 0.9:
		r.failing, r.mends = 0.3, r.ends
	default:
		r.failing = 1
	}
	r.account = s.book.open(r.name)
	return r
}

// use does something with a resident, unless its end has come.
func (r *resident) use(do func()) {
	if !r.mu.TryRLock() {
		return
	}
	defer r.mu.RUnlock()
	if !r.gone {
		do()
	}
}

const (
	soakCallers  = 64
	soakBursters = 16
	soakGreeters = 56
	soakEnders   = 16
)

// work is everything that the fleet does by itself.
func (s *soak) work() (tasks []func(context.Context)) {
	for share := range soakCallers {
		tasks = append(tasks, func(ctx context.Context) { s.callResidents(ctx, share) })
	}
	for range soakBursters {
		tasks = append(tasks, s.callHot)
	}
	for range soakGreeters {
		tasks = append(tasks, func(ctx context.Context) {
			atPace(ctx, float64(s.visitors)/soakGreeters, func() { s.call(ctx, s.replica(), fmt.Sprintf("visitor-%d", s.names.Add(1)), 0.1) })
		})
	}
	for share := range soakEnders {
		tasks = append(tasks, func(ctx context.Context) { s.replaceResidents(ctx, share) })
	}
	return tasks
}

// atPace does something at most so many times a second until ctx ends; what was missed is not made up for.
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

// callResidents calls in turn the residents of one share.
func (s *soak) callResidents(ctx context.Context, share int) {
	turn := share
	atPace(ctx, float64(s.calls)/soakCallers, func() {
		if turn += soakCallers; turn >= len(s.slots) {
			turn = share
		}
		r := s.slots[turn].Load()
		r.use(func() { s.call(ctx, s.replica(), r.name, r.now()) })
	})
}

// soakBurst is how many calls of a hot resident come at once at most, so that records carry many outcomes.
const soakBurst = 50

// callHot calls hot residents in bursts, each through one cached replica, until it refuses.
func (s *soak) callHot(ctx context.Context) {
	atPace(ctx, float64(s.bursts)/soakBursters, func() {
		r, at := s.slots[rand.IntN(s.hot)].Load(), s.fleet[rand.IntN(s.cached)]
		r.use(func() {
			for range 1 + rand.IntN(soakBurst) {
				if !s.call(ctx, at, r.name, r.now()) {
					return
				}
			}
		})
	})
}

// now is the share of its calls that fail now.
func (r *resident) now() float64 {
	if time.Now().After(r.mends) {
		return 0
	}
	return r.failing
}

func (s *soak) replica() *soakReplica { return s.fleet[rand.IntN(len(s.fleet))] }

// call is one guarded call through a replica. It outlives ctx by its outcome.
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

// report tells the outcome in one of the ways in which people do.
func (s *soak) report(ctx context.Context, agent string, p breaker.Permit, o breaker.Outcome) {
	var err error
	switch x := rand.IntN(100); {
	case x == 0: // whoever asked is no more
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

// operate is an operator who never rests.
func (s *soak) operate(ctx context.Context) {
	atPace(ctx, 50, func() {
		r := s.slots[rand.IntN(len(s.slots))].Load()
		r.use(func() {
			if err := s.lay(ctx, r.name); err != nil && ctx.Err() == nil && !errors.Is(err, breaker.ErrStoreUnavailable) {
				s.faultf("operator on %s: %v", r.name, err)
			}
		})
	})
}

// lay lays a hand on an agent.
func (s *soak) lay(ctx context.Context, agent string) error {
	at := s.replica()
	forces := []breaker.Force{
		{Target: breaker.HoldOpen, LengthMs: 200},
		{Target: breaker.HoldClosed, LengthMs: 300},
		{Target: breaker.ResetHalfOpen},
		{Target: breaker.ResetClosed, RampMs: 300},
		{Target: breaker.ResetClosed},
	}
	texts := []string{
		`{"failure_threshold":2}`, `{"consistency":"strict"}`, `{"consistency":"cached"}`, `{"recovery_ramp_seconds":0.2}`,
		`{"retry_after":"open"}`, `{"mode":"observe"}`, `{"enabled":false}`, "",
	}
	s.handWork.Add(1)
	switch rand.IntN(3) {
	case 0:
		f := forces[rand.IntN(len(forces))]
		f.Actor, f.Reason = "soak", "because it may"
		_, err := at.m.Force(ctx, agent, f)
		return err
	case 1:
		s.overrides.Add(1)
		return at.docs.PutOverride(ctx, agent, redisstore.AnyVersion, texts[rand.IntN(len(texts))], "soak")
	default:
		_, _, err := at.m.Inspect(ctx, agent)
		return err
	}
}

// replaceResidents ends those of one share whose time has come.
func (s *soak) replaceResidents(ctx context.Context, share int) {
	for pause(ctx, 10*time.Millisecond) {
		for i := share; i < len(s.slots); i += soakEnders {
			now := time.Now()
			old := s.slots[i].Load()
			if now.Before(old.ends) {
				continue
			}
			s.slots[i].Store(s.newResident(now))
			s.end(context.WithoutCancel(ctx), old)
		}
	}
}

// settleAll ends every resident.
func (s *soak) settleAll(ctx context.Context) {
	var g errgroup.Group
	g.SetLimit(soakCallers)
	for i := range s.slots {
		g.Go(func() error {
			s.end(ctx, s.slots[i].Load())
			return nil
		})
	}
	_ = g.Wait() // end notes what is wrong
}

// endsWithin is how long it may take until Redis has told what became of an agent's last outcome.
const endsWithin = 20 * time.Second

// end waits until every outcome of a resident was told, compares the counts with those of Redis, and deletes it.
func (s *soak) end(ctx context.Context, r *resident) {
	r.mu.Lock()
	r.gone = true
	r.mu.Unlock()
	defer s.book.close(r.name)
	ctx, cancel := context.WithTimeout(ctx, endsWithin)
	defer cancel()
	for {
		v, ok := s.final(ctx, r)
		if ok {
			r.account.beat(time.Since(s.book.began))
			s.compare(r, v.Successes+v.Failures)
			break
		}
		if !pause(ctx, 10*time.Millisecond) {
			s.faultf("%s: after %v, nobody has told what became of %d outcomes", r.name, endsWithin, r.account.pending.Load())
			return
		}
	}
	for tries := 0; ; tries++ { // what was cut off may be done again
		err := s.fleet[0].store.Forget(ctx, r.name, "soak", true)
		if err == nil {
			return
		}
		if tries == 100 || !pause(ctx, 50*time.Millisecond) {
			s.faultf("%s was not deleted: %v", r.name, err)
			return
		}
	}
}

// final is the breaker after the last outcome; false: there may be one to come.
func (s *soak) final(ctx context.Context, r *resident) (v breaker.View, ok bool) {
	for _, at := range s.fleet {
		if v, _, err := at.m.Inspect(ctx, r.name); err != nil || v.Degraded {
			return v, false
		}
	}
	if r.account.pending.Load() != 0 {
		return v, false
	}
	v, _, err := s.fleet[0].m.Inspect(ctx, r.name)
	return v, err == nil && !v.Degraded
}

// compare holds what was acknowledged against what Redis has counted.
func (s *soak) compare(r *resident, counted int64) {
	acked, unknown := r.account.acked.Load(), r.account.unknown.Load()
	switch {
	case r.era != s.era.Load():
		s.lost.Add(1)
	case time.Duration(r.account.gap.Load()) > s.ttl*3/4: // its keys may have expired meanwhile
		s.expired.Add(1)
	case counted < acked || counted > acked+unknown:
		s.faultf("%s: Redis counted %d, acknowledged were %d, unknown %d", r.name, counted, acked, unknown)
	case unknown > 0:
		s.within.Add(1)
	default:
		s.exact.Add(1)
	}
}
