package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/breakerd/breakerd/internal/problem"
)

// maxInput bounds, in bytes, the body of a call that a healthy agent repeats in its answer.
const maxInput = 1 << 20

// call is one call of an agent, on its way to an answer.
type call struct {
	w     http.ResponseWriter
	r     *http.Request
	agent string
	path  string // what follows the agent's name, as sent; at least "/"
	does  behaviour
	input []byte
	large bool // the input is longer than maxInput, and not kept
}

// echoed is what a healthy agent answers.
type echoed struct {
	Agent  string `json:"agent"`
	Method string `json:"method"`
	Path   string `json:"path"`
	Query  string `json:"query,omitempty"`
	Input  any    `json:"input"` // JSON as it was sent, or text; null: no body
	At     string `json:"at"`
}

// serveAgent answers a call as its agent behaves now.
func (s *server) serveAgent(w http.ResponseWriter, r *http.Request, agent, path string) {
	does, turn, end := s.agents.begin(agent)
	defer end()
	c := &call{w: w, r: r, agent: agent, path: path, does: does}
	c.read() // all of it: only then does net/http notice that a client of HTTP/1.1 leaves
	pause(r.Context(), does.wait(delayMs))
	switch does.now(turn) {
	case failing:
		c.fail(does.whole(status), "fails, as it was told to")
	case rateLimited:
		c.fail(http.StatusTooManyRequests, "has had too many calls, as it was told to")
	case streaming:
		c.stream()
	case hanging:
		<-r.Context().Done()
		abort()
	case broken:
		abort()
	case jsonrpcError:
		c.rpc("error", map[string]any{"code": -32000, "message": c.agent + " fails, as it was told to"})
	case mcpError:
		text := map[string]any{"type": "text", "text": c.agent + " fails, as it was told to"}
		c.rpc("result", map[string]any{"content": []any{text}, "isError": true})
	default:
		c.answer()
	}
}

// abort cuts the connection (in HTTP/2, the stream) where it stands. What was flushed before has been sent.
func abort() { panic(http.ErrAbortHandler) }

// pause waits, but not longer than the client does.
func pause(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		abort()
	}
}

// read takes the body, to its end, and keeps it unless it is large.
func (c *call) read() {
	input, err := io.ReadAll(io.LimitReader(c.r.Body, maxInput+1))
	if err == nil && len(input) > maxInput {
		c.large, input = true, nil
		_, err = io.Copy(io.Discard, c.r.Body)
	}
	if err != nil {
		abort() // the client is gone
	}
	c.input = input
}

// answer is what a healthy agent says.
func (c *call) answer() {
	if c.large {
		problem.New(problem.BodyTooLarge, "the body is larger than %d bytes", maxInput).Write(c.w)
		return
	}
	var input any
	switch {
	case json.Valid(c.input):
		input = json.RawMessage(c.input)
	case len(c.input) > 0:
		input = string(c.input)
	}
	writeJSON(c.w, http.StatusOK, echoed{c.agent, c.r.Method, c.path, c.r.URL.RawQuery, input, stamp()})
}

// fail answers with an error, and with a Retry-After if the agent has one.
func (c *call) fail(status int, what string) {
	if n := c.does.whole(retryAfter); n > 0 || c.does.mode == rateLimited {
		c.w.Header().Set("Retry-After", strconv.Itoa(n))
	}
	writeJSON(c.w, status, map[string]string{"error": c.agent + " " + what})
}

// rpc answers with a JSON-RPC response that holds field, to the id that was asked with.
func (c *call) rpc(field string, v any) {
	var asked struct {
		ID json.RawMessage `json:"id"`
	}
	if json.Unmarshal(c.input, &asked) != nil || asked.ID == nil {
		asked.ID = json.RawMessage("null")
	}
	writeJSON(c.w, http.StatusOK, map[string]any{"jsonrpc": "2.0", "id": asked.ID, field: v})
}

// stream sends server-sent events: the first at once, each flushed.
func (c *call) stream() {
	h := c.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-cache")
	h.Set("X-Accel-Buffering", "no") // nginx would keep the events back
	flush := http.NewResponseController(c.w).Flush
	count, last := c.does.whole(events), c.does.whole(breakAfter)
	for n := 1; n <= count; n++ {
		if n > 1 {
			pause(c.r.Context(), c.does.wait(intervalMs))
		}
		_, err := fmt.Fprintf(c.w, "id: %d\ndata: {\"agent\":%q,\"event\":%d,\"of\":%d,\"at\":%q}\n\n", n, c.agent, n, count, stamp())
		if err != nil || flush() != nil || n == last {
			abort()
		}
	}
}

// stamp is now as JSON shows it.
func stamp() string { return time.Now().UTC().Format("2006-01-02T15:04:05.000Z07:00") }

// writeJSON sends v; it can be marshalled. An error means that the client is gone, which nobody needs to hear.
func writeJSON(w http.ResponseWriter, status int, v any) {
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false) // read by people; nosniff keeps it from being HTML
	if err := enc.Encode(v); err != nil {
		panic(fmt.Sprintf("demo: %T cannot be marshalled: %v", v, err))
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = body.WriteTo(w)
}
