package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/health"
	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/route/routetest"
)

func TestStoreDown_IsA503(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.fail("a", 1)
	f.records.TakeDown(false)
	for id, op := range f.Operations() {
		var query string
		switch id {
		case "live", "ready", "health", "healthChecks", "listChecks", "metrics", "openapi", "docs", "batch", "renew", "gate", "gateBelow", "whoami", "listTokens", "listLatency", "listReplicas", "openSession", "closeSession":
			continue
		case "listQuarantine":
			query = "?agent_id=a"
		}
		p := routetest.Probe{Path: routetest.Path(op), Query: query}
		if id == "restoreBackup" {
			p.Body, p.Header = f.backup("circuit_breaker"), []string{"Content-Type", "application/gzip"}
		}
		f.Send(op, p).WantProblem(503, problem.StoreUnavailable)
	}
	f.Do("POST", "/v1/batch", `{"operations":[{"op":"acquire","agent":"a"}]}`).Want(200, "results.0.status=503", `results.0.code="store_unavailable"`)
	f.Do("GET", "/livez", "").Want(200)
}

func TestStoreDown_DegradedAnswersAreMarked(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.fail("a", 5)
	f.fail("b", 1)
	f.records.TakeDown(true)
	f.Do("POST", "/v1/circuit_breakers/b/acquire", "").Want(200, "degraded=true")
	f.Do("POST", "/v1/circuit_breakers/b/report", `{"outcome":"failure"}`).Want(200, "degraded=true", `why="lost"`) // this store is no Fallback
	f.Do("POST", "/v1/circuit_breakers/a/acquire", "").Want(429, "degraded=true", `reason="open"`)
	f.Do("GET", "/v1/admin/circuit_breakers/a", "").Want(200, "degraded=true", `state="OPEN"`)
	f.Do("GET", "/v1/admin/circuit_breakers/never", "").WantProblem(503, problem.StoreUnavailable)
	f.Do("POST", "/v1/admin/circuit_breakers/a/open", `{"reason":"x"}`).WantProblem(503, problem.StoreUnavailable)
}

func TestPanic_IsA500AndTheServerGoesOn(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(o *Options) {
		o.Metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("begun")); panic("late") })
	})
	f.records.Panic()
	f.Do("POST", "/v1/circuit_breakers/a/acquire", "").WantProblem(500, problem.Internal)
	f.Do("POST", "/v1/batch", `{"operations":[{"op":"acquire","agent":"a"}]}`).Want(200, "results.0.status=500")
	if log := f.Log.String(); !strings.Contains(log, "event=http.panic") || !strings.Contains(log, "the store panics") {
		t.Error(log)
	}
	res, err := http.DefaultTransport.RoundTrip(mustRequest(t, f.URL+"/metrics"))
	if err == nil {
		res.Body.Close()
	}
	f.Do("GET", "/livez", "").Want(200)
}

func mustRequest(t *testing.T, url string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestUnexpectedError_IsLoggedAndNotShown(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.records.Break(errors.New("secret detail\nof two lines"))
	f.Do("GET", "/v1/admin/circuit_breakers", "").WantProblem(500, problem.Internal)
	if log := f.Log.String(); !strings.Contains(log, `secret detail\nof two lines`) {
		t.Error(log)
	}
	f.Do("POST", "/v1/batch", `{"operations":[{"op":"acquire","agent":"a"}]}`).Want(200, "results.0.status=500")
}

func TestOrigin_PageOfAnotherSiteMayNotChangeAnything(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, h := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Origin", "https://evil.example"}} {
		f.Do("POST", "/v1/admin/circuit_breakers/a/open", "{}", h...).WantProblem(403, problem.CrossOrigin)
		f.Do("GET", "/v1/admin/circuit_breakers", "", h...).Want(200)
	}
	f.Do("POST", "/v1/admin/circuit_breakers/a/open", `{"reason":"x"}`, "Sec-Fetch-Site", "same-origin").Want(200)
}

func TestHealth_ShowsItsProvider(t *testing.T) {
	t.Parallel()
	ready, status, now := errors.New("draining"), health.Unhealthy, time.UnixMilli(routetest.StartMs)
	f := newFixture(t, func(o *Options) {
		o.Now = func() time.Time { return now }
		o.Ready = func(context.Context) error { return ready }
		o.Health = func(context.Context, time.Duration) health.Report {
			return health.Report{Status: status, Checks: map[string]health.Check{"redis": {Since: "2026-02-11T09:00:00Z", Status: health.Degraded, Degraded: true, Warnings: []string{"maxmemory-policy"}}}}
		}
	})
	f.Do("GET", "/readyz", "").WantProblem(503, problem.NotReady).Want(503, `detail="draining"`)
	f.Do("GET", "/health", "").Want(503, `status="unhealthy"`, `version="1.2.3"`, `replica_id="replica-1"`, "uptime_seconds=0")
	ready, status, now = nil, health.Degraded, now.Add(90*time.Second)
	f.Do("GET", "/readyz", "").Want(200, `status="ready"`)
	f.Do("GET", "/health", "").Want(200, `status="degraded"`, "uptime_seconds=90", "checks=null")
	f.Do("GET", "/health/checks", "").Want(200, `status="degraded"`, `checks.redis.status="degraded"`, `checks.redis.warnings.0="maxmemory-policy"`)
	f.Do("GET", "/livez", "").Want(200, `status="ok"`)
}

func TestNew_NamesMissingOptions(t *testing.T) {
	t.Parallel()
	if _, err := New(Options{}); err == nil || !strings.Contains(err.Error(), "required") {
		t.Error(err)
	}
}
