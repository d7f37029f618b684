package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

// replica is one process of a fleet as far as Redis can tell: a manager with a store and connections of its own.
type replica struct {
	m     *breaker.Manager
	store *redisstore.Store
	conn  *redisstore.Conn
	asked *watchedStore // nil: nobody counts
}

// watchedStore counts how often the store was asked for leave to call an agent.
type watchedStore struct {
	breaker.Store

	mu    sync.Mutex
	asked map[string]int
}

// Apply implements breaker.Store.
func (w *watchedStore) Apply(ctx context.Context, agent string, p breaker.Policy, op machine.Op) (machine.Result, error) {
	if op.Verb == machine.VerbAcquire {
		w.mu.Lock()
		w.asked[agent]++
		w.mu.Unlock()
	}
	return w.Store.Apply(ctx, agent, p, op)
}

func (w *watchedStore) askedFor(agent string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.asked[agent]
}

const storeTimeout = 5 * time.Second // no call is lost because the machine was busy

// join makes a replica on a server. prefix may be "".
func join(ctx context.Context, s *redisServer, policy breaker.Policy, prefix string) (*replica, error) {
	conn, err := redisstore.Open(ctx, s.url(), redisstore.Options{Timeout: storeTimeout})
	if err != nil {
		return nil, err
	}
	r := &replica{conn: conn}
	if r.store, err = redisstore.New(conn.Client, false, redisstore.Config{Timeout: storeTimeout, Prefix: prefix}); err == nil {
		err = r.manage(policy, r.store)
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return r, nil
}

// joinWatched is join, and counts what the store is asked for.
func joinWatched(ctx context.Context, s *redisServer, policy breaker.Policy, prefix string) (*replica, error) {
	r, err := join(ctx, s, policy, prefix)
	if err != nil {
		return nil, err
	}
	r.asked = &watchedStore{Store: r.store, asked: map[string]int{}}
	return r, r.manage(policy, r.asked)
}

func (r *replica) manage(policy breaker.Policy, store breaker.Store) (err error) {
	r.m, err = breaker.NewManager(breaker.Options{
		Store: store, Policy: policy,
	})
	return err
}

func (r *replica) close() { _ = r.conn.Close() }

// counted is how many outcomes the breakers of these agents have counted.
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
