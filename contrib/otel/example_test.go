package breakerotel_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/breakerd/breakerd/pkg/breaker"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/breakerd/breakerd/contrib/otel"
)

// Each call has a span of its own, which says why it failed.
func Example() {
	ctx := context.Background()
	spans := tracetest.NewInMemoryExporter()
	provider := sdk.NewTracerProvider(sdk.WithSyncer(spans))
	m, err := breaker.NewManager(breaker.Options{
		Store: breaker.NewMemory(nil, 0), Policy: breaker.Policy{FailureThreshold: 1},
	})
	if err != nil {
		panic(err)
	}
	calls := breakerotel.Traced{Caller: m, Tracer: provider.Tracer("shop")}
	for range 2 {
		_, err := breakerotel.Call(ctx, calls, "payments", func(context.Context) (string, error) {
			return "", errors.New("502")
		})
		fmt.Println(err != nil, errors.Is(err, breaker.ErrOpen))
	}
	for _, s := range spans.GetSpans() {
		fmt.Println(s.Name, s.Status.Code)
		for _, a := range s.Attributes {
			if a.Key == "error.type" || a.Key == "breakerd.reason" {
				fmt.Printf("  %s=%s\n", a.Key, a.Value.AsString())
			}
		}
	}
	// Output:
	// true false
	// true true
	// call payments Error
	//   error.type=*errors.errorString
	// call payments Error
	//   breakerd.reason=open
	//   error.type=circuit_breaker_open
}

// What is acquired by hand, or through an interceptor of gRPC, is noted by hand.
func ExampleNoteRefusal() {
	m, err := breaker.NewManager(breaker.Options{Store: breaker.NewMemory(nil, 0)})
	if err != nil {
		panic(err)
	}
	spans := tracetest.NewInMemoryExporter()
	provider := sdk.NewTracerProvider(sdk.WithSyncer(spans))
	ctx, span := provider.Tracer("shop").Start(context.Background(), "order")
	banned := breaker.Force{Target: breaker.HoldOpen, LengthMs: 60_000, Actor: "operator"}
	if _, err := m.Force(ctx, "payments", banned); err != nil {
		panic(err)
	}
	_, err = m.Acquire(ctx, "payments")
	breakerotel.NoteRefusal(ctx, err)
	span.End()
	fmt.Println(spans.GetSpans()[0].Events[0].Name)
	// Output: breakerd.refused
}
