package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"golang.org/x/sync/errgroup"
)

// fleet is two replicas in the cached mode.
type fleet struct{ a, b *replica }

func newFleet(ctx context.Context, server *redisServer, prefix string) (*fleet, error) {
	a, err := join(ctx, server, cachedPolicy(), prefix)
	if err != nil {
		return nil, err
	}
	b, err := joinWatched(ctx, server, cachedPolicy(), prefix)
	if err != nil {
		a.close()
		return nil, err
	}
	return &fleet{a, b}, nil
}

func (f *fleet) close(ctx context.Context) error {
	err := errors.Join(f.a.m.Close(ctx), f.b.m.Close(ctx))
	f.a.close()
	f.b.close()
	return err
}

// trips measures how long a breaker that one replica's failures open still admits calls on another: from the moment in which the
// last of five failures is reported to the first refusal there.
func trips(ctx context.Context, b *bench) (string, error) {
	server, err := startRedis(ctx)
	if err != nil {
		return "", err
	}
	defer server.close()
	pushed, err := pushedTrips(ctx, server, b.trips)
	if err != nil {
		return "", fmt.Errorf("pushed: %w", err)
	}
	polled, err := polledTrips(ctx, server, b.trips)
	if err != nil {
		return "", fmt.Errorf("not pushed: %w", err)
	}
	t := newTable("a trip on one replica is seen by the next", "p50, ms", "p99", "max")
	row := func(name string, v []float64) {
		t.row(name, digits(percentile(v, 0.5)), digits(percentile(v, 0.99)), digits(percentile(v, 1)))
	}
	row("told by the events channel", pushed)
	row("no event arrives, and it reports nothing itself", polled)
	b.atMost("a trip is seen by the other replica, p50", percentile(pushed, 0.5), 5, " ms")
	b.atMost("the same, p99", percentile(pushed, 0.99), 50, " ms")
	b.atMost("the same when the push is lost, max", percentile(polled, 1), 1100, " ms")
	return fmt.Sprintf("%s\n%d trips each, of five failures; the replica that watches asks every 0.2 ms, and every 5 ms where no event arrives.\n",
		t, b.trips), nil
}

// pushedTrips makes one trip after the other.
func pushedTrips(ctx context.Context, server *redisServer, n int) (took []float64, err error) {
	f, err := newFleet(ctx, server, "pushed")
	if err != nil {
		return nil, err
	}
	hearing, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		f.b.store.Events(hearing, func(agent string, _ breaker.Event) { f.b.m.Invalidate(agent) })
	})
	defer func() {
		stop()
		wg.Wait()
		err = errors.Join(err, f.close(ctx))
	}()
	if err := server.subscribed(ctx, f.b.store.Keys().Events()); err != nil {
		return nil, err
	}
	for i := range n {
		d, err := f.trip(ctx, fmt.Sprintf("trip-%d", i), 0, 200*time.Microsecond)
		if err != nil {
			return nil, err
		}
		took = append(took, millis(d))
	}
	return took, nil
}

// polledTrips makes them side by side, each at another moment in the life of what the watching replica remembers.
func polledTrips(ctx context.Context, server *redisServer, n int) (took []float64, err error) {
	f, err := newFleet(ctx, server, "polled")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.close(ctx)) }()
	took = make([]float64, n)
	g, tripping := errgroup.WithContext(ctx)
	for i := range n {
		g.Go(func() error {
			d, err := f.trip(tripping, fmt.Sprintf("trip-%d", i), time.Duration(i)*time.Second/time.Duration(n), 5*time.Millisecond)
			took[i] = millis(d)
			return err
		})
	}
	return took, g.Wait()
}

// trip lets b know the agent as closed, opens it on a after a while, and says when b, which asks so often, noticed.
func (f *fleet) trip(ctx context.Context, agent string, after, every time.Duration) (time.Duration, error) {
	a, err := f.a.m.Agent(agent)
	if err != nil {
		return 0, err
	}
	b, err := f.b.m.Agent(agent)
	if err != nil {
		return 0, err
	}
	if err := cachedPairs(ctx, b, 1); err != nil {
		return 0, err
	}
	if _, err := noticed(ctx, b, time.Now().Add(after), every); err != nil {
		return 0, err
	}
	if err := f.remembers(ctx, b); err != nil {
		return 0, err
	}
	var last time.Time
	for range breaker.DefaultPolicy().FailureThreshold {
		p, err := a.Acquire(ctx)
		if err != nil {
			return 0, err
		}
		last = time.Now()
		if _, err := p.Failure(ctx, "bench"); err != nil {
			return 0, err
		}
	}
	at, err := noticed(ctx, b, last.Add(10*time.Second), every)
	switch {
	case err != nil:
		return 0, err
	case at.IsZero():
		return 0, fmt.Errorf("%s: void: not noticed", agent)
	}
	return at.Sub(last), nil
}

// remembers is an error unless b answers from memory.
func (f *fleet) remembers(ctx context.Context, b *breaker.Agent) error {
	for range 3 { // what it remembers may grow too old at this very moment
		before := f.b.asked.askedFor(b.Name())
		p, err := b.Acquire(ctx)
		if err != nil {
			return err
		}
		if _, err := p.Ignore(ctx); err != nil {
			return err
		}
		if f.b.asked.askedFor(b.Name()) == before {
			return nil
		}
	}
	return fmt.Errorf("%s: void: the watching replica asks Redis every time", b.Name())
}

// noticed asks again and again until the agent is refused, and says when; the zero time if it is not refused until end.
func noticed(ctx context.Context, b *breaker.Agent, end time.Time, every time.Duration) (time.Time, error) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		p, err := b.Acquire(ctx)
		now := time.Now()
		var refused *breaker.OpenError
		switch {
		case errors.As(err, &refused):
			return now, nil
		case err != nil:
			return now, err
		}
		if _, err := p.Ignore(ctx); err != nil {
			return now, err
		}
		if !now.Before(end) {
			return time.Time{}, nil
		}
		<-tick.C
	}
}

// subscribed waits until somebody listens to a channel.
func (s *redisServer) subscribed(ctx context.Context, channel string) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		n, err := s.client.PubSubNumSub(ctx, channel).Result()
		if err != nil || n[channel] > 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}
