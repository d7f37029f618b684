package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
	"github.com/breakerd/breakerd/pkg/breakerprom"
	"github.com/breakerd/breakerd/pkg/fleet"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

// replica is one replica of a fleet as Redis sees it: a Manager with a store and connections of its own.
type replica struct {
	m     *breaker.Manager
	store *redisstore.Store
	asked *acquireCounter // nil if the replica was joined without one
}

// acquireCounter is a Store that counts the acquires of each agent.
type acquireCounter struct {
	breaker.Store

	mu       sync.Mutex
	acquires map[string]int
}

// Apply implements breaker.Store.
func (c *acquireCounter) Apply(
	ctx context.Context, agent string, p breaker.Policy, op machine.Op,
) (machine.Result, error) {
	if op.Verb == machine.VerbAcquire {
		c.mu.Lock()
		c.acquires[agent]++
		c.mu.Unlock()
	}
	return c.Store.Apply(ctx, agent, p, op)
}

func (c *acquireCounter) of(agent string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.acquires[agent]
}

const storeTimeout = 5 * time.Second // so long that a busy machine loses no call

// join makes a replica on a server. prefix may be "". t closes its connections.
func join(t testkit.T, s *redisServer, policy breaker.Policy, prefix string) *replica {
	t.Helper()
	conn, err := redisstore.Open(t.Context(), s.URL(), redisstore.Options{Timeout: storeTimeout})
	if err != nil {
		t.Fatalf("open a store: %v", err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	r := &replica{}
	r.store, err = redisstore.New(conn.Client, false, redisstore.Config{Timeout: storeTimeout, Prefix: prefix})
	if err != nil {
		t.Fatalf("make a store: %v", err)
	}
	r.manage(t, policy, r.store)
	return r
}

// joinCounting is join with an acquireCounter.
func joinCounting(t testkit.T, s *redisServer, policy breaker.Policy, prefix string) *replica {
	t.Helper()
	r := join(t, s, policy, prefix)
	r.asked = &acquireCounter{Store: r.store, acquires: map[string]int{}}
	r.manage(t, policy, r.asked)
	return r
}

func (r *replica) manage(t testkit.T, policy breaker.Policy, store breaker.Store) {
	t.Helper()
	var err error
	if r.m, err = breaker.NewManager(breaker.Options{Store: store, Policy: policy}); err != nil {
		t.Fatalf("make a Manager: %v", err)
	}
}

// joinFleet makes a replica as a Go program does, with metrics and a log at level info.
func joinFleet(t testkit.T, s *redisServer, policy breaker.Policy) *fleet.Fleet {
	t.Helper()
	f, err := fleet.Join(t.Context(), s.URL(), fleet.Options{
		Policy: policy, Observer: breakerprom.New(breakerprom.Options{}), RequireStore: true,
		Logger: slog.New(slog.NewJSONHandler(nowhere{}, nil)), FromEnv: true, // the time-out of main
	})
	if err != nil {
		t.Fatalf("join a fleet: %v", err)
	}
	t.Cleanup(func() { _ = f.Close(context.WithoutCancel(t.Context())) })
	return f
}

// nowhere is a log that is written, and not kept.
type nowhere struct{}

func (nowhere) Write(p []byte) (int, error) { return len(p), nil }

func (r *replica) agent(t testkit.T, name string) *breaker.Agent {
	t.Helper()
	a, err := r.m.Agent(name)
	if err != nil {
		t.Fatalf("agent %s: %v", name, err)
	}
	return a
}

// counted is the number of outcomes that the breakers of these agents have counted.
func (r *replica) counted(ctx context.Context, agents ...string) (sum int64, err error) {
	for _, a := range agents {
		v, _, err := r.m.Inspect(ctx, a)
		if err != nil {
			return 0, err
		}
		sum += v.Successes + v.Failures
	}
	return sum, nil
}

// exact is an error unless the breakers of these agents have counted every call.
func (r *replica) exact(ctx context.Context, made int64, agents ...string) error {
	n, err := r.counted(ctx, agents...)
	if err == nil && n != made {
		err = fmt.Errorf("void: Redis counted %d calls, %d were made", n, made)
	}
	return err
}
