package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breakerhttp"
	"github.com/breakerd/breakerd/pkg/breakerprom"
	"github.com/breakerd/breakerd/pkg/fleet"
)

// lastKnown is the answer without a call.
const lastKnown = 99

// askPrice is the call behind the breaker. The agent does not answer.
func askPrice(context.Context) (int, error) { return 0, errTimeout }

// logger of the examples is silent.
func logger() *slog.Logger { return slog.New(slog.DiscardHandler) }

// price asks the agent "pricing", and does without it while its breaker refuses.
func price(ctx context.Context, f *fleet.Fleet) (int, error) {
	price, err := breaker.Call(ctx, f, "pricing", askPrice) // askPrice is a func(context.Context) (int, error)
	if errors.Is(err, breaker.ErrOpen) {
		return lastKnown, nil // the breaker refuses: nothing was called
	}
	return price, err // as askPrice returned them
}

// A program on url is a replica of the fleet whose breakers are in that Redis. Without a url it is a fleet of its own.
func Example() {
	ctx, url := context.Background(), ""
	slog.SetDefault(logger())

	f, err := fleet.Join(ctx, url, fleet.Options{}) // redis://host:6379/0; "": in this process's memory
	if err != nil {
		fmt.Println(err)
		return
	}
	defer f.Close(ctx)

	for range 6 {
		fmt.Println(price(ctx, f))
	}
	// Output:
	// 0 the agent did not answer
	// 0 the agent did not answer
	// 0 the agent did not answer
	// 0 the agent did not answer
	// 0 the agent did not answer
	// 99 <nil>
}

