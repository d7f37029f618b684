// Package breakerhttp puts the breakers of package breaker before HTTP. [Transport] guards the calls that a client
// makes, with one breaker for each agent that is called. [Middleware] guards an API, with one breaker for each agent
// that calls.
//
// # Calls out
//
// Transport.RoundTrip asks the agent's breaker first. A refusal is a *breaker.OpenError, which http.Client wraps in a
// *url.Error, and nothing is sent. An admitted call is settled exactly once:
//
//   - An error, or a status that is not a success, is settled as soon as it arrives.
//   - A success is settled when its body has been read to the end, just before the reader sees the end. Until then a
//     probe's lease is renewed, so a stream may last for hours.
//   - A body that breaks, or keeps its reader waiting for longer than Transport.Timeout, makes the call a failure. A
//     body that the reader closes early does not.
//   - A call that its caller cancels is ignored, at once. So is a call whose request body the caller fails to send.
//   - With a [BodyClassifier], an error inside a response of status 200 is a failure, as soon as it has passed.
//   - A response whose Body is http.NoBody is settled at once. HTTP/2 always gives a body to read or close, because
//     trailers may come.
//   - 101 Switching Protocols is settled at once, and its body stays an io.ReadWriteCloser.
//   - An impossible status, a 101 that was not asked for, and a panic in Base are failures. The panic goes on.
//
// Trouble with the store never replaces the call's own result; it is logged. The caller must close the body, as with
// every http.RoundTripper. Trailers, 1xx responses, Expect: 100-continue and httptrace work as without a Transport.
//
// Slow calls are measured by the time to the response's header [B8]. The time to the end of the body depends on what
// was asked for and on the reader's own pace. Transport.Observe receives both.
//
// # Calls in
//
// Middleware asks the breaker of the agent that calls. Bad requests are that agent's failures, so an agent that floods
// an API with them is kept out for a while. Errors of the API itself are ignored. [WriteRefusal] answers a refused
// call.
//
// # Deadlines for callers
//
// Neither Transport nor Middleware bounds the caller. A caller that sends its body slowly, or stops reading, keeps its
// call open, and a probe its place in the round, up to Policy.TimeoutMax. Where callers are strangers, as in a proxy,
// the server must bound them: with ReadTimeout and WriteTimeout of http.Server or, for long bodies and streams, with a
// new deadline for each chunk by SetReadDeadline and SetWriteDeadline of http.ResponseController, which work through
// Middleware. A read that fails so ends the call and counts against no agent that was called.
package breakerhttp
