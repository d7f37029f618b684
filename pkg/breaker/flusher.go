package breaker

import (
	"container/heap"
	"context"
	"sync"
	"time"
)

// flusher sends what cells hold to the store in the background: successes an interval after the first, failures at once, at most
// one record an agent at a time. It runs goroutines only while there is something to send.
type flusher struct {
	m        *Manager
	interval time.Duration

	mu      sync.Mutex
	waiting dueHeap
	flying  map[*cell]time.Time // records under way, and when their first outcome came
	running bool                // the dispatcher
	wake    chan struct{}       // the head of waiting may have changed
	slots   chan struct{}       // bounds the records under way
	paced   time.Time           // when the next record of successes may go
	hurry   bool                // Close: nothing waits
	settled *sync.Cond          // something has been sent
}

// queued is a cell's place in the flusher, under its mu.
type queued struct {
	index  int // in waiting, from 1; 0: not there
	due    time.Time
	since  time.Time // when its first outcome came
	urgent bool
	sent   time.Time // when its last record left

	records int // sent so far
	pushes  int // who waits for all that it holds
}

const (
	// maxFlying records are under way at once: what two full pipelines hold.
	maxFlying = 64
	// paceGap bounds the records of successes to 50,000 a second and process, so that many busy agents leave Redis, which needs
	// about 10 µs for one, half its time (docs/capacity.md). Failures do not wait for it.
	paceGap = 20 * time.Microsecond
	// paceSlack is how far behind its pace the flusher may catch up at once, for timers are coarse.
	paceSlack = 5 * time.Millisecond
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
	if _, ok := f.flying[c]; ok { // done looks at it again
		return
	}
	f.queueLocked(c, urgent, time.Now())
}

// queueLocked puts c in its place. What would trip the breaker goes at once, and so does the first failure after a pause; more
// failures share a record each half interval, so that an agent that fails often costs no more than that.
func (f *flusher) queueLocked(c *cell, urgent bool, now time.Time) {
	q := &c.queue
	due := now.Add(f.interval)
	switch {
	case f.hurry || q.pushes > 0 || urgent && c.trips(c.holds()):
		due = now
	case urgent:
		due = q.sent.Add(f.interval / 2)
	}
	switch {
	case q.index == 0:
		q.due, q.since, q.urgent = due, now, urgent
		heap.Push(&f.waiting, c)
	case due.Before(q.due) || urgent && !q.urgent:
		q.due, q.urgent = due, urgent
		heap.Fix(&f.waiting, q.index-1)
	default:
		return
	}
	if !f.running {
		f.running = true
		go f.dispatch()
	} else if q.index == 1 {
		select {
		case f.wake <- struct{}{}:
		default:
		}
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

// next takes the first cell that is due, or says how long none will be; below zero: there is none.
func (f *flusher) next(now time.Time) (c *cell, wait time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.waiting) == 0 {
		f.running = false
		return nil, -1
	}
	c = f.waiting[0]
	if wait = c.queue.due.Sub(now); wait > 0 {
		return nil, wait
	}
	if !c.queue.urgent && c.queue.pushes == 0 && !f.hurry {
		if wait = f.paced.Sub(now); wait > 0 {
			return nil, wait
		}
		if f.paced.Before(now.Add(-paceSlack)) {
			f.paced = now.Add(-paceSlack)
		}
		f.paced = f.paced.Add(paceGap)
	}
	heap.Pop(&f.waiting)
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
	if more := c.holds(); more != (Summary{}) {
		f.queueLocked(c, more.Failures+more.Slow > 0, time.Now())
	}
	f.settled.Broadcast()
}

// drain sends everything now, and from now on at once; it waits until ctx ends.
func (f *flusher) drain(ctx context.Context) error {
	f.mu.Lock()
	f.hurry = true
	for _, c := range f.waiting { // all are due now: any order is a heap
		c.queue.due = time.Time{}
	}
	f.mu.Unlock()
	return f.await(ctx, func() bool { return len(f.waiting)+len(f.flying) == 0 })
}

// push sends what c holds now, and waits for it until ctx ends.
func (f *flusher) push(ctx context.Context, c *cell) error {
	q := &c.queue
	f.mu.Lock()
	q.pushes++
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		q.pushes--
	}()
	enough := q.records + 1
	if q.index > 0 {
		q.due, q.urgent = time.Time{}, true
		heap.Fix(&f.waiting, q.index-1)
	} else if _, flies := f.flying[c]; flies { // what has come since it left goes with the next
		enough++
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
	select {
	case f.wake <- struct{}{}:
	default:
	}
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
	Oldest time.Duration // how long the longest of them has waited
}

// unsent looks at everything that waits.
func (f *flusher) unsent() Unsent {
	f.mu.Lock()
	defer f.mu.Unlock()
	u := Unsent{Agents: len(f.waiting) + len(f.flying)}
	var oldest time.Time
	older := func(t time.Time) {
		if oldest.IsZero() || t.Before(oldest) {
			oldest = t
		}
	}
	for _, c := range f.waiting {
		older(c.queue.since)
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
