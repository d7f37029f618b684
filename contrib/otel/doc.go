// Package breakerotel shows calls that go through a breaker in OpenTelemetry's traces. It is a module of its own, so
// that only those who import it require OpenTelemetry.
//
//	calls := breakerotel.Traced{Caller: f, Tracer: otel.Tracer("shop")}
//	answer, err := breakerotel.Call(ctx, calls, "payments", call) // in place of breaker.Call(ctx, f, "payments", call)
//
// f is a *breaker.Manager, or what has one, as *fleet.Fleet. [Call] and [Traced.Do] do what breaker.Call and Manager.Do
// do, and return what those return. With a Tracer each call has a span of its own, from before the breaker is asked
// until the call has returned, and runs under it. Without one the calls are noted on the span in ctx, if it is
// recording: a call then costs one look-up in ctx more, and allocates nothing.
//
// # Attributes
//
// There is no convention for circuit breakers yet, so their attributes have the prefix breakerd:
//
//	breakerd.agent                the agent that is called
//	breakerd.state                OPEN or HALF_OPEN: of a breaker that refuses; HALF_OPEN of a probe
//	breakerd.reason               of a refusal: open, forced_open, probes_busy, ramping, …
//	breakerd.retry_after_seconds  of a refusal: when it makes sense to ask again
//	breakerd.degraded             of a refusal: true if this process refused without the store, which is down
//
// A span of the call's own also has gen_ai.agent.name, the agent, and, if the call fails, the status Error and
// error.type: circuit_breaker_open if the breaker refused it, else the class that breaker.Classify gives, as timeout,
// cancelled or *net.OpError. On the span in ctx both belong to its owner and stay as they are. Of several calls under
// one span in ctx an attribute shows the last call that set it; events tell the calls apart.
//
// # Events
//
//	breakerd.refused  the breaker refused a call, which was not made; with all of the attributes above
//	breakerd.probe    a call of a half-open breaker begins; with breakerd.agent and breakerd.state
//
// # HTTP and gRPC
//
// [RoundTripper] notes the refusals of a breakerhttp.Transport on the span of the request:
//
//	guarded := breakerotel.RoundTripper(&breakerhttp.Transport{Manager: m})
//	client := &http.Client{Transport: otelhttp.NewTransport(guarded)}
//
// [NoteRefusal] does so for everything else that returns a *breaker.OpenError, as Manager.Acquire and the interceptors
// of contrib/grpc.
package breakerotel
