package replica

import (
	"context"
	"sync"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// changes hands the fleet's transitions to Options.OnStateChange, on one goroutine. Those of the store come from its
// feed, whoever made them; those that this replica makes in its memory, while the store is down, from the Manager. A
// store without a feed tells nothing of others': then all are the Manager's.
type changes struct {
	breaker.NopObserver

	hear   func(breaker.Change)
	missed func(why string)
	feed   breaker.Feed  // nil: the store has none
	began  chan struct{} // closed when no later transition is overlooked
	local  chan breaker.Change
}

var _ breaker.QuietObserver = (*changes)(nil)

// changesWaiting bounds the transitions that this replica has made, and of which a slow function was not told yet.
const changesWaiting = 1000

func newChanges(r *Replica) *changes {
	c := &changes{began: make(chan struct{}), local: make(chan breaker.Change, changesWaiting)}
	c.hear = func(change breaker.Change) {
		r.guard("OnStateChange", func() { r.o.OnStateChange(change) })
	}
	c.missed = func(why string) {
		r.log.Warn("OnStateChange may not be told of every transition", "event", "circuit_breaker.changes_missed",
			"why", why)
	}
	var store any = r.o.Store
	if r.Store != nil {
		store = r.Store
	}
	c.feed, _ = store.(breaker.Feed)
	return c
}

// Quiet implements [breaker.QuietObserver]: it needs events alone.
func (*changes) Quiet() bool { return true }

// Event implements [breaker.Observer].
func (c *changes) Event(agent string, e breaker.Event, degraded bool) {
	if !e.Transition() || c.feed != nil && !degraded {
		return
	}
	change := breaker.Change{Agent: agent, Event: e, Degraded: degraded}
	select {
	case c.local <- change:
	default:
		c.missed("it is too slow: " + agent + " is " + change.To.Upper())
	}
}

// run tells of changes until ctx ends.
func (c *changes) run(ctx context.Context) {
	all := make(chan breaker.Change)
	var following sync.WaitGroup
	defer following.Wait()
	if c.feed == nil {
		close(c.began)
	} else {
		following.Go(func() {
			c.feed.Follow(ctx, breaker.Follower{
				Event: func(agent string, e breaker.Event) {
					if !e.Transition() {
						return
					}
					select {
					case all <- breaker.Change{Agent: agent, Event: e}:
					case <-ctx.Done():
					}
				},
				Began:  func() { close(c.began) },
				Missed: c.missed,
			})
		})
	}
	for {
		select {
		case <-ctx.Done():
			return
		case change := <-all:
			c.hear(change)
		case change := <-c.local:
			c.hear(change)
		}
	}
}
