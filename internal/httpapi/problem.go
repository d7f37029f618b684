package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/breakerd/breakerd/internal/jsondoc"
	"github.com/breakerd/breakerd/internal/text"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breakerhttp"
)

// code is a problem's stable name; clients may rely on it, not on texts.
type code string

// The codes; statuses gives each its HTTP status.
const (
	codeAgentConflict        code = "agent_conflict"
	codeAgentFailed          code = "agent_failed"
	codeAgentHasNoURL        code = "agent_has_no_url"
	codeAgentInFile          code = "agent_in_file"
	codeAgentUnknown         code = "agent_unknown"
	codeBodyRequired         code = "body_required"
	codeBodyTooLarge         code = "body_too_large"
	codeCircuitBreakerOpen   code = "circuit_breaker_open" // 503 for the reasons that are not the agent's fault
	codeConfigAbsent         code = "config_absent"
	codeConfigInvalid        code = "config_invalid"
	codeCrossOrigin          code = "cross_origin"
	codeExecutionCancelled   code = "execution_cancelled"
	codeExecutionUnknown     code = "execution_unknown"
	codeGateHeaderRequired   code = "gate_header_required"
	codeHoldProtected        code = "hold_protected"
	codeHostNotAllowed       code = "host_not_allowed"
	codeInputMissing         code = "input_missing"
	codeInternal             code = "internal"
	codeInvalidAgentName     code = "invalid_agent_name"
	codeInvalidExecutionID   code = "invalid_execution_id"
	codeInvalidJSON          code = "invalid_json"
	codeInvalidPath          code = "invalid_path"
	codeInvalidPermit        code = "invalid_permit"
	codeInvalidValue         code = "invalid_value"
	codeInvalidWorkflowID    code = "invalid_workflow_id"
	codeLeaseLost            code = "lease_lost"
	codeMethodNotAllowed     code = "method_not_allowed"
	codeNotFound             code = "not_found"
	codeNotReady             code = "not_ready"
	codePreconditionFailed   code = "precondition_failed"
	codePreconditionRequired code = "precondition_required"
	codeStoreUnavailable     code = "store_unavailable"
	codeTooManyExecutions    code = "too_many_executions"
	codeTooManyWorkflows     code = "too_many_workflows"
	codeUnsupportedMediaType code = "unsupported_media_type"
	codeInvalidBody          code = "invalid_body"
	codeRequestTimeout       code = "request_timeout"
	codeUpstreamTimeout      code = "upstream_timeout"
	codeUpstreamUnreachable  code = "upstream_unreachable"
	codeWorkflowInDirectory  code = "workflow_in_directory"
	codeWorkflowInvalid      code = "workflow_invalid"
	codeWorkflowTimeout      code = "workflow_timeout"
	codeWorkflowUnknown      code = "workflow_unknown"
)

// statuses is the table of codes.
func statuses() map[code]int {
	return map[code]int{
		codeAgentConflict:        http.StatusConflict,
		codeAgentFailed:          http.StatusBadGateway,
		codeAgentHasNoURL:        http.StatusNotFound,
		codeAgentInFile:          http.StatusConflict,
		codeAgentUnknown:         http.StatusNotFound,
		codeBodyRequired:         http.StatusBadRequest,
		codeBodyTooLarge:         http.StatusRequestEntityTooLarge,
		codeCircuitBreakerOpen:   http.StatusTooManyRequests,
		codeConfigAbsent:         http.StatusNotFound,
		codeConfigInvalid:        http.StatusConflict,
		codeCrossOrigin:          http.StatusForbidden,
		codeExecutionCancelled:   http.StatusServiceUnavailable,
		codeExecutionUnknown:     http.StatusNotFound,
		codeGateHeaderRequired:   http.StatusForbidden,
		codeHoldProtected:        http.StatusConflict,
		codeHostNotAllowed:       http.StatusMisdirectedRequest,
		codeInputMissing:         http.StatusUnprocessableEntity,
		codeInternal:             http.StatusInternalServerError,
		codeInvalidAgentName:     http.StatusBadRequest,
		codeInvalidExecutionID:   http.StatusBadRequest,
		codeInvalidJSON:          http.StatusBadRequest,
		codeInvalidPath:          http.StatusBadRequest,
		codeInvalidPermit:        http.StatusUnprocessableEntity,
		codeInvalidValue:         http.StatusUnprocessableEntity,
		codeInvalidWorkflowID:    http.StatusBadRequest,
		codeLeaseLost:            http.StatusConflict,
		codeMethodNotAllowed:     http.StatusMethodNotAllowed,
		codeNotFound:             http.StatusNotFound,
		codeNotReady:             http.StatusServiceUnavailable,
		codePreconditionFailed:   http.StatusPreconditionFailed,
		codePreconditionRequired: http.StatusPreconditionRequired,
		codeStoreUnavailable:     http.StatusServiceUnavailable,
		codeTooManyExecutions:    http.StatusServiceUnavailable,
		codeTooManyWorkflows:     http.StatusConflict,
		codeUnsupportedMediaType: http.StatusUnsupportedMediaType,
		codeInvalidBody:          http.StatusBadRequest,
		codeRequestTimeout:       http.StatusRequestTimeout,
		codeUpstreamTimeout:      http.StatusGatewayTimeout,
		codeUpstreamUnreachable:  http.StatusBadGateway,
		codeWorkflowInDirectory:  http.StatusConflict,
		codeWorkflowInvalid:      http.StatusUnprocessableEntity,
		codeWorkflowTimeout:      http.StatusGatewayTimeout,
		codeWorkflowUnknown:      http.StatusNotFound,
	}
}

