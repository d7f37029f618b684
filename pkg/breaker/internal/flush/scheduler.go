// Package flush schedules the sending of what many items hold, in the background. Urgent items are sent at once, others
// after an interval and at a bounded rate. Of one item, one record is sent at a time. The package does not know what a
// record is.
package flush

import (
	"container/heap"
	"context"
	"sync"
	"time"
)

// Item is something that is sent in records. Its methods are called while the Scheduler's lock is held: they must be
// fast, and must not call the Scheduler.
type Item interface {
	comparable

	// Entry returns the same pointer each time.
	Entry() *Entry
	// Records returns how many records it takes to send all that the item holds.
	Records() int
	// Holds reports whether the item holds anything, and whether any of it is urgent.
	Holds() (some, urgent bool)
	// Critical reports whether the item must be sent before all that is only urgent.
	Critical() bool
}

// Entry is the state of an item in its Scheduler, and guarded by the Scheduler's lock. The zero value is ready for use.
type Entry struct {
	index int       // in its heap, from 1; 0: in none
	queue queue     // the heap, if index > 0
	due   time.Time // when the item is to be sent
	since time.Time // when the oldest of what waits came, or a little before
	sent  time.Time // when the last record was sent

	records int // that were sent
	pushers int // callers of Push that wait
}

// queue is the index of a heap.
type queue uint8

const (
	delayed queue = iota
	urgent
)

// Scheduler calls send for each item that holds something. It is safe for concurrent use, and has goroutines only while
// there is something to send.
type Scheduler[T Item] struct {
	send     func(T) (after func())
	interval time.Duration

	mu          sync.Mutex
	heaps       [2]dueHeap[T]   // by queue
	inFlight    map[T]time.Time // items of which a record is being sent, with Entry.since of that record
	dispatching bool            // the dispatcher runs
	wake        chan struct{}   // wakes the dispatcher: the head of a heap may have changed
	slots       chan struct{}   // bounds inFlight
	nextDelayed time.Time       // when the next delayed record may be sent
	draining    bool            // everything is urgent
	afters      int             // that run
	landed      *sync.Cond      // a record was sent, or what came after it has ended
}

const (
	// maxInFlight is how many records the store's connections carry at once.
	maxInFlight = 128
	// paceGap bounds delayed records to 50,000 a second. Redis needs about 10 µs for one, so many busy items leave it
	// half its time (docs/capacity.md). Urgent records are not bounded.
	paceGap = 20 * time.Microsecond
	// maxCatchUp is how much of the pace may be made up for at once, for timers are coarse.
	maxCatchUp = 100 * time.Millisecond
)

// New returns a Scheduler. send sends one record of an item, and may block. What it returns is called once the record
// is no longer in flight, so it may call the Scheduler for the same item; nil: nothing. interval is how long an item
// waits that is not urgent.
func New[T Item](interval time.Duration, send func(T) (after func())) *Scheduler[T] {
	s := &Scheduler[T]{
		send: send, interval: interval, inFlight: map[T]time.Time{},
		wake: make(chan struct{}, 1), slots: make(chan struct{}, maxInFlight),
	}
	s.landed = sync.NewCond(&s.mu)
	return s
}

// Enqueue schedules item, which holds something; soon: something urgent.
func (s *Scheduler[T]) Enqueue(item T, soon bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.inFlight[item]; ok { // sendOne will schedule it again
		return
	}
	now := time.Now()
	s.schedule(item, soon, now, now)
}

// schedule puts item into the right heap, or moves it to an earlier place. A critical item is due at once. An urgent
// one is due half an interval after its last record: at once after a pause, and two records an interval if it is always
// urgent. Callers hold mu.
func (s *Scheduler[T]) schedule(item T, soon bool, now, since time.Time) {
	e := item.Entry()
	queue, due := delayed, now.Add(s.interval)
	switch {
	case s.draining || e.pushers > 0 || soon && item.Critical():
		queue, due = urgent, time.Time{}
	case soon:
		queue, due = urgent, e.sent.Add(s.interval/2)
	}
	switch {
	case e.index == 0:
		e.since = since
	case e.queue == queue && !due.Before(e.due) || e.queue == urgent && queue == delayed:
		return
	default:
		heap.Remove(&s.heaps[e.queue], e.index-1)
	}
	e.queue, e.due = queue, due
	heap.Push(&s.heaps[queue], item)
	switch {
	case !s.dispatching:
		s.dispatching = true
		go s.dispatch()
	case e.index == 1:
		s.wakeDispatcher()
	}
}

func (s *Scheduler[T]) wakeDispatcher() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// dispatch sends items when they are due, until none is left.
func (s *Scheduler[T]) dispatch() {
	for {
		s.slots <- struct{}{}
		item, wait := s.next(time.Now())
		if wait == 0 {
			go s.sendOne(item)
			continue
		}
		<-s.slots
		if wait < 0 {
			return
		}
		select {
		case <-time.After(wait):
		case <-s.wake:
		}
	}
}

