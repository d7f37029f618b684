// Package problem is the body of our answers that are no success: application/problem+json (RFC 9457) with a stable
// code. breakerd, the bridge, its gateway, the demo agent and package breakerhttp answer with it.
package problem

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/breakerd/breakerd/internal/text"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// Problem is an error, and the body of its answer.
type Problem struct { //nolint:errname // it is the body of an answer, and an error besides
	Type   string       `json:"type"   format:"uri" doc:"urn:breakerd:problem: and the code"`
	Title  string       `json:"title"`
	Status int          `json:"status"`
	Detail string       `json:"detail"`
	Code   Code         `json:"code"   doc:"What clients may rely on."`
	Errors []FieldError `json:"errors" doc:"Each bad value; empty for problems of another kind."`

	Agent             string   `json:"agent,omitempty"`
	Nearest           []string `json:"nearest,omitempty" doc:"Of an agent that is not known: the known names that are nearest to its name."`
	Reason            string   `json:"reason,omitempty"              doc:"Of a refusal: open, forced_open, probes_busy, ramping, …"`
	State             string   `json:"state,omitempty"               enum:"OPEN,HALF_OPEN"`
	RetryAfterSeconds int64    `json:"retry_after_seconds,omitempty"`
	Degraded          bool     `json:"degraded,omitempty"            doc:"Refused by this replica alone, because Redis is down."`

	// Of a workflow's execution. Only the bridge's document shows them.
	Step      string `json:"step,omitempty"      hidden:"true"`
	Cause     string `json:"cause,omitempty"     hidden:"true"`
	Execution any    `json:"execution,omitempty" hidden:"true"`

	header []header
}

// FieldError says what is wrong with one value.
type FieldError struct {
	Location string `json:"location,omitempty" doc:"body.reason, query.limit, header.X-Actor"`
	Message  string `json:"message"`
	Value    string `json:"value,omitempty"    doc:"What was sent, shortened."`
}

type header struct{ name, value string }

// New makes the problem of a code, with the code's status.
func New(c Code, format string, args ...any) *Problem {
	return &Problem{
		Type: "urn:breakerd:problem:" + string(c), Title: http.StatusText(c.Status()), Status: c.Status(),
		Detail: fmt.Sprintf(format, args...), Code: c, Errors: []FieldError{},
	}
}

// BadValue is the problem of one value that is not allowed.
func BadValue(location, value, want string) *Problem {
	p := New(InvalidValue, "%s: want %s", location, want)
	p.Errors = append(p.Errors, FieldError{Location: location, Message: "want " + want, Value: text.Short(value)})
	return p
}

// Unexpected is the problem of an error that only the log names.
func Unexpected() *Problem {
	return New(Internal, "unexpected error; the log of this replica says which")
}

// Refusal is the problem of a call that the breaker does not admit [B3]. Its status is 503 where the agent is not at
// fault (the store is unavailable, everything is stopped, or load is shed), else 429.
func Refusal(e *breaker.OpenError) *Problem {
	wait := max(1, int64(math.Ceil(e.Wait.Seconds())))
	p := New(CircuitBreakerOpen, "the circuit breaker of agent %s refuses the call (%s): try again in %d s, at %s. "+
		"Going round the breaker is no way out: it protects what is behind it, and a call past it makes the trouble last",
		e.Agent, e.Reason, wait, after(wait))
	switch e.Reason {
	case breaker.ReasonTooManyAgents:
		p = New(TooManyAgents, "there are too many agents, and agent %s is not known", e.Agent)
	case breaker.ReasonStoreUnavailable, breaker.ReasonEmergencyStop, breaker.ReasonShedding:
		p = p.WithStatus(http.StatusServiceUnavailable)
	default:
	}
	p.Agent, p.Reason, p.Degraded = e.Agent, string(e.Reason), e.Degraded
	p.RetryAfterSeconds = wait
	p = p.With("Retry-After", strconv.FormatInt(p.RetryAfterSeconds, 10))
	if e.State != "" {
		p.State = e.State.Upper()
		p = p.With("X-Circuit-Breaker-State", p.State)
	}
	return p
}

// after is the time in so many seconds, in UTC.
func after(seconds int64) string {
	const most = 100 * 365 * 24 * 3600 // a year has four digits
	return time.Now().Add(time.Duration(min(seconds, most)) * time.Second).UTC().Format(time.RFC3339)
}

// WithContact tells the reader of a refusal whom to ask about the agent, and returns p. contact may be empty.
func (p *Problem) WithContact(contact string) *Problem {
	if contact != "" {
		p.Detail += ". Whom to ask about the agent: " + contact
	}
	return p
}

