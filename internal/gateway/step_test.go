package gateway_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/gateway"
	"github.com/breakerd/breakerd/internal/registry"
	"github.com/breakerd/breakerd/internal/workflow"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breakerhttp"
)

func step(agent string) workflow.Call {
	return workflow.Call{
		Agent: agent, WorkflowID: "wf", ExecutionID: "ex", StepID: "st", Path: "/run",
		Input: json.RawMessage(`{"text":"test"}`),
	}
}

func TestStep_PostsItsInputAndReturnsTheAnswer(t *testing.T) {
	t.Parallel()
	f := newFixture(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		echo(w, r)
	}))
	var out json.RawMessage
	var err error
	gateway.KeepTrace(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		out, err = f.gate.Call(r.Context(), step("Agent"))
	})).ServeHTTP(nil, func() *http.Request {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", nil)
		r.Header.Set("Traceparent", "00-7-8-01")
		r.Header.Set("Cookie", "secret")
		return r
	}())
	if err != nil {
		t.Fatal(err)
	}
	var got seen
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	if got.Method != http.MethodPost || got.URI != "/base/run" || got.Body != `{"text":"test"}` || got.Header.Get("Cookie") != "" ||
		got.Header.Get("Traceparent") != "00-7-8-01" || got.Header.Get("X-Workflow-Id") != "wf" || got.Header.Get("X-Execution-Id") != "ex" ||
		got.Header.Get("X-Step-Id") != "st" || got.Header.Get("Content-Type") != "application/json" {
		t.Errorf("the agent got %+v", got)
	}
}

func TestStep_AnswersAndFailures(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		handler http.HandlerFunc
		out     string
		cause   string
		text    string
	}{
		{"text", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "a \"b\"") }, `"a \"b\""`, "", ""},
		{"nothing", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }, "null", "", ""},
		{"bad JSON", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/problem+json")
			_, _ = io.WriteString(w, "{")
		}, "", workflow.CauseBadOutput, "not the JSON"},
		{"binary", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "image/png")
			_, _ = io.WriteString(w, "\xff\xfe")
		}, "", workflow.CauseBadOutput, "image/png"},
		{"400", func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "no\nsuch \xff field", http.StatusBadRequest)
		}, "", "status_400", "it answered 400 Bad Request: no such ? field"},
		{"503", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }, "", "status_503", "it answered 503 Service Unavailable"},
		{"302", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/x", http.StatusFound) }, "", "status_302", "302"},
		{"cut", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "", "upstream_unreachable", "closed the connection"},
		{"half", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "10")
			_, _ = io.WriteString(w, "half")
		}, "", "upstream_unreachable", ""},
		{"huge", func(w http.ResponseWriter, _ *http.Request) {
			chunk := []byte(strings.Repeat("x", 1<<20))
			for range 9 {
				_, _ = w.Write(chunk)
			}
		}, "", workflow.CauseBadOutput, "more than"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, tt.handler)
			out, err := f.gate.Call(t.Context(), step("Agent"))
			if string(out) != tt.out {
				t.Errorf("output %s", out)
			}
			var call *workflow.CallError
			if errors.As(err, &call) != (tt.cause != "") || call != nil && (call.Cause != tt.cause || !strings.Contains(call.Error(), tt.text)) {
				t.Errorf("got %#v: %v", err, err)
			}
		})
	}
}

func TestStep_OpenBreakerRefuses(t *testing.T) {
	t.Parallel()
	f := newFixture(t, http.NotFoundHandler())
	if _, err := f.manager.Force(t.Context(), "Agent", breaker.Force{Target: breaker.HoldOpen, Actor: "test"}); err != nil {
		t.Fatal(err)
	}
	_, err := f.gate.Call(t.Context(), step("Agent"))
	if open, ok := errors.AsType[*breaker.OpenError](err); !ok || open.Reason != breaker.ReasonForcedOpen {
		t.Errorf("got %v", err)
	}
}

