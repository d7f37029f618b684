package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/breakerd/breakerd/internal/text"
	"github.com/breakerd/breakerd/internal/workflow"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breakerhttp"
)

// maxOutput bounds the answer of a step's agent, in bytes.
const maxOutput = 8 << 20

// maxExcerpt bounds the part of an agent's answer that an error shows, in bytes.
const maxExcerpt = 200

var _ workflow.Caller = (*Gateway)(nil)

// Call implements [workflow.Caller]: it POSTs the step's input to the agent's url and the step's path, through the
// agent's breaker. The output is the answer's JSON, or, of another media type, its text as a JSON string. A refusal is
// a [*breaker.OpenError], anything else but a 2xx a [*workflow.CallError].
func (g *Gateway) Call(ctx context.Context, c workflow.Call) (json.RawMessage, error) {
	agent, p := g.find(ctx, c.Agent)
	if from, ok := ctx.Value(traceKey{}).(http.Header); ok && g.via.looped(from) {
		p = looping()
		if g.via.due() {
			g.o.Logger.WarnContext(ctx, "a workflow's call came back", "event", "bridge.loop_detected", "agent", c.Agent,
				"workflow", c.WorkflowID)
		}
	}
	if p != nil {
		return nil, failed(string(p.Code), "%s", p.Detail)
	}
	node := "workflow:" + c.WorkflowID
	g.o.Manager.NoteCall(node, c.Agent)
	if from, ok := ctx.Value(traceKey{}).(http.Header); ok {
		g.o.Manager.NoteCall(from.Get(callerHeader), node)
	}
	if c.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.Timeout)
		defer cancel()
	}
	address := join(agent.URL, c.Path).String()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(c.Input))
	if err != nil { // which names the address
		return nil, failed(workflow.CauseAgentFailed, "the agent's url and the path of the step make no address")
	}
	req.Header = g.stepHeader(ctx, c)
	transport := g.transport(agent, c.Path)
	transport.Base = redirects{transport.Base, agent.URL}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil, g.stepError(ctx, c, err)
	}
	defer func() { _ = resp.Body.Close() }() // nothing more is read
	body, err := readAnswer(c, resp)
	switch {
	case err != nil:
		return nil, g.stepError(ctx, c, fmt.Errorf("its answer broke off: %w", err))
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		return nil, failed("status_"+strconv.Itoa(resp.StatusCode), "it answered %s%s", resp.Status, excerpt(body))
	case len(body) > maxOutput:
		return nil, failed(workflow.CauseBadOutput, "it answered with more than %d bytes", maxOutput)
	}
	if class, bad := wrong(resp); bad {
		return nil, failed(workflow.CauseAgentFailed, "its answer is an error, %s%s", class, excerpt(body))
	}
	return output(c, resp.Header.Get("Content-Type"), body)
}

// wrong reports whether an answer whose status is a success is an error all the same, as the breaker was told, and
// which. The error of a tool [breakerhttp.MCP] is a result, which the next step may want.
func wrong(resp *http.Response) (class string, bad bool) {
	o, _ := breakerhttp.Verdict(resp)
	own := o.Kind == breaker.Ignored && o.Class != "tool_error" && !strings.HasPrefix(o.Class, "http_")
	return o.Class, own || o.Kind == breaker.Failure
}

// readAnswer reads an answer to its end, or to one byte beyond maxOutput: only an answer that has ended tells the
// breaker something. Of an answer that is no success it keeps the beginning.
func readAnswer(c workflow.Call, resp *http.Response) ([]byte, error) {
	whole := io.LimitReader(resp.Body, maxOutput+1)
	if resp.StatusCode >= 200 && resp.StatusCode <= 299 {
		return c.ReadAnswer(whole)
	}
	body, err := io.ReadAll(io.LimitReader(whole, 4*maxExcerpt))
	if err == nil {
		_, err = io.Copy(io.Discard, whole)
	}
	return body, err
}

func failed(cause, format string, args ...any) error {
	return &workflow.CallError{Cause: cause, Err: fmt.Errorf(format, args...)}
}

// stepHeader returns the header of a step's request.
func (g *Gateway) stepHeader(ctx context.Context, c workflow.Call) http.Header {
	h := http.Header{}
	if from, ok := ctx.Value(traceKey{}).(http.Header); ok {
		for _, name := range append(traceHeaders(), "Via") {
			if v := from.Values(name); len(v) > 0 {
				h[name] = v
			}
		}
	}
	g.via.add(h)
	h.Set("Content-Type", "application/json")
	h.Set("Accept", "application/json")
	h.Set("X-Workflow-Id", c.WorkflowID)
	h.Set("X-Execution-Id", c.ExecutionID)
	h.Set("X-Step-Id", c.StepID)
	h.Set(callerHeader, c.Agent)
	return h
}

// stepError returns the error of a step whose agent gave no complete answer.
func (g *Gateway) stepError(ctx context.Context, c workflow.Call, err error) error {
	if open, refused := errors.AsType[*breaker.OpenError](err); refused {
		return open
	}
	if ours, ok := errors.AsType[*workflow.CallError](err); ok {
		return ours
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	p, _ := unanswered(c.Agent, err)
	g.o.Logger.WarnContext(ctx, "agent gave no answer", "event", "bridge."+string(p.Code), "agent", c.Agent,
		"workflow", c.WorkflowID, "execution", c.ExecutionID, "step", c.StepID, "error", err)
	return failed(string(p.Code), "%s", p.Detail)
}

// excerpt returns the beginning of an agent's answer for a message.
func excerpt(body []byte) string {
	line := text.Line(string(body[:min(len(body), 4*maxExcerpt)]), maxExcerpt)
	if line == "" {
		return ""
	}
	return ": " + line
}

// output returns an answer as JSON.
func output(c workflow.Call, contentType string, body []byte) (json.RawMessage, error) {
	kind, _, _ := mime.ParseMediaType(contentType)
	switch {
	case len(bytes.TrimSpace(body)) == 0:
		return json.RawMessage("null"), nil
	case kind == "application/json", strings.HasSuffix(kind, "+json"):
		if !json.Valid(body) {
			return nil, failed(workflow.CauseBadOutput, "its answer is not the JSON that it says it is")
		}
		return body, nil
	case !utf8.Valid(body):
		return nil, failed(workflow.CauseBadOutput, "its answer is neither JSON nor text, but %q", kind)
	}
	return quote(c, body)
}

// quote returns a text as a JSON string.
func quote(c workflow.Call, text []byte) (json.RawMessage, error) {
	size := len(`""`)
	for _, b := range text {
		switch {
		case b < ' ':
			size += len(`\u0000`)
		case b == '"', b == '\\':
			size += len(`\"`)
		default:
			size++
		}
	}
	if size > maxOutput {
		return nil, failed(workflow.CauseBadOutput, "it answered with more than %d bytes", maxOutput)
	}
	if err := c.Hold(size); err != nil {
		return nil, err
	}
	return jsontext.AppendQuote(make([]byte, 0, size), text)
}

// traceHeaders are those of W3C trace context and baggage, of B3, and the request id.
func traceHeaders() []string {
	return []string{
		"Traceparent", "Tracestate", "Baggage", "B3", "X-B3-Traceid", "X-B3-Spanid", "X-B3-Sampled", "X-Request-Id",
	}
}

type traceKey struct{}

// KeepTrace makes the calls of a workflow carry the trace headers and Via of the request that started it.
func KeepTrace(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), traceKey{}, r.Header)))
	})
}