// ProxyStatus is the header that marks an answer of the gateway's own (RFC 9209).
const ProxyStatus = "Proxy-Status"

// ProxyLoop is the error type of a call that has led back to a bridge: who sent it counts it for no breaker.
const ProxyLoop = "proxy_loop_detected"

// ProxyStatusOf is the value of ProxyStatus for an error type of RFC 9209.
func ProxyStatusOf(errorType string) string { return "breakerd; error=" + errorType }

// ByProxy marks p as an answer of the gateway's own, and returns it.
func (p *Problem) ByProxy(errorType string) *Problem {
	return p.With(ProxyStatus, ProxyStatusOf(errorType))
}

// Unavailable is the problem of a store that is down. Callers may try again in a second.
func Unavailable(format string, args ...any) *Problem {
	return New(StoreUnavailable, format, args...).With("Retry-After", "1")
}

// NoMemory is the problem of a workflow for which the memory budget has no room. Callers may try again in a second.
func NoMemory(format string, args ...any) *Problem {
	return New(WorkflowMemory, format, args...).With("Retry-After", "1")
}

// Of is the problem of an error. expected is false for an error that only the log may name.
func Of(err error) (p *Problem, expected bool) {
	var open *breaker.OpenError
	var bad *breaker.PolicyError
	var force *breaker.ForceError
	switch {
	case errors.As(err, &p):
		return p, true
	case errors.As(err, &open):
		return Refusal(open), true
	case errors.Is(err, breaker.ErrStoreUnavailable):
		if down, ok := errors.AsType[*breaker.StoreError](err); ok && down.Unknown {
			return Unavailable("Redis did not answer in time; it may have been done all the same"), true
		}
		return Unavailable("Redis is down; nothing was done"), true
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded): // and the client is gone
		return New(RequestTimeout, "the request ended before it was carried out"), true
	case errors.Is(err, breaker.ErrBadName):
		return New(InvalidAgentName, "%v", breaker.ErrBadName), true
	case errors.Is(err, breaker.ErrBadPermit):
		return New(InvalidPermit, "%v", breaker.ErrBadPermit), true
	case errors.Is(err, breaker.ErrLeaseLost):
		return New(LeaseLost, "%v", breaker.ErrLeaseLost), true
	case errors.Is(err, breaker.ErrHoldProtected):
		return New(HoldProtected, "the hold is protected: send \"force\": true to lift it"), true
	case errors.Is(err, breaker.ErrNotHeld):
		return New(NotHeld, "there is no hold to release: nobody holds it, or the hold has ended"), true
	case errors.As(err, &bad):
		return BadValue("body."+bad.Field, bad.Value, bad.Allowed), true
	case errors.As(err, &force):
		return BadValue("body."+force.Field, force.Value, force.Allowed), true
	case errors.Is(err, breaker.ErrBadOutcome):
		return New(InvalidValue, "%v", breaker.ErrBadOutcome), true
	}
	return Unexpected(), false
}

// Error implements [error].
func (p *Problem) Error() string { return string(p.Code) + ": " + p.Detail }

// With adds a response header to p, and returns p.
func (p *Problem) With(name, value string) *Problem {
	p.header = append(p.header, header{name, value})
	return p
}

// WithStatus sets the status of p, and returns p.
func (p *Problem) WithStatus(status int) *Problem {
	p.Status, p.Title = status, http.StatusText(status)
	if status == http.StatusUnauthorized { // RFC 9110, 11.6.1 wants a challenge; no client answers this one
		p = p.With("WWW-Authenticate", "CircuitBreaker")
	}
	return p
}

// setHeader replaces response headers by those of p. HTTP/1 sends their names in lower case, as runbooks grep
// retry-after and x-circuit-breaker-state.
func (p *Problem) setHeader(h http.Header) {
	for _, x := range p.header {
		h.Del(x.name)
		h[strings.ToLower(x.name)] = []string{x.value}
	}
}

// Write answers with p. Nothing may have been written to w. An error of w means that the client is gone.
func (p *Problem) Write(w http.ResponseWriter) {
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false) // people read it
	if err := enc.Encode(p); err != nil {
		panic(fmt.Sprintf("problem: %s cannot be marshalled: %v", p.Code, err))
	}
	p.setHeader(w.Header())
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Content-Length", strconv.Itoa(body.Len())) // the whole answer is there before its stream ends
	w.WriteHeader(p.Status)
	_, _ = body.WriteTo(w)
}
