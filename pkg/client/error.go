package client

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// Errors that callers may test for with errors.Is, beside those of package breaker that [Error] is.
var (
	// ErrUnknown means that a request was sent, and no answer came: it may have been carried out, or not.
	ErrUnknown = errors.New("no answer: it may have been done all the same")
	// ErrUnreachable means that no server answered, and that nothing was done.
	ErrUnreachable = errors.New("no server answers")
	// ErrNotFound is any 404: an agent, an override, a workflow or an execution that is not known.
	ErrNotFound = errors.New("not found")
	// ErrConflict is any 409 and 412: a hold of another actor, a document that has changed meanwhile.
	ErrConflict = errors.New("conflict")
	// ErrUnauthenticated is a 401: there is no token, or one that is not known or has expired.
	ErrUnauthenticated = errors.New("not authenticated")
	// ErrForbidden is a 403: the token's role, or its agents, do not reach so far.
	ErrForbidden = errors.New("forbidden")
)

// Error is an answer that is no success.
type Error struct {
	Operation string // method and path: POST /v1/circuit_breakers/my-agent/acquire
	Status    int    // of HTTP
	Code      Code   // "": somebody between answered, as a proxy does
	Detail    string // for people
	Fields    []FieldError

	Agent      string
	Nearest    []string      // of an agent that is not known: the known names that are nearest to its name
	Reason     string        // of a refusal: open, forced_open, probes_busy, ramping, …
	State      string        // of a refusal: OPEN or HALF_OPEN; "": the breaker itself did not refuse
	Degraded   bool          // refused by one replica alone, because Redis is down
	RetryAfter time.Duration // when it makes sense to ask again; 0: nobody says
	RequestID  string        // of the answer's header X-Request-ID, as proxies set it

	// Of a workflow's execution that did not complete.
	Step, Cause string
	Execution   *Execution
}

// newError reads an answer that is no success.
func newError(operation string, res *http.Response, body []byte) *Error {
	var p problem
	if !isJSON(res) || decode(body, &p) != nil || p.Code == "" { // a proxy's
		const most = 200
		p = problem{Detail: strings.Join(strings.Fields(strings.ToValidUTF8(string(body[:min(len(body), most)]), "")), " ")}
	}
	if seconds, err := strconv.ParseInt(res.Header.Get("Retry-After"), 10, 64); err == nil {
		p.RetryAfterSeconds = seconds
	}
	e := p.asError(operation, res.StatusCode)
	e.RequestID = res.Header.Get("X-Request-ID")
	return e
}

func (p *problem) asError(operation string, status int) *Error {
	return &Error{
		Operation: operation, Status: status, Code: p.Code, Detail: p.Detail, Fields: p.Errors,
		Agent: p.Agent, Nearest: p.Nearest, Reason: p.Reason, State: p.State, Degraded: p.Degraded,
		RetryAfter: time.Duration(min(max(p.RetryAfterSeconds, 0), maxSeconds)) * time.Second,
		Step:       p.Step, Cause: p.Cause, Execution: p.Execution,
	}
}

func (e *Error) Error() string {
	what := string(e.Code)
	if what == "" {
		what = http.StatusText(e.Status)
	}
	parts := []string{fmt.Sprintf("%s: %d %s", e.Operation, e.Status, what)}
	if e.Detail != "" {
		parts[0] += ": " + e.Detail
	}
	for _, f := range e.Fields {
		parts = append(parts, strings.TrimLeft(f.Location+" ", " ")+f.Message)
	}
	return strings.Join(parts, "; ")
}

// refused says whether a breaker refused. A refusal may have any status.
func (e *Error) refused() bool {
	return e.Code == CodeCircuitBreakerOpen || e.Code == CodeTooManyAgents
}

// Unwrap returns what package breaker calls the error: a [*breaker.OpenError] for a refusal; nil: nothing.
func (e *Error) Unwrap() error {
	if e.refused() {
		return &breaker.OpenError{
			Agent: e.Agent, State: breaker.State(strings.ToLower(e.State)), Reason: breaker.Reason(e.Reason),
			Wait: e.RetryAfter, Degraded: e.Degraded,
		}
	}
	return map[Code]error{
		CodeStoreUnavailable: breaker.ErrStoreUnavailable,
		CodeLeaseLost:        breaker.ErrLeaseLost,
		CodeHoldProtected:    breaker.ErrHoldProtected,
		CodeNotHeld:          breaker.ErrNotHeld,
		CodeInvalidPermit:    breaker.ErrBadPermit,
		CodeInvalidAgentName: breaker.ErrBadName,
	}[e.Code]
}

// Is reports whether target is the error of this package for the status, for errors.Is.
func (e *Error) Is(target error) bool {
	if e.refused() {
		return false
	}
	switch target {
	case ErrNotFound:
		return e.Status == http.StatusNotFound
	case ErrConflict:
		return e.Status == http.StatusConflict || e.Status == http.StatusPreconditionFailed
	case ErrUnauthenticated:
		return e.Status == http.StatusUnauthorized
	case ErrForbidden:
		return e.Status == http.StatusForbidden
	}
	return false
}

// nothingDone says whether the server has done nothing, and another one, or the same one later, may.
func (e *Error) nothingDone() bool {
	switch e.Code {
	case CodeNotReady, CodeTooManyConnections, CodeTooManyStreams, CodeTooManyExecutions, CodeRateLimited, CodeOverloaded:
		return true
	}
	return false
}

// passing says whether the trouble may pass; the request may have been carried out.
func (e *Error) passing() bool {
	switch {
	case e.nothingDone(), e.Code == CodeStoreUnavailable:
		return true
	case e.Code != "":
		return false
	}
	return e.Status == http.StatusBadGateway || e.Status == http.StatusServiceUnavailable ||
		e.Status == http.StatusGatewayTimeout
}
