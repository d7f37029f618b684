package redisstore

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// call is one caller's operation. The caller owns it until it is queued, and the dispatcher from then on. After done it
// is pooled. A caller that gives up a call which has been sent never sees it again: the round trip still refers to it,
// and drops it.
type call struct {
	script script
	agent  *entry // nil: keys and args are those of a script that is not one of the machine's
	op     machine.Op
	policy agentPolicy
	keys   []any
	args   []any

	// An acquire may be sent as two reads, and a record in one script with others: its short form. hint says whether the
	// short form is expected to do; nil: the call has none.
	share      share
	hint       *atomic.Bool
	shortReply int // the length of a reply after which the short form will do next time

	short    bool // it is sent in its short form
	at       int  // where its commands begin in the round trip's pipeline
	answered bool
	result   machine.Result
	reply    []any // of a script that is not one of the machine's
	err      error

	// Of a queued call, guarded by dispatcher.mu.
	leader *call // whose answer it will get: itself, or the call that it joined. nil: not in the queue
	joined *call // of a leader: the first of the calls that joined it; of those: the next
	left   bool  // its caller has given it up after it was sent
	// What a waiting caller reads after done.
	follower bool // the answer is of another's call, to which the events belong
	alone    bool // the answer was for one caller only: send this one by itself
	done     chan struct{}
}

// share says which queued calls of one agent may become one.
type share uint8

const (
	shareNothing share = iota
	// shareAcquire: acquires under one policy, because a breaker that gives no lease answers all alike.
	shareAcquire
	// shareRecord: successes in one epoch under one policy, because their summaries join [B5].
	shareRecord
)

// sendAlone lets a call share nothing.
func (c *call) sendAlone() { c.share, c.hint = shareNothing, nil }

// answer settles a call.
func (c *call) answer(r machine.Result) { c.result, c.answered = r, true }

// fail settles a call that has no answer.
func (c *call) fail(err error) { c.err, c.answered = err, true }

// maxRoundTrips is how many round trips of one process are in progress at once. With more, the section "strict" of
// bench was not faster.
const maxRoundTrips = 2

// maxShared bounds how many commands share one round trip, beside the calls that joined one of them. With more, Redis
// idles while a pipeline is written, and callers idle while it is run.
const maxShared = 32

// dispatcher shares round trips among concurrent callers. Only so many are in progress at once. While there are fewer,
// a caller sends its call on its own goroutine; else it queues the call, and the next round trip that ends is followed
// by one that takes the queue, in one pipeline. No call waits for others to come. A caller that gives up does not
// disturb the others: a shared round trip has a deadline of its own.
type dispatcher struct {
	send  func(ctx context.Context, t *roundTrip)
	gone  func(c *call) // gets a call that was sent and whose caller has given it up, when it is settled
	limit limit
	calls sync.Pool // of *call

	mu    sync.Mutex
	idle  []*roundTrip
	queue []*call
}

// roundTrip is one round trip in progress. The next one uses its memory again, so nothing may keep a command beyond it.
type roundTrip struct {
	calls  []*call
	misled []*call // whose hint was wrong
	groups []group
	merged []*call // those of the groups
	args   []any
	cmds   []redis.Cmder
	pipe   redis.Pipeliner
}

// group is several records that one script counts.
type group struct {
	calls []*call
	at    int // where its command is in the round trip's pipeline
}

func newDispatcher(roundTrips int, send func(ctx context.Context, t *roundTrip), timeout time.Duration) *dispatcher {
	d := &dispatcher{send: send, gone: func(*call) {}, limit: limit{timeout: timeout}}
	d.calls.New = func() any { return &call{done: make(chan struct{}, 1)} }
	for range roundTrips {
		d.idle = append(d.idle, new(roundTrip))
	}
	return d
}

// newCall gives an empty call.
func (d *dispatcher) newCall() *call {
	return d.calls.Get().(*call) //nolint:forcetypeassert,errcheck // nothing else is in the pool
}

// recycle takes back a call that nobody else refers to.
func (d *dispatcher) recycle(c *call) {
	*c = call{done: c.done}
	d.calls.Put(c)
}

// do executes c before ctx or until ends, whichever is first. The caller must not use c afterwards. do answers a
// result, or the reply of a script that is not one of the machine's.
func (d *dispatcher) do(ctx, until context.Context, c *call) (r machine.Result, reply []any, err error) {
	for {
		d.mu.Lock()
		n := len(d.idle)
		if n == 0 {
			d.enqueue(c)
			d.mu.Unlock()
			if cause := c.wait(ctx, until); cause != nil {
				if err = d.leave(c, cause); err != nil {
					return r, nil, err
				}
			}
			if c.alone {
				c.follower, c.alone = false, false
				c.sendAlone() // it asks with its own token
				continue
			}
			break
		}
		t := d.idle[n-1]
		d.idle = d.idle[:n-1]
		d.mu.Unlock()
		d.sendOne(ctx, until, t, c)
		break
	}
	if r, reply, err = c.result, c.reply, c.err; c.follower {
		r.Events = nil // the leader's caller publishes them, once
		if err != nil && c.share == shareAcquire {
			err = fmt.Errorf("%w: %w", errNotRun, err) // with its own token
		}
	}
	d.recycle(c)
	return r, reply, err
}

