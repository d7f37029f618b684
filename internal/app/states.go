package app

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// inspections is how many breakers a scrape inspects at once. Concurrent inspections share round trips.
const inspections = 32

// states is every known agent's state: closed ones as Redis has them, the others advanced to now, for an open breaker
// may be half-open by now [B11].
func (r *replica) states(ctx context.Context) (map[string]breaker.State, error) {
	agents, err := r.directory.Agents(ctx)
	if err != nil {
		return nil, err
	}
	stored, err := r.docs.States(ctx, agents)
	if err != nil {
		return nil, err
	}
	var (
		states = make(map[string]breaker.State, len(agents))
		turn   = make(chan struct{}, inspections)
		wg     sync.WaitGroup
		mu     sync.Mutex
		errs   []error
	)
	for i, agent := range agents {
		if stored[i] == breaker.Closed || stored[i] == "" {
			mu.Lock()
			states[agent] = breaker.Closed
			mu.Unlock()
			continue
		}
		turn <- struct{}{}
		wg.Go(func() {
			v, _, err := r.manager.Inspect(ctx, agent)
			<-turn
			mu.Lock()
			defer mu.Unlock()
			states[agent] = v.State
			errs = append(errs, err)
		})
	}
	wg.Wait()
	return states, errors.Join(errs...)
}

// statsLogged bounds the agents whose figures the log has at the end.
const statsLogged = 100

// logStats logs each agent's figures.
func (r *replica) logStats() {
	ctx, cancel := context.WithTimeout(context.Background(), lastCalls)
	defer cancel()
	agents := r.policies.InUse(24 * time.Hour)
	slices.Sort(agents)
	for _, a := range agents[:min(len(agents), statsLogged)] {
		v, p, err := r.manager.Inspect(ctx, a)
		if err != nil {
			r.log.Warn("circuit breaker stats not read", "agent", a, "error", err)
			continue
		}
		s := breaker.StatsOf(a, v, p)
		r.log.Info("circuit breaker stats", "event", "circuit_breaker.stats", "agent", a, "name", s.Name,
			"state", string(s.State), "failure_count", s.FailureCount, "failure_threshold", s.FailureThreshold,
			"cooldown_seconds", s.CooldownSeconds, "time_until_retry", s.TimeUntilRetry,
			"total_failures", s.TotalFailures, "total_successes", s.TotalSuccesses,
			"state_transitions", s.StateTransitions)
	}
	if left := len(agents) - statsLogged; left > 0 {
		r.log.Info("circuit breaker stats of further agents left out", "agents", left)
	}
}
