package redisstore

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

const (
	maxReturns    = 1000                   // acquires that are remembered
	returnsAtOnce = 8                      // records that are sent together
	returnPause   = 50 * time.Millisecond  // between two looks at what is due
	retryReturn   = 500 * time.Millisecond // doubles
	closingPause  = 5 * time.Millisecond   // between two looks while the Store closes
)

// orphan is an acquire that may have been given a lease which nobody holds: its caller did not wait for the answer, or
// there was none.
type orphan struct {
	entry  *entry
	policy breaker.Policy
	token  string
	// useless is the acquire's UselessAfterMs. Before that it may still be executed. 0: it carried none, and may be
	// executed at any time.
	useless int64
	pause   time.Duration // after a try that was in vain
	next    time.Time
	forget  time.Time // when a lease would have lapsed
}

// untold is an answer with events whose caller had gone.
type untold struct {
	agent  string
	result machine.Result
}

// orphans are the acquires whose leases are to be given back, and the events that no caller gets. One goroutine does
// what is to be done while there are any.
type orphans struct {
	mu      sync.Mutex
	waiting []orphan // in order of arrival
	untold  []untold
	running bool
	closed  bool          // nothing is remembered any more
	closing chan struct{} // is closed when Close begins
	ending  sync.Once
	wg      sync.WaitGroup
}

// Close ends the work in the background, which gives back leases without a holder. It first gives back what is due. It
// takes no longer than an operation does: what Redis does not take until then lapses. Nobody may use the Store any
// more. Close does not close the client.
func (s *Store) Close() {
	o := &s.orphans
	o.ending.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), s.timeout)
		defer cancel()
		o.mu.Lock()
		close(o.closing)
		o.mu.Unlock()
		o.wg.Wait()
		s.giveBackLast(ctx)
		o.mu.Lock()
		o.closed = true
		o.mu.Unlock()
	})
}

// ends says that the goroutine must end, and that none may begin.
func (o *orphans) ends() bool {
	select {
	case <-o.closing:
		return true
	default:
		return false
	}
}

// lease is the end of an acquire that may have been given a lease: it sees to it that none is left without a holder
// [B12]. An acquire that came too late by this store's clock is asked once more, as Redis has told the time.
func (s *Store) lease(
	ctx, until context.Context, e *entry, p breaker.Policy, op machine.Op, r machine.Result, err error,
) (machine.Result, error) {
	if err == nil && r.Code == machine.CodeExpired && !s.shifted {
		first := r
		if ctx.Err() == nil {
			op.UselessAfterMs = e.clock.at(givesUp(ctx, until))
			op.Draw, op.JitterPPM = draws()
			r, err = s.ask(ctx, until, e, &p, &op)
			r.Events = append(first.Events, r.Events...)
		}
		switch {
		case err != nil: // the breaker is as the first answer said
			first.Events = r.Events
			r = first
		case r.Code == machine.CodeExpired:
			over := cmp.Or(ctx.Err(), context.DeadlineExceeded)
			err = fmt.Errorf("%w: Redis gave no lease, because the time to wait was over: %w", errNotRun, over)
		}
	}
	r, err = s.finish(ctx, op.Verb, e.agent, r, err)
	failed, ok := errors.AsType[*breaker.StoreError](err)
	_, left := errors.AsType[leftError](err)
	switch {
	case ok && failed.Unknown && !left:
		s.orphan(e, p, op.Token, op.UselessAfterMs)
	case r.LeaseMs > 0 && ctx.Err() != nil:
		s.orphan(e, p, op.Token, r.NowMs)
		return machine.Result{Events: r.Events}, fmt.Errorf("acquire of agent %q: %w", e.agent, ctx.Err())
	}
	return r, err
}

// gone remembers what a call left behind that was settled after its caller had left: a lease, events.
func (s *Store) gone(c *call) {
	switch {
	case c.op.Verb != machine.VerbAcquire:
	case c.err != nil && !errors.Is(c.err, errNotRun):
		s.orphan(c.agent, c.agent.policy.Load().policy, c.op.Token, c.op.UselessAfterMs)
	case c.err == nil && c.result.LeaseMs > 0:
		s.orphan(c.agent, c.agent.policy.Load().policy, c.op.Token, c.result.NowMs)
	}
	if len(c.result.Events) > 0 {
		s.tellLater(untold{c.agent.agent, c.result})
	}
}

// tellLater remembers events. The oldest make room.
func (s *Store) tellLater(u untold) {
	o := &s.orphans
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return
	}
	if len(o.untold) == maxReturns {
		o.untold = slices.Delete(o.untold, 0, 1)
	}
	o.untold = append(o.untold, u)
	s.work()
}

