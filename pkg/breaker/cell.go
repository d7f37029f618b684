package breaker

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker/internal/flush"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// cell is where a replica in cached mode keeps the outcomes of one agent in one closed epoch until they are sent. All permits
// that it gives share its body. While it stands in its Agent, calls are admitted from memory; permits outlive that.
//
// Outcomes are joined in the order in which they come [B5]: the plain ones by one compare-and-swap on word, those that do not fit
// into it under mu. Whoever fills an empty word tells the flusher.
type cell struct {
	permitBody
	at *Agent

	bare    bool         // nobody observes, and a call without an error is a success
	watched bool         // somebody observes
	slow    atomic.Int64 // slow_call_duration_seconds, in ns; 0: durations do not matter
	tripsAt atomic.Int64 // failure_threshold; 0: off, or not for one replica to reach [B23]
	run     atomic.Int64 // of failures, as the store last said, and what is on its way to it makes of that [B6]

	confirmed atomic.Int64 // when the store was last asked and said closed, of this epoch: ns since the Manager began
	over      atomic.Bool  // the store said that the epoch is over

	mu      sync.Mutex
	pending []machine.Summary // came before what is in word; each is one record
	spilled atomic.Bool       // there is some

	entry flush.Entry

	_    [64]byte // word has a cache line of its own: the rest is only read
	word atomic.Uint64
	_    [56]byte
}

// word holds a Summary without slow calls and waits: successes 24 bits, failures 16, lead, trail and longest run 8 each, which
// stop at MaxRun as the machine's run does [B6].
const (
	failuresAt = 24
	leadAt     = 40
	trailAt    = 48
	maxRunAt   = 56

	wordSuccesses = 1<<failuresAt - 1
	wordFailures  = 1<<(leadAt-failuresAt) - 1
	byteMask      = 1<<8 - 1
)

// withSuccess is word and then a success; ok is false when there is no room.
func withSuccess(word uint64) (after uint64, ok bool) {
	return word&^(byteMask<<trailAt) + 1, word&wordSuccesses < wordSuccesses
}

// withFailure is word and then a failure.
func withFailure(word uint64) (after uint64, ok bool) {
	trail := word >> trailAt & byteMask
	if trail < machine.MaxRun {
		trail++
		word += 1 << trailAt
	}
	if trail > word>>maxRunAt {
		word += 1 << maxRunAt
	}
	if word&wordSuccesses == 0 && word>>leadAt&byteMask < machine.MaxRun {
		word += 1 << leadAt
	}
	return word + 1<<failuresAt, word>>failuresAt&wordFailures < wordFailures
}

// unpack gives the Summary that word holds.
func unpack(word uint64) machine.Summary {
	return machine.Summary{
		Successes: int64(word & wordSuccesses),
		Failures:  int64(word >> failuresAt & wordFailures),
		Lead:      int64(word >> leadAt & byteMask),
		Trail:     int64(word >> trailAt & byteMask),
		MaxRun:    int64(word >> maxRunAt),
	}
}

// success joins a plain success.
func (c *cell) success() {
	for {
		old := c.word.Load()
		after, ok := withSuccess(old)
		switch {
		case !ok:
			c.spill(machine.Summary{})
		case c.word.CompareAndSwap(old, after):
			if old == 0 {
				c.enqueue(false)
			}
			return
		}
	}
}

// failure joins a plain failure.
func (c *cell) failure() {
	for {
		old := c.word.Load()
		after, ok := withFailure(old)
		switch {
		case !ok:
			c.spill(machine.Summary{})
		case c.word.CompareAndSwap(old, after):
			trips := c.trips(unpack(after)) || c.spilled.Load() && c.trips(c.holds())
			if trips || old>>failuresAt&wordFailures == 0 {
				c.enqueue(true)
			}
			if trips {
				c.at.suspect(c)
			}
			return
		}
	}
}

// enqueue sees to it that what c holds is sent.
func (c *cell) enqueue(urgent bool) { c.at.m.flusher.Enqueue(c.at.home(c), urgent) }

// Entry implements flush.Item, as do the others.
func (c *cell) Entry() *flush.Entry { return &c.entry }

// Records is how many records it takes to send what c holds.
func (c *cell) Records() int { return c.records() }

