package app

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/breakerd/breakerd/internal/redisdocs"
)

const (
	indexEvery  = time.Minute // an agent in use is marked as seen so often
	repairEvery = 10 * time.Minute
	taskTimeout = 30 * time.Second
)

// index keeps the index of agents in Redis: this replica's agents are in it, and now and then it is repaired from the
// keys.
type index struct {
	docs *redisdocs.Docs
	most int
	log  *slog.Logger
	wake chan struct{}

	mu      sync.Mutex
	pending map[string]struct{} // new here, and not in Redis yet
}

func newIndex(docs *redisdocs.Docs, most int, log *slog.Logger) *index {
	return &index{docs: docs, most: most, log: log, wake: make(chan struct{}, 1), pending: map[string]struct{}{}}
}

// note adds an agent that is new on this replica. It never waits.
func (x *index) note(agent string) {
	x.mu.Lock()
	if len(x.pending) < x.most {
		x.pending[agent] = struct{}{}
	}
	x.mu.Unlock()
	select {
	case x.wake <- struct{}{}:
	default:
	}
}

// drop undoes a note of an agent that was deleted.
func (x *index) drop(agent string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.pending, agent)
}

// flush writes the new agents now: a list after a call on this replica shows them.
func (x *index) flush(ctx context.Context) error {
	x.mu.Lock()
	agents := slices.Collect(maps.Keys(x.pending))
	x.mu.Unlock()
	if len(agents) == 0 {
		return nil
	}
	if err := x.docs.MarkSeen(ctx, agents); err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, a := range agents {
		delete(x.pending, a)
	}
	return nil
}

// run writes and repairs the index until ctx ends; inUse lists the agents that were used within a time.
func (x *index) run(ctx context.Context, inUse func(time.Duration) []string) {
	tick := time.NewTicker(indexEvery)
	defer tick.Stop()
	retry := time.NewTicker(time.Second)
	defer retry.Stop()
	repair := func(ctx context.Context) error { return x.docs.Repair(ctx, x.most) }
	x.try(ctx, "index of agents not repaired", repair)
	repaired := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-x.wake:
			x.try(ctx, "index of agents not written", x.flush)
		case <-retry.C:
			x.try(ctx, "index of agents not written", x.flush)
		case <-tick.C:
			used := inUse(2 * indexEvery)
			x.try(ctx, "index of agents not written", func(ctx context.Context) error { return x.docs.MarkSeen(ctx, used) })
			if time.Since(repaired) >= repairEvery {
				x.try(ctx, "index of agents not repaired", repair)
				repaired = time.Now()
			}
		}
	}
}

// try runs a task that the next round repeats.
func (x *index) try(ctx context.Context, failed string, task func(context.Context) error) {
	ctx, cancel := context.WithTimeout(ctx, taskTimeout)
	defer cancel()
	if err := task(ctx); err != nil && ctx.Err() == nil {
		x.log.Debug(failed, "error", err)
	}
}
