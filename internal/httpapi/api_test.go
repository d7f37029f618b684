package httpapi

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"go.uber.org/goleak"

	"github.com/breakerd/breakerd/internal/events"
	"github.com/breakerd/breakerd/internal/health"
	"github.com/breakerd/breakerd/internal/route"
	"github.com/breakerd/breakerd/internal/route/routetest"
	"github.com/breakerd/breakerd/pkg/breaker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fixture is an API on a breaker in memory, under a clock that the test sets.
type fixture struct {
	*routetest.Client

	handler http.Handler
	records *records
	manager *breaker.Manager
	fleet   *fleet
	stop    func() // ends all streams
}

func newFixture(t testing.TB, change ...func(*Options)) *fixture {
	t.Helper()
	logger, log := routetest.Logger()
	f := &fixture{records: &records{Store: routetest.NewStore(), items: map[string][]string{}}}
	var err error
	f.manager, err = breaker.NewManager(breaker.Options{Store: f.records, PerAgent: f.records.policy, Reporter: "replica-1", Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	f.fleet = &fleet{records: f.records, force: f.manager.Force}
	hub := events.NewHub(f.records, 2)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		hub.Run(ctx)
	}()
	f.stop = func() {
		cancel()
		<-ended
	}
	t.Cleanup(f.stop)
	o := Options{Backups: f.records, Events: f.records, Fleet: f.fleet, Keys: f.records, Listen: hub.Listen, Calls: f.records.Calls, Webhooks: f.records.webhooks, Manager: f.manager, Directory: f.records, Policies: f.records, Logger: logger, HealthOptions: route.HealthOptions{
		Version: "1.2.3", ReplicaID: "replica-1", Health: healthy, Metrics: http.HandlerFunc(up),
	}}
	for _, c := range change {
		c(&o)
	}
	a, err := newAPI(o)
	if err != nil {
		t.Fatal(err)
	}
	if f.handler, err = a.guarded(); err != nil {
		t.Fatal(err)
	}
	f.Client = &routetest.Client{TB: t, Doc: a.OpenAPI, Log: log, Keys: f.records.Keys}
	f.Find = f.operation
	f.Serve(f.handler)
	return f
}

// operation is the operation of a request. The gate's takes every method.
func (f *fixture) operation(method, path string) *huma.Operation {
	below, ok := strings.CutPrefix(path, gatePath)
	switch {
	case !ok:
		return f.OperationAt(method, path)
	case strings.Contains(below, "/"):
		return f.Operation(http.MethodGet, gatePath+"{agent}/{path}")
	}
	return f.Operation(http.MethodGet, gatePath+"{agent}")
}

func healthy(context.Context, time.Duration) health.Report {
	return health.Report{Status: health.Healthy, Checks: map[string]health.Check{"redis": {Since: "2026-02-11T09:00:00Z", Status: health.Healthy, LatencyMs: new(0.4)}}}
}

func up(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "up 1\n") }

func (f *fixture) advance(d time.Duration) { f.records.NowMs.Add(d.Milliseconds()) }

// fail reports failures without a permit.
func (f *fixture) fail(agent string, times int) {
	f.Helper()
	for range times {
		f.Do("POST", "/v1/circuit_breakers/"+agent+"/report", `{"outcome":"failure"}`).Want(200)
	}
}
