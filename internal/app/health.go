package app

import (
	"context"
	"time"

	"github.com/breakerd/breakerd/internal/daemon"
	"github.com/breakerd/breakerd/internal/route"
	"github.com/breakerd/breakerd/internal/workflow"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

// healthOptions is what the health routes say of this replica; library is nil in a program without workflows.
func (s *core) healthOptions(library *workflow.Library) route.HealthOptions {
	return route.HealthOptions{
		Health: s.checkup(library).health, Ready: s.ready, Metrics: s.metrics.Handler(), Version: daemon.Version(), ReplicaID: s.replica,
	}
}

// checkup judges this replica. Redis away is degraded, not unhealthy: calls are still answered.
type checkup struct {
	conn     *redisstore.Conn
	store    *redisstore.Store
	fallback *breaker.Fallback
	timeout  time.Duration
	files    func() map[string]route.Check // that this replica reads again when they change
}

// checkup is of this replica; library is nil in a program without workflows.
func (s *core) checkup(library *workflow.Library) checkup {
	return checkup{s.conn, s.store, s.fallback, 2 * s.cfg.RedisTimeout, func() map[string]route.Check {
		checks := map[string]route.Check{}
		if st := s.registry.Status(); st.Path != "" {
			checks["registry"] = fileCheck(st.Path, st.Problem)
		}
		if library == nil {
			return checks
		}
		if st := library.Status(); st.Dir != "" {
			checks["workflows"] = fileCheck(st.Dir, st.Problem)
		}
		return checks
	}}
}

// fileCheck is degraded while the last good version serves, because the file as it stands now is bad.
func fileCheck(path string, problem error) route.Check {
	if problem != nil {
		return route.Check{Status: route.Degraded, Detail: path, Warnings: []string{problem.Error()}}
	}
	return route.Check{Status: route.Healthy, Detail: path}
}

func (c checkup) health(ctx context.Context) route.Health {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	start := time.Now()
	err := c.store.Ping(ctx)
	ms := float64(time.Since(start).Microseconds()) / 1000
	redis := route.Check{Status: route.Healthy, LatencyMs: &ms, Detail: c.conn.Display}
	if err == nil {
		redis.Warnings, err = c.conn.Check(ctx)
	}
	if c.conn.Embedded {
		redis.Warnings = append(redis.Warnings, "embedded Redis: for this process only, and nothing is kept")
	}
	if err != nil {
		redis.Status, redis.Detail = route.Degraded, err.Error()
	}
	if c.fallback.Degraded() {
		redis.Status, redis.Degraded = route.Degraded, true
	}
	h := route.Health{Status: redis.Status, Checks: map[string]route.Check{"redis": redis}}
	for name, check := range c.files() {
		h.Checks[name] = check
		if check.Status != route.Healthy && h.Status == route.Healthy {
			h.Status = check.Status
		}
	}
	return h
}
