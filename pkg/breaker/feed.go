package breaker

import (
	"context"
	"fmt"
	"sync"
)

// Feed is the events of all breakers of a [Store], whichever Manager or replica caused them. [Memory] has one, as has
// the Store of package redisstore.
type Feed interface {
	// Follow hands events to f, in order, on the calling goroutine, until ctx ends. It may be called several times; each
	// call hears every event. f's panics are the caller's.
	Follow(ctx context.Context, f Follower)
}

// Follower is who hears a [Feed]. Its functions are called one at a time. A slow one delays no breaker.
type Follower struct {
	// Event is called once for each event that comes after Began, transition or not. Of an event that is no agent's,
	// agent is "-".
	Event func(agent string, e Event)
	// Began is called once, when no later event can be overlooked. nil: nobody.
	Began func()
	// Missed is called where events may be missing, between those before and those after, with the cause as a text for a
	// log. nil: nobody.
	Missed func(why string)
}

// WithDefaults returns f with nothing nil. It is for authors of stores.
func (f Follower) WithDefaults() Follower {
	if f.Event == nil {
		f.Event = func(string, Event) {}
	}
	if f.Began == nil {
		f.Began = func() {}
	}
	if f.Missed == nil {
		f.Missed = func(string) {}
	}
	return f
}

var _ Feed = (*Memory)(nil)

// Follow implements [Feed]. An event that falls due while nobody asks is caused by the next operation on its agent
// [B11]. Of a Follower's events at most 10,000 wait; of more the oldest are dropped, and Missed says how many.
func (m *Memory) Follow(ctx context.Context, f Follower) {
	if m.made() != nil {
		return
	}
	q := NewEventQueue()
	m.mu.Lock()
	m.followers[q] = struct{}{}
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.followers, q)
	}()
	f = f.WithDefaults()
	f.Began()
	q.Deliver(ctx, f)
}

// maxQueued is the length of an [EventQueue].
const maxQueued = 10_000

// EventQueue stands between a store, which must not wait, and a [Follower], which may be slow. It holds 10,000 events;
// of more the oldest are dropped. It is for authors of stores. Make it with [NewEventQueue]. It is safe for concurrent
// use.
type EventQueue struct {
	ready chan struct{} // holds one value while there may be items

	mu      sync.Mutex
	items   []waiting
	dropped int
}

// waiting is an event, or why events are missing.
type waiting struct {
	agent  string
	event  Event
	missed string
}

// NewEventQueue returns an empty EventQueue.
func NewEventQueue() *EventQueue { return &EventQueue{ready: make(chan struct{}, 1)} }

// Put appends an event. It does not block.
func (q *EventQueue) Put(agent string, e Event) { q.put(waiting{agent: agent, event: e}) }

// PutMissed appends that events may be missing here, and why. It does not block.
func (q *EventQueue) PutMissed(why string) { q.put(waiting{missed: why}) }

func (q *EventQueue) put(item waiting) {
	q.mu.Lock()
	if len(q.items) == maxQueued {
		q.items = q.items[1:]
		q.dropped++
	}
	q.items = append(q.items, item)
	q.mu.Unlock()
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// Deliver hands to f what was put, in order, until ctx ends. Missed says how many were dropped. f must be complete; see
// [Follower.WithDefaults]. One goroutine at a time may call Deliver.
func (q *EventQueue) Deliver(ctx context.Context, f Follower) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-q.ready:
		}
		q.mu.Lock()
		items, dropped := q.items, q.dropped
		q.items, q.dropped = nil, 0
		q.mu.Unlock()
		if dropped > 0 {
			f.Missed(fmt.Sprintf("%d events were dropped: more than %d waited", dropped, maxQueued))
		}
		for _, item := range items {
			switch {
			case ctx.Err() != nil:
				return
			case item.missed != "":
				f.Missed(item.missed)
			default:
				f.Event(item.agent, item.event)
			}
		}
	}
}
