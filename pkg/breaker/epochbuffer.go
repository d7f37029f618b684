package breaker

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker/internal/buffer"
	"github.com/breakerd/breakerd/pkg/breaker/internal/flush"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// epochBuffer holds the outcomes of one agent in one closed epoch until they are flushed. While it is its Agent's
// active buffer, it admits calls from memory. All permits that it gives share its permitBody, and may be settled long
// after.
type epochBuffer struct {
	permitBody

	owner    *Agent
	observer Observer // nil: none
	// fastPath: a success that is not slow needs no Outcome: Options.Classify is not set, and nobody is notified.
	fastPath atomic.Bool
	notifies atomic.Bool // the observer of admitted calls, and of successes that are not slow

	policy     atomic.Pointer[Policy]
	slowAfter  atomic.Int64 // Policy.SlowCallDuration, in nanoseconds; 0: no call is slow
	tripsAt    atomic.Int64 // the run of failures that trips [B6]; 0: off, or for one replica alone out of reach [B23]
	confirmed  atomic.Int64 // the uptime at which the store was last asked, and answered that the epoch is still closed
	epochEnded atomic.Bool  // outcomes are late

	schedule flush.Entry
	outcomes buffer.Buffer
}

func newEpochBuffer(a *Agent, epoch string) *epochBuffer {
	b := &epochBuffer{owner: a}
	if o := a.observer.Load(); o != nil {
		b.observer = *o
	}
	b.setQuiet(a.quiet.Load())
	b.m, b.agent, b.kind, b.epoch, b.buffer = a.m, a.name, permitClosed, epoch, b
	return b
}

// setQuiet takes whether the observer does without successes.
func (b *epochBuffer) setQuiet(quiet bool) {
	notifies := b.observer != nil && !quiet
	b.notifies.Store(notifies)
	b.fastPath.Store(!notifies && b.owner.m.o.Classify == nil)
}

// setPolicy takes what b needs of a policy.
func (b *epochBuffer) setPolicy(p Policy) {
	tripsAt := p.FailureThreshold
	if p.MinimumReporters > 1 {
		tripsAt = 0
	}
	b.policy.Store(&p)
	b.tripsAt.Store(int64(tripsAt))
	b.slowAfter.Store(int64(p.SlowCallDuration))
}

func (b *epochBuffer) isSlow(d time.Duration) bool {
	slowAfter := time.Duration(b.slowAfter.Load())
	return slowAfter > 0 && d > slowAfter
}

// admit admits one call.
func (b *epochBuffer) admit() Permit {
	if b.notifies.Load() {
		b.notifyAdmitted()
	}
	return Permit{permitBody: &b.permitBody}
}

func (b *epochBuffer) notifyAdmitted() {
	b.observer.Admitted(b.agent, Permit{permitBody: &b.permitBody})
}

// joinable reports whether an outcome may be joined with others. One that names another reporter [B23], or must not
// count twice [B14], is sent by itself.
func (b *epochBuffer) joinable(o *Outcome) bool {
	return o.ReportID == "" && (o.Reporter == "" || o.Reporter == b.m.o.Reporter)
}

// settle adds a joinable outcome, and notifies the observer.
func (b *epochBuffer) settle(o *Outcome) Report {
	slow := o.Slow || b.isSlow(o.Duration)
	r := Report{State: Closed, Counted: true, Pending: true}
	notify := b.observer != nil
	switch {
	case b.epochEnded.Load():
		b.m.ledger.count(machine.CodeLate)
		r = Report{Why: machine.CodeLate}
	case o.Kind == Success && !slow:
		if b.outcomes.Success() {
			b.enqueue(false)
		}
		notify = b.notifies.Load()
	case o.Kind == Failure && !slow && o.RetryAfter <= 0:
		first, run, trips := b.outcomes.Failure(b.tripsAt.Load())
		r.failed(run, b.policy.Load())
		if first || trips {
			b.enqueue(true)
		}
		if trips {
			b.owner.expectTrip(b)
		}
	case o.Kind == Success, o.Kind == Failure:
		o.Slow = slow
		run, trips := b.outcomes.Add(o.Summary(), b.tripsAt.Load())
		b.enqueue(true)
		if o.Kind != Failure {
			break
		}
		r.failed(run, b.policy.Load())
		if trips {
			b.owner.expectTrip(b)
		}
	default:
		b.m.ledger.count(machine.CodeIgnored)
		r = Report{State: Closed, Why: machine.CodeIgnored}
	}
	b.m.took.settled(b.agent, o, r.Why)
	if notify {
		b.observer.Settled(b.agent, *o, r)
	}
	return r
}

