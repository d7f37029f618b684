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

// HealthReply is how well this replica is. It is exported for huma, which shows embedded fields of exported types only.
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

// Status says how well a replica, or a part of it, is.
type Status string

// The statuses. A degraded replica serves; the health routes of an unhealthy one answer 503.
const (
	Healthy   Status = "healthy"
	Degraded  Status = "degraded"
	Unhealthy Status = "unhealthy"
)

// Health is how well this replica is.
type Health struct {
	Status Status
	Checks map[string]Check // by name: redis, …
}

// Check is one part of Health.
type Check struct {
	Status    Status   `json:"status"               enum:"healthy,degraded,unhealthy"`
	LatencyMs *float64 `json:"latency_ms,omitempty" doc:"How long it took to answer."`
	Degraded  bool     `json:"degraded"             doc:"This replica answers from its own memory, because Redis is down."`
	Detail    string   `json:"detail,omitempty"`
	Warnings  []string `json:"warnings,omitempty"   doc:"What works, but should be set otherwise."`
	Unsent    *Unsent  `json:"unsent,omitempty"     doc:"Outcomes that wait until Redis takes them."`
}

// Unsent are outcomes that Redis has not acknowledged yet.
type Unsent struct {
	Outcomes      int64   `json:"outcomes"`
	Agents        int     `json:"agents"`
	OldestSeconds float64 `json:"oldest_seconds" doc:"How long the oldest of them has waited."`
}

// HealthOptions is what the health routes show.
type HealthOptions struct {
	// Health answers /health and /health/checks. It bounds its own time.
	Health func(ctx context.Context) Health
	// Ready answers /readyz; its error says why this replica is not ready. nil: always ready.
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
	checks := func(r *Request) checksReply {
		h := o.Health(r.Context())
		if h.Status == Unhealthy {
			r.Status = http.StatusServiceUnavailable
		}
		out := checksReply{Checks: map[string]Check{}, HealthReply: HealthReply{
			Status: h.Status, Version: o.Version, ReplicaID: o.ReplicaID,
			UptimeSeconds: float64(o.Now().Sub(started).Milliseconds()) / 1000,
		}}
		maps.Copy(out.Checks, h.Checks)
		return out
	}
	Serve(a, Operation{
		Route: "GET /livez", ID: "live", Tag: "health", Summary: "The process answers; Redis is not asked",
	}, func(*Request, None) (liveReply, error) { return liveReply{"ok"}, nil })
	Serve(a, Operation{
		Route: "GET /readyz", ID: "ready", Tag: "health", Summary: "This replica wants calls",
		Codes: []problem.Code{problem.NotReady},
	}, func(r *Request, _ None) (readyReply, error) {
		if o.Ready != nil {
			if err := o.Ready(r.Context()); err != nil {
				p := problem.New(problem.NotReady, "%s", text.Clip(err.Error(), MaxMessage))
				return readyReply{}, p.With("Retry-After", "1")
			}
		}
		return readyReply{"ready"}, nil
	})
	Serve(a, Operation{
		Route: "GET /health", ID: "health", Tag: "health", Summary: "How well this replica is; 503 when unhealthy",
		Also: []int{http.StatusServiceUnavailable},
	}, func(r *Request, _ None) (HealthReply, error) { return checks(r).HealthReply, nil })
	Serve(a, Operation{
		Route: "GET /health/checks", ID: "healthChecks", Tag: "health", Summary: "The same, part by part",
		Also: []int{http.StatusServiceUnavailable},
	}, func(r *Request, _ None) (checksReply, error) { return checks(r), nil })
	if o.Metrics != nil {
		a.mount(Operation{
			Route: "GET /metrics", ID: "metrics", Tag: "health", Summary: "Prometheus metrics",
			ContentType: "text/plain", Out: &huma.Schema{Type: huma.TypeString},
		}, o.Metrics.ServeHTTP)
	}
}
