package app

import (
	"context"
	"time"

	"github.com/breakerd/breakerd/internal/httpapi"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

// checkup judges this replica. Redis away is degraded, not unhealthy: calls are still answered.
type checkup struct {
	conn     *redisstore.Conn
	store    *redisstore.Store
	fallback *breaker.Fallback
	timeout  time.Duration
}

func (c checkup) health(ctx context.Context) httpapi.Health {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	start := time.Now()
	err := c.store.Ping(ctx)
	ms := float64(time.Since(start).Microseconds()) / 1000
	redis := httpapi.Check{Status: httpapi.Healthy, LatencyMs: &ms, Detail: c.conn.Display}
	if err == nil {
		redis.Warnings, err = c.conn.Check(ctx)
	}
	if c.conn.Embedded != nil {
		redis.Warnings = append(redis.Warnings, "embedded Redis: for this process only, and nothing is kept")
	}
	if err != nil {
		redis.Status, redis.Detail = httpapi.Degraded, err.Error()
	}
	if c.fallback.Degraded() {
		redis.Status, redis.Degraded = httpapi.Degraded, true
	}
	return httpapi.Health{Status: redis.Status, Checks: map[string]httpapi.Check{"redis": redis}}
}
