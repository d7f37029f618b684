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

// call is one call of an agent.
type call struct {
	w     http.ResponseWriter
	r     *http.Request
	agent string
	path  string // what follows the agent's name, as it was sent; at least "/"
	does  behaviour
	input []byte
	large bool // the input was longer than maxInput, and input is empty
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

// serveAgent answers a call in the agent's mode.
func (s *server) serveAgent(w http.ResponseWriter, r *http.Request, agent, path string) {
	does, turn, end := s.agents.begin(agent)
	defer end()
	c := &call{w: w, r: r, agent: agent, path: path, does: does}
	c.read() // all of it: only then does net/http notice that a client of HTTP/1.1 leaves
	pause(r.Context(), does.wait(delayMs))
	switch does.now(turn) {
	case failing:
		c.fail(does.whole(status), "fails, as its mode says")
	case rateLimited:
		c.fail(http.StatusTooManyRequests, "has had too many calls, as its mode says")
	case streaming:
		c.stream()
	case hanging:
		<-r.Context().Done()
		abort()
	case broken:
		abort()
	case jsonrpcError:
		c.rpc("error", map[string]any{"code": -32000, "message": c.agent + " fails, as its mode says"})
	case mcpError:
		text := map[string]any{"type": "text", "text": c.agent + " fails, as its mode says"}
		c.rpc("result", map[string]any{"content": []any{text}, "isError": true})
	default:
		c.answer()
	}
}

// abort cuts the connection, or the stream of HTTP/2. What was flushed before has been sent.
func abort() { panic(http.ErrAbortHandler) }

// pause waits, and aborts when the client leaves.
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

// read reads the body to its end, and keeps it unless it is large.
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

// answer repeats the call.
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

// fail answers with an error, and with the Retry-After that the mode may have.
func (c *call) fail(status int, what string) {
	if n := c.does.whole(retryAfter); n > 0 || c.does.mode == rateLimited {
		c.w.Header().Set("Retry-After", strconv.Itoa(n))
	}
	writeJSON(c.w, status, map[string]string{"error": c.agent + " " + what})
}

// rpc answers with a JSON-RPC response that holds field, with the id of the request.
func (c *call) rpc(field string, v any) {
	var asked struct {
		ID json.RawMessage `json:"id"`
	}
	if json.Unmarshal(c.input, &asked) != nil || asked.ID == nil {
		asked.ID = json.RawMessage("null")
	}
	writeJSON(c.w, http.StatusOK, map[string]any{"jsonrpc": "2.0", "id": asked.ID, field: v})
}

// stream sends server-sent events, the first at once, and flushes each.
func (c *call) stream() {
	h := c.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-cache")
	h.Set("X-Accel-Buffering", "no") // else nginx buffers the events
	flush := http.NewResponseController(c.w).Flush
	count, last := c.does.whole(events), c.does.whole(breakAfter)
	for n := 1; n <= count; n++ {
		if n > 1 {
			pause(c.r.Context(), c.does.wait(intervalMs))
		}
		_, err := fmt.Fprintf(c.w, "id: %[2]d\ndata: {\"agent\":%[1]q,\"event\":%[2]d,\"of\":%[3]d,\"at\":%[4]q}\n\n",
			c.agent, n, count, stamp())
		if err != nil || flush() != nil || n == last {
			abort()
		}
	}
}

// stamp is the time for JSON.
func stamp() string { return time.Now().UTC().Format("2006-01-02T15:04:05.000Z07:00") }

// writeJSON sends v, which can be marshalled. It ignores that the client may be gone.
func writeJSON(w http.ResponseWriter, status int, v any) {
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false) // people read it, and nosniff keeps it from being HTML
	if err := enc.Encode(v); err != nil {
		panic(fmt.Sprintf("demo: %T cannot be marshalled: %v", v, err))
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = body.WriteTo(w)
}
