package breakerotel_test

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breakerhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/breakerd/breakerd/contrib/otel"
)

// rig is a Manager over memory, and what is recorded of its calls.
type rig struct {
	m *breaker.Manager

	spans  *tracetest.SpanRecorder
	tracer trace.Tracer
}

func newRig(t *testing.T, p breaker.Policy) *rig {
	t.Helper()
	m, err := breaker.NewManager(breaker.Options{Store: breaker.NewMemory(nil, 0), Policy: p})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close(context.Background()) })
	spans := tracetest.NewSpanRecorder()
	provider := sdk.NewTracerProvider(sdk.WithSpanProcessor(spans), sdk.WithSampler(sdk.AlwaysSample()))
	return &rig{m: m, spans: spans, tracer: provider.Tracer("test")}
}

// span runs f under a span of the caller's own, and returns the span.
func (r *rig) span(t *testing.T, f func(context.Context)) sdk.ReadOnlySpan {
	t.Helper()
	ctx, span := r.tracer.Start(t.Context(), "caller")
	f(ctx)
	span.End()
	return r.last(t, "caller")
}

// last is the span that ended last.
func (r *rig) last(t *testing.T, name string) sdk.ReadOnlySpan {
	t.Helper()
	ended := r.spans.Ended()
	if len(ended) == 0 || ended[len(ended)-1].Name() != name {
		t.Fatalf("%d spans ended, the last of which is not %q", len(ended), name)
	}
	return ended[len(ended)-1]
}

type attributes = map[attribute.Key]any

func of(all []attribute.KeyValue) attributes {
	m := attributes{}
	for _, a := range all {
		m[a.Key] = a.Value.AsInterface()
	}
	return m
}

func wantAttributes(t *testing.T, what string, got []attribute.KeyValue, want attributes) {
	t.Helper()
	if g := of(got); !maps.Equal(g, want) {
		t.Errorf("%s has attributes %v, want %v", what, g, want)
	}
}

func wantEvent(t *testing.T, s sdk.ReadOnlySpan, name string, want attributes) {
	t.Helper()
	if e := s.Events(); len(e) != 1 || e[0].Name != name {
		t.Errorf("events %v, want one %s", e, name)
	} else {
		wantAttributes(t, name, e[0].Attributes, want)
	}
}

func succeed(context.Context) error { return nil }
func fail(context.Context) error    { return errors.New("broken") }

func (r *rig) open(t *testing.T) {
	t.Helper()
	hold := breaker.Force{Target: breaker.HoldOpen, LengthMs: 60_000, Actor: "test"}
	if _, err := r.m.Force(t.Context(), "a", hold); err != nil {
		t.Fatal(err)
	}
}

func TestCall_OnTheSpanInContext(t *testing.T) {
	t.Parallel()
	r := newRig(t, breaker.Policy{})
	calls := breakerotel.Traced{Caller: r.m}
	s := r.span(t, func(ctx context.Context) {
		answer, err := breakerotel.Call(ctx, calls, "a", func(inner context.Context) (int, error) {
			if trace.SpanFromContext(inner) != trace.SpanFromContext(ctx) {
				t.Error("the call runs under another span")
			}
			return 42, io.EOF
		})
		if answer != 42 || !errors.Is(err, io.EOF) {
			t.Errorf("%d, %v", answer, err)
		}
	})
	wantAttributes(t, "the span", s.Attributes(), attributes{"breakerd.agent": "a"})
	if len(s.Events()) != 0 || s.Status().Code != codes.Unset {
		t.Errorf("events %v, status %v: the span is its owner's", s.Events(), s.Status())
	}
}

func TestCall_NotesARefusal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, breaker.Policy{})
		r.open(t)
		want := attributes{
			"breakerd.agent": "a", "breakerd.state": "OPEN", "breakerd.reason": "forced_open",
			"breakerd.retry_after_seconds": 60.0, "breakerd.degraded": false,
		}
		refused := func(calls breakerotel.Traced) func(context.Context) {
			return func(ctx context.Context) {
				if err := calls.Do(ctx, "a", succeed); !errors.Is(err, breaker.ErrOpen) {
					t.Error(err)
				}
			}
		}
		s := r.span(t, refused(breakerotel.Traced{Caller: r.m}))
		wantAttributes(t, "the span", s.Attributes(), want)
		wantEvent(t, s, "breakerd.refused", want)

		refused(breakerotel.Traced{Caller: r.m, Tracer: r.tracer})(t.Context())
		s = r.last(t, "call a")
		wantEvent(t, s, "breakerd.refused", want)
		want["gen_ai.agent.name"], want["error.type"] = "a", "circuit_breaker_open"
		wantAttributes(t, "the span", s.Attributes(), want)
		if s.Status().Code != codes.Error {
			t.Errorf("status %v", s.Status())
		}
	})
}