// tell hands on the events that no caller gets.
func (s *Store) tell(ctx context.Context) {
	o := &s.orphans
	o.mu.Lock()
	all := o.untold
	o.untold = nil
	o.mu.Unlock()
	for _, u := range all {
		s.handOn(u.agent, u.result)
	}
	for _, u := range all {
		if s.keys.Cluster {
			s.writeFleet(ctx, u.agent, u.result)
		}
	}
}

func (s *Store) handOn(agent string, r machine.Result) {
	for _, e := range r.Events {
		s.onEvent(agent, e)
	}
}

// work starts the goroutine, unless it runs. The caller has locked the orphans.
func (s *Store) work() {
	if o := &s.orphans; !o.running && !o.ends() {
		o.running = true
		o.wg.Go(s.giveBack)
	}
}

// orphan remembers an acquire, for as long as a lease lasts. The oldest makes room.
func (s *Store) orphan(e *entry, p breaker.Policy, token string, useless int64) {
	o := &s.orphans
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return
	}
	if len(o.waiting) == maxReturns {
		o.waiting = slices.Delete(o.waiting, 0, 1)
	}
	lease := time.Duration(s.params(&p, 0).ProbeTimeoutMs) * time.Millisecond
	o.waiting = append(o.waiting, orphan{
		entry: e, policy: p, token: token, useless: useless, pause: retryReturn, forget: time.Now().Add(lease),
	})
	s.work()
}

// due takes out those that can be given back now. more is false if nothing is left, and the goroutine must end.
func (o *orphans) due(now time.Time) (due []orphan, more bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	last := o.ends()
	o.waiting = slices.DeleteFunc(o.waiting, func(a orphan) bool {
		lapsed := now.After(a.forget)
		ready := !lapsed && (last || !now.Before(a.next)) && a.entry.clock.at(now) >= a.useless
		if ready {
			due = append(due, a)
		}
		return lapsed || ready
	})
	o.running = len(due)+len(o.waiting)+len(o.untold) > 0
	return due, o.running
}

// giveBack gives back leases until there are no orphans.
func (s *Store) giveBack() {
	o := &s.orphans
	for {
		select {
		case <-o.closing:
			return
		case <-time.After(returnPause):
		}
		s.tell(s.dispatch.limit.context())
		due, more := o.due(time.Now())
		if !more {
			return
		}
		var again []orphan
		for n := 1; len(due) > 0 && !o.ends(); n = returnsAtOnce { // the first alone, to see whether Redis answers
			batch := due[:min(n, len(due))]
			due = due[len(batch):]
			left, answered := s.giveBackAll(context.Background(), batch)
			if again = append(again, left...); !answered {
				break
			}
		}
		o.putBack(append(again, due...))
	}
}

func (o *orphans) putBack(left []orphan) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.waiting = append(left, o.waiting...)
	o.waiting = o.waiting[max(0, len(o.waiting)-maxReturns):]
}

// giveBackLast gives back what falls due before ctx ends, until nothing is left.
func (s *Store) giveBackLast(ctx context.Context) {
	for {
		quiet := s.dispatch.quiet()
		s.tell(ctx)
		due, more := s.orphans.due(time.Now())
		if left, answered := s.giveBackAll(ctx, due); !answered {
			s.orphans.putBack(left)
		}
		if quiet && !more {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(closingPause):
		}
	}
}

// giveBackAll settles the leases of a batch as ignored. It returns the orphans that stay, and whether Redis answered.
func (s *Store) giveBackAll(ctx context.Context, batch []orphan) (left []orphan, answered bool) {
	var wg sync.WaitGroup
	done := make([]bool, len(batch))
	silent := make([]bool, len(batch))
	for i := range batch {
		a := &batch[i]
		wg.Go(func() {
			draw, jitter := draws()
			r, err := s.Apply(ctx, a.entry.agent, a.policy, machine.Op{
				Verb: machine.VerbRecord, Token: a.token, Draw: draw, JitterPPM: jitter,
			})
			s.handOn(a.entry.agent, r)
			failed, ok := errors.AsType[*breaker.StoreError](err)
			if silent[i] = ok && !failed.Refused; silent[i] {
				return
			}
			if r.Probe {
				s.onReturn(a.entry.agent)
			}
			done[i] = err == nil && (r.Probe || a.useless > 0)
			a.next, a.pause = time.Now().Add(a.pause), 2*a.pause
		})
	}
	wg.Wait()
	for i, a := range batch {
		if !done[i] {
			left = append(left, a)
		}
	}
	return left, !slices.Contains(silent, true)
}

// draws are the random numbers of an operation [B1].
func draws() (draw string, jitterPPM int64) {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:8])[1:], int64(binary.BigEndian.Uint64(b[8:]) % machine.Million)
}
