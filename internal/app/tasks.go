package app

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/breakerd/breakerd/internal/policycache"
	"github.com/breakerd/breakerd/internal/redisdocs"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// indexer tells the index of agents whom this replica serves, and mends it from the keys now and then.
type indexer struct {
	docs *redisdocs.Docs
	most int
	log  *slog.Logger
	wake chan struct{}

	mu      sync.Mutex
	pending map[string]struct{} // new here, and not in the index yet
}

const (
	indexEvery  = time.Minute // an agent in use is marked as seen so often
	repairEvery = 10 * time.Minute
	taskTimeout = 30 * time.Second
)

func newIndexer(docs *redisdocs.Docs, most int, log *slog.Logger) *indexer {
	return &indexer{docs: docs, most: most, log: log, wake: make(chan struct{}, 1), pending: map[string]struct{}{}}
}

// note takes an agent that this replica meets for the first time; it never waits.
func (x *indexer) note(agent string) {
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

// drop takes back a note of an agent that is gone.
func (x *indexer) drop(agent string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.pending, agent)
}

// flush writes the new agents now, so that who lists agents after a call on this replica sees them.
func (x *indexer) flush(ctx context.Context) error {
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

func (x *indexer) run(ctx context.Context, inUse func(time.Duration) []string) {
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

// try does a task whose failure the next round mends.
func (x *indexer) try(ctx context.Context, what string, task func(context.Context) error) {
	ctx, cancel := context.WithTimeout(ctx, taskTimeout)
	defer cancel()
	if err := task(ctx); err != nil && ctx.Err() == nil {
		x.log.Debug(what, "error", err)
	}
}

// statsLogged bounds how many agents tell their figures at the end.
const statsLogged = 100

// logStats tells each agent's figures when the program ends.
func logStats(m *breaker.Manager, book *policycache.Cache, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.Background(), lastCalls)
	defer cancel()
	agents := book.InUse(24 * time.Hour)
	slices.Sort(agents)
	for _, a := range agents[:min(len(agents), statsLogged)] {
		v, p, err := m.Inspect(ctx, a)
		if err != nil {
			log.Warn("circuit breaker stats not read", "agent", a, "error", err)
			continue
		}
		s := breaker.StatsOf(a, v, p)
		log.Info("circuit breaker stats", "event", "circuit_breaker.stats", "name", s.Name, "state", string(s.State),
			"failure_count", s.FailureCount, "failure_threshold", s.FailureThreshold, "cooldown_seconds", s.CooldownSeconds,
			"time_until_retry", s.TimeUntilRetry, "total_failures", s.TotalFailures, "total_successes", s.TotalSuccesses,
			"state_transitions", s.StateTransitions)
	}
	if left := len(agents) - statsLogged; left > 0 {
		log.Info("circuit breaker stats of further agents left out", "agents", left)
	}
}