// problem is every answer that is not a success (RFC 9457).
type problem struct {
	Type   string       `json:"type"   format:"uri" doc:"urn:breakerd:problem: and the code"`
	Title  string       `json:"title"`
	Status int          `json:"status"`
	Detail string       `json:"detail"`
	Code   code         `json:"code"   doc:"What clients may rely on."`
	Errors []fieldError `json:"errors" doc:"Each bad value; empty for problems of another kind."`

	Agent             string `json:"agent,omitempty"`
	Reason            string `json:"reason,omitempty"              doc:"Of a refusal: open, forced_open, probes_busy, ramping, …"`
	State             string `json:"state,omitempty"               enum:"OPEN,HALF_OPEN"`
	RetryAfterSeconds int64  `json:"retry_after_seconds,omitempty"`
	Degraded          bool   `json:"degraded,omitempty"            doc:"Refused by this replica alone, because Redis is away."`

	// Of a workflow's execution; see document.showExecution.
	Step      string `json:"step,omitempty"      hidden:"true"`
	Cause     string `json:"cause,omitempty"     hidden:"true"`
	Execution any    `json:"execution,omitempty" hidden:"true"`

	header map[string]string
}

// fieldError says what is wrong with one value.
type fieldError struct {
	Location string `json:"location,omitempty" doc:"body.reason, query.limit, header.X-Actor"`
	Message  string `json:"message"`
	Value    string `json:"value,omitempty"    doc:"What was sent, shortened."`
}

func (p *problem) Error() string { return string(p.Code) + ": " + p.Detail }

func newProblem(c code, format string, args ...any) *problem {
	return problemOf(c, statuses()[c], format, args...)
}

// problemOf is newProblem with a status that is known, without the table.
func problemOf(c code, status int, format string, args ...any) *problem {
	return &problem{
		Type: "urn:breakerd:problem:" + string(c), Title: http.StatusText(status), Status: status, Code: c,
		Detail: fmt.Sprintf(format, args...), Errors: []fieldError{},
	}
}

// badValue is the problem of one bad value.
func badValue(location, value, want string) *problem {
	p := newProblem(codeInvalidValue, "%s: want %s", location, want)
	p.Errors = append(p.Errors, fieldError{Location: location, Message: "want " + want, Value: text.Short(value)})
	return p
}

// set sets a response header.
func (p *problem) set(name, value string) {
	if p.header == nil {
		p.header = map[string]string{}
	}
	p.header[name] = value
}

// with is p, with a response header.
func (p *problem) with(name, value string) *problem {
	p.set(name, value)
	return p
}

// as is p, with another status.
func (p *problem) as(status int) *problem {
	p.Status, p.Title = status, http.StatusText(status)
	if status == http.StatusUnauthorized { // RFC 9110, 11.6.1: it has a challenge; no client answers this one
		p.set("WWW-Authenticate", "CircuitBreaker")
	}
	return p
}

