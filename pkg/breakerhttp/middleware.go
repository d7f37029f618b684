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

	"github.com/breakerd/breakerd/pkg/breaker"
)

// Middleware guards an API against the agents that call it: each caller has a breaker. Manager and Agent are required. It is
// safe for concurrent use as long as its fields do not change.
type Middleware struct {
	Manager *breaker.Manager
	// Agent names the agent that calls. What it gives must be proven (by a token, a client certificate, a proxy that sets the
	// header itself): who can call under another's name can have the other kept out. FromHeader and FromPath are ready-made.
	// An error, or what is not an agent's name, is answered 400; the error's text is shown if it is a breaker.ErrBadName.
	Agent func(*http.Request) (string, error)
	// Classify makes an outcome of the status that the API answered. nil: InboundOutcome.
	Classify func(status int) breaker.Outcome
	Logger   *slog.Logger // nil: silent
}

// FromHeader names the caller by a header of the request, which must be there once.
func FromHeader(name string) func(*http.Request) (string, error) {
	return func(r *http.Request) (string, error) {
		values := r.Header.Values(name)
		if len(values) != 1 || !breaker.ValidName(values[0]) {
			return "", fmt.Errorf("header %s: %w", name, breaker.ErrBadName)
		}
		return values[0], nil
	}
}

// FromPath names the caller by a segment of the request's path, counted from 1: segment 2 of /agents/reader/ask is reader.
func FromPath(segment int) func(*http.Request) (string, error) {
	return func(r *http.Request) (string, error) {
		parts := strings.Split(r.URL.EscapedPath(), "/") // the first is what stands before the first slash: nothing
		if segment >= 1 && segment < len(parts) {
			if name, err := url.PathUnescape(parts[segment]); err == nil && breaker.ValidName(name) {
				return name, nil
			}
		}
		return "", fmt.Errorf("segment %d of the path: %w", segment, breaker.ErrBadName)
	}
}

// Wrap is next behind the breakers of its callers. A failure is settled as soon as next says its status, before the caller
// hears it; a success when next returns. A panic in next, and a caller that is gone before the answer is there, are ignored; the
// panic goes on. A connection that next hijacks counts as a success when it does. While next works, a probe's lease is renewed.
// Durations are not measured: how long an API takes is not its callers' doing. Deadlines for the caller are the server's: see
// the package's text.
func (m *Middleware) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		permit, ok := m.admit(w, r)
		if !ok {
			return
		}
		v := &visit{ResponseWriter: w, m: m, r: r, permit: permit, unkeep: permit.Keep(r.Context())}
		o := ignored("panic") // stands if next neither returns nor is recovered here
		defer func() { v.settle(o) }()
		next.ServeHTTP(v, r)
		o = v.outcome()
	})
}

// admit asks for a permit, or answers why there is none.
func (m *Middleware) admit(w http.ResponseWriter, r *http.Request) (permit breaker.Permit, ok bool) {
	agent, err := m.Agent(r)
	if err == nil {
		permit, err = m.Manager.Acquire(r.Context(), agent)
	} else if !errors.Is(err, breaker.ErrBadName) {
		m.warn(r.Context(), "caller not named", "error", err)
		err = breaker.ErrBadName
	}
	var open *breaker.OpenError
	switch {
	case err == nil:
		return permit, true
	case errors.As(err, &open):
		WriteRefusal(w, open)
	case errors.Is(err, breaker.ErrBadName):
		WriteProblem(w, http.StatusBadRequest, "invalid_agent_name", err.Error())
	default:
		m.warn(r.Context(), "breaker not asked", "agent", agent, "error", err)
		WriteStoreUnavailable(w)
	}
	return permit, false
}

func (m *Middleware) warn(ctx context.Context, text string, args ...any) {
	if m.Logger != nil {
		m.Logger.WarnContext(ctx, text, args...)
	}
}

// visit is one admitted call in, and the http.ResponseWriter that its handler answers on. What it does not do itself,
// http.ResponseController finds by Unwrap.
type visit struct {
	http.ResponseWriter

	m       *Middleware
	r       *http.Request
	permit  breaker.Permit
	unkeep  func()
	status  int // 0: nothing said yet
	settled sync.Once
}

// Unwrap is for http.ResponseController.
func (v *visit) Unwrap() http.ResponseWriter { return v.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (v *visit) WriteHeader(status int) {
	v.say(status)
	v.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (v *visit) Write(p []byte) (int, error) {
	v.say(http.StatusOK)
	return v.ResponseWriter.Write(p)
}

// Flush implements http.Flusher, for handlers that look for one.
func (v *visit) Flush() { _ = v.FlushError() }

// FlushError is what http.ResponseController looks for.
func (v *visit) FlushError() error {
	v.say(http.StatusOK)
	return http.NewResponseController(v.ResponseWriter).Flush()
}

// Hijack implements http.Hijacker.
func (v *visit) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(v.ResponseWriter).Hijack()
	if err == nil {
		v.say(http.StatusSwitchingProtocols)
		v.settle(v.classify())
	}
	return conn, rw, err
}

// say notes the status, the first that is final; what is not a success is settled before the caller hears it.
func (v *visit) say(status int) {
	if v.status != 0 || status < 200 && status != http.StatusSwitchingProtocols {
		return
	}
	v.status = status
	if o := v.classify(); o.Kind != breaker.Success {
		v.settle(o)
	}
}

func (v *visit) classify() breaker.Outcome {
	if v.m.Classify != nil {
		return v.m.Classify(v.status)
	}
	return InboundOutcome(v.status)
}

// outcome is that of a handler which has returned.
func (v *visit) outcome() breaker.Outcome {
	if v.r.Context().Err() != nil {
		return ignored("cancelled")
	}
	if v.status == 0 {
		v.status = http.StatusOK
	}
	return v.classify()
}

func (v *visit) settle(o breaker.Outcome) {
	v.settled.Do(func() {
		v.unkeep()
		settle(v.r.Context(), v.permit, o, v.m.Logger)
	})
}