// enqueue schedules a flush of b's outcomes.
func (b *epochBuffer) enqueue(urgent bool) { b.m.flusher.Enqueue(b.owner.flushTarget(b), urgent) }

// Entry implements [flush.Item].
func (b *epochBuffer) Entry() *flush.Entry { return &b.schedule }

// Records implements [flush.Item].
func (b *epochBuffer) Records() int { return b.outcomes.Records() }

// Holds implements [flush.Item]. A failure or a slow call is urgent.
func (b *epochBuffer) Holds() (some, urgent bool) {
	s := b.outcomes.Sum()
	return s != (machine.Summary{}), s.Failures+s.Slow > 0
}

// Critical implements [flush.Item]: the outcomes trip the breaker by a run of failures [B6], as far as this process
// knows.
func (b *epochBuffer) Critical() bool { return b.outcomes.Reaches(b.tripsAt.Load()) }

// flush sends one record of b's outcomes. The store's answer confirms the epoch, ends it, or invalidates b. It returns
// what calls the user's code, which may ask for the same agent and so must not be in the way of it.
func (b *epochBuffer) flush() (after func()) {
	m := b.m
	s := m.ledger.takeFrom(b)
	if s.Calls() == 0 {
		return nil
	}
	if b.epochEnded.Load() {
		m.ledger.settle(s.Calls(), machine.CodeLate, "")
		return func() { m.o.Observer.Flushed(b.agent, s, Report{Why: machine.CodeLate}) }
	}
	ctx, cancel := context.WithTimeout(context.Background(), settleTimeout)
	defer cancel()
	p := *b.policy.Load()
	asked := m.uptime()
	op := machine.Op{Verb: machine.VerbRecord, Epoch: b.epoch, Summary: s, Reporter: m.o.Reporter}
	a := m.ask(ctx, b.agent, p, op)
	r := &a.result
	switch {
	case a.err != nil || r.Degraded || r.Unknown:
		b.owner.invalidate(b)
	case r.State != Closed || r.Epoch != b.epoch:
		b.owner.endEpoch(b)
	default:
		b.outcomes.SetRun(r.Run)
		b.confirmed.Store(int64(asked))
		m.tracker.touch(b.agent)
	}
	report, err := m.conclude(b.agent, p, op, r, a.err)
	return func() {
		m.notify(b.agent, &a)
		b.flushed(s, report, err)
	}
}

// flushed notifies the observer of a flush, and looks at the policy again.
func (b *epochBuffer) flushed(s machine.Summary, r Report, err error) {
	m := b.m
	if !r.Pending {
		m.o.Observer.Flushed(b.agent, s, r)
	}
	if b.observer != nil {
		quiet := isQuiet(b.observer)
		b.owner.quiet.Store(quiet)
		b.setQuiet(quiet)
	}
	p := m.policy(context.Background(), b.agent)
	b.setPolicy(p)
	if p.Consistency != Cached || p.Disabled {
		b.owner.invalidate(b)
	}
	switch {
	case err == nil:
		m.flushFailed.Store(false)
	case !m.flushFailed.Swap(true):
		m.o.Logger.Warn("outcomes not recorded", "agent", b.agent, "calls", s.Calls(), "error", err)
	}
}