func TestStep_TimeoutIsAFailureAndCancellationIsIgnored(t *testing.T) {
	t.Parallel()
	f := newFixture(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // or the server does not notice that its client leaves
		<-r.Context().Done()
	}), func(a *registry.Agent) { a.Timeout = time.Minute })
	slow := step("Agent")
	slow.Timeout = 30 * time.Millisecond
	_, err := f.gate.Call(t.Context(), slow)
	if call, ok := errors.AsType[*workflow.CallError](err); !ok || call.Cause != "upstream_timeout" {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, err := f.gate.Call(ctx, step("Agent")); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if _, failures, calls := f.counted("Agent"); failures != 1 || calls != 1 {
		t.Errorf("%d failures in %d calls", failures, calls)
	}
	for _, name := range []string{"Nobody", "NoURL", "Away"} {
		_, err := f.gate.Call(t.Context(), step(name))
		if call, ok := errors.AsType[*workflow.CallError](err); !ok || call.Cause == "" {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// n8n 29681, agent-framework 7496: a step takes the verdict that the breaker was told.
func TestStep_AnErrorInsideA200FailsIt(t *testing.T) {
	t.Parallel()
	toolError := `{"jsonrpc":"2.0","id":1,"result":{"isError":true,"content":[]}}`
	rpcError := func(code string) string { return `{"jsonrpc":"2.0","id":1,"error":{"code":` + code + `}}` }
	for name, c := range map[string]struct {
		classify breakerhttp.BodyClassifier
		text     string
		fails    string // the class; "": the step is complete
		failures int64  // that the breaker counts
	}{
		"status, an error":               {breakerhttp.StatusOnly, rpcError("-32000"), "", 0},
		"mcp, an error":                  {breakerhttp.MCP, rpcError("-32000"), "jsonrpc_error", 1},
		"mcp, the caller's error":        {breakerhttp.MCP, rpcError("-32602"), "jsonrpc_error", 0},
		"mcp, a tool's error":            {breakerhttp.MCP, toolError, "", 0},
		"mcp_strict, a tool's error":     {breakerhttp.MCPStrict, toolError, "tool_error", 1},
		"jsonrpc, a tool's error":        {breakerhttp.JSONRPC, toolError, "", 0},
		"llm, an error":                  {breakerhttp.LLM, `{"error":{"code":503}}`, "llm_error_503", 1},
		"llm, a stream without an event": {breakerhttp.LLM, "", "incomplete_stream", 1},
		"llm, the caller's error":        {breakerhttp.LLM, `{"error":{"code":400}}`, "llm_error_400", 0},
		"auto, an error":                 {breakerhttp.Auto, rpcError("-32603"), "jsonrpc_error", 1},
		"auto, JSON of another kind":     {breakerhttp.Auto, `{"error":"no"}`, "", 0},
		"mcp, an answer":                 {breakerhttp.MCP, `{"jsonrpc":"2.0","id":1,"result":{}}`, "", 0},
		"mcp, an error of another sort":  {breakerhttp.MCP, `{"error":false}`, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				if c.text == "" {
					w.Header().Set("Content-Type", "text/event-stream")
				}
				_, _ = io.WriteString(w, c.text)
			}), func(a *registry.Agent) { a.Classify = c.classify })
			out, err := f.gate.Call(t.Context(), step("Agent"))
			var bad *workflow.CallError
			switch {
			case c.fails == "" && (err != nil || string(out) != c.text):
				t.Errorf("%s, %v", out, err)
			case c.fails != "" && (!errors.As(err, &bad) || bad.Cause != workflow.CauseAgentFailed || !strings.Contains(err.Error(), c.fails)):
				t.Errorf("%s, %v", out, err)
			}
			if _, failures, _ := f.counted("Agent"); failures != c.failures {
				t.Errorf("%d failures", failures)
			}
		})
	}
}
