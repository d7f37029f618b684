package breaker_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/redisstore"
	"github.com/breakerd/breakerd/pkg/redisstore/embedded"
)

// fleet gives a Manager on the Redis that url names, and what ends it.
func fleet(ctx context.Context, url string) (m *breaker.Manager, end func(), err error) {
	conn, err := redisstore.Open(ctx, url, redisstore.Options{Embedded: embedded.Start}) // which only embedded:// needs
	if err != nil {
		return nil, nil, err
	}
	store, err := redisstore.New(conn.Client, conn.Cluster, redisstore.Config{})
	if err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	fallback := breaker.NewFallback(store, store.Ping, 0, nil) // answers while Redis is away
	end = func() { fallback.Close(); _ = conn.Close() }
	m, err = breaker.NewManager(breaker.Options{Store: fallback})
	return m, end, err
}

var errTimeout = errors.New("the agent did not answer")

// callAgent stands for the call that the breaker guards.
func callAgent(context.Context) error { return errTimeout }

// Do asks, calls, and records how it ended. The sixth call is refused without being made.
func ExampleManager_Do() {
	ctx := context.Background()
	m, end, err := fleet(ctx, "embedded://") // a fleet says redis://host:6379/0
	if err != nil {
		fmt.Println(err)
		return
	}
	defer end()

	for range 6 {
		err := m.Do(ctx, "my-agent", callAgent)
		if open, refused := errors.AsType[*breaker.OpenError](err); refused {
			fmt.Println("refused:", open.Reason, "- ask again in", open.RetryAfter.Round(time.Second))
		} else if err != nil {
			fmt.Println("the agent's own error:", err)
		}
	}
	// Output:
	// the agent's own error: the agent did not answer
	// the agent's own error: the agent did not answer
	// the agent's own error: the agent did not answer
	// the agent's own error: the agent did not answer
	// the agent's own error: the agent did not answer
	// refused: open - ask again in 1m0s
}

// Acquire and Settle are Do in two steps, for calls that do not fit a function.
func ExampleManager_Acquire() {
	ctx := context.Background()
	m, end, err := fleet(ctx, "embedded://")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer end()

	permit, err := m.Acquire(ctx, "my-agent")
	if err != nil {
		fmt.Println("not called:", err) // an *OpenError says why and for how long
		return
	}
	start := time.Now()
	err = callAgent(ctx)
	outcome := breaker.Outcome{Kind: breaker.Success, Duration: time.Since(start)}
	if err != nil {
		outcome.Kind, outcome.Class = breaker.Failure, "timeout"
	}
	counted, err := permit.Settle(ctx, outcome)
	fmt.Println("counted:", counted, err)
	// Output: counted: true <nil>
}

// Cached mode: while the breaker is closed, a call costs nanoseconds, and Redis is told of a thousand at once.
func ExampleManager_Agent() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	conn, err := redisstore.Open(ctx, "embedded://", redisstore.Options{Embedded: embedded.Start})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = conn.Close() }()
	store, err := redisstore.New(conn.Client, conn.Cluster, redisstore.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}

	m, err := breaker.NewManager(breaker.Options{
		Store: store, Policy: breaker.Policy{Consistency: breaker.Cached},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	go store.Events(ctx, func(agent string, _ breaker.Event) { m.Invalidate(agent) }) // trips of other replicas

	agent, err := m.Agent("my-agent") // a handle spares the look-up by name
	if err != nil {
		fmt.Println(err)
		return
	}
	for range 1000 {
		err = errors.Join(err, agent.Do(ctx, func(context.Context) error { return nil }))
	}
	err = errors.Join(err, m.Close(ctx)) // sends what has not been sent yet
	view, _, _ := m.Inspect(ctx, "my-agent")
	fmt.Println(view.Successes, err)
	// Output: 1000 <nil>
}

// A permit's text goes to another process, which settles it.
func ExampleManager_Resume() {
	ctx := context.Background()
	m, end, err := fleet(ctx, "embedded://")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer end()

	permit, err := m.Acquire(ctx, "my-agent")
	if err != nil {
		fmt.Println(err)
		return
	}
	resumed, err := m.Resume("my-agent", permit.String())
	if err != nil {
		fmt.Println(err)
		return
	}
	counted, err := resumed.Success(ctx)
	fmt.Println("counted:", counted, err)
	// Output: counted: true <nil>
}

// An operator holds a breaker open, for a time and with a reason.
func ExampleManager_Force() {
	ctx := context.Background()
	m, end, err := fleet(ctx, "embedded://127.0.0.1:0") // with a free port, for redis-cli
	if err != nil {
		fmt.Println(err)
		return
	}
	defer end()

	state, err := m.Force(ctx, "my-agent", breaker.Force{
		Target: breaker.HoldOpen, LengthMs: 3_600_000,
		Reason: "flooding", Actor: "alice",
	})
	fmt.Println(state, err)
	_, err = m.Acquire(ctx, "my-agent")
	if open, refused := errors.AsType[*breaker.OpenError](err); refused {
		fmt.Println(open.Reason, open.RetryAfter.Round(time.Minute))
	}
	// Output:
	// open <nil>
	// forced_open 1h0m0s
}

// The classic view: ask, call, record.
func ExampleManager_Classic() {
	ctx := context.Background()
	m, end, err := fleet(ctx, "embedded://")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer end()

	agent, err := m.Classic("my-agent")
	if err != nil {
		fmt.Println(err)
		return
	}
	for agent.CanExecute(ctx) {
		if callAgent(ctx) != nil {
			_ = agent.RecordFailure(ctx)
		}
	}
	stats, err := agent.Stats(ctx)
	fmt.Println(stats.State, stats.FailureCount, err)
	// Output: open 5 <nil>
}
