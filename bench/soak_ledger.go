package main

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// account is what the replicas were told of one agent's outcomes.
type account struct {
	acked   atomic.Int64 // Redis says that it counted them
	unknown atomic.Int64 // perhaps
	pending atomic.Int64 // not yet
	last    atomic.Int64 // when Redis last said so, ns on the ledger's clock
	gap     atomic.Int64 // the longest time without, ns
}

// beat notes that Redis has a record of the agent now.
func (a *account) beat(now time.Duration) {
	gap := int64(now) - a.last.Swap(int64(now))
	for old := a.gap.Load(); gap > old; old = a.gap.Load() {
		if a.gap.CompareAndSwap(old, gap) {
			return
		}
	}
}

// ledger is the whole fleet's Observer. It keeps the accounts of some agents, and the sums of all.
type ledger struct {
	breaker.NopObserver
	account

	began     time.Time
	accounts  sync.Map // agent -> *account
	uncounted atomic.Int64
	degraded  atomic.Int64 // counted in one replica's memory, while Redis was away
	records   atomic.Int64 // that carried joined outcomes
	refused   atomic.Int64
	probes    atomic.Int64
	opened    atomic.Int64
	closed    atomic.Int64
}

func newLedger() *ledger { return &ledger{began: time.Now()} }

// open begins an agent's account.
func (l *ledger) open(agent string) *account {
	a := &account{}
	a.last.Store(int64(time.Since(l.began)))
	l.accounts.Store(agent, a)
	return a
}

func (l *ledger) close(agent string) { l.accounts.Delete(agent) }

// each does the same to the sums and to the agent's account, if there is one.
func (l *ledger) each(agent string, do func(*account)) {
	do(&l.account)
	if a, ok := l.accounts.Load(agent); ok {
		do(a.(*account)) //nolint:forcetypeassert,errcheck // nothing else is stored
	}
}

// Settled implements breaker.Observer.
func (l *ledger) Settled(agent string, _ breaker.Outcome, r breaker.Report) {
	if r.Pending {
		l.each(agent, func(a *account) { a.pending.Add(1) })
		return
	}
	l.told(agent, 1, r)
}

// Flushed implements breaker.Observer. It may come before the Settled of the same outcome.
func (l *ledger) Flushed(agent string, s machine.Summary, r breaker.Report) {
	l.records.Add(1)
	l.told(agent, s.Calls(), r)
	l.each(agent, func(a *account) { a.pending.Add(-s.Calls()) })
}

// told takes what became of n outcomes.
func (l *ledger) told(agent string, n int64, r breaker.Report) {
	switch {
	case r.Why == breaker.CodeUnknown:
		l.each(agent, func(a *account) { a.unknown.Add(n) })
	case r.Degraded:
		l.degraded.Add(n)
	case r.Counted:
		now := time.Since(l.began)
		l.each(agent, func(a *account) {
			a.acked.Add(n)
			a.beat(now)
		})
	default:
		l.uncounted.Add(n)
	}
}

// Refused implements breaker.Observer.
func (l *ledger) Refused(string, *breaker.OpenError) { l.refused.Add(1) }

// Probed implements breaker.Observer.
func (l *ledger) Probed(string, breaker.Outcome) { l.probes.Add(1) }

// Event implements breaker.Observer.
func (l *ledger) Event(_ string, e breaker.Event, _ bool) {
	switch e.Kind {
	case machine.EventOpened:
		l.opened.Add(1)
	case machine.EventClosed:
		l.closed.Add(1)
	}
}
