package route

import (
	"context"
	"maps"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/text"
)

type liveReply struct {
	Status string `json:"status" enum:"ok"`
}

type readyReply struct {
	Status string `json:"status" enum:"ready"`
}

// HealthReply is how well this replica is; exported, so that the OpenAPI document shows it where it is embedded.
type HealthReply struct {
	Status        Status  `json:"status"         enum:"healthy,degraded,unhealthy"`
	Version       string  `json:"version"`
	ReplicaID     string  `json:"replica_id"`
	UptimeSeconds float64 `json:"uptime_seconds"`
}

type checksReply struct {
	HealthReply
	Checks map[string]Check `json:"checks" nullable:"false"`
}

// Status is how well something is.
type Status string

// The statuses. Degraded still serves; unhealthy answers 503.
const (
	Healthy   Status = "healthy"
	Degraded  Status = "degraded"
	Unhealthy Status = "unhealthy"
)

// Health is how well this replica is; its Status is for the provider to judge.
type Health struct {
	Status Status
	Checks map[string]Check // by name: redis, …
}

// Check is one part of Health.
type Check struct {
	Status    Status   `json:"status"               enum:"healthy,degraded,unhealthy"`
	LatencyMs *float64 `json:"latency_ms,omitempty" doc:"How long it took to answer."`
	Degraded  bool     `json:"degraded"             doc:"This replica answers from its own memory, because Redis is away."`
	Detail    string   `json:"detail,omitempty"`
	Warnings  []string `json:"warnings,omitempty"   doc:"What works, but should be set otherwise."`
}

// HealthOptions is what the health routes stand on.
type HealthOptions struct {
	// Health is asked by /health and /health/checks. It bounds its own time.
	Health func(ctx context.Context) Health
	// Ready is asked by /readyz: nil error, ready. nil: always ready.
	Ready func(ctx context.Context) error
	// Metrics answers /metrics. nil: there is no such route.
	Metrics   http.Handler
	Version   string
	ReplicaID string
	Now       func() time.Time // for uptime alone; nil: time.Now
}

// Health adds the health routes and /metrics.
func (a *API) Health(o HealthOptions) {
	if o.Now == nil {
		o.Now = time.Now
	}
	started := o.Now()
	judge := func(r *Request) (checksReply, int) { return o.judge(r.Context(), started) }
	Serve(a, Operation{
		Method: http.MethodGet, Path: "/livez", ID: "live", Tag: "health",
		Summary: "The process answers; Redis is not asked",
	},
		func(*Request, None) (Answer[liveReply], error) { return Answer[liveReply]{Body: liveReply{"ok"}}, nil })
	Serve(a, Operation{
		Method: http.MethodGet, Path: "/readyz", ID: "ready", Tag: "health",
		Summary: "This replica wants calls", Codes: []problem.Code{problem.NotReady},
	}, o.readyz)
	Serve(a, Operation{
		Method: http.MethodGet, Path: "/health", ID: "health", Tag: "health",
		Summary: "How well this replica is; 503 when unhealthy", Also: []int{http.StatusServiceUnavailable},
	},
		func(r *Request, _ None) (Answer[HealthReply], error) {
			h, status := judge(r)
			return Answer[HealthReply]{Status: status, Body: h.HealthReply}, nil
		})
	Serve(a, Operation{
		Method: http.MethodGet, Path: "/health/checks", ID: "healthChecks", Tag: "health",
		Summary: "The same, part by part", Also: []int{http.StatusServiceUnavailable},
	},
		func(r *Request, _ None) (Answer[checksReply], error) {
			h, status := judge(r)
			return Answer[checksReply]{Status: status, Body: h}, nil
		})
	if o.Metrics != nil {
		a.mount(Operation{
			Method: http.MethodGet, Path: "/metrics", ID: "metrics", Tag: "health", Summary: "Prometheus metrics",
			ContentType: "text/plain", Out: &huma.Schema{Type: huma.TypeString},
		}, o.Metrics)
	}
}

func (o HealthOptions) readyz(r *Request, _ None) (Answer[readyReply], error) {
	if o.Ready != nil {
		if err := o.Ready(r.Context()); err != nil {
			return Answer[readyReply]{}, problem.New(problem.NotReady, "%s", text.Clip(err.Error(), MaxMessage)).With("Retry-After", "1")
		}
	}
	return Answer[readyReply]{Body: readyReply{"ready"}}, nil
}

func (o HealthOptions) judge(ctx context.Context, started time.Time) (checksReply, int) {
	h := o.Health(ctx)
	out := checksReply{Checks: map[string]Check{}, HealthReply: HealthReply{
		Status: h.Status, Version: o.Version, ReplicaID: o.ReplicaID,
		UptimeSeconds: float64(o.Now().Sub(started).Milliseconds()) / 1000,
	}}
	maps.Copy(out.Checks, h.Checks)
	if h.Status == Unhealthy {
		return out, http.StatusServiceUnavailable
	}
	return out, http.StatusOK
}
