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

// store is a Store of one's own, as a Manager by hand needs it: it may be down, and it tells what others change.
type store interface {
	breaker.Store
	breaker.Feed
	Ping(ctx context.Context) error           // nil: it is up
	Born(ctx context.Context) (string, error) // the identity of its data
}

// over returns a Manager on a store, and a function that ends what they do.
func over(ctx context.Context, s store) (m *breaker.Manager, end func(), err error) {
	fallback := breaker.NewFallback(breaker.FallbackOptions{Store: s, Ping: s.Ping, Born: s.Born})
	m, err = breaker.NewManager(breaker.Options{Store: fallback})
	following, stop := context.WithCancel(ctx)
	if err == nil {
		go s.Follow(following, breaker.Follower{Event: func(agent string, _ breaker.Event) { m.Invalidate(agent) }})
	}
	end = func() {
		_ = m.Close(context.WithoutCancel(ctx)) // sends what has not been sent
		stop()
		fallback.Close()
	}
	return m, end, err
}

// onRedis is over a Redis.
func onRedis(ctx context.Context, url string) (m *breaker.Manager, end func(), err error) {
	conn, err := redisstore.Open(ctx, url, redisstore.Options{Embedded: embedded.Start}) // which only embedded:// needs
	if err != nil {
		return nil, nil, err
	}
	s, err := redisstore.New(conn.Client, conn.Cluster, redisstore.Config{})
	if err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	m, endManager, err := over(ctx, s)
	end = func() {
		endManager()
		s.Close()
		_ = conn.Close()
	}
	return m, end, err
}

var errTimeout = errors.New("the agent did not answer")

// callAgent is the call behind the breaker.
func callAgent(context.Context) error { return errTimeout }

// Do asks for a permit, calls, and reports the outcome. The sixth call is refused, and not made.
func ExampleManager_Do() {
	ctx := context.Background()
	m, end, err := onRedis(ctx, "embedded://") // in a fleet: redis://host:6379/0
	if err != nil {
		fmt.Println(err)
		return
	}
	defer end()

	for range 6 {
		err := m.Do(ctx, "my-agent", callAgent)
		if open, refused := errors.AsType[*breaker.OpenError](err); refused {
			fmt.Println("refused:", open.Reason, "- ask again in", open.RetryAfter().Round(time.Second))
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

// Acquire and Settle are the two halves of Do, for calls that do not fit into a function.
func ExampleManager_Acquire() {
	ctx := context.Background()
	m, end, err := onRedis(ctx, "embedded://")
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

// In cached mode a call of a closed breaker takes nanoseconds, and Redis gets a thousand outcomes in one record.
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
	go store.Events(ctx, func(agent string, _ breaker.Event) { m.Invalidate(agent) }) // transitions that other replicas caused

	agent, err := m.Agent("my-agent") // a handle saves the lookup by name
	if err != nil {
		fmt.Println(err)
		return
	}
	for range 1000 {
		err = errors.Join(err, agent.Do(ctx, func(context.Context) error { return nil }))
	}
	err = errors.Join(err, m.Close(ctx)) // sends the outcomes that are left
	view, _, _ := m.Inspect(ctx, "my-agent")
	fmt.Println(view.Successes, err)
	// Output: 1000 <nil>
}

// The text of a permit goes to another process, which settles the permit.
func ExampleManager_Resume() {
	ctx := context.Background()
	m, end, err := onRedis(ctx, "embedded://")
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

// An operator holds a breaker open for an hour.
func ExampleManager_Force() {
	ctx := context.Background()
	m, end, err := onRedis(ctx, "embedded://127.0.0.1:0") // on a free port, for redis-cli
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
		fmt.Println(open.Reason, open.RetryAfter().Round(time.Minute))
	}
	// Output:
	// open <nil>
	// forced_open 1h0m0s
}

// Classic has the interface of older libraries: ask, call, record.
func ExampleManager_Classic() {
	ctx := context.Background()
	m, end, err := onRedis(ctx, "embedded://")
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

// The loop of a coordinator, which tries until the agent has answered. While the agent is down it does not try again and
// again: it waits until its breaker admits a call, which may be one of another replica's.
func ExampleManager_Wait() {
	ctx := context.Background()
	m, err := breaker.NewManager(breaker.Options{
		Store:  breaker.NewMemory(nil, 0),
		Policy: breaker.Policy{FailureThreshold: 2, Timeout: 10 * time.Millisecond},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = m.Close(ctx) }()

	calls := 0
	callAgent := func(context.Context) error {
		if calls++; calls <= 3 {
			return errTimeout
		}
		return nil
	}
	for {
		if err := m.Wait(ctx, "my-agent"); err != nil {
			fmt.Println("gave up:", err) // the context has ended
			return
		}
		err := m.Do(ctx, "my-agent", callAgent)
		open, refused := errors.AsType[*breaker.OpenError](err)
		switch {
		case refused && open.Agent == "my-agent": // another caller was faster, and nothing was called
		case err != nil:
			fmt.Println("call", calls, "failed:", err)
		default:
			fmt.Println("call", calls, "succeeded")
			return
		}
	}
	// Output:
	// call 1 failed: the agent did not answer
	// call 2 failed: the agent did not answer
	// call 3 failed: the agent did not answer
	// call 4 succeeded
}
