package route

import (
	"context"
	"maps"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/breakerd/breakerd/internal/access"
	"github.com/breakerd/breakerd/internal/health"
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
	Status        health.Status `json:"status"         enum:"healthy,degraded,unhealthy"`
	Score         float64       `json:"score" doc:"The lowest of the checks' scores, 0 to 1."`
	Version       string        `json:"version"`
	ReplicaID     string        `json:"replica_id"`
	UptimeSeconds float64       `json:"uptime_seconds"`
}

type checksReply struct {
	HealthReply
	Checks map[string]health.Check `json:"checks" nullable:"false"`
}

// HealthOptions is what the health routes show.
type HealthOptions struct {
	// Health answers /health and /health/checks, by a look that is at most so old. It bounds its own time.
	Health func(ctx context.Context, maxAge time.Duration) health.Report
	// Ready answers /readyz; its error says why this replica is not ready. nil: always ready.
	Ready func(ctx context.Context) error
	// Metrics answers /metrics. nil: there is no such route.
	Metrics   http.Handler
	Version   string
	ReplicaID string
	Now       func() time.Time // for uptime alone; nil: time.Now
	// ChecksToo is another path of /health/checks: for a page, whose session's cookie goes to /v1 alone; "": none.
	ChecksToo string
}

// healthTag is of the routes that are answered whatever else is refused.
const healthTag = "health"

const mostAge = 60.0 // seconds

// MaxAgeParam documents what MaxAge reads.
func MaxAgeParam() *huma.Param {
	return QueryParam("max_age_seconds", "By a reading that is at most so old, for those who ask often.",
		&huma.Schema{Type: huma.TypeNumber, Minimum: new(0.0), Maximum: new(mostAge)})
}

// MaxAge is how old an answer may be, as the request says; 0: it is read for this request.
func MaxAge(r *Request) (time.Duration, error) {
	q, err := r.Params()
	text := q.Get("max_age_seconds")
	if err != nil || text == "" {
		return 0, err
	}
	seconds, err := strconv.ParseFloat(text, 64)
	if err != nil || !(seconds >= 0 && seconds <= mostAge) {
		return 0, problem.BadValue("query.max_age_seconds", text, "0 to 60")
	}
	return time.Duration(seconds * float64(time.Second)), nil
}

// Health adds the health routes and /metrics.
func (a *API) Health(o HealthOptions) {
	if o.Now == nil {
		o.Now = time.Now
	}
	started := o.Now()
	checks := func(r *Request, maxAge time.Duration) checksReply {
		h := o.Health(r.Context(), maxAge)
		if h.Status == health.Unhealthy {
			r.Status = http.StatusServiceUnavailable
		}
		out := checksReply{Checks: map[string]health.Check{}, HealthReply: HealthReply{
			Status: h.Status, Score: h.Score, Version: o.Version, ReplicaID: o.ReplicaID,
			UptimeSeconds: float64(o.Now().Sub(started).Milliseconds()) / 1000,
		}}
		maps.Copy(out.Checks, h.Checks)
		return out
	}
	Serve(a, Operation{
		Route: "GET /livez", ID: "live", Tag: healthTag, Role: access.Open,
		Summary: "The process answers; Redis is not asked",
	}, func(*Request, None) (liveReply, error) { return liveReply{"ok"}, nil })
	Serve(a, Operation{
		Route: "GET /readyz", ID: "ready", Tag: healthTag, Role: access.Open, Summary: "This replica wants calls",
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
		Route: "GET /health", ID: "health", Tag: healthTag, Role: access.Open,
		Summary: "How well this replica is; 503 when unhealthy",
		Also:    []int{http.StatusServiceUnavailable},
	}, func(r *Request, _ None) (HealthReply, error) { return checks(r, 0).HealthReply, nil })
	a.healthChecks(o, checks)
	if o.Metrics != nil {
		a.mount(Operation{
			Route: "GET /metrics", ID: "metrics", Tag: healthTag, Role: access.Read, Summary: "Prometheus metrics",
			ContentType: "text/plain", Out: &huma.Schema{Type: huma.TypeString},
		}, func(w http.ResponseWriter, r *Request) { o.Metrics.ServeHTTP(w, r.Request) })
	}
}

// healthChecks adds the routes that show each check.
func (a *API) healthChecks(o HealthOptions, checks func(*Request, time.Duration) checksReply) {
	parts := Operation{
		Route: "GET /health/checks", ID: "healthChecks", Tag: healthTag, Role: access.Read,
		Summary: "The same, part by part",
		Also:    []int{http.StatusServiceUnavailable},
		Params:  []*huma.Param{MaxAgeParam()},
	}
	byPart := func(r *Request, _ None) (checksReply, error) {
		age, err := MaxAge(r)
		if err != nil {
			return checksReply{}, err
		}
		return checks(r, age), nil
	}
	Serve(a, parts, byPart)
	if o.ChecksToo != "" {
		parts.Route, parts.ID, parts.Tag = "GET "+o.ChecksToo, "listChecks", "fleet"
		parts.Summary = "The same as /health/checks, where a session's cookie goes"
		Serve(a, parts, byPart)
	}
}
