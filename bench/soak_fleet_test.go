package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/policycache"
	"github.com/breakerd/breakerd/internal/redisdocs"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

// soakReplica is what a replica is made of, without HTTP.
type soakReplica struct {
	store    *redisstore.Store
	docs     *redisdocs.Docs
	conn     *redisstore.Conn
	fallback *breaker.Fallback
	policies *policycache.Cache
	m        *breaker.Manager
	stop     context.CancelFunc
	tasks    sync.WaitGroup
}

// soakTimeout is the timeout of Redis, longer than the default because the machine is busy.
const soakTimeout = 500 * time.Millisecond

// soakPolicy has short waits, windows and leases.
func soakPolicy(mode breaker.Consistency) breaker.Policy {
	p := breaker.DefaultPolicy()
	p.Consistency, p.WindowSize, p.MinimumCalls = mode, 2*time.Second, 20
	p.Timeout, p.TimeoutMultiplier, p.TimeoutMax, p.TimeoutJitter = 200*time.Millisecond, 1.5, 2*time.Second, 0.1
	p.ProbeTimeout, p.SlowCallRateThreshold, p.SlowCallDuration = 300*time.Millisecond, 0.9, 50*time.Millisecond
	return p
}

// startFleet starts the replicas, which receive each other's events.
func (s *soak) startFleet(t *testing.T) {
	for i := range s.cached + s.strict {
		mode := breaker.Cached
		if i >= s.cached {
			mode = breaker.Strict
		}
		r, err := s.newReplica(t.Context(), fmt.Sprintf("replica-%d", i), soakPolicy(mode))
		if err != nil {
			t.Fatal(err)
		}
		s.fleet = append(s.fleet, r)
	}
}

func (s *soak) newReplica(ctx context.Context, name string, policy breaker.Policy) (*soakReplica, error) {
	conn, err := redisstore.Open(ctx, s.server.URL(), redisstore.Options{Timeout: soakTimeout})
	if err != nil {
		return nil, err
	}
	r := &soakReplica{conn: conn}
	r.store, err = redisstore.New(conn.Client, false, redisstore.Config{Timeout: soakTimeout, TTL: s.ttl, MaxAgents: s.agents})
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	r.docs = redisdocs.New(r.store, conn.Client, redisdocs.Config{MaxAgents: s.agents, Timeout: soakTimeout})
	r.fallback = breaker.NewFallback(breaker.FallbackOptions{Store: r.store, Ping: r.store.Ping, MaxAgents: s.agents})
	r.policies = policycache.New(policycache.Options{
		Default: policy, Source: r.docs, Logger: slog.New(slog.DiscardHandler), Idle: 2 * time.Second, MaxAgents: s.agents,
		Timeout: soakTimeout, StoreDown: r.fallback.Degraded, OnError: r.fallback.Report,
	})
	r.m, err = breaker.NewManager(breaker.Options{
		Store: r.fallback, PerAgent: r.policies.Policy, Look: r.policies.Look, Reporter: name, Observer: s.accounts, MaxAgents: s.agents,
	})
	if err != nil {
		r.fallback.Close()
		return nil, errors.Join(err, conn.Close())
	}
	receiving, stop := context.WithCancel(context.WithoutCancel(ctx))
	r.stop = stop
	r.tasks.Go(func() { r.policies.Run(receiving) })
	r.tasks.Go(func() {
		r.store.Events(receiving, func(agent string, e breaker.Event) { r.onEvent(receiving, agent, e) })
	})
	return r, nil
}

// onEvent does what breakerd does with an event.
func (r *soakReplica) onEvent(ctx context.Context, agent string, e breaker.Event) {
	r.m.Invalidate(agent)
	switch e.Kind {
	case machine.EventConfigured:
		r.policies.Refresh(ctx, agent)
	case machine.EventForgotten:
		r.policies.Evict(agent)
	}
}

// closeFleet closes the replicas. Afterwards nothing may be unsent, and every outcome must have been reported once.
func (s *soak) closeFleet(t *testing.T) {
	for _, r := range s.fleet {
		if err := r.m.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if u := r.m.Backlog(); u.Agents > 0 {
			s.faultf("after Close, outcomes of %d agents are unsent, the oldest for %v", u.Agents, u.Oldest)
		}
	}
	if n := s.accounts.pending.Load(); n != 0 && len(s.fleet) > 0 {
		s.faultf("after Close, %d outcomes have no report (below zero: they have two)", n)
	}
	for _, r := range s.fleet {
		r.stop()
		r.tasks.Wait()
		r.fallback.Close()
		if err := r.conn.Close(); err != nil {
			t.Error(err)
		}
	}
}
