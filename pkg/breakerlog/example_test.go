package breakerlog_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breakerlog"
)

// Two failures in a row open the breaker. LOG_LEVEL of a program would be the Level here.
func ExampleNew() {
	changing := []string{slog.TimeKey, "seconds", "epoch", "at"} // from run to run
	logger := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{
		Level: slog.LevelDebug,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if slices.Contains(changing, a.Key) {
				return slog.Attr{}
			}
			return a
		},
	}))
	noon := func() int64 { return 1_765_540_800_000 } // a clock that stands still
	m, err := breaker.NewManager(breaker.Options{
		Store:    breaker.NewMemory(noon, 0),
		Policy:   breaker.Policy{FailureThreshold: 2, Timeout: time.Minute},
		Observer: breakerlog.New(logger, breakerlog.Options{}),
		Logger:   breakerlog.Component(logger),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for range 3 {
		_ = m.Do(context.Background(), "payments", func(context.Context) error { return errors.New("status 503") })
	}
	_, _ = m.Force(context.Background(), "payments", breaker.Force{
		Target: breaker.ResetClosed, Actor: "ann", Reason: "the agent is up again",
	})
	// Output:
	// level=DEBUG msg="Failure recorded (1/2)" component="Circuit Breaker" event=circuit_breaker.failure agent=payments class=*errors.errorString
	// level=WARN msg="Circuit breaker OPENED" component="Circuit Breaker" event=circuit_breaker.opened agent=payments from=CLOSED to=OPEN reason=consecutive_failures actor=- failures=2 calls=2
	// level=DEBUG msg="Failure recorded (2/2)" component="Circuit Breaker" event=circuit_breaker.failure agent=payments class=*errors.errorString
	// level=WARN msg=CircuitBreakerOpenError component="Circuit Breaker" event=circuit_breaker.refused agent=payments state=OPEN reason=open retry_after_seconds=60
	// level=INFO msg="Circuit breaker transitioned to CLOSED" component="Circuit Breaker" event=circuit_breaker.manual_reset agent=payments from=OPEN to=CLOSED reason="the agent is up again" actor=ann failures=0 calls=0 detail="Manual reset (was OPEN)"
}
