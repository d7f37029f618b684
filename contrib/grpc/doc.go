// Package breakergrpc puts the breakers of package breaker before gRPC. [UnaryClientInterceptor] and
// [StreamClientInterceptor] guard the calls that a client makes, with one breaker for each agent that is called.
// [UnaryServerInterceptor] and [StreamServerInterceptor] guard a server, with one breaker for each agent that calls.
//
//	conn, err := grpc.NewClient(target,
//		grpc.WithChainUnaryInterceptor(breakergrpc.UnaryClientInterceptor(f, breakergrpc.ClientOptions{})),
//		grpc.WithChainStreamInterceptor(breakergrpc.StreamClientInterceptor(f, breakergrpc.ClientOptions{})))
//
// f is a *breaker.Manager, or what has one, as *fleet.Fleet. The package is a module of its own, so that only those who
// import it require gRPC.
//
// # Calls out
//
// A client interceptor asks the agent's breaker first. If it refuses, nothing is sent, and the error is both a
// *breaker.OpenError, for errors.Is and errors.As, and a gRPC status; see Refusals. An admitted call is settled exactly
// once, with the outcome of its status; see [Outcome]:
//
//   - A unary call is settled when it returns. What gRPC itself sends again, by a retry policy, is one call.
//   - A stream is settled when it ends, just before its reader sees the end: as a success with io.EOF, or with the one
//     answer of a stream whose server sends one message, else by the status. A header or a message is no end. Until
//     then a probe's lease is renewed, so a stream may last for hours.
//   - A call that its caller cancels is ignored, at once. So is a stream whose deadline passes while its caller waits
//     for nothing, one that fails because its caller sends what cannot be sent, and any call whose connection the
//     caller closes.
//   - A deadline that passes while the caller waits for the agent is a failure, whoever set the deadline.
//   - A panic in the interceptors or the codec below is a failure, and goes on.
//
// As gRPC asks, the caller of a stream reads it to its end or cancels its context. A stream of which the caller does
// neither owes its outcome for as long as its context lives: a probe then keeps its place in the half-open round, at
// most for Policy.TimeoutMax.
//
// Trouble with the store never replaces the call's own result; it is logged. Slow calls are measured by the time to the
// end of a unary call, and to the first message or the end of a stream [B8].
//
// Put these interceptors first in the chain, so that a breaker sees a call once, after the retries of other
// interceptors. Calls inside a probe may ride on it; see [breaker.Manager.Enter].
//
// # Calls in
//
// A server interceptor asks the breaker of the agent that calls, which ServerOptions.Agent names. Bad requests are that
// agent's failures, so an agent that floods a server with them is kept out for a while. Errors of the server itself are
// ignored, a panic in the handler included, which goes on; see [InboundOutcome]. A call is settled when its handler
// returns, before the caller sees its status. While the handler works, a probe's lease is renewed. Durations are not
// measured, because callers are not to blame for them.
//
// # Refusals
//
// The client's status is Unavailable: the call was not sent, and may be made again later. The server's status is
// ResourceExhausted, and Unavailable where the agent is not at fault: the reasons store_unavailable, emergency_stop and
// shedding. Both carry a google.rpc.RetryInfo, with the time to wait, and a google.rpc.ErrorInfo: reason
// CIRCUIT_BREAKER_OPEN or TOO_MANY_AGENTS, domain breakerd, metadata agent, reason and, where there is one, state
// (OPEN or HALF_OPEN). A server also sends the state as trailer x-circuit-breaker-state.
//
// Other errors without a call are statuses too: the context's own error, Unavailable if the store is down and there is
// no breaker.Fallback, InvalidArgument for a bad name, Internal where something required is nil. The client's also wrap
// the error itself.
package breakergrpc
