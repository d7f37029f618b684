// Package breakerhttp puts the breakers of package breaker before HTTP. [Transport] guards the calls that a client
// makes, with one breaker for each agent that is called. [Middleware] guards an API, with one breaker for each agent
// that calls.
//
//	client := &http.Client{Transport: &breakerhttp.Transport{Manager: f.Manager()}}
//
//	guard := &breakerhttp.Middleware{Manager: f.Manager(), Agent: breakerhttp.FromHeader("X-Agent")}
//	http.Handle("/", guard.Wrap(api))
//
// f is a *fleet.Fleet; a *breaker.Manager made by hand does as well.
//
// # Calls out
//
// Transport.RoundTrip asks the agent's breaker first. A refusal is a *breaker.OpenError, which http.Client wraps in a
// *url.Error, and nothing is sent. An admitted call is settled exactly once:
//
//   - An error, or a status that is not a success, is settled as soon as it arrives.
//   - A success is settled when its body has been read to the end, just before the reader sees the end. Until then a
//     probe's lease is renewed.
//   - A probe whose answer is a stream is a success once its first data has come, was judged no error, and
//     probe_settle_seconds have passed: else its round would last as long as the stream. What comes later changes
//     nothing; Timing.Late has it.
//   - A body that breaks, or keeps its reader waiting for longer than Transport.Timeout, makes the call a failure. A
//     body that the reader closes early does not.
//   - A call that its caller cancels is ignored, at once, but for a stream that flows: that is a success. Before the
//     header, after abandoned_seconds, it is a failure of class abandoned, unless other calls of the agent were
//     answered meanwhile [B4]. A probe goes on without its caller until then, so that its round gets a verdict.
//   - A call whose request body the caller fails to send is ignored. So is a probe whose agent has waited for that body
//     as long as a lease.
//   - An error on a connection that was kept from an earlier call, before any byte of an answer, is ignored, class
//     stale_connection. net/http sends an idempotent request once more.
//   - With a [BodyClassifier], an error inside a response of status 200 is a failure, as soon as it has passed.
//   - A response whose Body is http.NoBody is settled at once. HTTP/2 always gives a body to read or close, because
//     trailers may come.
//   - 101 Switching Protocols is settled by the agent's first byte, or once the connection has stood for
//     probe_settle_seconds; a probe only by the latter. One that ends before that is a failure. The body stays an
//     io.ReadWriteCloser.
//   - An impossible status, a 101 that was not asked for, and a panic in Base are failures. The panic goes on.
//
// Trouble with the store never replaces the call's own result; it is logged. The caller must close the body, as with
// every http.RoundTripper. Trailers, 1xx responses, Expect: 100-continue and httptrace work as without a Transport.
//
// Slow calls are measured by the time to the first data of the response's body [B8]. The time to its end depends on
// what was asked for and on the reader's own pace. Transport.Observe receives both.
//
// Calls by OPTIONS and HEAD neither ask the breaker nor count; Transport.Counts says so of others.
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
