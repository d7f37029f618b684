package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/problem"
)

func TestStoreAwayIsSaidSo(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.fail("a", 1)
	f.keeper.setAway(false)
	for _, o := range operationsOf(f) {
		path, _ := o.named("a")
		switch path {
		case "/livez", "/readyz", "/health", "/health/checks", "/metrics", "/openapi.json", "/docs", "/v1/batch", "/v1/circuit_breakers/a/renew":
			continue
		case "/v1/admin/quarantine":
			path += "?agent_id=a"
		}
		f.do(o.method, path, o.good).wantProblem(503, problem.StoreUnavailable)
	}
	f.do("POST", "/v1/batch", `{"operations":[{"op":"acquire","agent":"a"}]}`).want(200, "results.0.status=503", `results.0.code="store_unavailable"`)
	f.do("GET", "/livez", "").want(200)
}

func TestDegradedAnswersAreMarked(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.fail("a", 5)
	f.fail("b", 1)
	f.keeper.setAway(true)
	f.do("POST", "/v1/circuit_breakers/b/acquire", "").want(200, "degraded=true")
	f.do("POST", "/v1/circuit_breakers/b/report", `{"outcome":"failure"}`).want(200, "degraded=true", "counted=true")
	f.do("POST", "/v1/circuit_breakers/a/acquire", "").want(429, "degraded=true", `reason="open"`)
	f.do("GET", "/v1/admin/circuit_breakers/a", "").want(200, "degraded=true", `state="OPEN"`)
	f.do("GET", "/v1/admin/circuit_breakers/never", "").wantProblem(503, problem.StoreUnavailable)
	f.do("POST", "/v1/admin/circuit_breakers/a/open", "").wantProblem(503, problem.StoreUnavailable)
}

func TestAPanicIsA500AndTheServerGoesOn(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(o *Options) {
		o.Metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("begun")); panic("late") })
	})
	f.keeper.panics = true
	f.do("POST", "/v1/circuit_breakers/a/acquire", "").wantProblem(500, problem.Internal)
	f.do("POST", "/v1/batch", `{"operations":[{"op":"acquire","agent":"a"}]}`).want(200, "results.0.status=500")
	if log := f.log.String(); !strings.Contains(log, "event=http.panic") || !strings.Contains(log, "the store panics") {
		t.Error(log)
	}
	res, err := http.DefaultTransport.RoundTrip(mustRequest(t, f.url+"/metrics"))
	if err == nil {
		res.Body.Close()
	}
	f.do("GET", "/livez", "").want(200)
}

func mustRequest(t *testing.T, url string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAnUnexpectedErrorIsLoggedAndNotShown(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.keeper.away = errors.New("secret detail\nof two lines")
	f.do("GET", "/v1/admin/circuit_breakers", "").wantProblem(500, problem.Internal)
	if log := f.log.String(); !strings.Contains(log, `secret detail\nof two lines`) {
		t.Error(log)
	}
	f.do("POST", "/v1/batch", `{"operations":[{"op":"acquire","agent":"a"}]}`).want(200, "results.0.status=500")
}

func TestAnotherSitesPageMayNotChangeAnything(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, h := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Origin", "https://evil.example"}} {
		f.do("POST", "/v1/admin/circuit_breakers/a/open", "{}", h...).wantProblem(403, problem.CrossOrigin)
		f.do("GET", "/v1/admin/circuit_breakers", "", h...).want(200)
	}
	f.do("POST", "/v1/admin/circuit_breakers/a/open", "{}", "Sec-Fetch-Site", "same-origin").want(200)
}

func TestHealthSaysWhatItsProviderSays(t *testing.T) {
	t.Parallel()
	ready, status, now := errors.New("draining"), Unhealthy, time.UnixMilli(startMs)
	f := newFixture(t, func(o *Options) {
		o.Now = func() time.Time { return now }
		o.Ready = func(context.Context) error { return ready }
		o.Health = func(context.Context) Health {
			return Health{Status: status, Checks: map[string]Check{"redis": {Status: Degraded, Degraded: true, Warnings: []string{"maxmemory-policy"}}}}
		}
	})
	f.do("GET", "/readyz", "").wantProblem(503, problem.NotReady).want(503, `detail="draining"`)
	f.do("GET", "/health", "").want(503, `status="unhealthy"`, `version="1.2.3"`, `replica_id="replica-1"`, "uptime_seconds=0")
	ready, status, now = nil, Degraded, now.Add(90*time.Second)
	f.do("GET", "/readyz", "").want(200, `status="ready"`)
	f.do("GET", "/health", "").want(200, `status="degraded"`, "uptime_seconds=90", "checks=null")
	f.do("GET", "/health/checks", "").want(200, `status="degraded"`, `checks.redis.status="degraded"`, `checks.redis.warnings.0="maxmemory-policy"`)
	f.do("GET", "/livez", "").want(200, `status="ok"`)
}

func TestOptionsThatAreMissingAreNamed(t *testing.T) {
	t.Parallel()
	if _, err := New(Options{}); err == nil || !strings.Contains(err.Error(), "required") {
		t.Error(err)
	}
}