// Holds says whether c holds anything, and whether that is more than plain successes.
func (c *cell) Holds() (some, urgent bool) {
	s := c.holds()
	return s != (machine.Summary{}), s.Failures+s.Slow > 0
}

// Critical says whether what c holds reaches the threshold of failures in a row, after the run that is known [B6].
func (c *cell) Critical() bool { return c.trips(c.holds()) }

// spill moves what word holds, and then s, to pending.
func (c *cell) spill(s machine.Summary) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spillLocked(s)
}

// maxPending bounds the records that one agent's outcomes are kept apart in.
const maxPending = 16

// spillLocked is spill. What follows an upstream wait is a record of its own: what a success after it does depends on the policy,
// which no joined Summary could tell [B22].
func (c *cell) spillLocked(s machine.Summary) {
	s = unpack(c.word.Swap(0)).Join(s)
	n := len(c.pending)
	switch {
	case s.Calls() == 0:
	case n > 0 && (c.pending[n-1].WaitMs == 0 || n == maxPending):
		c.pending[n-1] = c.pending[n-1].Join(s)
	default:
		c.pending = append(c.pending, s)
	}
	c.spilled.Store(len(c.pending) > 0)
}

// take gives what the next record should carry; the zero Summary: nothing is left.
func (c *cell) take() (s machine.Summary) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spillLocked(machine.Summary{})
	if len(c.pending) > 0 {
		s = c.pending[0]
		c.pending = append(c.pending[:0], c.pending[1:]...)
	}
	c.spilled.Store(len(c.pending) > 0)
	if s.Successes > 0 {
		c.run.Store(s.Trail)
	} else {
		c.run.Add(s.Failures)
	}
	return s
}

// records is how many records it takes to send what the cell holds.
func (c *cell) records() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(c.pending)
	if c.word.Load() != 0 && (n == 0 || c.pending[n-1].WaitMs > 0) {
		n++
	}
	return n
}

// holds is all that the cell holds, joined.
func (c *cell) holds() (s machine.Summary) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.pending {
		s = s.Join(p)
	}
	return s.Join(unpack(c.word.Load()))
}

// follow takes what matters of a policy.
func (c *cell) follow(p Policy) {
	at := p.FailureThreshold
	if p.MinimumReporters > 1 {
		at = 0
	}
	c.tripsAt.Store(int64(at))
	c.slow.Store(int64(p.SlowCallDuration))
}

// trips says whether s, after the run that is known, reaches the threshold of failures in a row [B6].
func (c *cell) trips(s machine.Summary) bool {
	at := c.tripsAt.Load()
	return at > 0 && max(c.run.Load()+s.Lead, s.MaxRun) >= at
}

func (c *cell) isSlow(d time.Duration) bool {
	slow := time.Duration(c.slow.Load())
	return slow > 0 && d > slow
}

// admitted tells the observer of a call that is admitted.
func (c *cell) admitted() {
	if c.watched {
		c.at.m.o.Observer.Admitted(c.agent, Permit{permitBody: &c.permitBody})
	}
}

// settle joins one outcome; a plain one there is nobody to tell of.
func (c *cell) settle(o *Outcome) Report {
	slow := o.Slow || c.isSlow(o.Duration)
	r := Report{State: Closed, Counted: true, Pending: true}
	switch {
	case c.over.Load():
		r = Report{Why: string(machine.CodeLate)}
	case o.Kind == Success && !slow:
		c.success()
	case o.Kind == Failure && !slow && o.RetryAfter <= 0:
		c.failure()
	case o.Kind == Success, o.Kind == Failure:
		o.Slow = slow
		c.spill(o.Summary())
		c.enqueue(true)
		if o.Kind == Failure && c.trips(c.holds()) {
			c.at.suspect(c)
		}
	default:
		r = Report{State: Closed, Why: string(machine.CodeIgnored)}
	}
	if c.watched {
		c.at.m.o.Observer.Settled(c.agent, *o, r)
	}
	return r
}

// takes says whether an outcome may wait for others: one that names its reporter, or must not count twice, is sent by itself.
func (c *cell) takes(o *Outcome) bool {
	return o.ReportID == "" && (o.Reporter == "" || o.Reporter == c.at.m.o.Reporter)
}

// do is Manager.Do on a closed breaker that is known to be so.
func (c *cell) do(ctx context.Context, fn func(context.Context) error) (err error) {
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
		c.success()
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
