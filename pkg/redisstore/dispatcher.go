package redisstore

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// call is one caller's operation. It belongs to its caller until that queues it, then to the dispatcher until done, and is used again
// afterwards. A caller that gives up a call that has been sent never sees it again: the lane still holds it, and drops it.
type call struct {
	script script
	agent  *entry // nil: keys and args are those of a script that nobody shares
	op     machine.Op
	policy agentPolicy
	keys   []any
	args   []any

	share share
	hint  *atomic.Bool // whether there is a shorter way than the script: for an acquire two reads, for a record one script with others
	short int          // how long an answer is that says so

	quick    bool // it goes that way
	at       int  // where its commands begin in the lane's pipeline
	answered bool
	result   machine.Result
	reply    []any // of a script that nobody shares
	err      error

	// Of a call in the queue, guarded by dispatcher.mu.
	leader *call // whose answer it will get: itself, or the call that it joined. nil: not in the queue
	joined *call // of a leader: the first of the calls that joined it; of those: the next
	// What a waiting caller is told with done.
	follower bool // the answer is that of another's call, to which the events are left
	again    bool // the answer was not one for all: ask alone
	done     chan struct{}
}

// share says which queued calls of one agent may become one.
type share uint8

const (
	shareNothing share = iota
	// shareAcquire: acquires under one policy, for a plainly closed breaker answers all alike.
	shareAcquire
	// shareRecord: successes in one epoch under one policy, for their summaries join [B5].
	shareRecord
)

// answer settles a call.
func (c *call) answer(r machine.Result) { c.result, c.answered = r, true }

// fail settles a call that has no answer.
func (c *call) fail(err error) { c.err, c.answered = err, true }

// errNotSent says that a caller gave up before its call left this process.
var errNotSent = errors.New("not sent")

// maxShared bounds how many calls share one round trip: with more, Redis idles while a pipeline is written, and callers while
// it is run (docs/performance.md).
const maxShared = 32

// dispatcher shares round trips among concurrent callers. While a lane is free a caller goes straight to Redis on its own
// goroutine; when all are taken, callers queue, and the next free lane takes those that wait in one pipeline. Nobody waits for
// a batch to fill. A caller that gives up leaves its neighbours alone: a shared trip has its own deadline.
type dispatcher struct {
	send  func(ctx context.Context, l *trip)
	limit limit
	calls sync.Pool // of *call

	mu    sync.Mutex
	free  []*trip
	queue []*call
}

// trip is one round trip at a time, and the memory for it, which the next trip uses again: nothing may keep a command of one beyond
// its trip.
type trip struct {
	calls  []*call
	slow   []*call // those that a hint misled
	alike  []*call // those of the groups
	groups []group
	args   []any
	cmds   []redis.Cmder
	pipe   redis.Pipeliner
}

// group is several records that one script counts.
type group struct {
	calls []*call
	at    int // where its command stands in the lane's pipeline
}

func newDispatcher(lanes int, send func(ctx context.Context, l *trip), timeout time.Duration) *dispatcher {
	d := &dispatcher{send: send, limit: limit{timeout: timeout}}
	d.calls.New = func() any { return &call{done: make(chan struct{}, 1)} }
	for range lanes {
		d.free = append(d.free, new(trip))
	}
	return d
}

// call gives an empty call.
func (d *dispatcher) call() *call {
	return d.calls.Get().(*call) //nolint:forcetypeassert,errcheck // nothing else is in the pool
}

// done takes back a call that nobody else holds.
func (d *dispatcher) done(c *call) {
	*c = call{done: c.done}
	d.calls.Put(c)
}

// do carries out c before ctx or until ends, whichever is first, and takes c over. The answer is a result, or to a script that nobody
// shares a reply.
func (d *dispatcher) do(ctx, until context.Context, c *call) (r machine.Result, reply []any, err error) {
	for {
		d.mu.Lock()
		n := len(d.free)
		if n == 0 {
			d.enqueue(c)
			d.mu.Unlock()
			if cause := c.wait(ctx, until); cause != nil {
				return r, nil, d.leave(c, cause)
			}
			if c.again {
				c.share, c.hint, c.follower, c.again = shareNothing, nil, false, false // with its own token
				continue
			}
			break
		}
		l := d.free[n-1]
		d.free = d.free[:n-1]
		d.mu.Unlock()
		d.straight(ctx, until, l, c)
		break
	}
	if r, reply, err = c.result, c.reply, c.err; c.follower {
		r.Events = nil // told once, by whose record it became
	}
	d.done(c)
	return r, reply, err
}

