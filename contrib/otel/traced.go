package breakerotel

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/breakerd/breakerd/pkg/breaker"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// Traced is a breaker.Caller whose calls are shown in traces. It is safe for concurrent use as long as its fields do
// not change, and may be copied.
type Traced struct {
	breaker.Caller

	// Tracer starts a span for each call, of kind internal, named call and the agent. nil: the calls are noted on the
	// span in ctx.
	Tracer trace.Tracer
}

// Do is breaker.Manager.Do, traced.
func (t Traced) Do(ctx context.Context, agent string, fn func(context.Context) error) error {
	var with func(context.Context) (struct{}, error)
	if fn != nil {
		with = func(ctx context.Context) (struct{}, error) { return struct{}{}, fn(ctx) }
	}
	_, err := Call(ctx, t, agent, with)
	return err
}

// Call is breaker.Call, traced.
func Call[T any](
	ctx context.Context, t Traced, agent string, fn func(context.Context) (T, error),
) (result T, err error) {
	if ctx == nil || fn == nil || t.Caller == nil { // errors, which breaker.Call words
		return breaker.Call(ctx, t.Caller, agent, fn)
	}
	span := trace.SpanFromContext(ctx)
	if t.Tracer != nil {
		ctx, span = t.Tracer.Start(ctx, "call "+agent)
		defer span.End() // which also records a panic
	}
	if !span.IsRecording() {
		return breaker.Call(ctx, t.Caller, agent, fn)
	}
	span.SetAttributes(agentKey.String(agent))
	returned := false
	if t.Tracer != nil {
		defer func() {
			if !returned { // fn panicked, or ended the goroutine
				span.SetAttributes(genAIAgentKey.String(agent), errorTypeKey.String("panic"))
				span.SetStatus(codes.Error, "panic")
			}
		}()
	}
	result, called, err := callNoted(ctx, span, t.Caller, agent, fn)
	returned = true
	if !called {
		NoteRefusal(ctx, err)
	}
	if t.Tracer != nil {
		span.SetAttributes(genAIAgentKey.String(agent))
		noteError(ctx, span, called, err)
	}
	return result, err
}

// callNoted is breaker.Call that notes a probe. called: fn was called.
func callNoted[T any](
	ctx context.Context, span trace.Span, c breaker.Caller, agent string, fn func(context.Context) (T, error),
) (result T, called bool, err error) {
	m := c.Manager()
	result, err = breaker.Call(ctx, c, agent, func(ctx context.Context) (T, error) {
		called = true
		if m.InProbe(ctx, agent) {
			state := stateKey.String(breaker.HalfOpen.Upper())
			span.SetAttributes(state)
			span.AddEvent("breakerd.probe", trace.WithAttributes(agentKey.String(agent), state))
		}
		return fn(ctx)
	})
	return result, called, err
}

// The keys of attributes.
const (
	agentKey      = attribute.Key("breakerd.agent")
	stateKey      = attribute.Key("breakerd.state")
	reasonKey     = attribute.Key("breakerd.reason")
	retryAfterKey = attribute.Key("breakerd.retry_after_seconds")
	degradedKey   = attribute.Key("breakerd.degraded")

	genAIAgentKey = attribute.Key("gen_ai.agent.name")
	errorTypeKey  = attribute.Key("error.type")
)

// NoteRefusal notes a refusal on the span in ctx: as attributes, and as event breakerd.refused. It does nothing unless
// err wraps a *breaker.OpenError.
func NoteRefusal(ctx context.Context, err error) {
	if err == nil {
		return
	}
	span := trace.SpanFromContext(ctx)
	open, refused := errors.AsType[*breaker.OpenError](err)
	if !refused || !span.IsRecording() {
		return
	}
	attributes := []attribute.KeyValue{
		agentKey.String(open.Agent), reasonKey.String(string(open.Reason)),
		retryAfterKey.Float64(open.RetryAfter().Seconds()), degradedKey.Bool(open.Degraded),
	}
	if open.State != "" {
		attributes = append(attributes, stateKey.String(open.State.Upper()))
	}
	span.SetAttributes(attributes...)
	span.AddEvent("breakerd.refused", trace.WithAttributes(attributes...))
}

// noteError notes the error of a call on its own span.
func noteError(ctx context.Context, span trace.Span, called bool, err error) {
	if err == nil {
		return
	}
	kind := errorType(ctx, err)
	if !called && errors.Is(err, breaker.ErrOpen) {
		kind = "circuit_breaker_open"
	}
	span.SetAttributes(errorTypeKey.String(kind))
	span.SetStatus(codes.Error, fmt.Sprint(err)) // which recovers a panic, as errorType does
}

// errorType is the class of an error. Its methods are the user's: a nil pointer in it may make them panic.
func errorType(ctx context.Context, err error) (class string) {
	defer func() {
		if recover() != nil {
			class = fmt.Sprintf("%T", err)
		}
	}()
	return breaker.Classify(ctx, err).Class
}

// RoundTripper is next, whose refusals are noted on the spans of the requests. next is a *breakerhttp.Transport, or has
// one below it.
func RoundTripper(next http.RoundTripper) http.RoundTripper { return roundTripper{next} }

type roundTripper struct{ next http.RoundTripper }

func (r roundTripper) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := r.next.RoundTrip(req)
	if err != nil {
		NoteRefusal(req.Context(), err)
	}
	return resp, err
}

// CloseIdleConnections closes those of next, if it can. http.Client.CloseIdleConnections calls it.
func (r roundTripper) CloseIdleConnections() {
	if c, ok := r.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}
