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

// parcel is an Item: it holds numbers, of which one record takes at most most; below zero they are urgent, below -99 critical.
type parcel struct {
	entry flush.Entry
	most  int

	mu    sync.Mutex
	holds []int
}

func (p *parcel) Entry() *flush.Entry { return &p.entry }

func (p *parcel) Records() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return (len(p.holds) + p.most - 1) / p.most
}

func (p *parcel) least() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.holds) == 0 {
		return 0
	}
	return slices.Min(p.holds)
}

func (p *parcel) Holds() (some, urgent bool) { return p.Records() > 0, p.least() < 0 }
func (p *parcel) Critical() bool             { return p.least() < -99 }

// post sends parcels, and remembers when and what.
type post struct {
	*flush.Scheduler[*parcel]

	began   time.Time
	latency time.Duration

	mu   sync.Mutex
	sent []sent
	busy map[*parcel]int
	most int // records of one parcel at once
}

type sent struct {
	parcel *parcel
	holds  []int
	at     time.Duration
}

func newPost(latency time.Duration) *post {
	p := &post{began: time.Now(), latency: latency, busy: map[*parcel]int{}}
	p.Scheduler = flush.New(interval, p.deliver)
	return p
}

func (p *post) deliver(item *parcel) {
	item.mu.Lock()
	n := min(item.most, len(item.holds))
	holds := item.holds[:n]
	item.holds = item.holds[n:]
	item.mu.Unlock()
	p.mu.Lock()
	p.sent = append(p.sent, sent{item, holds, time.Since(p.began)})
	p.busy[item]++
	p.most = max(p.most, p.busy[item])
	p.mu.Unlock()
	if p.latency > 0 {
		<-time.After(p.latency)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy[item]--
}

// put adds a number to a parcel, and enqueues it.
func (p *post) put(item *parcel, n int) {
	item.mu.Lock()
	item.holds = append(item.holds, n)
	item.mu.Unlock()
	p.Enqueue(item, n < 0)
}

// times is when the parcel's records left.
func (p *post) times(item *parcel) (at []time.Duration) {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.sent {
		if s.parcel == item {
			at = append(at, s.at)
		}
	}
	return at
}

func newParcel() *parcel { return &parcel{most: 1000} }

func TestDelayedWaitsAndUrgentDoesNot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPost(0)
		calm, bad := newParcel(), newParcel()
		p.put(calm, 1)
		p.put(bad, 1)
		p.put(bad, -1)
		<-time.After(time.Millisecond)
		p.put(bad, -2) // shares the next record with what comes within half an interval
		p.put(bad, -3)
		<-time.After(time.Millisecond)
		p.put(calm, 2)
		<-time.After(time.Second)
		if at := p.times(calm); !slices.Equal(at, []time.Duration{interval}) {
			t.Errorf("delayed: %v", at)
		}
		if at := p.times(bad); !slices.Equal(at, []time.Duration{0, interval / 2}) {
			t.Errorf("urgent: %v", at)
		}
		p.put(bad, -4)
		p.put(bad, -100)
		if at := p.times(bad); len(at) != 3 || at[2] != time.Since(p.began) {
			t.Errorf("critical: %v", at)
		}
	})
}

func TestOneRecordOfAnItemAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPost(7 * time.Millisecond)
		item := newParcel()
		for i := range 100 {
			p.put(item, []int{1, -1, -100}[i%3])
			<-time.After(time.Millisecond)
		}
		if err := p.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, s := range p.sent {
			n += len(s.holds)
		}
		if n != 100 || p.most != 1 {
			t.Errorf("%d sent of 100, %d at once", n, p.most)
		}
	})
}

func TestUrgentDoesNotWaitForThePaceOfTheDelayed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPost(0)
		const items = 20_000 // 0.4 s at 20 µs each, of which 0.1 s may be caught up
		for range items {
			p.put(newParcel(), 1)
		}
		<-time.After(interval + time.Millisecond)
		if b := p.Backlog(); b.Items < items/2 || b.Oldest < interval {
			t.Fatalf("no backlog to speak of: %+v", b)
		}
		bad := newParcel()
		p.put(bad, -1)
		if at := p.times(bad); len(at) != 1 || at[0] != time.Since(p.began) {
			t.Errorf("urgent: %v", at)
		}
		<-time.After(270 * time.Millisecond)
		if b := p.Backlog(); b.Items == 0 {
			t.Error("the delayed were not paced")
		}
		<-time.After(30 * time.Millisecond)
		if b := p.Backlog(); b != (flush.Backlog{}) {
			t.Errorf("backlog %+v", b)
		}
	})
}

// TestPushWaitsForAllThatWasHeld, in as many records as that takes, and for no more.
func TestPushWaitsForAllThatWasHeld(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const latency = time.Millisecond
		p := newPost(latency)
		item := &parcel{most: 1}
		if err := p.Push(t.Context(), item); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			p.put(item, 1)
		}
		busy, stop := context.WithCancel(t.Context())
		go func() {
			for busy.Err() == nil {
				<-time.After(latency / 2)
				p.put(item, 1)
			}
		}()
		if err := p.Push(t.Context(), item); err != nil || time.Since(p.began) != 3*latency {
			t.Errorf("three records took %v; %v", time.Since(p.began), err)
		}
		stop()
		ctx, cancel := context.WithTimeout(t.Context(), latency/2)
		defer cancel()
		if err := p.Push(ctx, item); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if err := p.Drain(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestDrainSendsAllAtOnceAndFromThenOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPost(0)
		for i := range 300 {
			p.put(newParcel(), 1-i%2*2)
		}
		if err := p.Drain(t.Context()); err != nil || time.Since(p.began) != 0 || len(p.sent) != 300 {
			t.Errorf("%d sent of 300 after %v; %v", len(p.sent), time.Since(p.began), err)
		}
		late := newParcel()
		p.put(late, 1)
		if at := p.times(late); !slices.Equal(at, []time.Duration{0}) {
			t.Errorf("after Drain: %v", at)
		}
	})
}
