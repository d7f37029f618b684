package httpapi

import (
	"context"
	"io"
	"testing"

	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// brokenStore never answers.
type brokenStore struct{}

func (brokenStore) Apply(context.Context, string, breaker.Policy, machine.Op) (machine.Result, error) {
	return machine.Result{}, &breaker.StoreError{Err: io.EOF}
}

func (brokenStore) Inspect(context.Context, string, breaker.Policy) (breaker.View, error) {
	return breaker.View{}, &breaker.StoreError{Err: io.EOF}
}

func TestReport_WhileTheStoreIsDownWaits(t *testing.T) {
	t.Parallel()
	never := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	fallback := breaker.NewFallback(breaker.FallbackOptions{Store: brokenStore{}, Ping: never})
	t.Cleanup(fallback.Close)
	f := newFixture(t, func(o *Options) {
		var err error
		o.Manager, err = breaker.NewManager(breaker.Options{Store: fallback, PerAgent: func(_ context.Context, agent string) breaker.Policy {
			p := breaker.DefaultPolicy()
			p.OnStoreError = breaker.OnStoreError(agent)
			return p
		}})
		if err != nil {
			t.Fatal(err)
		}
	})
	for _, agent := range []string{"allow", "deny", "local"} {
		f.Do("POST", "/v1/circuit_breakers/"+agent+"/report", `{"outcome":"failure"}`).Want(200, "counted=true", "degraded=true")
	}
	f.Do("POST", "/v1/circuit_breakers/allow/acquire", "").Want(200, "degraded=true")
	f.Do("POST", "/v1/circuit_breakers/deny/acquire", "").WantProblem(503, problem.CircuitBreakerOpen).Want(503, `reason="store_unavailable"`, "state=null")
}

func TestDetail_NamesAReporterThatFails(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Do("PUT", "/v1/admin/circuit_breakers/a/config", `{"minimum_reporters":2}`).Want(201)
	f.Do("POST", "/v1/circuit_breakers/a/report", `{"outcome":"failure","reporter":"node-7"}`).Want(200)
	f.Do("GET", "/v1/admin/circuit_breakers/a", "").Want(200, `reporters.node-7="2026-02-11T09:00:00Z"`)
}
