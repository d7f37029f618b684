package breakerhttp

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strconv"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// problem is the body of an answer that is not a success (RFC 9457), its fields in breakerd's order.
type problem struct {
	Type   string     `json:"type"`
	Title  string     `json:"title"`
	Status int        `json:"status"`
	Detail string     `json:"detail"`
	Code   string     `json:"code"`
	Errors []struct{} `json:"errors"` // of single values; none here

	Agent             string `json:"agent,omitempty"`
	Reason            string `json:"reason,omitempty"`
	State             string `json:"state,omitempty"`
	RetryAfterSeconds int64  `json:"retry_after_seconds,omitempty"`
	Degraded          bool   `json:"degraded,omitempty"`
}

// RefusalStatus is the status of an answer to a call that the breaker refuses: 503 where the agent is not at fault (the store is
// away, everything is stopped, or load is shed), else 429.
func RefusalStatus(e *breaker.OpenError) int {
	switch e.Reason {
	case breaker.ReasonStoreUnavailable, breaker.ReasonEmergencyStop, breaker.ReasonShedding:
		return http.StatusServiceUnavailable
	default:
		return http.StatusTooManyRequests
	}
}

// RetryAfterSeconds is the wait that a refusal asks for in whole seconds, rounded up, at least one.
func RetryAfterSeconds(e *breaker.OpenError) int64 {
	return max(1, int64(math.Ceil(e.RetryAfter.Seconds())))
}

// SetRefusalHeader sets retry-after, and x-circuit-breaker-state where the breaker itself refuses: OPEN or HALF_OPEN. HTTP/1 sends
// both names in lower case, as runbooks grep them.
func SetRefusalHeader(h http.Header, e *breaker.OpenError) {
	setLower(h, "Retry-After", "retry-after", strconv.FormatInt(RetryAfterSeconds(e), 10))
	if e.State != "" {
		setLower(h, "X-Circuit-Breaker-State", "x-circuit-breaker-state", e.State.Upper())
	}
}

func setLower(h http.Header, canonical, lower, value string) {
	h.Del(canonical) // or there would be two
	h[lower] = []string{value}
}

// WriteRefusal answers a call that the breaker refuses: RefusalStatus, SetRefusalHeader and a problem with code
// circuit_breaker_open. Nothing may have been written to w.
func WriteRefusal(w http.ResponseWriter, e *breaker.OpenError) {
	WriteRefusalStatus(w, e, RefusalStatus(e))
}

// WriteRefusalStatus is WriteRefusal with another status.
func WriteRefusalStatus(w http.ResponseWriter, e *breaker.OpenError, status int) {
	p := newProblem(status, "circuit_breaker_open", fmt.Sprintf("the circuit breaker of agent %s refuses the call (%s)", e.Agent, e.Reason))
	p.Agent, p.Reason, p.Degraded = e.Agent, string(e.Reason), e.Degraded
	p.RetryAfterSeconds = RetryAfterSeconds(e)
	if e.State != "" {
		p.State = e.State.Upper()
	}
	SetRefusalHeader(w.Header(), e)
	p.write(w)
}

// WriteProblem answers with a problem of another kind. code is a stable word that clients may rely on, detail is for people.
func WriteProblem(w http.ResponseWriter, status int, code, detail string) {
	newProblem(status, code, detail).write(w)
}

func newProblem(status int, code, detail string) *problem {
	return &problem{
		Type: "urn:breakerd:problem:" + code, Title: http.StatusText(status), Status: status, Detail: detail, Code: code, Errors: []struct{}{},
	}
}

// write sends p. An error means that the client is gone, which nobody needs to hear.
func (p *problem) write(w http.ResponseWriter) {
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false) // read by people
	if err := enc.Encode(p); err != nil {
		panic(fmt.Sprintf("breakerhttp: a problem cannot be marshalled: %v", err))
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_, _ = body.WriteTo(w)
}

// WriteStoreUnavailable answers where neither the store nor a fallback does, so that nothing was done: 503, retry-after: 1 and a
// problem with code store_unavailable. Nothing may have been written to w.
func WriteStoreUnavailable(w http.ResponseWriter) {
	setLower(w.Header(), "Retry-After", "retry-after", "1")
	WriteProblem(w, http.StatusServiceUnavailable, "store_unavailable", "the store of the circuit breakers does not answer; nothing was done")
}