// straight sends one call on its caller's goroutine.
func (d *dispatcher) straight(ctx, until context.Context, l *trip, c *call) {
	ctx, cancel := earlier(ctx, until)
	defer cancel()
	l.calls = append(l.calls[:0], c)
	d.send(ctx, l)
	d.release(l)
}

// wait is over when the call has been answered; else it returns why the caller waits no longer.
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

// enqueue puts a call into the queue, by itself or as part of one that it may join.
func (d *dispatcher) enqueue(c *call) {
	to := c.mates()
	if to != nil && *to != nil && (*to).policy.packedPolicy == c.policy.packedPolicy && (c.share == shareAcquire || (*to).op.Epoch == c.op.Epoch) {
		leader := *to
		c.leader, c.joined, leader.joined = leader, leader.joined, c
		return
	}
	c.leader = c
	d.queue = append(d.queue, c)
	if to != nil {
		*to = c
	}
}

// mates is where the call stands that this one may join; nil: it shares nothing.
func (c *call) mates() **call {
	switch c.share {
	case shareAcquire:
		return &c.agent.acquire
	case shareRecord:
		return &c.agent.record
	case shareNothing:
	}
	return nil
}

// unlist lets nobody else join a call.
func (c *call) unlist() {
	if to := c.mates(); to != nil && *to == c {
		*to = nil
	}
}

// leave removes the call of a caller that gives up from the queue. A call that has been sent is left to its lane.
func (d *dispatcher) leave(c *call, cause error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch leader := c.leader; {
	case leader == nil:
		return cause
	case leader != c:
		at := &leader.joined
		for *at != c {
			at = &(*at).joined
		}
		*at = c.joined
	case c.joined == nil:
		c.unlist()
		i := slices.Index(d.queue, c)
		d.queue = slices.Delete(d.queue, i, i+1)
	default:
		d.promote(c)
	}
	d.done(c)
	return errors.Join(errNotSent, cause)
}

// promote puts the next of those that joined a call in its place: a lease must be taken by a token that somebody has.
func (d *dispatcher) promote(c *call) {
	next := c.joined
	for m := next; m != nil; m = m.joined {
		m.leader = next
	}
	d.queue[slices.Index(d.queue, c)] = next
	if to := c.mates(); *to == c {
		*to = next
	}
}

// release frees a lane, or hands it to those who wait.
func (d *dispatcher) release(l *trip) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.queue) == 0 {
		d.free = append(d.free, l)
		return
	}
	go d.drain(l)
}

// drain runs a lane until nobody waits.
func (d *dispatcher) drain(l *trip) {
	for d.take(l) {
		d.send(d.limit.context(), l)
		for _, c := range l.calls {
			c.tell()
		}
	}
}

// take takes what waits, and frees the lane if nothing does. From here on nobody can join or leave.
func (d *dispatcher) take(l *trip) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := min(len(d.queue), maxShared)
	if n == 0 {
		clear(l.calls)
		d.free = append(d.free, l)
		return false
	}
	l.calls = append(l.calls[:0], d.queue[:n]...)
	d.queue = slices.Delete(d.queue, 0, n)
	for _, c := range l.calls {
		c.unlist()
		c.leader = nil
		for m := c.joined; m != nil; m = m.joined {
			m.leader, m.follower = nil, true
			c.op.Summary.Successes += m.op.Summary.Successes
		}
	}
	return true
}

// tell gives all who wait their answer. An acquire that was not answered plainly is the first caller's alone: its token took the
// lease, if there was one. A call is its caller's again from the moment it is done.
func (c *call) tell() {
	one := c.share == shareAcquire && c.err == nil && !c.result.Plain
	for m := c.joined; m != nil; {
		next := m.joined
		m.result, m.err, m.again, m.joined = c.result, c.err, one, nil
		m.done <- struct{}{}
		m = next
	}
	c.joined = nil
	c.done <- struct{}{}
}
