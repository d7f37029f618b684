package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/client"
)

func TestDo_ReportsWhatTheCallSays(t *testing.T) {
	t.Parallel()
	c := breakerdOn(t, "embedded://")
	ctx, boom := t.Context(), errors.New("boom")
	if err := c.Do(ctx, "a", func(context.Context) error { return nil }); err != nil {
		t.Error(err)
	}
	if err := c.Do(ctx, "a", func(context.Context) error { return boom }); !errors.Is(err, boom) {
		t.Errorf("%v, want the call's own error", err)
	}
	func() {
		defer func() {
			if v := recover(); v != any(boom) {
				t.Errorf("the panic became %v", v)
			}
		}()
		_ = c.Do(ctx, "a", func(context.Context) error { panic(boom) })
	}()
	cancelled, cancel := context.WithCancel(ctx)
	if err := c.Do(cancelled, "a", func(context.Context) error { cancel(); return cancelled.Err() }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	b := must(c.GetCircuitBreaker(ctx, "a"))(t)
	if b.Totals.Successes != 1 || b.Totals.Failures != 2 || b.ConsecutiveFailures != 2 {
		t.Errorf("%+v", b.Breaker)
	}
	trip(t, c, "a")
	called := false
	err := c.Do(ctx, "a", func(context.Context) error { called = true; return nil })
	if !errors.Is(err, breaker.ErrOpen) || called {
		t.Errorf("%v, called %v", err, called)
	}
}

// answers answers requests by the end of their path, and counts them.
type answers struct {
	mux http.ServeMux

	acquired, renewed, reported atomic.Int64
}

func (a *answers) client(t *testing.T, log *slog.Logger) *client.Client {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/acquire"):
			a.acquired.Add(1)
		case strings.HasSuffix(r.URL.Path, "/renew"):
			a.renewed.Add(1)
		case strings.HasSuffix(r.URL.Path, "/report"):
			a.reported.Add(1)
		}
		a.mux.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return must(client.New(client.Options{Servers: []string{server.URL}, Logger: log}))(t)
}

func TestDo_RenewsAProbesLeaseWhileTheCallRuns(t *testing.T) {
	t.Parallel()
	var a answers
	a.mux.HandleFunc("/v1/circuit_breakers/a/acquire", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"allowed":true,"permit":"p","lease_seconds":0.03}`))
	})
	a.mux.HandleFunc("/v1/circuit_breakers/a/renew", func(w http.ResponseWriter, r *http.Request) {
		if a.renewed.Load() == 3 { // what may pass ends nothing
			problem.New(problem.StoreUnavailable, "").Write(w)
			return
		}
		var in client.RenewRequest
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in.Permit != "p" {
			t.Error(in, err)
		}
		_, _ = w.Write([]byte(`{"lease_seconds":0.03}`))
	})
	a.mux.HandleFunc("/v1/circuit_breakers/a/report", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"counted":true}`)) })
	ctx, cancel := context.WithCancel(t.Context())
	err := a.client(t, nil).Do(ctx, "a", func(context.Context) error {
		cancel() // the call goes on, and so does its place
		testkit.Eventually(t, "eight renewals", 20*time.Second, func() error {
			if n := a.renewed.Load(); n < 8 {
				return fmt.Errorf("%d", n)
			}
			return nil
		})
		return nil
	})
	if err != nil || a.acquired.Load() != 1 || a.reported.Load() != 1 {
		t.Error(err, a.acquired.Load(), a.reported.Load())
	}
}

func TestDo_OutcomeThatIsNotReportedIsLoggedAndNotSentTwice(t *testing.T) {
	t.Parallel()
	var a answers
	a.mux.HandleFunc("/v1/circuit_breakers/a/acquire", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"allowed":true,"permit":"p"}`)) })
	a.mux.HandleFunc("/v1/circuit_breakers/a/report", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	var log testkit.Buffer
	c := a.client(t, slog.New(slog.NewTextHandler(&log, nil)))
	if err := c.Do(t.Context(), "a", func(context.Context) error { return nil }); err != nil {
		t.Error(err)
	}
	has(t, log.String(), "outcome not reported")
	has(t, log.String(), client.ErrUnknown.Error())
	if n := a.reported.Load(); n != 1 {
		t.Errorf("%d reports", n)
	}
}

func TestDo_WithoutAServerDoesNotCall(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	err := newClient(t, "http://127.0.0.1:1").Do(ctx, "a", func(context.Context) error { t.Error("called"); return nil })
	if err == nil || errors.Is(err, client.ErrUnknown) || errors.Is(err, breaker.ErrOpen) {
		t.Error(err)
	}
	has(t, err.Error(), "POST /v1/circuit_breakers/a/acquire: http://127.0.0.1:1: dial tcp")
}
