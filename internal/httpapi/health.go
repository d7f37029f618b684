package httpapi

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"

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

func (s *server) healthRoutes() {
	serve(s, endpoint{
		method: http.MethodGet, path: "/livez", id: "live", tag: "health",
		summary: "The process answers; Redis is not asked",
	},
		func(*request, none) (answer[liveReply], error) { return answer[liveReply]{body: liveReply{"ok"}}, nil })
	serve(s, endpoint{
		method: http.MethodGet, path: "/readyz", id: "ready", tag: "health",
		summary: "This replica wants calls", codes: []problem.Code{problem.NotReady},
	}, s.readyz)
	serve(s, endpoint{
		method: http.MethodGet, path: "/health", id: "health", tag: "health",
		summary: "How well this replica is; 503 when unhealthy", also: []int{http.StatusServiceUnavailable},
	},
		func(r *request, _ none) (answer[HealthReply], error) {
			h, status := s.judge(r)
			return answer[HealthReply]{status: status, body: h.HealthReply}, nil
		})
	serve(s, endpoint{
		method: http.MethodGet, path: "/health/checks", id: "healthChecks", tag: "health",
		summary: "The same, part by part", also: []int{http.StatusServiceUnavailable},
	},
		func(r *request, _ none) (answer[checksReply], error) {
			h, status := s.judge(r)
			return answer[checksReply]{status: status, body: h}, nil
		})
	if s.metrics != nil {
		s.serveRaw(endpoint{
			method: http.MethodGet, path: "/metrics", id: "metrics", tag: "health", summary: "Prometheus metrics",
			contentType: "text/plain", out: &huma.Schema{Type: huma.TypeString},
		}, s.metrics)
	}
}

func (s *server) readyz(r *request, _ none) (answer[readyReply], error) {
	if s.ready != nil {
		if err := s.ready(r.ctx()); err != nil {
			return answer[readyReply]{}, problem.New(problem.NotReady, "%s", text.Clip(err.Error(), maxMessage)).With("Retry-After", "1")
		}
	}
	return answer[readyReply]{body: readyReply{"ready"}}, nil
}

func (s *server) judge(r *request) (checksReply, int) {
	h := s.health(r.ctx())
	out := checksReply{Checks: map[string]Check{}, HealthReply: HealthReply{
		Status: h.Status, Version: s.version, ReplicaID: s.replicaID,
		UptimeSeconds: float64(s.now().Sub(s.started).Milliseconds()) / 1000,
	}}
	maps.Copy(out.Checks, h.Checks)
	if h.Status == Unhealthy {
		return out, http.StatusServiceUnavailable
	}
	return out, http.StatusOK
}

// documentRoute serves the document, which is complete by now: it names itself too.
func (s *server) documentRoute() error {
	var text []byte
	s.serveRaw(endpoint{
		method: http.MethodGet, path: "/openapi.json", id: "openapi", tag: "document", summary: "This document",
		out: &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true},
	},
		http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(text)
		}))
	var err error
	if text, err = json.MarshalIndent(s.doc.api, "", "  "); err != nil {
		return fmt.Errorf("httpapi: OpenAPI document: %w", err)
	}
	return nil
}
