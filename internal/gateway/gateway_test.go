package gateway_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/registry"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breakerhttp"
)

// seen is a request as the agent received it.
type seen struct {
	Method string      `json:"method"`
	URI    string      `json:"uri"`
	Host   string      `json:"host"`
	Body   string      `json:"body"`
	Header http.Header `json:"header"`
}

func echo(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	w.Header().Set("X-Agent", "yes")
	text, err := json.Marshal(seen{r.Method, r.RequestURI, r.Host, string(body), r.Header})
	if err != nil {
		panic(err)
	}
	_, _ = w.Write(text)
}

func TestGateway_ForwardsTheRequestAsSent(t *testing.T) {
	t.Parallel()
	f := newFixture(t, http.HandlerFunc(echo))
	tests := []struct{ path, uri string }{
		{"/agents/Agent", "/base/"},
		{"/agents/Agent/", "/base/"},
		{"/agents/Agent?a=1;b=%zz&c", "/base/?a=1;b=%zz&c"},
		{"/agents/%41gent/x/y?q=1", "/base/x/y?q=1"},
		{"/agents/Agent/a%2Fb/c%20d/", "/base/a%2Fb/c%20d/"},
		{"/agents/Agent//double", "/base//double"},
		{"/agents/Agent/..x/x..", "/base/..x/x.."},
		{"/agents/Agent/%E2%82%AC", "/base/%E2%82%AC"},
		{"/agents/Agent/100%25;v=1", "/base/100%25;v=1"},
	}
	for _, tt := range tests {
		r := f.do(http.MethodPatch, tt.path, "body", "Traceparent", "00-1", "X-Forwarded-For", "192.0.2.9", "Connection", "X-Hop", "X-Hop", "1")
		var got seen
		if err := json.Unmarshal([]byte(r.text), &got); err != nil {
			t.Fatalf("%s: %v: %s", tt.path, err, r.text)
		}
		if got.URI != tt.uri || got.Method != http.MethodPatch || got.Body != "body" {
			t.Errorf("%s: the agent got %+v, want %s", tt.path, got, tt.uri)
		}
		if r.Header.Get("X-Agent") != "yes" || got.Header.Get("Traceparent") != "00-1" || got.Header.Get("X-Hop") != "" ||
			got.Header.Get("X-Forwarded-For") != "192.0.2.9, 127.0.0.1" || got.Header.Get("X-Forwarded-Host") == "" || got.Host == "" {
			t.Errorf("%s: headers %v, host %s", tt.path, got.Header, got.Host)
		}
	}
}

func TestGateway_BadPathsNeverReachAnAgent(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	f := newFixture(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { calls.Add(1) }))
	tests := []struct {
		path   string
		status int
		code   string
	}{
		{"/agents/", 400, "invalid_agent_name"},
		{"/agents//x", 400, "invalid_agent_name"},
		{"/agents/-x", 400, "invalid_agent_name"},
		{"/agents/a%00b/x", 400, "invalid_agent_name"},
		{"/agents/a%2Fb", 400, "invalid_agent_name"},
		{"/agents/%zz", 400, "invalid_agent_name"},
		{"/agents/caf%C3%A9", 400, "invalid_agent_name"},
		{"/agents/" + strings.Repeat("x", 129), 400, "invalid_agent_name"},
		{"/agents/../admin", 400, "invalid_agent_name"},
		{"/agents/Agent/../x", 400, "invalid_path"},
		{"/agents/Agent/.", 400, "invalid_path"},
		{"/agents/Agent/%2e%2E/x", 400, "invalid_path"},
		{"/agents/Agent/a%2f..%2fb", 400, "invalid_path"},
		{"/agents/Agent/a%5C..%5Cb", 400, "invalid_path"},
		{"/agents/Agent/..;/..;x/admin", 400, "invalid_path"},
		{"/agents/Agent/%252e%252e/admin", 400, "invalid_path"},
		{"/agents/Agent/%25252525252e", 400, "invalid_path"},
		{"/agents/Agent/%0d%0a", 400, "invalid_path"},
		{"/agents/Agent/%ff", 400, "invalid_path"},
		{"/agents/Nobody/x", 404, "agent_unknown"},
		{"/agents/NoURL/x", 404, "agent_has_no_url"},
		{"/agents/Away/x", 503, "store_unavailable"},
	}
	for _, tt := range tests {
		r := f.do(http.MethodGet, tt.path, "")
		if r.StatusCode == http.StatusBadRequest && r.Header.Get("Content-Type") != "application/problem+json" {
			if !strings.Contains(tt.path, "%zz") { // net/http itself refuses that one
				t.Errorf("%s: %s", tt.path, r.text)
			}
			continue
		}
		r.problem(t, tt.status, tt.code)
	}
	if calls.Load() != 0 {
		t.Errorf("%d calls reached the agent", calls.Load())
	}
}