// next removes an item that is due and returns it with a wait of 0. If no item is due, wait is the time until one may
// be. A negative wait means that there are no items.
func (s *Scheduler[T]) next(now time.Time) (item T, wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.heaps[urgent])+len(s.heaps[delayed]) == 0 {
		s.dispatching = false
		return item, -1
	}
	from := urgent
	wait, delayedWait := s.heaps[urgent].until(now), s.heaps[delayed].until(now)
	if delayedWait <= 0 {
		delayedWait = s.nextDelayed.Sub(now)
	}
	if wait > 0 && delayedWait > 0 {
		return item, min(wait, delayedWait)
	}
	if wait > 0 {
		from = delayed
		if s.nextDelayed.Before(now.Add(-maxCatchUp)) {
			s.nextDelayed = now.Add(-maxCatchUp)
		}
		s.nextDelayed = s.nextDelayed.Add(paceGap)
	}
	item = heap.Pop(&s.heaps[from]).(T) //nolint:forcetypeassert,errcheck // nothing else is pushed
	e := item.Entry()
	e.sent = now
	s.inFlight[item] = e.since
	return item, 0
}

// sendOne sends one record of item, and schedules item again if it holds more.
func (s *Scheduler[T]) sendOne(item T) {
	after := s.send(item)
	s.land(item, after != nil)
	if after == nil {
		return
	}
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.afters--
		s.landed.Broadcast()
	}()
	after()
}

func (s *Scheduler[T]) land(item T, more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.inFlight, item)
	e := item.Entry()
	e.records++
	if more {
		s.afters++
	}
	<-s.slots
	if some, soon := item.Holds(); some {
		s.schedule(item, soon, time.Now(), e.sent)
	}
	s.landed.Broadcast()
}

// Drain sends everything, and waits until it is sent, and what comes after that has ended, or until ctx ends. From then
// on every item is urgent.
func (s *Scheduler[T]) Drain(ctx context.Context) error {
	s.mu.Lock()
	s.draining = true
	for h := s.heaps[delayed]; len(h) > 0; h = s.heaps[delayed] {
		s.schedule(h[len(h)-1], true, time.Now(), time.Time{})
	}
	for _, item := range s.heaps[urgent] { // all have the same due time, so the heap stays one
		item.Entry().due = time.Time{}
	}
	s.mu.Unlock()
	return s.wait(ctx, func() bool { return s.items()+s.afters == 0 })
}

// items returns how many items wait or are in flight. Callers hold mu.
func (s *Scheduler[T]) items() int {
	return len(s.heaps[urgent]) + len(s.heaps[delayed]) + len(s.inFlight)
}

// Push sends what item holds now, and waits until it is sent or ctx ends.
func (s *Scheduler[T]) Push(ctx context.Context, item T) error {
	e := item.Entry()
	s.mu.Lock()
	_, flying := s.inFlight[item]
	if e.index == 0 && !flying {
		s.mu.Unlock()
		return nil
	}
	e.pushers++
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		e.pushers--
	}()
	enough := e.records + max(item.Records(), 1)
	if flying { // the record in flight may not have the newest outcomes
		enough++
	} else {
		s.schedule(item, true, time.Now(), e.since)
	}
	s.mu.Unlock()
	return s.wait(ctx, func() bool {
		_, flying := s.inFlight[item]
		return e.index == 0 && !flying || e.records >= enough
	})
}

// wait waits until done, which is called under mu after each record, returns true, or ctx ends.
func (s *Scheduler[T]) wait(ctx context.Context, done func() bool) error {
	stop := context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.landed.Broadcast()
	})
	defer stop()
	s.wakeDispatcher()
	s.mu.Lock()
	defer s.mu.Unlock()
	for !done() {
		if err := ctx.Err(); err != nil {
			return err
		}
		s.landed.Wait()
	}
	return nil
}

// Backlog describes what was not sent yet.
type Backlog struct {
	Items  int           // that wait, or are in flight
	Oldest time.Duration // how long the oldest of what they hold has waited, to within the duration of one record
}

// Backlog returns the current backlog. It calls each for every item of it, under the Scheduler's lock.
func (s *Scheduler[T]) Backlog(each func(T)) Backlog {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := Backlog{Items: s.items()}
	var oldest time.Time
	note := func(t time.Time) {
		if oldest.IsZero() || t.Before(oldest) {
			oldest = t
		}
	}
	for _, h := range s.heaps { // the item that is due first has waited longest, but for an earlier record's duration
		if len(h) > 0 {
			note(h[0].Entry().since)
		}
		for _, item := range h {
			each(item)
		}
	}
	for item, t := range s.inFlight {
		note(t)
		each(item)
	}
	if b.Items > 0 {
		b.Oldest = time.Since(oldest)
	}
	return b
}

// dueHeap has the item that is due first at its head. It implements heap.Interface, and keeps Entry.index.
type dueHeap[T Item] []T

// until returns the time until an item is due.
func (h dueHeap[T]) until(now time.Time) time.Duration {
	if len(h) == 0 {
		return time.Hour
	}
	return h[0].Entry().due.Sub(now)
}

func (h dueHeap[T]) Len() int           { return len(h) }
func (h dueHeap[T]) Less(i, j int) bool { return h[i].Entry().due.Before(h[j].Entry().due) }

func (h dueHeap[T]) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].Entry().index, h[j].Entry().index = i+1, j+1
}

// Push implements heap.Interface.
func (h *dueHeap[T]) Push(x any) {
	item := x.(T) //nolint:forcetypeassert,errcheck // nothing else is pushed
	*h = append(*h, item)
	item.Entry().index = len(*h)
}

// Pop implements heap.Interface.
func (h *dueHeap[T]) Pop() any {
	n := len(*h) - 1
	item := (*h)[n]
	var none T
	(*h)[n] = none
	*h = (*h)[:n]
	item.Entry().index = 0
	return item
}
