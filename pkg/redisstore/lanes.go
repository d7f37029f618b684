package redisstore

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// call is one script on its way, for one caller or for several that share its answer.
type call struct {
	script script
	keys   []string
	args   []any
	share  share        // zero: shared with nobody
	guess  *atomic.Bool // whether there is a shorter way than the script: for an acquire two reads, for a record one script with others
	short  int          // how long an answer is that says so
	quick  bool         // it goes that way
	reply  any
	err    error
	// waiters are the callers that queued for it; none for a call that went straight.
	waiters []*waiter
}

// share says which queued calls may become one: acquires of one agent under one policy, for a plainly closed breaker answers all
// alike; and successes of one agent in one epoch, for their summaries join [B5].
type share struct {
	verb, agent, epoch string
	policy             *packedPolicy
}

// successesArg is where a record's ARGV has the number of successes.
const successesArg = 10

// waiter is one caller in the queue. reply and err are set before done is closed.
type waiter struct {
	args      []any // of its own call, which takes the place of the first's if that leaves
	successes int64
	first     bool // whose call it is; those who joined leave the events to it
	again     bool // the answer was not one for all: ask alone
	reply     any
	err       error
	done      chan struct{}
}

// errNotSent says that a caller gave up before its call left this process.
var errNotSent = errors.New("not sent")

// maxShared bounds how many calls share one round trip: with more, Redis idles while a pipeline is written, and callers while
// it is run (docs/performance.md).
const maxShared = 32

// lanes shares round trips among concurrent callers. While a lane is free a caller goes straight to Redis on its own
// goroutine; when all are taken, callers queue, and the next free lane takes those that wait in one pipeline. Nobody waits for
// a batch to fill. A caller that gives up leaves its neighbours alone: a shared trip has its own deadline.
type lanes struct {
	send    func(ctx context.Context, calls []*call)
	timeout time.Duration

	mu     sync.Mutex
	free   int
	queue  []*call
	joinTo map[share]*call // calls in the queue that others may join
}

func newLanes(n int, send func(ctx context.Context, calls []*call), timeout time.Duration) *lanes {
	return &lanes{send: send, timeout: timeout, free: n, joinTo: map[share]*call{}}
}

// do carries out c, whose record carries so many successes, before the deadline. joined says that c became part of another caller's call.
func (l *lanes) do(ctx context.Context, c *call, successes int64, deadline time.Time) (reply any, joined bool, err error) {
	l.mu.Lock()
	if l.free > 0 {
		l.free--
		l.mu.Unlock()
		ctx, cancel := context.WithDeadline(ctx, deadline)
		defer cancel()
		l.send(ctx, []*call{c})
		l.release()
		return c.reply, false, c.err
	}
	in, w := l.enqueue(c, successes)
	l.mu.Unlock()
	patience := time.NewTimer(time.Until(deadline))
	defer patience.Stop()
	select {
	case <-w.done:
	case <-ctx.Done():
		return nil, false, l.leave(in, w, ctx.Err())
	case <-patience.C:
		return nil, false, l.leave(in, w, context.DeadlineExceeded)
	}
	if w.again {
		return l.do(ctx, &call{script: c.script, keys: c.keys, args: c.args}, successes, deadline) // with its own token
	}
	return w.reply, !w.first, w.err
}

// enqueue puts a caller into the queue, in a call of its own or in one that it may join.
func (l *lanes) enqueue(c *call, successes int64) (*call, *waiter) {
	w := &waiter{args: c.args, successes: successes, done: make(chan struct{})}
	if c.share != (share{}) {
		if to := l.joinTo[c.share]; to != nil {
			to.waiters = append(to.waiters, w)
			return to, w
		}
		l.joinTo[c.share] = c
	}
	w.first = true
	c.waiters = append(c.waiters, w)
	l.queue = append(l.queue, c)
	return c, w
}

// leave takes a caller that gives up out of a call that nobody has sent yet.
func (l *lanes) leave(c *call, w *waiter, cause error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.Index(l.queue, c)
	if i < 0 {
		return cause
	}
	c.waiters = slices.DeleteFunc(c.waiters, func(o *waiter) bool { return o == w })
	if len(c.waiters) == 0 {
		l.queue = slices.Delete(l.queue, i, i+1)
		if l.joinTo[c.share] == c {
			delete(l.joinTo, c.share)
		}
	} else { // the call becomes that of the next: a lease must be taken by a token that somebody has
		c.waiters[0].first = true
		c.args = c.waiters[0].args
	}
	return errors.Join(errNotSent, cause)
}

// release frees a lane, or hands it to those who wait.
func (l *lanes) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) == 0 {
		l.free++
		return
	}
	go l.drain()
}

// drain runs a lane until nobody waits.
func (l *lanes) drain() {
	for {
		batch := l.take()
		if batch == nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), l.timeout)
		l.send(ctx, batch)
		cancel()
		for _, c := range batch {
			c.tell()
		}
	}
}

// take takes what waits, and frees the lane if nothing does. From here on nobody can join or leave.
func (l *lanes) take() []*call {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := min(len(l.queue), maxShared)
	if n == 0 {
		l.free++
		return nil
	}
	batch := slices.Clone(l.queue[:n])
	l.queue = slices.Delete(l.queue, 0, n)
	for _, c := range batch {
		if l.joinTo[c.share] == c {
			delete(l.joinTo, c.share)
		}
		if c.share.epoch != "" {
			sum := int64(0)
			for _, w := range c.waiters {
				sum += w.successes
			}
			c.args[successesArg] = sum
		}
	}
	return batch
}

// tell gives all who wait their answer. An acquire that was not answered plainly is the first caller's alone: its token took the
// lease, if there was one.
func (c *call) tell() {
	list, _ := c.reply.([]any)
	forAll := c.share.verb != "acquire" || c.err != nil || len(list) == plainReply
	for _, w := range c.waiters {
		w.reply, w.err, w.again = c.reply, c.err, !forAll && !w.first
		close(w.done)
	}
}

// plainReply is the length of the short answer to an acquire: ok, closed, epoch.
const plainReply = 3

// calmReply is the length of the shortest answer to a record: ok, closed, epoch, now.
const calmReply = 4
