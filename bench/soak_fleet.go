package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/breakerd/breakerd/internal/policycache"
	"github.com/breakerd/breakerd/internal/redisdocs"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

// soakReplica is what one process of a fleet is made of, but for what serves HTTP.
type soakReplica struct {
	store    *redisstore.Store
	docs     *redisdocs.Docs
	conn     *redisstore.Conn
	fallback *breaker.Fallback
	book     *policycache.Cache
	m        *breaker.Manager
	stop     context.CancelFunc
	tasks    sync.WaitGroup
}

// soakTimeout is that of Redis. It is longer than the default, for the machine is busy.
const soakTimeout = 500 * time.Millisecond

// soakPolicy makes everything short: waits, windows, leases.
func soakPolicy(mode breaker.Consistency) breaker.Policy {
	p := breaker.DefaultPolicy()
	p.Consistency, p.WindowSize, p.MinimumCalls = mode, 2*time.Second, 20
	p.Timeout, p.TimeoutMultiplier, p.TimeoutMax, p.TimeoutJitter = 200*time.Millisecond, 1.5, 2*time.Second, 0.1
	p.ProbeTimeout, p.SlowCallRateThreshold, p.SlowCallDuration = 300*time.Millisecond, 0.9, 50*time.Millisecond
	return p
}

// assemble makes the replicas and lets them listen to each other.
func (s *soak) assemble(ctx context.Context) error {
	for i := range s.cached + s.strict {
		mode := breaker.Cached
		if i >= s.cached {
			mode = breaker.Strict
		}
		r, err := s.newReplica(ctx, fmt.Sprintf("replica-%d", i), soakPolicy(mode))
		if err != nil {
			return err
		}
		s.fleet = append(s.fleet, r)
	}
	return nil
}

func (s *soak) newReplica(ctx context.Context, name string, policy breaker.Policy) (*soakReplica, error) {
	conn, err := redisstore.Open(ctx, s.server.url(), redisstore.Options{Timeout: soakTimeout})
	if err != nil {
		return nil, err
	}
	r := &soakReplica{conn: conn}
	r.store, err = redisstore.New(conn.Client, false, redisstore.Config{Timeout: soakTimeout, TTL: s.ttl, MaxAgents: s.agents})
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	r.docs = redisdocs.New(r.store, conn.Client, redisdocs.Config{MaxAgents: s.agents, Timeout: soakTimeout})
	r.fallback = breaker.NewFallback(r.store, r.store.Ping, s.agents, nil)
	r.book = policycache.New(policycache.Options{
		Default: policy, Source: r.docs, Logger: slog.New(slog.DiscardHandler), Idle: 2 * time.Second, MaxAgents: s.agents,
		Timeout: soakTimeout, StoreDown: r.fallback.Degraded, OnError: r.fallback.Report,
	})
	r.m, err = breaker.NewManager(breaker.Options{
		Store: r.fallback, PerAgent: r.book.Policy, Look: r.book.Look, Reporter: name, Observer: s.book, MaxAgents: s.agents,
	})
	if err != nil {
		r.fallback.Close()
		return nil, errors.Join(err, conn.Close())
	}
	hearing, stop := context.WithCancel(context.WithoutCancel(ctx))
	r.stop = stop
	r.tasks.Go(func() { r.book.Run(hearing) })
	r.tasks.Go(func() {
		r.store.Events(hearing, func(agent string, e breaker.Event) { r.hear(hearing, agent, e) })
	})
	return r, nil
}

// hear does what a replica of breakerd does when it hears an event.
func (r *soakReplica) hear(ctx context.Context, agent string, e breaker.Event) {
	r.m.Invalidate(agent)
	switch e.Kind {
	case machine.EventConfigured:
		r.book.Refresh(ctx, agent)
	case machine.EventForgotten:
		r.book.Evict(agent)
	}
}

// dismiss closes the fleet, after which nothing may be unsent.
func (s *soak) dismiss(ctx context.Context) error {
	var errs []error
	for _, r := range s.fleet {
		errs = append(errs, r.m.Close(ctx))
		if u := r.m.Backlog(); u.Agents > 0 {
			s.faultf("after Close, outcomes of %d agents are unsent, the oldest for %v", u.Agents, u.Oldest)
		}
	}
	if n := s.book.pending.Load(); n != 0 && len(s.fleet) > 0 {
		s.faultf("after Close, nobody has told what became of %d outcomes (below zero: told twice)", n)
	}
	for _, r := range s.fleet {
		r.stop()
		r.tasks.Wait()
		r.fallback.Close()
		errs = append(errs, r.conn.Close())
	}
	return errors.Join(errs...)
}
