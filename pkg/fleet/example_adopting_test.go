package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/fleet"
)

var (
	errTimeout    = errors.New("the agent did not answer")
	errBadRequest = errors.New("the agent does not understand the question")
)

// script is an agent that answers once, is asked a bad question, and then does not answer any more.
func script() func(context.Context) (string, error) {
	calls := 0
	return func(context.Context) (string, error) {
		calls++
		switch calls {
		case 1:
			return "hello", nil
		case 2:
			return "", errBadRequest
		default:
			return "", errTimeout
		}
	}
}

// A fleet in the place of a gobreaker. Its twin, with gobreaker, is bench/example_test.go; both print the same lines.
func ExampleJoin_gobreaker() {
	ctx := context.Background()
	ask := script()
	url := "" // of one process, as a gobreaker; for a fleet redis://host:6379/0
	changes := make(chan breaker.Change, 1)

	f, err := fleet.Join(ctx, url, fleet.Options{
		Policy: breaker.Policy{ // of every agent
			HalfOpenMaxCalls:     3,
			WindowSize:           2 * time.Minute,
			Timeout:              time.Minute,
			FailureThreshold:     5,
			FailureRateThreshold: 0.5, MinimumCalls: 10,
		},
		OnStateChange: func(c breaker.Change) { changes <- c }, // by whomever in the fleet
		Classify: func(ctx context.Context, c breaker.CallInfo) breaker.Outcome {
			if errors.Is(c.Err, errBadRequest) {
				return breaker.Outcome{Kind: breaker.Ignored}
			}
			return breaker.Classify(ctx, c.Err)
		},
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = f.Close(ctx) }()

	for range 8 {
		answer, err := breaker.Call(ctx, f, "my-agent", ask)
		switch {
		case errors.Is(err, breaker.ErrOpen):
			fmt.Println("not called")
		case err != nil:
			fmt.Println("failed:", err)
		default:
			fmt.Println(answer)
		}
	}
	c := <-changes
	fmt.Println(c.Agent, c.From, "->", c.To)
	// Output:
	// hello
	// failed: the agent does not understand the question
	// failed: the agent did not answer
	// failed: the agent did not answer
	// failed: the agent did not answer
	// failed: the agent did not answer
	// failed: the agent did not answer
	// not called
	// my-agent closed -> open
}
