package gateway_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/registry"
	"github.com/breakerd/breakerd/internal/workflow"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// entry has f's agent registered with these fields, as agents.json gives them.
func entry(t *testing.T, fields string) func(*registry.Agent) {
	t.Helper()
	e, err := registry.ParseAgent("Agent", []byte(fields), breaker.DefaultPolicy(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return func(a *registry.Agent) { e.URL = a.URL; *a = e }
}

// statusOfPath answers with the status that ends the path.
func statusOfPath(w http.ResponseWriter, r *http.Request) {
	var status int
	_, _ = fmt.Sscanf(r.URL.Path[max(len(r.URL.Path)-3, 0):], "%d", &status)
	w.WriteHeader(status)
}

// A dead key, 401 on every call, can be told to count.
func TestGateway_StatusesCountAsTheEntrySays(t *testing.T) {
	t.Parallel()
	f := newFixture(t, http.HandlerFunc(statusOfPath), entry(t, `{"failure_statuses": [401, "302-303", 204], "ignored_statuses": ["500-502", 429, 200]}`))
	for status, want := range map[int][2]int64{ // failures, calls
		401: {1, 1}, 302: {1, 1}, 303: {1, 1}, 204: {1, 1}, 503: {1, 1}, 504: {1, 1}, 408: {1, 1},
		500: {0, 0}, 502: {0, 0}, 429: {0, 0}, 200: {0, 0}, 403: {0, 0}, 501: {0, 0}, 201: {0, 1}, 304: {0, 1},
	} {
		f.do(http.MethodGet, fmt.Sprintf("/agents/Agent/%d", status), "")
		if _, failures, calls := f.counted("Agent"); failures != want[0] || calls != want[1] {
			t.Errorf("%d: %d failures in %d calls, want %v", status, failures, calls, want)
		}
		if _, err := f.manager.Force(t.Context(), "Agent", breaker.Force{Target: breaker.ResetClosed, Actor: "test"}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestGateway_OnlyWhatTheEntrySaysCounts(t *testing.T) {
	t.Parallel()
	f := newFixture(t, http.HandlerFunc(statusOfPath), entry(t, `{"count": {"methods": ["POST"], "path_prefixes": ["/v1/", "/run"]}}`))
	passes := [][2]string{
		{"GET", "/v1/503"},
		{"POST", "/health/503"},
		{"POST", "/V1/503"},
		{"PUT", "/run/503"},
		{"OPTIONS", "/v1/503"},
		{"HEAD", "/v1/503"},
		{"POST", "/%2576%31/503"},
	}
	for range 2 { // first while it is closed, then while it is open
		for _, call := range passes {
			if r := f.do(call[0], "/agents/Agent"+call[1], ""); r.StatusCode != http.StatusServiceUnavailable {
				t.Errorf("%v: %d", call, r.StatusCode)
			}
		}
		if state, failures, calls := f.counted("Agent"); state == breaker.Closed && (failures != 0 || calls != 0) {
			t.Fatalf("%d failures in %d calls", failures, calls)
		}
		for _, path := range []string{"/v1/503", "/run/503", "/%761/503", "/run503", "/v1%2f503"} {
			f.do(http.MethodPost, "/agents/Agent"+path, "")
		}
		if state, failures, _ := f.counted("Agent"); state != breaker.Open || failures != 5 {
			t.Fatalf("%s after %d failures", state, failures)
		}
	}
	f.do(http.MethodPost, "/agents/Agent/v1/200", "").problem(t, http.StatusTooManyRequests, "circuit_breaker_open")
	if _, err := f.gate.Call(t.Context(), workflow.Call{Agent: "Agent", Path: "/v1/200"}); err == nil {
		t.Error("a step of what counts was not refused")
	}
	if _, err := f.gate.Call(t.Context(), workflow.Call{Agent: "Agent", Path: "/health/200"}); err != nil {
		t.Errorf("a step of what does not count: %v", err)
	}
}

func TestGateway_ObservedClassifierOnlyCounts(t *testing.T) {
	t.Parallel()
	f := newFixture(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"no"}}`)
	}), entry(t, `{"classify_observe": "auto"}`))
	f.do(http.MethodPost, "/agents/Agent/mcp", "{}")
	if _, failures, calls := f.counted("Agent"); failures != 0 || calls != 1 {
		t.Errorf("%d failures in %d calls", failures, calls)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.timings) != 1 || f.timings[0].Outcome.Kind != breaker.Success || f.timings[0].Shadow.Kind != breaker.Failure {
		t.Errorf("timings %+v", f.timings)
	}
}

func TestGateway_FirstTokenTimeoutIsThatOfTheEntry(t *testing.T) {
	t.Parallel()
	left := make(chan struct{})
	f := newFixture(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, ": comments are no data\n\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		close(left)
	}), entry(t, `{"first_token_timeout_seconds": 0.05}`))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, f.url+"/agents/Agent/stream", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err == nil {
		_, err = io.ReadAll(resp.Body)
		_ = resp.Body.Close()
	}
	<-left
	if _, failures, _ := f.counted("Agent"); err == nil || failures != 1 {
		t.Errorf("%v, %d failures", err, failures)
	}
}
