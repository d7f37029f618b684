package faults

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

// member is a replica in this process.
type member struct {
	*breaker.Manager

	fallback *breaker.Fallback
}

func startMember(t testing.TB, url string, p breaker.Policy) member {
	t.Helper()
	conn, err := redisstore.Open(t.Context(), url, redisstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	store, err := redisstore.New(conn.Client, false, redisstore.Config{})
	if err != nil {
		t.Fatal(err)
	}
	m := member{fallback: breaker.NewFallback(breaker.FallbackOptions{Store: store, Ping: store.Ping, Born: store.Born})}
	if m.Manager, err = breaker.NewManager(breaker.Options{Store: m.fallback, Policy: p}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		if err := errors.Join(m.Close(ctx), conn.Close()); err != nil {
			t.Error(err)
		}
		m.fallback.Close()
	})
	return m
}

// ask acquires and reports a success: the agent is well. It returns the error of the acquire.
func (m member) ask(ctx context.Context, agent string) error {
	p, err := m.Acquire(ctx, agent)
	if err == nil {
		_, _ = p.Success(ctx) // what becomes of it, the breaker shows
	}
	return err
}

const (
	fleetsAtOnce = 10                     // on one Redis, each with an agent of its own
	stalledFor   = 600 * time.Millisecond // longer than REDIS_TIMEOUT_MS
	closedWithin = time.Second
)

// trial is a fleet of two whose agent is about to be probed.
type trial struct {
	agent   string
	proxy   *proxy
	members []member
}

// An acquire whose reply is lost may have run. Its lease is held by nobody; yet the agent, which is well, must not be
// refused for a whole probe timeout (a minute here) [B12]. Two callers ask each of two replicas as the wait ends, and
// meet a fault: in all a hundred times. Source: leases of workers that are gone, in gobreaker's lock and in
// failsafe-go's half-open permits.
func TestProbes_LostAcquiresDoNotKeepAHealthyAgentOut(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]fault{
		"stopped":        {kind: pass}, // it is Redis that stops
		"replies lost":   {kind: drop, every: 1},
		"replies cut":    {kind: cut, every: 1},
		"replies halved": {kind: half, every: 1},
		"300 ms late":    {kind: delay, delay: 300 * time.Millisecond},
	} {
		for _, consistency := range []breaker.Consistency{breaker.Strict, breaker.Cached} {
			t.Run(name+"/"+string(consistency), func(t *testing.T) {
				t.Parallel()
				playTrials(t, consistency, x)
			})
		}
	}
}

func playTrials(t *testing.T, consistency breaker.Consistency, x fault) {
	t.Helper()
	ctx, server := t.Context(), testkit.Start(t)
	working, stop := context.WithCancel(ctx)
	var busy timers
	var watch sync.WaitGroup
	watch.Go(func() { busy.watch(working) })
	defer watch.Wait()
	defer stop()
	trials := make([]trial, fleetsAtOnce)
	for i := range trials {
		trials[i] = startTrial(t, fmt.Sprintf("agent-%d", i), server.Addr, consistency)
	}
	for _, tr := range trials {
		tr.awaitHalfOpen(t)
	}

	over := time.NewTimer(stalledFor)
	if x.kind == pass {
		server.Pause()
	}
	var callers sync.WaitGroup
	for _, tr := range trials {
		tr.proxy.set(t, x)
		for _, m := range slices.Repeat(tr.members, 2) {
			callers.Go(func() { _ = m.ask(ctx, tr.agent) })
		}
	}
	<-over.C
	server.Resume()
	for _, tr := range trials {
		tr.proxy.set(t, fault{kind: pass})
	}
	well := time.Now()
	callers.Wait()
	took := make([]time.Duration, len(trials))
	for i, tr := range trials {
		callers.Go(func() { took[i] = tr.untilClosed(ctx, t, well, &busy) })
	}
	callers.Wait()
	slices.Sort(took)
	t.Logf("closed after %v to %v", took[0].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond))
}

// startTrial starts two members, and opens the breaker of their agent.
func startTrial(t *testing.T, agent, redisAddr string, consistency breaker.Consistency) trial {
	t.Helper()
	tr := trial{agent: agent, proxy: startProxy(t, redisAddr)}
	policy := breaker.Policy{Consistency: consistency, FailureThreshold: 1, Timeout: time.Second, ProbeTimeout: time.Minute}
	for range 2 {
		tr.members = append(tr.members, startMember(t, tr.proxy.url(), policy))
	}
	testkit.Eventually(t, "the breaker of "+agent+" to be open", 30*time.Second, func() error {
		_, err := tr.members[0].Record(t.Context(), agent, breaker.Outcome{Kind: breaker.Failure})
		for _, m := range tr.members {
			if err := m.ask(t.Context(), agent); !refused(err) || m.fallback.Degraded() {
				return fmt.Errorf("acquire: %w, degraded: %v", err, m.fallback.Degraded())
			}
		}
		return err
	})
	return tr
}

// awaitHalfOpen waits until the wait is over, which nobody saves.
func (tr *trial) awaitHalfOpen(t *testing.T) {
	t.Helper()
	testkit.Eventually(t, "the wait to end", 10*time.Second, func() error {
		if v, _, err := tr.members[0].Inspect(t.Context(), tr.agent); err != nil || v.State != breaker.HalfOpen {
			return fmt.Errorf("%s is %s: %w", tr.agent, v.State, err)
		}
		return nil
	})
}

// untilClosed calls the agent at both members until both show it closed.
func (tr *trial) untilClosed(ctx context.Context, t *testing.T, well time.Time, busy *timers) time.Duration {
	var last string
	for ; ; pause(ctx, 25*time.Millisecond) {
		closed := true
		for _, m := range tr.members {
			err := m.ask(ctx, tr.agent)
			v, _, inspectErr := m.Inspect(ctx, tr.agent)
			if v.State != breaker.Closed || v.Degraded || inspectErr != nil {
				closed = false
				last = fmt.Sprintf("%s, degraded %v, %d leases (%v, %v)", v.State, v.Degraded, len(v.Leases), err, inspectErr)
			}
		}
		took, limit := time.Since(well), closedWithin+busy.slack()
		if closed && took <= limit {
			return took
		}
		if closed || took > 3*limit {
			t.Errorf("%s was not closed within %v; %v later closed is %v; %s", tr.agent, limit, took, closed, last)
			return took
		}
	}
}

func refused(err error) bool {
	_, is := errors.AsType[*breaker.OpenError](err)
	return is
}
