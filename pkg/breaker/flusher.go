package breaker

import (
	"container/heap"
	"context"
	"sync"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// flusher sends what cells hold to the store in the background: successes an interval after the first, failures at once, at most
// one record an agent at a time. It runs goroutines only while there is something to send.
type flusher struct {
	m        *Manager
	interval time.Duration

	mu      sync.Mutex
	hasty   dueHeap             // failures, and what somebody waits for
	waiting dueHeap             // successes
	flying  map[*cell]time.Time // records under way, and when their first outcome came
	running bool                // the dispatcher
	wake    chan struct{}       // the head of a heap may have changed
	slots   chan struct{}       // bounds the records under way
	paced   time.Time           // when the next record of successes may go
	hurry   bool                // Close: nothing waits
	settled *sync.Cond          // something has been sent
}

// queued is a cell's place in the flusher, under its mu.
type queued struct {
	index int      // in the heap, from 1; 0: not there
	in    *dueHeap // the heap
	due   time.Time
	since time.Time // when its first outcome came, or a little before
	sent  time.Time // when its last record left

	records int // sent so far
	pushes  int // who waits for all that it holds
}

const (
	// maxFlying records are under way at once: twice what the store's lanes carry, so that the next trip is full too.
	maxFlying = 128
	// paceGap bounds the records of successes to 50,000 a second and process, so that many busy agents leave Redis, which needs
	// about 10 µs for one, half its time (docs/capacity.md). Failures do not wait for it.
	paceGap = 20 * time.Microsecond
	// paceSlack is how far behind its pace the flusher may catch up at once, for timers are coarse.
	paceSlack = 100 * time.Millisecond
)

func newFlusher(m *Manager, interval time.Duration) *flusher {
	f := &flusher{
		m: m, interval: interval, flying: map[*cell]time.Time{}, wake: make(chan struct{}, 1), slots: make(chan struct{}, maxFlying),
	}
	f.settled = sync.NewCond(&f.mu)
	return f
}

// enqueue sees to it that c is sent: with urgent soon, else after the interval.
func (f *flusher) enqueue(c *cell, urgent bool) {
	c = c.at.home(c)
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.flying[c]; ok { // send looks at it again
		return
	}
	now := time.Now()
	f.queueLocked(c, urgent, now, now)
}

// queueLocked puts c in its place. What would trip the breaker goes at once, and so does the first failure after a pause; more
// failures share a record each half interval, so that an agent that fails often costs no more than that.
func (f *flusher) queueLocked(c *cell, urgent bool, now, since time.Time) {
	q := &c.queue
	in, due := &f.waiting, now.Add(f.interval)
	switch {
	case f.hurry || q.pushes > 0 || urgent && c.trips(c.holds()):
		in, due = &f.hasty, time.Time{}
	case urgent:
		in, due = &f.hasty, q.sent.Add(f.interval/2)
	}
	switch {
	case q.index == 0:
		q.since = since
	case q.in == in && !due.Before(q.due) || q.in == &f.hasty && in == &f.waiting:
		return
	default:
		heap.Remove(q.in, q.index-1)
	}
	q.in, q.due = in, due
	heap.Push(in, c)
	switch {
	case !f.running:
		f.running = true
		go f.dispatch()
	case q.index == 1:
		f.rouse()
	}
}

// rouse makes the dispatcher look again.
func (f *flusher) rouse() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// dispatch hands cells out as they fall due, and ends when none waits.
func (f *flusher) dispatch() {
	for {
		f.slots <- struct{}{}
		c, wait := f.next(time.Now())
		if c != nil {
			go f.send(c)
			continue
		}
		<-f.slots
		if wait < 0 {
			return
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-f.wake:
			t.Stop()
		}
	}
}

// next takes a cell that is due, or says how long none will be; below zero: there is none.
func (f *flusher) next(now time.Time) (c *cell, wait time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.hasty)+len(f.waiting) == 0 {
		f.running = false
		return nil, -1
	}
	from := &f.hasty
	wait, paced := from.until(now), f.waiting.until(now)
	if paced <= 0 {
		paced = f.paced.Sub(now)
	}
	if wait > 0 && paced > 0 {
		return nil, min(wait, paced)
	}
	if wait > 0 {
		from = &f.waiting
		if f.paced.Before(now.Add(-paceSlack)) {
			f.paced = now.Add(-paceSlack)
		}
		f.paced = f.paced.Add(paceGap)
	}
	c = heap.Pop(from).(*cell) //nolint:forcetypeassert,errcheck // nothing else is pushed
	c.queue.sent = now
	f.flying[c] = c.queue.since
	return c, 0
}