// refusal is what a call that the breaker does not admit is answered with [B3].
func refusal(e *breaker.OpenError) *problem {
	p := problemOf(codeCircuitBreakerOpen, breakerhttp.RefusalStatus(e), "the circuit breaker of agent %s refuses the call (%s)", e.Agent, e.Reason)
	p.Agent, p.Reason, p.Degraded = e.Agent, string(e.Reason), e.Degraded
	p.RetryAfterSeconds = breakerhttp.RetryAfterSeconds(e)
	p.set("Retry-After", strconv.FormatInt(p.RetryAfterSeconds, 10))
	if e.State != "" {
		p.State = e.State.Upper()
		p.set("X-Circuit-Breaker-State", p.State)
	}
	return p
}

// asProblem names an error. ok is false for one that nobody expected.
func asProblem(err error) (p *problem, ok bool) {
	var open *breaker.OpenError
	var bad *breaker.PolicyError
	switch {
	case errors.As(err, &p):
		return p, true
	case errors.As(err, &open):
		return refusal(open), true
	case errors.Is(err, breaker.ErrStoreUnavailable):
		return storeAway(err), true
	case errors.Is(err, breaker.ErrBadName):
		return newProblem(codeInvalidAgentName, "%v", breaker.ErrBadName), true
	case errors.Is(err, breaker.ErrBadPermit):
		return newProblem(codeInvalidPermit, "%v", breaker.ErrBadPermit), true
	case errors.Is(err, breaker.ErrLeaseLost):
		return newProblem(codeLeaseLost, "%v", breaker.ErrLeaseLost), true
	case errors.Is(err, breaker.ErrHoldProtected):
		return newProblem(codeHoldProtected, "the hold is protected: send \"force\": true to lift it"), true
	case errors.Is(err, ErrConflict):
		return newProblem(codePreconditionFailed, "it was changed meanwhile: read it again"), true
	case errors.As(err, &bad):
		return badValue("body."+bad.Field, bad.Value, bad.Allowed), true
	}
	return newProblem(codeInternal, "unexpected error; the log of this replica says which"), false
}

// storeAway says whether what was asked may have been done all the same.
func storeAway(err error) *problem {
	detail := "Redis is away; nothing was done"
	var away *breaker.StoreError
	if errors.As(err, &away) && away.Unknown {
		detail = "Redis did not answer in time; it may have been done all the same"
	}
	return newProblem(codeStoreUnavailable, "%s", detail).with("Retry-After", "1")
}

// fail answers with an error's problem.
func (s *server) fail(w http.ResponseWriter, r *http.Request, err error) {
	p, expected := asProblem(err)
	if !expected {
		s.logger.ErrorContext(r.Context(), "request failed", "event", "http.failed", "method", text.Short(r.Method),
			"path", text.Clip(r.URL.EscapedPath(), maxMessage), "error", err)
	}
	p.write(w)
}

func (p *problem) write(w http.ResponseWriter) {
	for name, value := range p.header {
		w.Header()[strings.ToLower(name)] = []string{value} // as the runbook spells x-circuit-breaker-state and retry-after
	}
	private(w)
	writeJSON(w, p.Status, "application/problem+json", p)
}

// private keeps an answer of ours from being guessed at or kept.
func private(w http.ResponseWriter) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
}

// writeJSON sends v; it can be marshalled. An error means that the client is gone, which nobody needs to hear.
func writeJSON(w http.ResponseWriter, status int, contentType string, v any) {
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false) // read by people; nosniff keeps it from being HTML
	if err := enc.Encode(v); err != nil {
		panic(fmt.Sprintf("httpapi: %T cannot be marshalled: %v", v, err))
	}
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	_, _ = body.WriteTo(w)
}

// maxMessage is for words of ours that quote some foreign text, in characters.
const maxMessage = 500

// faults is p, with what is wrong with the body.
func (p *problem) faults(bad *jsondoc.Faults) *problem {
	for _, f := range bad.Faults {
		p.Errors = append(p.Errors, fieldError{Location: bodyPath(f.Path), Message: text.Clip(f.Message, maxMessage)})
	}
	return p
}

// bodyPath is where a value stands in a body: steps.a becomes body.steps.a.
func bodyPath(path string) string {
	if path == "" {
		return "body"
	}
	if path[0] != '[' {
		path = "." + path
	}
	return "body" + text.Clip(path, maxMessage)
}
