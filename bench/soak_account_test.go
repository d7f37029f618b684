package main

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// account counts the outcomes of one agent by what their reports said.
type account struct {
	acked   atomic.Int64 // Redis counted them
	unknown atomic.Int64 // Redis may have counted them
	pending atomic.Int64 // not sent yet
	last    atomic.Int64 // when Redis last counted one, ns since accounts.began
	gap     atomic.Int64 // the longest time between two of those, ns
}

// recorded notes that Redis has renewed the keys of the agent now.
func (a *account) recorded(now time.Duration) {
	gap := int64(now) - a.last.Swap(int64(now))
	for old := a.gap.Load(); gap > old; old = a.gap.Load() {
		if a.gap.CompareAndSwap(old, gap) {
			return
		}
	}
}

// accounts is the Observer of the whole fleet. It has the accounts of the tracked agents, and the sums of all agents.
type accounts struct {
	breaker.NopObserver
	account

	began     time.Time
	byAgent   sync.Map // agent -> *account
	uncounted atomic.Int64
	degraded  atomic.Int64 // counted in the memory of one replica, while Redis was down
	records   atomic.Int64 // with joined outcomes
	refused   atomic.Int64
	probes    atomic.Int64
	opened    atomic.Int64
	closed    atomic.Int64
}

func newAccounts() *accounts { return &accounts{began: time.Now()} }

// open adds the account of an agent.
func (l *accounts) open(agent string) *account {
	a := &account{}
	a.last.Store(int64(time.Since(l.began)))
	l.byAgent.Store(agent, a)
	return a
}

func (l *accounts) close(agent string) { l.byAgent.Delete(agent) }

// each calls do with the sums, and with the account of the agent if it is tracked.
func (l *accounts) each(agent string, do func(*account)) {
	do(&l.account)
	if a, ok := l.byAgent.Load(agent); ok {
		do(a.(*account))
	}
}

// Settled implements breaker.Observer.
func (l *accounts) Settled(agent string, _ breaker.Outcome, r breaker.Report) {
	if r.Pending {
		l.each(agent, func(a *account) { a.pending.Add(1) })
		return
	}
	l.reported(agent, 1, r)
}

// Flushed implements breaker.Observer. It may be called before the Settled of the same outcome.
func (l *accounts) Flushed(agent string, s machine.Summary, r breaker.Report) {
	l.records.Add(1)
	l.reported(agent, s.Calls(), r)
	l.each(agent, func(a *account) { a.pending.Add(-s.Calls()) })
}

// reported counts n outcomes by their report.
func (l *accounts) reported(agent string, n int64, r breaker.Report) {
	switch {
	case r.Why == breaker.CodeUnknown:
		l.each(agent, func(a *account) { a.unknown.Add(n) })
	case r.Degraded:
		l.degraded.Add(n)
	case r.Counted:
		now := time.Since(l.began)
		l.each(agent, func(a *account) {
			a.acked.Add(n)
			a.recorded(now)
		})
	default:
		l.uncounted.Add(n)
	}
}

// Refused implements breaker.Observer.
func (l *accounts) Refused(string, *breaker.OpenError) { l.refused.Add(1) }

// Probed implements breaker.Observer.
func (l *accounts) Probed(string, breaker.Outcome) { l.probes.Add(1) }

// Event implements breaker.Observer.
func (l *accounts) Event(_ string, e breaker.Event, _ bool) {
	switch e.Kind {
	case machine.EventOpened:
		l.opened.Add(1)
	case machine.EventClosed:
		l.closed.Add(1)
	}
}

func TestSoakAccounts_CountEachOutcomeOnce(t *testing.T) {
	t.Parallel()
	l := newAccounts()
	a := l.open("a")
	three := machine.Summary{Successes: 3}
	l.Flushed("a", three, breaker.Report{Counted: true}) // before the Settled of its outcomes
	for range 3 {
		l.Settled("a", breaker.Outcome{}, breaker.Report{Counted: true, Pending: true})
	}
	l.Settled("a", breaker.Outcome{}, breaker.Report{Why: breaker.CodeUnknown, Degraded: true})
	l.Settled("a", breaker.Outcome{}, breaker.Report{Counted: true, Degraded: true})
	l.Settled("a", breaker.Outcome{}, breaker.Report{Why: machine.CodeLate})
	l.Settled("b", breaker.Outcome{}, breaker.Report{Counted: true})
	if a.acked.Load() != 3 || a.unknown.Load() != 1 || a.pending.Load() != 0 {
		t.Errorf("a: %d acknowledged, %d unknown, %d pending", a.acked.Load(), a.unknown.Load(), a.pending.Load())
	}
	if l.acked.Load() != 4 || l.degraded.Load() != 1 || l.uncounted.Load() != 1 {
		t.Errorf("all: %d acknowledged, %d in memory, %d not counted", l.acked.Load(), l.degraded.Load(), l.uncounted.Load())
	}
}