func TestGateway_FiveFailuresOpenAndTheSixthIsRefused(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	f := newFixture(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		http.Error(w, "the agent's own words", http.StatusBadGateway)
	}))
	for range 5 {
		if r := f.do(http.MethodPost, "/agents/Agent/run", "{}"); r.StatusCode != http.StatusBadGateway || r.text != "the agent's own words\n" {
			t.Fatalf("got %d %s", r.StatusCode, r.text)
		}
	}
	r := f.do(http.MethodPost, "/agents/Agent/run", "{}")
	r.problem(t, http.StatusTooManyRequests, "circuit_breaker_open")
	if r.Header.Get("X-Circuit-Breaker-State") != "OPEN" || r.Header.Get("Retry-After") != "60" || calls.Load() != 5 {
		t.Errorf("headers %v, %d calls", r.Header, calls.Load())
	}
}

func TestGateway_StatusesCountAsTheClauseSays(t *testing.T) {
	t.Parallel()
	f := newFixture(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var status int
		_, _ = fmt.Sscanf(r.URL.Path, "/base/%d", &status)
		w.WriteHeader(status)
	}))
	want := map[int][2]int64{ // failures, calls
		200: {0, 1}, 204: {0, 1}, 302: {0, 1}, 400: {0, 0}, 401: {0, 0}, 404: {0, 0}, 409: {0, 0}, 422: {0, 0},
		408: {1, 1}, 425: {1, 1}, 429: {1, 1}, 500: {1, 1}, 503: {1, 1}, 599: {1, 1},
	}
	var failures, calls int64
	for status, add := range want {
		_, oldF, oldC := f.counted("Agent")
		f.do(http.MethodGet, fmt.Sprintf("/agents/Agent/%d", status), "")
		if _, failures, calls = f.counted("Agent"); failures-oldF != add[0] || calls-oldC != add[1] {
			t.Errorf("%d: %d failures in %d calls, want %v", status, failures-oldF, calls-oldC, add)
		}
		if _, err := f.manager.Force(t.Context(), "Agent", breaker.Force{Target: breaker.ResetClosed, Actor: "test"}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestGateway_UnreachableAgentIs502AndAFailure(t *testing.T) {
	t.Parallel()
	f := newFixture(t, http.NotFoundHandler())
	r := f.do(http.MethodGet, "/agents/Gone/x", "")
	r.problem(t, http.StatusBadGateway, "upstream_unreachable")
	if !strings.Contains(r.text, "connection refused") || strings.Contains(r.text, "127.0.0.1") {
		t.Errorf("it says %s", r.text)
	}
	if _, failures, _ := f.counted("Gone"); failures != 1 {
		t.Errorf("%d failures", failures)
	}
}

func TestGateway_SlowAgentIs504AndAFailure(t *testing.T) {
	t.Parallel()
	done := make(chan struct{})
	f := newFixture(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done(); close(done) }),
		func(a *registry.Agent) { a.Timeout = 50 * time.Millisecond })
	f.do(http.MethodGet, "/agents/Agent/x", "").problem(t, http.StatusGatewayTimeout, "upstream_timeout")
	<-done
	if _, failures, _ := f.counted("Agent"); failures != 1 {
		t.Errorf("%d failures", failures)
	}
}

func TestGateway_ErrorInsideA200IsAFailureIfClassified(t *testing.T) {
	t.Parallel()
	const body = `{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"no"}}`
	f := newFixture(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, body)
	}), func(a *registry.Agent) { a.Classify = breakerhttp.MCP })
	if r := f.do(http.MethodPost, "/agents/Agent/mcp", "{}"); r.StatusCode != http.StatusOK || r.text != body {
		t.Errorf("got %d %s", r.StatusCode, r.text)
	}
	if _, failures, _ := f.counted("Agent"); failures != 1 {
		t.Errorf("%d failures", failures)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.timings) != 1 || f.timings[0].Agent != "Agent" || f.timings[0].Status != 200 || f.timings[0].Outcome.Kind != breaker.Failure {
		t.Errorf("timings %+v", f.timings)
	}
}

func TestGateway_StreamIsFlushedAndACallerWhoLeavesItIsASuccess(t *testing.T) {
	t.Parallel()
	next, ended := make(chan struct{}), make(chan struct{})
	f := newFixture(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(ended)
		w.Header().Set("Content-Type", "text/event-stream")
		for i := 0; ; i++ {
			_, _ = fmt.Fprintf(w, "data: %d\n\n", i)
			_ = http.NewResponseController(w).Flush()
			select {
			case <-next:
			case <-r.Context().Done():
				return
			}
		}
	}))
	resp, err := http.Get(f.url + "/agents/Agent/stream")
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64)
	for i := range 3 {
		n, err := resp.Body.Read(buf) // the agent sends the next part after this read
		if want := fmt.Sprintf("data: %d\n\n", i); err != nil || string(buf[:n]) != want {
			t.Fatalf("read %q, %v; want %q", buf[:n], err, want)
		}
		if i < 2 {
			next <- struct{}{}
		}
	}
	_ = resp.Body.Close()
	<-ended
	for calls := int64(0); calls != 1; runtime.Gosched() { // it is counted about when the agent learns of it
		var failures int64
		if _, failures, calls = f.counted("Agent"); failures != 0 || calls > 1 || t.Context().Err() != nil {
			t.Fatalf("%d failures in %d calls", failures, calls)
		}
	}
}

