package breakerhttp

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// Middleware guards an API with a breaker for each agent that calls it. Manager and Agent are required. A Middleware is
// safe for concurrent use as long as its fields do not change.
type Middleware struct {
	Manager *breaker.Manager
	// Agent names the agent that calls, such as [FromHeader] and [FromPath]. The name must be proven (by a token, a
	// client certificate, a proxy that sets the header itself): whoever can call under another's name can have the other
	// kept out. An error, or a bad name, is answered with 400; the answer shows the error's text if it is a
	// breaker.ErrBadName.
	Agent func(*http.Request) (string, error)
	// Classify makes an outcome of the status that the API answered. nil: [InboundOutcome].
	Classify func(status int) breaker.Outcome
	Logger   *slog.Logger // nil: silent
}

// FromHeader names the caller by a header, which the request must have once.
func FromHeader(name string) func(*http.Request) (string, error) {
	return func(r *http.Request) (string, error) {
		values := r.Header.Values(name)
		if len(values) != 1 || !breaker.ValidName(values[0]) {
			return "", fmt.Errorf("header %s: %w", name, breaker.ErrBadName)
		}
		return values[0], nil
	}
}

// FromPath names the caller by a segment of the request's path, counted from 1: segment 2 of /agents/reader/ask is
// reader.
func FromPath(segment int) func(*http.Request) (string, error) {
	return func(r *http.Request) (string, error) {
		parts := strings.Split(r.URL.EscapedPath(), "/") // parts[0] is empty: it ends at the first slash
		if segment >= 1 && segment < len(parts) {
			if name, err := url.PathUnescape(parts[segment]); err == nil && breaker.ValidName(name) {
				return name, nil
			}
		}
		return "", fmt.Errorf("segment %d of the path: %w", segment, breaker.ErrBadName)
	}
}

// Wrap is next behind the breakers of its callers.
//
// A failure is settled as soon as next writes its status, before the caller sees it; a success when next returns. A
// panic in next is ignored and goes on. A caller that has left before the answer is ignored. A hijacked connection is a
// success as soon as it is hijacked. While next works, a probe's lease is renewed. Durations are not measured, because
// callers are not to blame for them. Without a Manager, an Agent or a next handler, every call is answered with 500.
func (m *Middleware) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		permit, r, ok := m.admit(w, r, next)
		if !ok {
			return
		}
		c := &inboundCall{ResponseWriter: w, m: m, r: r, permit: permit, endRenewal: permit.Keep(r.Context())}
		o := ignored("panic") // unless next returns
		defer func() { c.settle(o) }()
		next.ServeHTTP(c, r)
		o = c.outcome()
	})
}

// admit acquires a permit, or answers why there is none. The request that it returns carries a probe's permit.
func (m *Middleware) admit(
	w http.ResponseWriter, r *http.Request, next http.Handler,
) (permit breaker.Permit, out *http.Request, ok bool) {
	if m == nil || m.Manager == nil || m.Agent == nil || next == nil {
		problem.New(problem.Internal, "the Middleware's Manager, Agent or handler is not set").Write(w)
		return permit, r, false
	}
	agent, err := m.Agent(r)
	if err == nil {
		var ctx context.Context
		ctx, permit, err = m.Manager.Enter(r.Context(), agent)
		if permit.State() == breaker.HalfOpen {
			r = r.WithContext(ctx)
		}
	} else if !errors.Is(err, breaker.ErrBadName) {
		m.warn(r.Context(), "caller not named", "error", err)
		err = breaker.ErrBadName
	}
	var open *breaker.OpenError
	switch {
	case err == nil:
		return permit, r, true
	case r.Context().Err() != nil: // and the caller is gone
		problem.New(problem.RequestTimeout, "the request ended before the breaker was asked").Write(w)
	case errors.As(err, &open):
		WriteRefusal(w, open)
	case errors.Is(err, breaker.ErrBadName):
		problem.New(problem.InvalidAgentName, "%v", err).Write(w)
	default:
		m.warn(r.Context(), "breaker not asked", "agent", agent, "error", err)
		problem.Unavailable("the store of the circuit breakers does not answer; nothing was done").Write(w)
	}
	return permit, r, false
}

func (m *Middleware) warn(ctx context.Context, text string, args ...any) {
	if m.Logger != nil {
		m.Logger.WarnContext(ctx, text, args...)
	}
}

// WriteRefusal answers a call that the breaker refuses, as breakerd does: 503 if the agent is not at fault, else 429,
// with the headers retry-after and x-circuit-breaker-state and an application/problem+json body of code
// circuit_breaker_open. Nothing may have been written to w.
func WriteRefusal(w http.ResponseWriter, e *breaker.OpenError) {
	if e == nil {
		e = new(breaker.OpenError)
	}
	problem.Refusal(e).Write(w)
}

// inboundCall is one admitted call in, and the http.ResponseWriter of its handler.
type inboundCall struct {
	http.ResponseWriter

	m          *Middleware
	r          *http.Request
	permit     breaker.Permit
	endRenewal func() // of a probe's lease
	status     int    // 0: not written yet
	settled    sync.Once
}

// Unwrap is for http.ResponseController, which finds by it what inboundCall does not implement.
func (c *inboundCall) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (c *inboundCall) WriteHeader(status int) {
	c.noteStatus(status)
	c.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (c *inboundCall) Write(p []byte) (int, error) {
	c.noteStatus(http.StatusOK)
	return c.ResponseWriter.Write(p)
}

// Flush implements http.Flusher.
func (c *inboundCall) Flush() { _ = c.FlushError() }

// FlushError is Flush for http.ResponseController.
func (c *inboundCall) FlushError() error {
	c.noteStatus(http.StatusOK)
	return http.NewResponseController(c.ResponseWriter).Flush()
}

// Hijack implements http.Hijacker.
func (c *inboundCall) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(c.ResponseWriter).Hijack()
	if err == nil {
		c.noteStatus(http.StatusSwitchingProtocols)
		c.settle(c.classify())
	}
	return conn, rw, err
}

// noteStatus notes the first final status. If it is no success, the call is settled before the caller sees the status.
func (c *inboundCall) noteStatus(status int) {
	if c.status != 0 || status < 200 && status != http.StatusSwitchingProtocols {
		return
	}
	c.status = status
	if o := c.classify(); o.Kind != breaker.Success {
		c.settle(o)
	}
}

func (c *inboundCall) classify() breaker.Outcome {
	standard := func() breaker.Outcome { return InboundOutcome(c.status) }
	if c.m.Classify == nil {
		return standard()
	}
	user := func() breaker.Outcome { return c.m.Classify(c.status) }
	return classified(c.m.Logger, c.permit.Agent(), user, standard)
}

// outcome is the outcome when the handler returns.
func (c *inboundCall) outcome() breaker.Outcome {
	if c.r.Context().Err() != nil {
		return ignored("cancelled")
	}
	if c.status == 0 {
		c.status = http.StatusOK
	}
	return c.classify()
}

func (c *inboundCall) settle(o breaker.Outcome) {
	c.settled.Do(func() {
		c.endRenewal()
		settle(c.r.Context(), c.permit, o, c.m.Logger)
	})
}
