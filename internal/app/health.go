package app

import (
	"context"
	"time"

	"github.com/breakerd/breakerd/internal/daemon"
	"github.com/breakerd/breakerd/internal/route"
	"github.com/breakerd/breakerd/internal/workflow"
)

// healthOptions is what the health routes show of this replica; library is nil in a program without workflows.
func (s *service) healthOptions(ready func(context.Context) error, library *workflow.Library) route.HealthOptions {
	return route.HealthOptions{
		Health: func(ctx context.Context) route.Health { return s.health(ctx, library) },
		Ready:  ready, Metrics: s.metrics.Handler(), Version: daemon.Version(), ReplicaID: s.ID,
	}
}

// health is degraded, not unhealthy, while Redis is down, or while the last good version of a bad file is in force:
// calls are still answered.
func (s *service) health(ctx context.Context, library *workflow.Library) route.Health {
	checks := map[string]route.Check{"redis": s.checkRedis(ctx)}
	if f := s.Registry.Status(); f.Path != "" {
		checks["registry"] = checkFile(f.Path, f.Problem)
	}
	if library != nil {
		if f := library.Status(); f.Dir != "" {
			checks["workflows"] = checkFile(f.Dir, f.Problem)
		}
	}
	if text, pending := s.DataLoss(); text != "" {
		c := route.Check{Status: route.Healthy, Warnings: []string{text}}
		if pending {
			c.Status = route.Degraded
		}
		checks["redis_data"] = c
	}
	h := route.Health{Status: route.Healthy, Checks: checks}
	for _, c := range checks {
		if c.Status != route.Healthy {
			h.Status = c.Status
		}
	}
	return h
}

func (s *service) checkRedis(ctx context.Context) route.Check {
	h := s.CheckRedis(ctx)
	ms := float64(h.Latency.Microseconds()) / 1000
	c := route.Check{
		Status: route.Healthy, LatencyMs: &ms, Detail: s.Conn.Display, Degraded: h.Degraded, Warnings: h.Warnings,
	}
	if h.Unsent.Outcomes > 0 {
		oldest := h.Unsent.Oldest.Round(time.Millisecond).Seconds()
		c.Unsent = &route.Unsent{Outcomes: h.Unsent.Outcomes, Agents: h.Unsent.Agents, OldestSeconds: oldest}
	}
	if h.Err != nil {
		c.Detail = h.Err.Error()
	}
	if h.Err != nil || h.Degraded {
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
