package breakerhttp_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breakerhttp"
)

const (
	rpcError  = `{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"no"}}`
	toolError = `{"jsonrpc":"2.0","id":1,"result":{"isError":true}}`
)

// answering is an agent that answers every request with that body.
func answering(t *testing.T, contentType, text string) (url string) {
	t.Helper()
	return startAgent(t, func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Accept-Encoding"); strings.Contains(got, "br") {
			t.Errorf("asks for encoding %q", got)
		}
		w.Header().Set("Content-Type", contentType)
		_, _ = io.WriteString(w, text)
		w.(http.Flusher).Flush()
	}).URL
}

func TestBodyClassifier_FindsErrorsInSuccesses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, contentType, text string
		by                      breakerhttp.BodyClassifier
		kind                    breaker.OutcomeKind
		class                   string
	}{
		{"rpc", "application/json", rpcError, breakerhttp.JSONRPC, breaker.Failure, "jsonrpc_error"},
		{"tool", "application/json; charset=utf-8", toolError, breakerhttp.MCP, breaker.Ignored, "tool_error"},
		{"tool as rpc", "application/json", toolError, breakerhttp.JSONRPC, breaker.Success, ""},
		{"other type", "text/plain", rpcError, breakerhttp.MCP, breaker.Success, ""},
		{"long", "application/json", `{"error":"` + strings.Repeat("x", 2<<20) + `"}`, breakerhttp.MCP, breaker.Success, ""},
		{"events", "text/event-stream", "data: {}\n\ndata: " + toolError + "\n\n", breakerhttp.MCPStrict, breaker.Failure, "tool_error"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newOutbound(t, nil)
			r.Body = c.by
			resp := r.get(t, answering(t, c.contentType, c.text))
			if text, err := io.ReadAll(resp.Body); err != nil || string(text) != c.text {
				t.Errorf("read %d bytes, %v", len(text), err)
			}
			if len(r.seen.settled) != 1 {
				t.Error("not settled at the end")
			}
			_ = resp.Body.Close()
			r.settledOnce(t, c.kind, c.class)
		})
	}
}

func TestBodyClassifier_SettlesWhenTheErrorPasses(t *testing.T) {
	t.Parallel()
	srv := startAgent(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: "+toolError+"\n\n")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	r := newOutbound(t, nil)
	r.Body = breakerhttp.MCPStrict
	resp := r.get(t, srv.URL)
	if _, err := io.ReadFull(resp.Body, make([]byte, len(toolError)+8)); err != nil {
		t.Fatal(err)
	}
	if len(r.seen.settled) != 1 {
		t.Error("not settled when the event had passed")
	}
	_ = resp.Body.Close() // the stream goes on
	r.settledOnce(t, breaker.Failure, "tool_error")
}

func TestBodyClassifier_JudgesDocumentAtClose(t *testing.T) {
	t.Parallel()
	srv := startAgent(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, rpcError)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	r := newOutbound(t, nil)
	r.Body = breakerhttp.JSONRPC
	resp := r.get(t, srv.URL)
	var v any
	if err := json.NewDecoder(resp.Body).Decode(&v); err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	r.settledOnce(t, breaker.Failure, "jsonrpc_error")
}

func TestTransport_LeavesRequestUnchanged(t *testing.T) {
	t.Parallel()
	url := answering(t, "application/json", "{}")
	for _, h := range []http.Header{nil, {"Accept-Encoding": {"gzip, br"}}} {
		r := newOutbound(t, nil)
		r.Body = breakerhttp.MCP
		req := request(t.Context(), t, http.MethodPost, url)
		body := io.NopCloser(strings.NewReader("text"))
		req.Header, req.Body, req.ContentLength = h.Clone(), body, 4
		ctx := req.Context()
		resp, err := r.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if req.Header.Get("Accept-Encoding") != h.Get("Accept-Encoding") || req.Body != body || req.Context() != ctx || resp.Request != req {
			t.Errorf("the request is now %+v, and the response's %+v", req, resp.Request)
		}
	}
}
