package app

import (
	"context"
	"time"

	"github.com/breakerd/breakerd/internal/daemon"
	"github.com/breakerd/breakerd/internal/route"
	"github.com/breakerd/breakerd/internal/workflow"
)

// healthOptions is what the health routes show of this replica; library is nil in a program without workflows.
func (r *replica) healthOptions(ready func(context.Context) error, library *workflow.Library) route.HealthOptions {
	return route.HealthOptions{
		Health: func(ctx context.Context) route.Health { return r.health(ctx, library) },
		Ready:  ready, Metrics: r.metrics.Handler(), Version: daemon.Version(), ReplicaID: r.id,
	}
}

// health is degraded, not unhealthy, while Redis is down, or while the last good version of a bad file is in force:
// calls are still answered.
func (r *replica) health(ctx context.Context, library *workflow.Library) route.Health {
	checks := map[string]route.Check{"redis": r.checkRedis(ctx)}
	if s := r.registry.Status(); s.Path != "" {
		checks["registry"] = checkFile(s.Path, s.Problem)
	}
	if library != nil {
		if s := library.Status(); s.Dir != "" {
			checks["workflows"] = checkFile(s.Dir, s.Problem)
		}
	}
	h := route.Health{Status: route.Healthy, Checks: checks}
	for _, c := range checks {
		if c.Status != route.Healthy {
			h.Status = c.Status
		}
	}
	return h
}

func (r *replica) checkRedis(ctx context.Context) route.Check {
	ctx, cancel := context.WithTimeout(ctx, 2*r.cfg.RedisTimeout)
	defer cancel()
	begin := time.Now()
	err := r.store.Ping(ctx)
	ms := float64(time.Since(begin).Microseconds()) / 1000
	c := route.Check{Status: route.Healthy, LatencyMs: &ms, Detail: r.conn.Display, Degraded: r.fallback.Degraded()}
	if err == nil {
		c.Warnings, err = r.conn.Check(ctx)
	}
	if r.conn.Embedded {
		c.Warnings = append(c.Warnings, "embedded Redis: for this process only, and nothing is kept")
	}
	if err != nil {
		c.Detail = err.Error()
	}
	if err != nil || c.Degraded {
		c.Status = route.Degraded
	}
	return c
}

func checkFile(path string, problem error) route.Check {
	if problem != nil {
		return route.Check{Status: route.Degraded, Detail: path, Warnings: []string{problem.Error()}}
	}
	return route.Check{Status: route.Healthy, Detail: path}
}
