package flush_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/breakerd/breakerd/pkg/breaker/internal/flush"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const interval = 10 * time.Millisecond

// fakeItem is an Item that holds numbers. A negative one is urgent, one below -99 critical. A record has perRecord of
// them.
type fakeItem struct {
	entry     flush.Entry
	perRecord int

	mu    sync.Mutex
	holds []int
}

func (i *fakeItem) Entry() *flush.Entry { return &i.entry }

func (i *fakeItem) Records() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return (len(i.holds) + i.perRecord - 1) / i.perRecord
}

func (i *fakeItem) least() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.holds) == 0 {
		return 0
	}
	return slices.Min(i.holds)
}

func (i *fakeItem) Holds() (some, urgent bool) { return i.Records() > 0, i.least() < 0 }
func (i *fakeItem) Critical() bool             { return i.least() < -99 }

// fakeStore is a Scheduler whose records it notes.
type fakeStore struct {
	*flush.Scheduler[*fakeItem]

	began   time.Time
	latency time.Duration

	mu       sync.Mutex
	records  []record
	inFlight map[*fakeItem]int
	most     int // records of one item at once
}

type record struct {
	item  *fakeItem
	holds []int
	at    time.Duration
}

func newFakeStore(latency time.Duration) *fakeStore {
	s := &fakeStore{began: time.Now(), latency: latency, inFlight: map[*fakeItem]int{}}
	s.Scheduler = flush.New(interval, s.send)
	return s
}

func (s *fakeStore) send(item *fakeItem) (after func()) {
	item.mu.Lock()
	n := min(item.perRecord, len(item.holds))
	holds := item.holds[:n]
	item.holds = item.holds[n:]
	item.mu.Unlock()
	s.mu.Lock()
	s.records = append(s.records, record{item, holds, time.Since(s.began)})
	s.inFlight[item]++
	s.most = max(s.most, s.inFlight[item])
	s.mu.Unlock()
	if s.latency > 0 {
		<-time.After(s.latency)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inFlight[item]--
	return nil
}

// add adds a number to an item, and enqueues the item.
func (s *fakeStore) add(item *fakeItem, n int) {
	item.mu.Lock()
	item.holds = append(item.holds, n)
	item.mu.Unlock()
	s.Enqueue(item, n < 0)
}

// times returns when the records of an item were sent.
func (s *fakeStore) times(item *fakeItem) (at []time.Duration) {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.records {
		if r.item == item {
			at = append(at, r.at)
		}
	}
	return at
}

func newFakeItem() *fakeItem { return &fakeItem{perRecord: 1000} }

func TestScheduler_DelayedWaitsAndUrgentDoesNot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore(0)
		calm, bad := newFakeItem(), newFakeItem()
		s.add(calm, 1)
		s.add(bad, 1)
		s.add(bad, -1)
		<-time.After(time.Millisecond)
		s.add(bad, -2) // in one record with what comes within half an interval
		s.add(bad, -3)
		<-time.After(time.Millisecond)
		s.add(calm, 2)
		<-time.After(time.Second)
		if at := s.times(calm); !slices.Equal(at, []time.Duration{interval}) {
			t.Errorf("delayed: %v", at)
		}
		if at := s.times(bad); !slices.Equal(at, []time.Duration{0, interval / 2}) {
			t.Errorf("urgent: %v", at)
		}
		s.add(bad, -4)
		s.add(bad, -100)
		if at := s.times(bad); len(at) != 3 || at[2] != time.Since(s.began) {
			t.Errorf("critical: %v", at)
		}
	})
}

func TestScheduler_SendsOneRecordOfAnItemAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore(7 * time.Millisecond)
		item := newFakeItem()
		for i := range 100 {
			s.add(item, []int{1, -1, -100}[i%3])
			<-time.After(time.Millisecond)
		}
		if err := s.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, r := range s.records {
			n += len(r.holds)
		}
		if n != 100 || s.most != 1 {
			t.Errorf("%d sent of 100, %d at once", n, s.most)
		}
	})
}

func TestScheduler_PacesOnlyDelayedRecords(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore(0)
		const items = 20_000 // 0.4 s at 20 µs each, of which 0.1 s may be caught up
		for range items {
			s.add(newFakeItem(), 1)
		}
		<-time.After(interval + time.Millisecond)
		if b := s.Backlog(func(*fakeItem) {}); b.Items < items/2 || b.Oldest < interval {
			t.Fatalf("no backlog to speak of: %+v", b)
		}
		bad := newFakeItem()
		s.add(bad, -1)
		if at := s.times(bad); len(at) != 1 || at[0] != time.Since(s.began) {
			t.Errorf("urgent: %v", at)
		}
		<-time.After(270 * time.Millisecond)
		if b := s.Backlog(func(*fakeItem) {}); b.Items == 0 {
			t.Error("the delayed were not paced")
		}
		<-time.After(30 * time.Millisecond)
		if b := s.Backlog(func(*fakeItem) {}); b != (flush.Backlog{}) {
			t.Errorf("backlog %+v", b)
		}
	})
}

// Push does not wait for what is added after it was called.
func TestScheduler_PushWaitsForAllThatTheItemHeld(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const latency = time.Millisecond
		s := newFakeStore(latency)
		item := &fakeItem{perRecord: 1}
		if err := s.Push(t.Context(), item); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			s.add(item, 1)
		}
		busy, stop := context.WithCancel(t.Context())
		go func() {
			for busy.Err() == nil {
				<-time.After(latency / 2)
				s.add(item, 1)
			}
		}()
		if err := s.Push(t.Context(), item); err != nil || time.Since(s.began) != 3*latency {
			t.Errorf("three records took %v; %v", time.Since(s.began), err)
		}
		stop()
		ctx, cancel := context.WithTimeout(t.Context(), latency/2)
		defer cancel()
		if err := s.Push(ctx, item); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if err := s.Drain(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestScheduler_DrainSendsAtOnceFromThenOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore(0)
		for i := range 300 {
			s.add(newFakeItem(), 1-i%2*2)
		}
		if err := s.Drain(t.Context()); err != nil || time.Since(s.began) != 0 || len(s.records) != 300 {
			t.Errorf("%d sent of 300 after %v; %v", len(s.records), time.Since(s.began), err)
		}
		late := newFakeItem()
		s.add(late, 1)
		if at := s.times(late); !slices.Equal(at, []time.Duration{0}) {
			t.Errorf("after Drain: %v", at)
		}
	})
}
