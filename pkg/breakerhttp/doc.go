// Package breakerhttp puts HTTP behind the breakers of package breaker: Transport guards the calls that a client makes, one
// breaker for each agent called; Middleware guards an API against the agents that call it, one breaker for each caller.
// It imports the standard library and package breaker only.
//
// # Calls out
//
// Transport.RoundTrip asks the agent's breaker first. A refusal is a *breaker.OpenError, inside the *url.Error that http.Client
// wraps around it, and nothing is sent. A call that is admitted is settled exactly once, and trouble with the store never takes
// the place of the call's own result:
//
//   - An error, or a status that is not a success, is settled as soon as it is there.
//   - A success is settled when its body has been read to the end, just before the reader is told. Until then a probe's lease is
//     renewed, so a stream may last for hours.
//   - A body that breaks, or lets its reader wait for longer than Transport.Timeout, makes the call a failure. A body that the
//     reader closes early does not. A call whose caller cancels it is ignored, at once, and so is one whose own body the caller
//     fails to send.
//   - With a BodyClassifier, an error inside a response of status 200 is a failure, as soon as it has passed.
//   - A response whose Body is http.NoBody is settled at once; over HTTP/2 there always is one to read or close, for trailers
//     may come. So is 101 Switching Protocols, whose body stays the io.ReadWriteCloser that it is.
//   - A status that is none, a 101 that was not asked for, and a panic in Base, which goes on, are failures.
//
// The caller must close the body, as with every http.RoundTripper. Trailers, 1xx responses, Expect: 100-continue and
// httptrace work as without.
//
// The duration that slow calls are measured by [B8] is the time to the response's header: how long the whole takes says more of
// what was asked for, and of the reader's own pace, than of the agent's health. Transport.Observe is told both.
//
// No clock of a Transport runs against the caller. One that trickles its body, or stops reading, keeps its call open, and as a
// probe its place, up to Policy.TimeoutMax. So where callers are strangers, as in a proxy, bound their side: see Deadlines.
//
// # Calls in
//
// Middleware asks the breaker of the agent that calls. Its failures are the caller's bad requests, so that an agent which floods
// an API with them is kept out for a while; the API's own errors are not the caller's and are ignored. A refusal is answered by
// WriteRefusal.
//
// # Deadlines
//
// Middleware sets no deadlines either: a caller that sends no more, or reads no more, holds its call, and as a probe its place,
// for as long as the handler waits for it. That is for the server to end: set http.Server's ReadTimeout and WriteTimeout, or,
// where bodies are long or streams, a new deadline for each chunk with http.ResponseController's SetReadDeadline and
// SetWriteDeadline, which work through Middleware. A read that fails so fails the handler or the call out, and counts against
// no agent that was called.
//
// # Refusals
//
// WriteRefusal answers 429, or 503 where the agent is not at fault, with the headers x-circuit-breaker-state and retry-after and
// an application/problem+json body, to the letter as breakerd does. WriteStoreUnavailable answers where nobody can tell.
package breakerhttp
