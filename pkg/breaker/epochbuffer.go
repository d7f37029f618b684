package breaker

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker/internal/buffer"
	"github.com/breakerd/breakerd/pkg/breaker/internal/flush"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// epochBuffer is where a replica in cached mode keeps the outcomes of one agent in one closed epoch until they are sent. All permits
// that it gives share its body. While it stands in its Agent, calls are admitted from memory; permits outlive that.
type epochBuffer struct {
	permitBody
	at *Agent

	bare    bool         // nobody observes, and a call without an error is a success
	watched bool         // somebody observes
	slow    atomic.Int64 // slow_call_duration_seconds, in ns; 0: durations do not matter
	tripsAt atomic.Int64 // failure_threshold; 0: off, or not for one replica to reach [B23]

	confirmed atomic.Int64 // when the store was last asked and said closed, of this epoch: ns since the Manager began
	over      atomic.Bool  // the store said that the epoch is over

	entry  flush.Entry
	buffer buffer.Buffer
}

// failure joins a plain failure.
func (c *epochBuffer) failure() {
	first, trips := c.buffer.Failure(c.tripsAt.Load())
	if first || trips {
		c.enqueue(true)
	}
	if trips {
		c.at.suspect(c)
	}
}

// enqueue sees to it that what c holds is sent.
func (c *epochBuffer) enqueue(urgent bool) { c.at.m.flusher.Enqueue(c.at.home(c), urgent) }

// Entry implements flush.Item, as do the others.
func (c *epochBuffer) Entry() *flush.Entry { return &c.entry }

// Records is how many records it takes to send what c holds.
func (c *epochBuffer) Records() int { return c.buffer.Records() }

// Holds says whether c holds anything, and whether that is more than plain successes.
func (c *epochBuffer) Holds() (some, urgent bool) {
	s := c.buffer.Sum()
	return s != (machine.Summary{}), s.Failures+s.Slow > 0
}

// Critical says whether what c holds reaches the threshold of failures in a row, after the run that is known [B6].
func (c *epochBuffer) Critical() bool { return c.buffer.Reaches(c.tripsAt.Load()) }

// follow takes what matters of a policy.
func (c *epochBuffer) follow(p Policy) {
	at := p.FailureThreshold
	if p.MinimumReporters > 1 {
		at = 0
	}
	c.tripsAt.Store(int64(at))
	c.slow.Store(int64(p.SlowCallDuration))
}

func (c *epochBuffer) isSlow(d time.Duration) bool {
	slow := time.Duration(c.slow.Load())
	return slow > 0 && d > slow
}

// admitted tells the observer of a call that is admitted.
func (c *epochBuffer) admitted() {
	if c.watched {
		c.at.m.o.Observer.Admitted(c.agent, Permit{permitBody: &c.permitBody})
	}
}

// settle joins one outcome; a plain one there is nobody to tell of.
func (c *epochBuffer) settle(o *Outcome) Report {
	slow := o.Slow || c.isSlow(o.Duration)
	r := Report{State: Closed, Counted: true, Pending: true}
	switch {
	case c.over.Load():
		r = Report{Why: machine.CodeLate}
	case o.Kind == Success && !slow:
		if c.buffer.Success() {
			c.enqueue(false)
		}
	case o.Kind == Failure && !slow && o.RetryAfter <= 0:
		c.failure()
	case o.Kind == Success, o.Kind == Failure:
		o.Slow = slow
		trips := c.buffer.Add(o.Summary(), c.tripsAt.Load())
		c.enqueue(true)
		if o.Kind == Failure && trips {
			c.at.suspect(c)
		}
	default:
		r = Report{State: Closed, Why: machine.CodeIgnored}
	}
	if c.watched {
		c.at.m.o.Observer.Settled(c.agent, *o, r)
	}
	return r
}

// takes says whether an outcome may wait for others: one that names its reporter, or must not count twice, is sent by itself.
func (c *epochBuffer) takes(o *Outcome) bool {
	return o.ReportID == "" && (o.Reporter == "" || o.Reporter == c.at.m.o.Reporter)
}

// do is Manager.Do on a closed breaker that is known to be so.
func (c *epochBuffer) do(ctx context.Context, fn func(context.Context) error) (err error) {
	c.admitted()
	timed := !c.bare || c.slow.Load() > 0
	var start time.Duration
	if timed {
		start = c.at.m.sinceBegan()
	}
	took := func() time.Duration {
		if !timed {
			return 0
		}
		return c.at.m.sinceBegan() - start
	}
	returned := false
	defer func() {
		if !returned {
			c.settle(&Outcome{Kind: Failure, Class: "panic", Duration: took()})
		}
	}()
	err = fn(ctx)
	d := took()
	if err == nil && c.bare && !c.isSlow(d) && !c.over.Load() {
		returned = true
		if c.buffer.Success() {
			c.enqueue(false)
		}
		return nil
	}
	o := c.at.m.classify(ctx, err)
	returned = true
	o.Duration = d
	if c.takes(&o) {
		c.settle(&o)
	} else {
		c.at.m.settleLate(ctx, &Permit{permitBody: &c.permitBody}, o)
	}
	return err
}
