package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/sony/gobreaker/v2"
)

// The errors and the script are those of pkg/fleet/example_adopting_test.go, which has the same breaker of ours, and
// prints the same lines.
var (
	errTimeout    = errors.New("the agent did not answer")
	errBadRequest = errors.New("the agent does not understand the question")
)

func script() func() (string, error) {
	calls := 0
	return func() (string, error) {
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

// Example_gobreaker is the code before a move to breakerd, for docs/adopting.md.
func Example_gobreaker() {
	ask := script()

	cb := gobreaker.NewCircuitBreaker[string](gobreaker.Settings{
		Name:        "my-agent", // one breaker for each agent
		MaxRequests: 3,
		Interval:    2 * time.Minute, BucketPeriod: 10 * time.Second,
		Timeout: time.Minute,
		ReadyToTrip: func(c gobreaker.Counts) bool {
			share := float64(c.TotalFailures) / float64(c.TotalFailures+c.TotalSuccesses)
			return c.ConsecutiveFailures >= 5 || c.TotalFailures+c.TotalSuccesses >= 10 && share >= 0.5
		},
		OnStateChange: func(name string, from, to gobreaker.State) { fmt.Println(name, from, "->", to) },
		IsExcluded:    func(err error) bool { return errors.Is(err, errBadRequest) },
	})

	for range 8 {
		answer, err := cb.Execute(ask)
		switch {
		case errors.Is(err, gobreaker.ErrOpenState), errors.Is(err, gobreaker.ErrTooManyRequests):
			fmt.Println("not called")
		case err != nil:
			fmt.Println("failed:", err)
		default:
			fmt.Println(answer)
		}
	}
	// Output:
	// hello
	// failed: the agent does not understand the question
	// failed: the agent did not answer
	// failed: the agent did not answer
	// failed: the agent did not answer
	// failed: the agent did not answer
	// my-agent closed -> open
	// failed: the agent did not answer
	// not called
}
