package breakerhttp

import (
	"net/http"

	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// RefusalStatus is the status of an answer to a call that the breaker refuses: 503 where the agent is not at fault (the store is
// unavailable, everything is stopped, or load is shed), else 429.
func RefusalStatus(e *breaker.OpenError) int { return problem.Refusal(e).Status }

// RetryAfterSeconds is the wait that a refusal asks for in whole seconds, rounded up, at least one.
func RetryAfterSeconds(e *breaker.OpenError) int64 { return problem.Refusal(e).RetryAfterSeconds }

// SetRefusalHeader sets retry-after, and x-circuit-breaker-state where the breaker itself refuses: OPEN or HALF_OPEN. HTTP/1 sends
// both names in lower case, as runbooks grep them.
func SetRefusalHeader(h http.Header, e *breaker.OpenError) { problem.Refusal(e).SetHeader(h) }

// WriteRefusal answers a call that the breaker refuses: RefusalStatus, SetRefusalHeader and a problem with code
// circuit_breaker_open. Nothing may have been written to w.
func WriteRefusal(w http.ResponseWriter, e *breaker.OpenError) { problem.Refusal(e).Write(w) }

// WriteRefusalStatus is WriteRefusal with another status.
func WriteRefusalStatus(w http.ResponseWriter, e *breaker.OpenError, status int) {
	problem.Refusal(e).WithStatus(status).Write(w)
}

// WriteProblem answers with a problem of another kind. code is a stable word that clients may rely on, detail is for people.
func WriteProblem(w http.ResponseWriter, status int, code, detail string) {
	problem.Custom(code, status, detail).Write(w)
}

// WriteStoreUnavailable answers where neither the store nor a fallback does, so that nothing was done: 503, retry-after: 1 and a
// problem with code store_unavailable. Nothing may have been written to w.
func WriteStoreUnavailable(w http.ResponseWriter) {
	problem.Unavailable("the store of the circuit breakers does not answer; nothing was done").Write(w)
}
