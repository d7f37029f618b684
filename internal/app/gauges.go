package app

import (
	"context"
	"errors"
	"sync"

	"github.com/breakerd/breakerd/internal/daemon"
	"github.com/breakerd/breakerd/internal/metrics"
	"github.com/breakerd/breakerd/pkg/breaker"
)

func (s *core) newMetrics() *metrics.Metrics {
	return metrics.New(metrics.Options{
		MaxAgents: s.cfg.MetricsMaxAgents, Version: daemon.Version(), States: s.states,
		Degraded: s.fallback.Degraded, Pool: s.poolStats, Unsent: func() breaker.Backlog { return s.manager.Backlog() },
	})
}

func (s *core) poolStats() metrics.PoolStats {
	p := s.conn.Client.PoolStats()
	return metrics.PoolStats{Hits: p.Hits, Misses: p.Misses, Timeouts: p.Timeouts, TotalConns: p.TotalConns, IdleConns: p.IdleConns, StaleConns: p.StaleConns}
}

// inspectors is how many breakers are inspected at once for a scrape; concurrent inspections share round trips.
const inspectors = 32

// states gives every known agent's state for the metrics: closed ones as they stand in Redis, the others advanced to now, for
// an open one may be half-open already [B11].
func (s *core) states(ctx context.Context) (map[string]breaker.State, error) {
	agents, err := s.directory.Agents(ctx)
	if err != nil {
		return nil, err
	}
	stored, err := s.docs.States(ctx, agents)
	if err != nil {
		return nil, err
	}
	out := make(map[string]breaker.State, len(agents))
	var look []string
	for i, a := range agents {
		if out[a] = breaker.Closed; stored[i] != breaker.Closed && stored[i] != "" {
			look = append(look, a)
		}
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	var errs []error
	next := make(chan string)
	for range min(inspectors, len(look)) {
		wg.Go(func() {
			for a := range next {
				v, _, err := s.manager.Inspect(ctx, a)
				mu.Lock()
				if err != nil {
					errs = append(errs, err)
				} else {
					out[a] = v.State
				}
				mu.Unlock()
			}
		})
	}
	for _, a := range look {
		next <- a
	}
	close(next)
	wg.Wait()
	return out, errors.Join(errs...)
}
