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
	observed bool // as the Manager's
	fastPath bool // as the Manager's

	slowAfter  atomic.Int64 // Policy.SlowCallDuration, in nanoseconds; 0: no call is slow
	tripsAt    atomic.Int64 // the run of failures that trips [B6]; 0: off, or for one replica alone out of reach [B23]
	confirmed  atomic.Int64 // the uptime at which the store was last asked, and answered that the epoch is still closed
	epochEnded atomic.Bool  // outcomes are late

	schedule flush.Entry
	outcomes buffer.Buffer
}

func newEpochBuffer(a *Agent, epoch string) *epochBuffer {
	b := &epochBuffer{owner: a, observed: a.m.observed, fastPath: a.m.fastPath}
	b.m, b.agent, b.kind, b.epoch, b.buffer = a.m, a.name, permitClosed, epoch, b
	return b
}

// setPolicy takes what b needs of a policy.
func (b *epochBuffer) setPolicy(p Policy) {
	tripsAt := p.FailureThreshold
	if p.MinimumReporters > 1 {
		tripsAt = 0
	}
	b.tripsAt.Store(int64(tripsAt))
	b.slowAfter.Store(int64(p.SlowCallDuration))
}

func (b *epochBuffer) isSlow(d time.Duration) bool {
	slowAfter := time.Duration(b.slowAfter.Load())
	return slowAfter > 0 && d > slowAfter
}

// admit admits one call.
func (b *epochBuffer) admit() Permit {
	if b.observed {
		b.notifyAdmitted()
	}
	return Permit{permitBody: &b.permitBody}
}

func (b *epochBuffer) notifyAdmitted() {
	b.m.o.Observer.Admitted(b.agent, Permit{permitBody: &b.permitBody})
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
	switch {
	case b.epochEnded.Load():
		r = Report{Why: machine.CodeLate}
	case o.Kind == Success && !slow:
		if b.outcomes.Success() {
			b.enqueue(false)
		}
	case o.Kind == Failure && !slow && o.RetryAfter <= 0:
		first, trips := b.outcomes.Failure(b.tripsAt.Load())
		if first || trips {
			b.enqueue(true)
		}
		if trips {
			b.owner.expectTrip(b)
		}
	case o.Kind == Success, o.Kind == Failure:
		o.Slow = slow
		trips := b.outcomes.Add(o.Summary(), b.tripsAt.Load())
		b.enqueue(true)
		if o.Kind == Failure && trips {
			b.owner.expectTrip(b)
		}
	default:
		r = Report{State: Closed, Why: machine.CodeIgnored}
	}
	if b.observed {
		b.m.o.Observer.Settled(b.agent, *o, r)
	}
	return r
}

// do is Manager.Do while b is active. It calls neither Classify nor the clock where the outcome does not depend on
// them.
func (b *epochBuffer) do(ctx context.Context, fn func(context.Context) error) (err error) {
	p := b.admit()
	timed := !b.fastPath || b.slowAfter.Load() > 0
	var start time.Duration
	if timed {
		start = b.m.uptime()
	}
	took := func() time.Duration {
		if !timed {
			return 0
		}
		return b.m.uptime() - start
	}
	returned := false
	defer func() {
		if !returned { // fn or Classify panicked, or ended the goroutine
			b.settle(&Outcome{Kind: Failure, Class: "panic", Duration: took()})
		}
	}()
	err = fn(ctx)
	d := took()
	if err == nil && b.fastPath && !b.isSlow(d) && !b.epochEnded.Load() {
		returned = true
		if b.outcomes.Success() {
			b.enqueue(false)
		}
		return nil
	}
	o := b.m.o.Classify(ctx, err)
	returned = true
	o.Duration = d
	if b.joinable(&o) {
		b.settle(&o)
	} else {
		b.m.settleDetached(ctx, &p, o)
	}
	return err
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

// flush sends one record of b's outcomes. The store's answer confirms the epoch, ends it, or invalidates b.
func (b *epochBuffer) flush() {
	s := b.outcomes.Take()
	if s.Calls() == 0 {
		return
	}
	m := b.m
	if b.epochEnded.Load() {
		m.o.Observer.Flushed(b.agent, s, Report{Why: machine.CodeLate})
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), settleTimeout)
	defer cancel()
	p := m.policy(ctx, b.agent)
	asked := m.uptime()
	op := machine.Op{Verb: machine.VerbRecord, Epoch: b.epoch, Summary: s, Reporter: m.o.Reporter}
	r, err := m.apply(ctx, b.agent, p, op)
	switch {
	case err == nil && !r.Degraded && (r.State != Closed || r.Epoch != b.epoch):
		b.owner.endEpoch(b)
	case err != nil || r.Degraded || p.Consistency != Cached || p.Disabled:
		b.owner.invalidate(b)
	default:
		b.outcomes.SetRun(r.Run)
		b.setPolicy(p)
		b.confirmed.Store(int64(asked))
	}
	m.o.Observer.Flushed(b.agent, s, newReport(r, err))
	switch {
	case err == nil:
		m.flushFailed.Store(false)
	case !m.flushFailed.Swap(true):
		m.o.Logger.WarnContext(ctx, "outcomes not recorded", "agent", b.agent, "calls", s.Calls(), "error", err)
	}
}
