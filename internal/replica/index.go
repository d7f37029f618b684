package replica

import (
	"context"
	"log/slog"
	"time"

	"github.com/breakerd/breakerd/internal/bounded"
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
	docs      *redisdocs.Docs
	most      int
	important func(agent string) bool // it has a place in any case
	log       *slog.Logger
	wake      chan struct{}
	pending   *bounded.Map[struct{}] // new here, and not in Redis yet
}

func newIndex(docs *redisdocs.Docs, most int, important func(agent string) bool, log *slog.Logger) *index {
	class := func(agent string, _ struct{}) bounded.Class {
		if important(agent) {
			return bounded.Kept
		}
		return bounded.Harmless
	}
	return &index{
		docs: docs, most: most, important: important, log: log, wake: make(chan struct{}, 1),
		pending: bounded.New(bounded.Options[struct{}]{Max: most, Class: class}),
	}
}

// note adds an agent that is new on this replica. It never waits.
func (x *index) note(agent string) {
	x.pending.LoadOrStore(agent, struct{}{})
	select {
	case x.wake <- struct{}{}:
	default:
	}
}

// drop undoes a note of an agent that was deleted.
func (x *index) drop(agent string) { x.pending.Delete(agent) }

// flush writes the new agents now: a list after a call on this replica shows them.
func (x *index) flush(ctx context.Context) error {
	var agents []string
	for agent := range x.pending.All {
		agents = append(agents, agent)
	}
	if len(agents) == 0 {
		return nil
	}
	if err := x.docs.MarkSeen(ctx, agents); err != nil {
		return err
	}
	for _, a := range agents {
		x.pending.Delete(a)
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
	trim := func(ctx context.Context) error { return x.docs.Trim(ctx, x.important) }
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
			x.try(ctx, "index of agents not trimmed", trim)
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