// A refusal says why, and when it makes sense to ask again.
func ExampleFleet_Do() {
	ctx := context.Background()
	f, err := fleet.Join(ctx, "", fleet.Options{Logger: logger(), Policy: breaker.Policy{FailureThreshold: 1}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer f.Close(ctx)
	call := func(context.Context) error { return errTimeout }

	for range 2 {
		err := f.Do(ctx, "my-agent", call)
		var open *breaker.OpenError
		switch {
		case errors.As(err, &open):
			fmt.Println("refused:", open.Reason, "- ask again in", open.RetryAfter().Round(time.Second))
		case err != nil:
			fmt.Println("the agent's own error:", err)
		}
	}
	// Output:
	// the agent's own error: the agent did not answer
	// refused: open - ask again in 1m0s
}

// Acquire and Settle are the two halves of Do, for calls that do not fit into a function.
func ExampleFleet_Acquire() {
	ctx := context.Background()
	f, err := fleet.Join(ctx, "", fleet.Options{Logger: logger()})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer f.Close(ctx)
	call := func(context.Context) error { return errTimeout }

	permit, err := f.Acquire(ctx, "my-agent")
	if err != nil {
		fmt.Println("not called:", err) // an *OpenError says why and for how long
		return
	}
	defer permit.Keep(ctx)() // renews the lease of a probe
	start := time.Now()
	err = call(ctx)
	outcome := breaker.Outcome{Kind: breaker.Success, Duration: time.Since(start)}
	if err != nil {
		outcome.Kind, outcome.Class = breaker.Failure, "timeout"
	}
	counted, err := permit.Settle(ctx, outcome)
	fmt.Println("counted:", counted, err)
	// Output: counted: true <nil>
}

// A loop that goes on until the agent has answered. While its breaker is open, it waits.
func ExampleFleet_Wait() {
	ctx := context.Background()
	f, err := fleet.Join(ctx, "", fleet.Options{
		Logger: logger(), Policy: breaker.Policy{FailureThreshold: 2, Timeout: 10 * time.Millisecond},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer f.Close(ctx)
	calls := 0
	call := func(context.Context) error {
		if calls++; calls <= 3 {
			return errTimeout
		}
		return nil
	}

	err = untilDone(ctx, f, call)
	fmt.Println(err, "after", calls, "calls")
	// Output: <nil> after 4 calls
}

func untilDone(ctx context.Context, f *fleet.Fleet, call func(context.Context) error) error {
	for {
		if err := f.Wait(ctx, "my-agent"); err != nil {
			return err // ctx has ended
		}
		if err := f.Do(ctx, "my-agent", call); err == nil {
			return nil
		} // else it failed, or another caller was faster: wait again
	}
}

// Policies by agent, and what the program hears.
func ExampleJoin() {
	ctx, url := context.Background(), ""
	log, registry := logger(), prometheus.NewRegistry()
	metrics := breakerprom.New(breakerprom.Options{})
	registry.MustRegister(metrics) // your own, or prometheus.DefaultRegisterer
	changes := make(chan breaker.Change, 1)

	f, err := fleet.Join(ctx, url, fleet.Options{
		Policy: breaker.Policy{Timeout: 30 * time.Second}, // a zero field means its default
		PerAgent: func(agent string) breaker.Policy {
			if agent == "batch" {
				return breaker.Policy{FailureThreshold: breaker.Off, FailureRateThreshold: 0.8}
			}
			return breaker.Policy{FailureThreshold: 1, Consistency: breaker.Cached}
		},
		Logger:        log,
		Observer:      metrics,
		OnStateChange: func(c breaker.Change) { changes <- c }, // of all replicas
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer f.Close(ctx)

	fmt.Println(f.Do(ctx, "my-agent", func(context.Context) error { return errTimeout }))
	c := <-changes
	fmt.Println(c.Agent, c.From, "->", c.To, "by", c.Text)
	// Output:
	// the agent did not answer
	// my-agent closed -> open by consecutive_failures
}

// In cached mode a call of a closed breaker takes nanoseconds, and a handle saves the lookup by name.
func ExampleFleet_Agent() {
	ctx := context.Background()
	f, err := fleet.Join(ctx, "", fleet.Options{Logger: logger(), Policy: breaker.Policy{Consistency: breaker.Cached}})
	if err != nil {
		fmt.Println(err)
		return
	}
	call := func(context.Context) error { return nil }

	agent, err := f.Agent("my-agent") // a handle, for agents whose number is bounded
	if err != nil {
		fmt.Println(err)
		return
	}
	for range 1000 {
		err = errors.Join(err, agent.Do(ctx, call))
	}
	view, _, _ := f.Inspect(ctx, "my-agent") // sends what has not been sent
	fmt.Println(view.Successes, err, f.Close(ctx))
	// Output: 1000 <nil> <nil>
}

// One policy for one agent, on all replicas, until it is removed.
func ExampleFleet_Configure() {
	ctx := context.Background()
	f, err := fleet.Join(ctx, "", fleet.Options{Logger: logger()})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer f.Close(ctx)

	err = f.Configure(ctx, "my-agent", breaker.Policy{FailureThreshold: 2}) // the zero Policy removes it
	fmt.Println(err)
	_, policy, err := f.Inspect(ctx, "my-agent")
	fmt.Println(policy.FailureThreshold, policy.Timeout, err)
	// Output:
	// <nil>
	// 2 1m0s <nil>
}

// A client with one breaker for each host.
func ExampleFleet_Manager() {
	agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer agent.Close()
	ctx := context.Background()
	f, err := fleet.Join(ctx, "", fleet.Options{Logger: logger(), Policy: breaker.Policy{FailureThreshold: 1}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer f.Close(ctx)

	client := &http.Client{Transport: &breakerhttp.Transport{Manager: f.Manager()}}
	for range 2 {
		resp, err := client.Get(agent.URL)
		if err != nil {
			fmt.Println("refused:", errors.Is(err, breaker.ErrOpen))
			return
		}
		fmt.Println(resp.Status)
		resp.Body.Close()
	}
	// Output:
	// 503 Service Unavailable
	// refused: true
}

// An operator holds a breaker open, for the whole fleet, and releases it.
func ExampleFleet_Open() {
	ctx := context.Background()
	f, err := fleet.Join(ctx, "", fleet.Options{Logger: logger()})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer f.Close(ctx)

	err = f.Open(ctx, "crawler", breaker.Hold{For: time.Hour, Reason: "flooding", Actor: "alice"})
	fmt.Println(err)
	fmt.Println(f.List(ctx))
	fmt.Println(f.Do(ctx, "crawler", func(context.Context) error { return nil }))
	fmt.Println(f.Release(ctx, "crawler", breaker.Release{Reason: "fixed", Actor: "alice"}))
	fmt.Println(f.State(ctx, "crawler")) // probes decide
	fmt.Println(f.Reset(ctx, "crawler", breaker.Reset{Actor: "alice"}))
	fmt.Println(f.State(ctx, "crawler"))
	// Output:
	// <nil>
	// map[crawler:open] <nil>
	// circuit breaker of agent "crawler" refuses the call (forced_open): retry in 3600.0 seconds
	// <nil>
	// half_open <nil>
	// <nil>
	// closed <nil>
}
