// Package flush sends what many items hold, in the background and paced: what is urgent at once, the rest an interval later, at
// most one record of an item at a time. It does not know what a record is.
package flush

import (
	"container/heap"
	"context"
	"sync"
	"time"
)

// Item holds something that is sent in records. Its methods are called with a Scheduler's lock held: they are quick, and do not
// call the Scheduler.
type Item interface {
	comparable

	// Entry is the item's place in the Scheduler: always the same pointer.
	Entry() *Entry
	// Records is how many records it takes to send what the item holds.
	Records() int
	// Holds says whether the item holds anything, and whether any of that is urgent.
	Holds() (some, urgent bool)
	// Critical says whether what the item holds must not wait at all.
	Critical() bool
}

// Entry is an item's place in a Scheduler, under the Scheduler's lock. The zero value is ready for use.
type Entry struct {
	index int  // in its heap, from 1; 0: in none
	where list // the heap, where index > 0
	due   time.Time
	since time.Time // when the first of what waits came, or a little before
	sent  time.Time // when the last record left

	records int // sent so far
	pushes  int // who waits for all that the item holds
}

// list names one of the two heaps.
type list uint8

const (
	delayed list = iota
	urgent
)

// Scheduler calls send for each item that holds something. It is safe for concurrent use, and runs goroutines only while there is
// something to send.
type Scheduler[T Item] struct {
	send     func(T)
	interval time.Duration

	mu       sync.Mutex
	heaps    [2]dueHeap[T]   // by list
	inFlight map[T]time.Time // records under way, and when the first of what they hold came
	running  bool            // the dispatcher
	wake     chan struct{}   // the head of a heap may have changed
	slots    chan struct{}   // bounds the records under way
	paced    time.Time       // when the next delayed record may go
	draining bool            // nothing waits
	settled  *sync.Cond      // something has been sent
}

const (
	// maxInFlight records are under way at once: what the store's lanes carry.
	maxInFlight = 128
	// paceGap bounds the delayed records to 50,000 a second, so that many busy items leave Redis, which needs about 10 µs for
	// one, half its time (docs/capacity.md). Urgent ones do not wait for it.
	paceGap = 20 * time.Microsecond
	// paceSlack is how far behind its pace the Scheduler may catch up at once, for timers are coarse.
	paceSlack = 100 * time.Millisecond
)

// New makes a Scheduler. send sends one record of what an item holds, and may take its time. interval is how long what is not
// urgent waits.
func New[T Item](interval time.Duration, send func(T)) *Scheduler[T] {
	s := &Scheduler[T]{
		send: send, interval: interval, inFlight: map[T]time.Time{}, wake: make(chan struct{}, 1), slots: make(chan struct{}, maxInFlight),
	}
	s.settled = sync.NewCond(&s.mu)
	return s
}

// Enqueue sees to it that what item holds is sent: soon, or after the interval.
func (s *Scheduler[T]) Enqueue(item T, soon bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.inFlight[item]; ok { // fly looks at it again
		return
	}
	now := time.Now()
	s.place(item, soon, now, now)
}

// place puts item where it belongs; under mu. What is critical goes at once, and so does the first urgent outcome after a pause; more of
// them share a record each half interval, so that an item that is often urgent costs no more than that.
func (s *Scheduler[T]) place(item T, soon bool, now, since time.Time) {
	e := item.Entry()
	where, due := delayed, now.Add(s.interval)
	switch {
	case s.draining || e.pushes > 0 || soon && item.Critical():
		where, due = urgent, time.Time{}
	case soon:
		where, due = urgent, e.sent.Add(s.interval/2)
	}
	switch {
	case e.index == 0:
		e.since = since
	case e.where == where && !due.Before(e.due) || e.where == urgent && where == delayed:
		return
	default:
		heap.Remove(&s.heaps[e.where], e.index-1)
	}
	e.where, e.due = where, due
	heap.Push(&s.heaps[where], item)
	switch {
	case !s.running:
		s.running = true
		go s.dispatch()
	case e.index == 1:
		s.rouse()
	}
}

// rouse makes the dispatcher look again.
func (s *Scheduler[T]) rouse() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// dispatch hands items out as they fall due, and ends when none waits.
func (s *Scheduler[T]) dispatch() {
	for {
		s.slots <- struct{}{}
		item, wait := s.next(time.Now())
		if wait == 0 {
			go s.fly(item)
			continue
		}
		<-s.slots
		if wait < 0 {
			return
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-s.wake:
			t.Stop()
		}
	}
}