// sendOne sends one call on its caller's goroutine.
func (d *dispatcher) sendOne(ctx, until context.Context, t *roundTrip, c *call) {
	ctx, cancel := earlier(ctx, until)
	defer cancel()
	t.calls = append(t.calls[:0], c)
	d.send(ctx, t)
	d.release(t)
}

// wait returns when the call is answered, or why the caller waits no longer.
func (c *call) wait(ctx, until context.Context) error {
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-until.Done():
		return until.Err()
	}
}

// enqueue queues a call, or joins it to a queued one.
func (d *dispatcher) enqueue(c *call) {
	at := c.joinable()
	if at != nil && *at != nil && c.joins(*at) {
		leader := *at
		c.leader, c.joined, leader.joined = leader, leader.joined, c
		return
	}
	c.leader = c
	d.queue = append(d.queue, c)
	if at != nil {
		*at = c
	}
}

// joinable is where the entry keeps the queued call that this one may join; nil if it shares nothing.
func (c *call) joinable() **call {
	switch c.share {
	case shareAcquire:
		return &c.agent.acquire
	case shareRecord:
		return &c.agent.record
	case shareNothing:
	}
	return nil
}

func (c *call) joins(o *call) bool {
	return o.policy.packedPolicy == c.policy.packedPolicy && (c.share == shareAcquire || o.op.Epoch == c.op.Epoch)
}

// close lets no other call join this one.
func (c *call) close() {
	if at := c.joinable(); at != nil && *at == c {
		*at = nil
	}
}

// leave removes a cancelled waiter's call, unless it has been sent. nil: it has just been answered.
func (d *dispatcher) leave(c *call, cause error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch leader := c.leader; {
	case leader == nil:
		select {
		case <-c.done:
			return nil
		default:
		}
		if c.follower && c.share == shareAcquire {
			return fmt.Errorf("%w: %w", errNotRun, cause) // with its own token
		}
		c.left = true
		return leftError{cause}
	case leader != c:
		at := &leader.joined
		for *at != c {
			at = &(*at).joined
		}
		*at = c.joined
	case c.joined == nil:
		c.close()
		i := slices.Index(d.queue, c)
		d.queue = slices.Delete(d.queue, i, i+1)
	default:
		d.promote(c)
	}
	d.recycle(c)
	return fmt.Errorf("%w: %w", errNotRun, cause)
}

// promote replaces a leader by the next of the calls that joined it, because a lease must go to the token of a caller
// that waits.
func (d *dispatcher) promote(c *call) {
	next := c.joined
	for m := next; m != nil; m = m.joined {
		m.leader = next
	}
	d.queue[slices.Index(d.queue, c)] = next
	if at := c.joinable(); *at == c {
		*at = next
	}
}

// release ends a round trip. If calls are queued, another one follows.
func (d *dispatcher) release(t *roundTrip) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.queue) == 0 {
		d.idle = append(d.idle, t)
		return
	}
	go d.drain(t)
}

// drain makes one round trip after another until the queue is empty.
func (d *dispatcher) drain(t *roundTrip) {
	for d.take(t) {
		d.send(d.limit.context(), t)
		d.deliver(t.calls)
	}
}

// quiet says that no call is in progress.
func (d *dispatcher) quiet() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.idle) == maxRoundTrips
}

// take moves queued calls into a round trip, which becomes idle if there are none. From here on no call can join or
// leave them.
func (d *dispatcher) take(t *roundTrip) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := min(len(d.queue), maxShared)
	if n == 0 {
		clear(t.calls)
		d.idle = append(d.idle, t)
		return false
	}
	t.calls = append(t.calls[:0], d.queue[:n]...)
	d.queue = slices.Delete(d.queue, 0, n)
	for _, c := range t.calls {
		c.close()
		c.leader = nil
		for m := c.joined; m != nil; m = m.joined {
			m.leader, m.follower = nil, true
			c.op.Summary.Successes += m.op.Summary.Successes
		}
	}
	return true
}

// sharedAnswer says that the answer to an acquire does not depend on whose token and draw were sent: at this moment,
// every other acquire under the same policy has the same answer.
func sharedAnswer(r *machine.Result) bool {
	switch r.Code {
	case machine.CodeDisabled:
		return true
	case machine.CodeRefused, machine.CodeObserved:
		return r.Reason != machine.ReasonRamping
	default:
		return r.Plain || r.Hold == machine.Closed
	}
}

// deliver gives the answers to all who wait for them. If that of an acquire depends on its token, as a lease does, only
// the leader has it, and the calls that joined ask for themselves. From the moment that a call is done it is its
// caller's again.
func (d *dispatcher) deliver(calls []*call) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range calls {
		alone := c.share == shareAcquire && c.err == nil && !sharedAnswer(&c.result)
		for m := c.joined; m != nil; {
			next := m.joined
			m.result, m.err, m.alone, m.joined = c.result, c.err, alone, nil
			m.done <- struct{}{}
			m = next
		}
		c.joined = nil
		if c.left {
			d.gone(c)
		}
		c.done <- struct{}{}
	}
}