func TestGateway_BrokenStreamIsAFailureAndBreaksForTheCaller(t *testing.T) {
	t.Parallel()
	f := newFixture(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "half")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}))
	resp, err := http.Get(f.url + "/agents/Agent/stream")
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err == nil || string(text) != "half" {
		t.Errorf("read %q, %v", text, err)
	}
	if _, failures, _ := f.counted("Agent"); failures != 1 {
		t.Errorf("%d failures", failures)
	}
}

func TestGateway_RefusalDoesNotWaitForTheRequest(t *testing.T) {
	t.Parallel()
	f := newFixture(t, http.NotFoundHandler())
	if _, err := f.manager.Force(t.Context(), "Agent", breaker.Force{Target: breaker.HoldOpen, Actor: "test"}); err != nil {
		t.Fatal(err)
	}
	for _, head := range []string{"Content-Length: 1000\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"} {
		got := f.raw("POST /agents/Agent/x HTTP/1.1\r\nHost: x\r\n" + head)
		if !strings.HasPrefix(got, "HTTP/1.1 429 ") || !strings.Contains(got, "Connection: close") {
			t.Errorf("%q: %s", head, got)
		}
	}
}

func TestGateway_EarlyAnswerIsNotHeldBack(t *testing.T) {
	t.Parallel()
	f := newFixture(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close")
		http.Error(w, "too large for me", http.StatusRequestEntityTooLarge)
	}))
	got := f.raw("POST /agents/Agent/x HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nabc")
	if !strings.HasPrefix(got, "HTTP/1.1 413 ") {
		t.Error(got)
	}
}

func TestGateway_IsFullDuplex(t *testing.T) {
	t.Parallel()
	f := newFixture(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		buf := make([]byte, 64)
		for {
			n, err := r.Body.Read(buf)
			if n > 0 {
				_, _ = w.Write(buf[:n])
				_ = http.NewResponseController(w).Flush()
			}
			if err != nil {
				return
			}
		}
	}))
	in, out := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.url+"/agents/Agent/echo", in)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = out.Write([]byte("ping 0")) }()
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	buf := make([]byte, 64)
	for i := range 3 {
		n, err := resp.Body.Read(buf)
		if want := fmt.Sprintf("ping %d", i); err != nil || string(buf[:n]) != want {
			t.Fatalf("read %q, %v; want %q", buf[:n], err, want)
		}
		if i < 2 {
			_, _ = fmt.Fprintf(out, "ping %d", i+1)
		}
	}
	_ = out.Close()
	if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) > 0 {
		t.Errorf("read %q, %v", rest, err)
	}
}

func TestGateway_UpgradesOnlyWebSockets(t *testing.T) {
	t.Parallel()
	headers := make(chan http.Header, 1)
	f := newFixture(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { headers <- r.Header }))
	f.do(http.MethodGet, "/agents/Agent/x", "", "Connection", "Upgrade, HTTP2-Settings", "Upgrade", "h2c", "HTTP2-Settings", "AAMAAABk")
	if got := <-headers; got.Get("Upgrade")+got.Get("Connection")+got.Get("HTTP2-Settings") != "" {
		t.Errorf("the agent got %v", got)
	}
	f.do(http.MethodGet, "/agents/Agent/x", "", "Connection", "Upgrade", "Upgrade", "WebSocket")
	if got := <-headers; got.Get("Upgrade") != "WebSocket" || got.Get("Connection") != "Upgrade" {
		t.Errorf("the agent got %v", got)
	}
}

func TestGateway_KeepsTheChainOfProxies(t *testing.T) {
	t.Parallel()
	headers := make(chan http.Header, 1)
	f := newFixture(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { headers <- r.Header }))
	f.do(http.MethodGet, "/agents/Agent/x", "", "X-Forwarded-For", "192.0.2.9", "X-Forwarded-Host", "api.example.org",
		"X-Forwarded-Proto", "https", "Forwarded", "for=192.0.2.9")
	got := <-headers
	if got.Get("X-Forwarded-For") != "192.0.2.9, 127.0.0.1" || got.Get("X-Forwarded-Host") != "api.example.org" ||
		got.Get("X-Forwarded-Proto") != "https" || got.Get("Forwarded") != "for=192.0.2.9" {
		t.Errorf("the agent got %v", got)
	}
}