func TestCall_NotesAProbe(t *testing.T) {
	t.Parallel()
	for _, consistency := range []breaker.Consistency{breaker.Strict, breaker.Cached} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, breaker.Policy{FailureThreshold: 1, Timeout: time.Minute, HalfOpenMaxCalls: 1, Consistency: consistency})
			calls := breakerotel.Traced{Caller: r.m}
			_ = calls.Do(t.Context(), "a", fail)
			_ = calls.Do(t.Context(), "a", succeed) // refused
			<-time.After(time.Minute)
			s := r.span(t, func(ctx context.Context) {
				if err := calls.Do(ctx, "a", succeed); err != nil {
					t.Error(err)
				}
			})
			want := attributes{"breakerd.agent": "a", "breakerd.state": "HALF_OPEN"}
			wantAttributes(t, "the span", s.Attributes(), want)
			wantEvent(t, s, "breakerd.probe", want)
			s = r.span(t, func(ctx context.Context) { _ = calls.Do(ctx, "a", succeed) })
			wantAttributes(t, "a call of the closed breaker", s.Attributes(), attributes{"breakerd.agent": "a"})
		})
	}
}

func TestCall_HasASpanOfItsOwn(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fn        func(context.Context) error
		errorType string // "": none
	}{
		"success":                 {succeed, ""},
		"failure":                 {fail, "*errors.errorString"},
		"deadline":                {func(context.Context) error { return context.DeadlineExceeded }, "timeout"},
		"another breaker refuses": {func(context.Context) error { return &breaker.OpenError{Agent: "b"} }, "refused"},
	} {
		r := newRig(t, breaker.Policy{})
		calls := breakerotel.Traced{Caller: r.m, Tracer: r.tracer}
		parent := r.span(t, func(ctx context.Context) {
			var inner trace.Span
			err := calls.Do(ctx, "a", func(ctx context.Context) error {
				inner = trace.SpanFromContext(ctx)
				return c.fn(ctx)
			})
			s := r.last(t, "call a")
			if (err != nil) != (c.errorType != "") || inner.SpanContext().SpanID() != s.SpanContext().SpanID() {
				t.Errorf("%s: error %v, under span %v", name, err, inner)
			}
		})
		if len(parent.Attributes()) != 0 {
			t.Errorf("%s: the caller's span has %v", name, parent.Attributes())
		}
		s := r.spans.Ended()[0]
		want, code := attributes{"breakerd.agent": "a", "gen_ai.agent.name": "a"}, codes.Unset
		if c.errorType != "" {
			want["error.type"], code = c.errorType, codes.Error
		}
		wantAttributes(t, name, s.Attributes(), want)
		if s.Status().Code != code || len(s.Events()) != 0 || s.Parent().SpanID() != parent.SpanContext().SpanID() {
			t.Errorf("%s: status %v, events %v, parent %v", name, s.Status(), s.Events(), s.Parent())
		}
	}
}

func TestCall_PanicEndsTheSpanAndGoesOn(t *testing.T) {
	t.Parallel()
	r := newRig(t, breaker.Policy{FailureThreshold: 1})
	calls := breakerotel.Traced{Caller: r.m, Tracer: r.tracer}
	func() {
		defer func() {
			if v := recover(); v != "fn" {
				t.Errorf("recovered %v", v)
			}
		}()
		_ = calls.Do(t.Context(), "a", func(context.Context) error { panic("fn") })
	}()
	s := r.last(t, "call a")
	if e := s.Events(); len(e) != 1 || e[0].Name != "exception" {
		t.Errorf("events %v, want the panic", e)
	}
	if kind := of(s.Attributes())["error.type"]; kind != "panic" || s.Status().Code != codes.Error {
		t.Errorf("error.type %v, status %v, want those of an error", kind, s.Status())
	}
	if err := calls.Do(t.Context(), "a", succeed); !errors.Is(err, breaker.ErrOpen) {
		t.Errorf("the panic was not counted: %v", err)
	}
}

// nilError is an error whose method panics if it is nil.
type nilError struct{ wait time.Duration }

func (e *nilError) Error() string { return e.wait.String() }