// next takes an item that is due (wait is 0), or says how long none will be; below zero: there is none.
func (s *Scheduler[T]) next(now time.Time) (item T, wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.heaps[urgent])+len(s.heaps[delayed]) == 0 {
		s.running = false
		return item, -1
	}
	from := urgent
	wait, paced := s.heaps[urgent].until(now), s.heaps[delayed].until(now)
	if paced <= 0 {
		paced = s.paced.Sub(now)
	}
	if wait > 0 && paced > 0 {
		return item, min(wait, paced)
	}
	if wait > 0 {
		from = delayed
		if s.paced.Before(now.Add(-paceSlack)) {
			s.paced = now.Add(-paceSlack)
		}
		s.paced = s.paced.Add(paceGap)
	}
	item = heap.Pop(&s.heaps[from]).(T) //nolint:forcetypeassert,errcheck // nothing else is pushed
	e := item.Entry()
	e.sent = now
	s.inFlight[item] = e.since
	return item, 0
}

// fly sends a record of what item holds, and places it again if more has come.
func (s *Scheduler[T]) fly(item T) {
	s.send(item)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.inFlight, item)
	e := item.Entry()
	e.records++
	<-s.slots
	if some, soon := item.Holds(); some {
		s.place(item, soon, time.Now(), e.sent)
	}
	s.settled.Broadcast()
}

// Drain sends everything now, and from now on at once; it waits until ctx ends.
func (s *Scheduler[T]) Drain(ctx context.Context) error {
	s.mu.Lock()
	s.draining = true
	for h := s.heaps[delayed]; len(h) > 0; h = s.heaps[delayed] {
		s.place(h[len(h)-1], true, time.Now(), time.Time{})
	}
	for _, item := range s.heaps[urgent] { // all are due now: any order is a heap
		item.Entry().due = time.Time{}
	}
	s.mu.Unlock()
	return s.await(ctx, func() bool { return s.items() == 0 })
}

// items is how many wait, or are under way.
func (s *Scheduler[T]) items() int {
	return len(s.heaps[urgent]) + len(s.heaps[delayed]) + len(s.inFlight)
}

// Push sends what item holds now, and waits for it until ctx ends.
func (s *Scheduler[T]) Push(ctx context.Context, item T) error {
	e := item.Entry()
	s.mu.Lock()
	_, flies := s.inFlight[item]
	if e.index == 0 && !flies {
		s.mu.Unlock()
		return nil
	}
	e.pushes++
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		e.pushes--
	}()
	enough := e.records + max(item.Records(), 1)
	if flies { // what has come since it left goes with the next
		enough++
	} else {
		s.place(item, true, time.Now(), e.since)
	}
	s.mu.Unlock()
	return s.await(ctx, func() bool {
		_, flies := s.inFlight[item]
		return e.index == 0 && !flies || e.records >= enough
	})
}

// await wakes the dispatcher, and waits until done, which is asked under mu whenever something has been sent.
func (s *Scheduler[T]) await(ctx context.Context, done func() bool) error {
	stop := context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.settled.Broadcast()
	})
	defer stop()
	s.rouse()
	s.mu.Lock()
	defer s.mu.Unlock()
	for !done() {
		if err := ctx.Err(); err != nil {
			return err
		}
		s.settled.Wait()
	}
	return nil
}

// Backlog is what has not been sent yet.
type Backlog struct {
	Items  int           // that wait, or are under way
	Oldest time.Duration // how long the longest of them has waited, give or take one record's time
}

// Backlog looks at what is due first, and at what is under way.
func (s *Scheduler[T]) Backlog() Backlog {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := Backlog{Items: s.items()}
	var oldest time.Time
	older := func(t time.Time) {
		if oldest.IsZero() || t.Before(oldest) {
			oldest = t
		}
	}
	for _, h := range s.heaps { // who is due first has waited longest, but for what came while its record was under way
		if len(h) > 0 {
			older(h[0].Entry().since)
		}
	}
	for _, t := range s.inFlight {
		older(t)
	}
	if b.Items > 0 {
		b.Oldest = time.Since(oldest)
	}
	return b
}