// send records what c holds, and queues it again if more has come.
func (f *flusher) send(c *cell) {
	f.m.flush(c)
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.flying, c)
	c.queue.records++
	<-f.slots
	if more := c.holds(); more != (machine.Summary{}) {
		f.queueLocked(c, more.Failures+more.Slow > 0, time.Now(), c.queue.sent)
	}
	f.settled.Broadcast()
}

// drain sends everything now, and from now on at once; it waits until ctx ends.
func (f *flusher) drain(ctx context.Context) error {
	f.mu.Lock()
	f.hurry = true
	for len(f.waiting) > 0 {
		f.queueLocked(f.waiting[len(f.waiting)-1], true, time.Now(), time.Time{})
	}
	for _, c := range f.hasty { // all are due now: any order is a heap
		c.queue.due = time.Time{}
	}
	f.mu.Unlock()
	return f.await(ctx, func() bool { return len(f.hasty)+len(f.waiting)+len(f.flying) == 0 })
}

// push sends what c holds now, and waits for it until ctx ends.
func (f *flusher) push(ctx context.Context, c *cell) error {
	q := &c.queue
	f.mu.Lock()
	_, flies := f.flying[c]
	if q.index == 0 && !flies {
		f.mu.Unlock()
		return nil
	}
	q.pushes++
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		q.pushes--
	}()
	enough := q.records + max(c.records(), 1)
	if flies { // what has come since it left goes with the next
		enough++
	} else {
		f.queueLocked(c, true, time.Now(), q.since)
	}
	f.mu.Unlock()
	return f.await(ctx, func() bool {
		_, flies := f.flying[c]
		return q.index == 0 && !flies || q.records >= enough
	})
}

// await wakes the dispatcher, and waits until done, which is asked under mu whenever something has been sent.
func (f *flusher) await(ctx context.Context, done func() bool) error {
	stop := context.AfterFunc(ctx, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.settled.Broadcast()
	})
	defer stop()
	f.rouse()
	f.mu.Lock()
	defer f.mu.Unlock()
	for !done() {
		if err := ctx.Err(); err != nil {
			return err
		}
		f.settled.Wait()
	}
	return nil
}

// Unsent is what a Manager in cached mode has not yet sent to the store.
type Unsent struct {
	Agents int           // with outcomes that wait or are on their way
	Oldest time.Duration // how long the longest of them has waited, give or take one record's time
}

// unsent looks at what is due first, and at what is on its way.
func (f *flusher) unsent() Unsent {
	f.mu.Lock()
	defer f.mu.Unlock()
	u := Unsent{Agents: len(f.hasty) + len(f.waiting) + len(f.flying)}
	var oldest time.Time
	older := func(t time.Time) {
		if oldest.IsZero() || t.Before(oldest) {
			oldest = t
		}
	}
	for _, h := range []dueHeap{f.hasty, f.waiting} { // who is due first has waited longest, but for what came during a record
		if len(h) > 0 {
			older(h[0].queue.since)
		}
	}
	for _, t := range f.flying {
		older(t)
	}
	if u.Agents > 0 {
		u.Oldest = time.Since(oldest)
	}
	return u
}

// dueHeap has the cell that is due first at its head.
type dueHeap []*cell

// until is how long none is due.
func (h dueHeap) until(now time.Time) time.Duration {
	if len(h) == 0 {
		return time.Hour
	}
	return h[0].queue.due.Sub(now)
}

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].queue.due.Before(h[j].queue.due) }

func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].queue.index, h[j].queue.index = i+1, j+1
}

// Push implements heap.Interface.
func (h *dueHeap) Push(x any) {
	c := x.(*cell) //nolint:forcetypeassert,errcheck // nothing else is pushed
	*h = append(*h, c)
	c.queue.index = len(*h)
}

// Pop implements heap.Interface.
func (h *dueHeap) Pop() any {
	n := len(*h) - 1
	c := (*h)[n]
	(*h)[n] = nil
	*h = (*h)[:n]
	c.queue.index = 0
	return c
}