// breaker.Call takes it for a failure and returns it: a trace changes nothing.
func TestCall_ErrorWhoseMethodsPanicIsReturned(t *testing.T) {
	t.Parallel()
	r := newRig(t, breaker.Policy{})
	calls := breakerotel.Traced{Caller: r.m, Tracer: r.tracer}
	err := calls.Do(t.Context(), "a", func(context.Context) error { return (*nilError)(nil) })
	if _, same := err.(*nilError); !same { //nolint:errorlint // the very error
		t.Errorf("error of type %T", err)
	}
	if code := r.last(t, "call a").Status().Code; code != codes.Error {
		t.Errorf("status %v", code)
	}
}

func TestCall_WithoutWhatItNeeds(t *testing.T) {
	t.Parallel()
	r := newRig(t, breaker.Policy{})
	r.span(t, func(ctx context.Context) {
		for name, err := range map[string]error{
			"Caller":   breakerotel.Traced{}.Do(ctx, "a", succeed),
			"function": breakerotel.Traced{Caller: r.m, Tracer: r.tracer}.Do(ctx, "a", nil),
			"context":  breakerotel.Traced{Caller: r.m, Tracer: r.tracer}.Do(nil, "a", succeed), //nolint:staticcheck // a nil context is what is tested
			"Manager":  breakerotel.Traced{Caller: (*breaker.Manager)(nil)}.Do(ctx, "a", succeed),
		} {
			if !errors.Is(err, breaker.ErrUnset) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

// Without a recording span a call allocates nothing more than through the breaker alone.
func TestCall_WithoutASpanAllocatesNothingMore(t *testing.T) {
	r := newRig(t, breaker.Policy{Consistency: breaker.Cached})
	calls := breakerotel.Traced{Caller: r.m}
	answer := func(context.Context) (int, error) { return 42, nil }
	ctx := trace.ContextWithSpan(t.Context(), trace.SpanFromContext(t.Context()))
	fewest := func(f func()) float64 {
		n := testing.AllocsPerRun(1000, f)
		for range 9 {
			n = min(n, testing.AllocsPerRun(1000, f))
		}
		return n
	}
	for name, c := range map[string]struct{ bare, traced func() }{
		"Do":   {func() { _ = r.m.Do(ctx, "a", succeed) }, func() { _ = calls.Do(ctx, "a", succeed) }},
		"Call": {func() { _, _ = breaker.Call(ctx, r.m, "a", answer) }, func() { _, _ = breakerotel.Call(ctx, calls, "a", answer) }},
	} {
		if bare, traced := fewest(c.bare), fewest(c.traced); traced != bare || bare != 0 {
			t.Errorf("%s allocates %v times, without traces %v times, want 0", name, traced, bare)
		}
	}
}

func BenchmarkCall(b *testing.B) {
	m, err := breaker.NewManager(breaker.Options{Store: breaker.NewMemory(nil, 0), Policy: breaker.Policy{Consistency: breaker.Cached}})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = m.Close(context.Background()) }()
	answer := func(context.Context) (int, error) { return 42, nil }
	ctx := trace.ContextWithSpan(b.Context(), trace.SpanFromContext(b.Context()))
	b.Run("bare", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = breaker.Call(ctx, m, "a", answer)
		}
	})
	b.Run("traced", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = breakerotel.Call(ctx, breakerotel.Traced{Caller: m}, "a", answer)
		}
	})
}

func TestRoundTripper_NotesRefusals(t *testing.T) {
	t.Parallel()
	r := newRig(t, breaker.Policy{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	client := http.Client{Transport: breakerotel.RoundTripper(&breakerhttp.Transport{
		Manager: r.m, Agent: func(*http.Request) string { return "a" },
	})}
	defer client.CloseIdleConnections()
	get := func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL, nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err == nil {
			err = resp.Body.Close()
		}
		return err
	}
	s := r.span(t, func(ctx context.Context) {
		if err := get(ctx); err != nil {
			t.Error(err)
		}
	})
	wantAttributes(t, "an admitted call", s.Attributes(), attributes{})
	r.open(t)
	s = r.span(t, func(ctx context.Context) {
		if err := get(ctx); !errors.Is(err, breaker.ErrOpen) {
			t.Error(err)
		}
	})
	if e := s.Events(); len(e) != 1 || e[0].Name != "breakerd.refused" || of(e[0].Attributes)["breakerd.reason"] != "forced_open" {
		t.Errorf("events %v", e)
	}
}
