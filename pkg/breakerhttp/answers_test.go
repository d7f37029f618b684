package breakerhttp_test

import (
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breakerhttp"
)

// sending is an agent that sends its answer in parts, each in a packet of its own.
func sending(t *testing.T, contentType string, parts ...string) (url string) {
	t.Helper()
	return startAgent(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", contentType)
		out := io.Writer(w)
		flush := func() {}
		if r.Header.Get("Accept-Encoding") == "gzip" {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			defer func() { _ = z.Close() }()
			out, flush = z, func() { _ = z.Flush() }
		}
		_ = http.NewResponseController(w).Flush()
		for _, part := range parts {
			_, _ = io.WriteString(out, part)
			flush()
			_ = http.NewResponseController(w).Flush()
		}
	}).URL
}

// FIELD G6 and G7: answers of status 200, over HTTP/1.1 and HTTP/2, plain and compressed.
func TestTransport_JudgesWhatA200Says(t *testing.T) {
	t.Parallel()
	const (
		asEvents = "text/event-stream"
		asJSON   = "application/json"
		chunk    = "data: {\"choices\":[{\"delta\":{\"content\":\"Hel\"}}]}\n\n"
	)
	for _, c := range []struct {
		name, contentType string
		by                breakerhttp.BodyClassifier
		kind              breaker.OutcomeKind
		class             string
		parts             []string
	}{
		{"bad parameters", asJSON, breakerhttp.JSONRPC, breaker.Ignored, "jsonrpc_error", []string{`{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"Invalid params"}}`}},
		{"empty error", asJSON, breakerhttp.JSONRPC, breaker.Success, "", []string{`{"jsonrpc":"2.0","id":1,"result":{},"error":""}`}},
		{"tool", asJSON, breakerhttp.MCP, breaker.Ignored, "tool_error", []string{toolError}},
		{"strict tool", asJSON, breakerhttp.MCPStrict, breaker.Failure, "tool_error", []string{toolError}},
		{"openai", asEvents, breakerhttp.LLM, breaker.Failure, "llm_error_503", []string{chunk, "data: {\"error\":{\"message\":\"x\",\"type\":\"server_error\",\"code\":503}}\n\n", "data: [DONE]\n\n"}},
		{"openai, cut", asEvents, breakerhttp.LLM, breaker.Failure, "incomplete_stream", []string{chunk}},
		{"openai, well", asEvents, breakerhttp.LLM, breaker.Success, "", []string{chunk, "data: [DONE]\n\n"}},
		{"nothing", asEvents, breakerhttp.LLM, breaker.Failure, "incomplete_stream", nil},
		{"lines", "application/x-ndjson", breakerhttp.LLM, breaker.Failure, "llm_error", []string{`{"model":"m","done":false}` + "\n", `{"error":"x"}` + "\n"}},
		{"document", asJSON, breakerhttp.LLM, breaker.Failure, "llm_error_502", []string{`{"error":{"message":"x","code":502}}`}},
		{"auto", asEvents, breakerhttp.Auto, breaker.Failure, "incomplete_stream", []string{chunk}},
		{"auto, foreign", asEvents, breakerhttp.Auto, breaker.Success, "", []string{"data: 1\n\n"}},
	} {
		for _, h2 := range []bool{false, true} {
			for _, coding := range []string{"", "gzip"} {
				t.Run(fmt.Sprint(c.name, " ", h2, " ", coding), func(t *testing.T) {
					t.Parallel()
					r := newOutbound(t, nil)
					r.Base, r.Body = newBase(t, h2), c.by
					req := request(t.Context(), t, http.MethodGet, sending(t, c.contentType, c.parts...))
					if coding != "" {
						req.Header.Set("Accept-Encoding", coding)
					}
					resp, err := r.RoundTrip(req)
					if err != nil {
						t.Fatal(err)
					}
					_, _ = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
					if got := resp.Header.Get("Content-Encoding"); got != coding {
						t.Errorf("answered in %q", got)
					}
					r.settledOnce(t, c.kind, c.class)
				})
			}
		}
	}
}

// FIELD G13.
func TestTransport_GoesByTheStatusOfGRPC(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		header, trailer string
		kind            breaker.OutcomeKind
		class           string
	}{
		{"", "14", breaker.Failure, "grpc_14"},
		{"", "0", breaker.Success, ""},
		{"", "5", breaker.Ignored, "grpc_5"},
		{"", "", breaker.Failure, "grpc_no_status"},
		{"8", "", breaker.Failure, "grpc_8"},
		{"3", "", breaker.Ignored, "grpc_3"},
		{"0", "", breaker.Success, ""},
	} {
		for _, h2 := range []bool{false, true} {
			for _, by := range []breakerhttp.BodyClassifier{breakerhttp.GRPC, breakerhttp.Auto} {
				t.Run(fmt.Sprint(c.header, "/", c.trailer, " ", h2, " ", by), func(t *testing.T) {
					t.Parallel()
					agent := startAgent(t, func(w http.ResponseWriter, _ *http.Request) {
						w.Header().Set("Content-Type", "application/grpc")
						if c.header != "" { // all in the header, and no body
							w.Header().Set("Grpc-Status", c.header)
							return
						}
						_, _ = w.Write(make([]byte, 5))
						_ = http.NewResponseController(w).Flush()
						if c.trailer != "" {
							w.Header().Set(http.TrailerPrefix+"Grpc-Status", c.trailer)
						}
					})
					r := newOutbound(t, nil)
					r.Base, r.Body = newBase(t, h2), by
					resp := r.get(t, agent.URL)
					_, _ = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
					r.settledOnce(t, c.kind, c.class)
				})
			}
		}
	}
}

// FIELD G6: what is the callers' own fault opens no breaker.
func TestTransport_CallersOwnErrorsKeepTheBreakerClosed(t *testing.T) {
	t.Parallel()
	url := sending(t, "application/json", `{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"Method not found"}}`)
	r := newOutbound(t, nil)
	r.Body = breakerhttp.MCP
	for range 20 {
		resp := r.get(t, url)
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		r.settledOnce(t, breaker.Ignored, "jsonrpc_error")
	}
	if s := r.state(t); s != breaker.Closed {
		t.Errorf("is %s", s)
	}
}
