package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/breaker"
	"golang.org/x/sync/errgroup"
)

// tripFleet is two replicas in the cached mode: failures on one trip breakers that the other is asked about.
type tripFleet struct{ failing, asking *replica }

func newTripFleet(t testkit.T, server *redisServer, prefix string) *tripFleet {
	t.Helper()
	return &tripFleet{
		failing: join(t, server, cachedPolicy(), prefix),
		asking:  joinCounting(t, server, cachedPolicy(), prefix),
	}
}

func (f *tripFleet) close(ctx context.Context) error {
	return errors.Join(f.failing.m.Close(ctx), f.asking.m.Close(ctx))
}

// trips measures how long one replica still admits calls after the failures of another have tripped the breaker: from
// the report of the last of five failures to the first refusal.
func trips(t testkit.T, b *bench) (string, error) {
	server := startRedis(t)
	pushed, err := pushedTrips(t, server, b.trips)
	if err != nil {
		return "", fmt.Errorf("pushed: %w", err)
	}
	polled, err := polledTrips(t, server, b.trips)
	if err != nil {
		return "", fmt.Errorf("not pushed: %w", err)
	}
	table := newTable("a trip on one replica is seen by the next", "p50, ms", "p99", "max")
	row := func(name string, v []float64) {
		table.row(name, digits(percentile(v, 0.5)), digits(percentile(v, 0.99)), digits(percentile(v, 1)))
	}
	row("the event arrives", pushed)
	row("no event arrives, and it reports nothing itself", polled)
	b.atMost("a trip is seen by the other replica, p50", percentile(pushed, 0.5), 5, " ms")
	b.atMost("the same, p99", percentile(pushed, 0.99), 50, " ms")
	b.atMost("the same when the push is lost, max", percentile(polled, 1), 1100, " ms")
	return fmt.Sprintf("%s\n%d trips each, of five failures; the other replica is asked every 0.2 ms, "+
		"and every 5 ms where no event arrives.\n", table, b.trips), nil
}

// pushedTrips makes one trip after the other. The asking replica receives the events.
func pushedTrips(t testkit.T, server *redisServer, n int) (took []float64, err error) {
	ctx, f := t.Context(), newTripFleet(t, server, "pushed")
	receiving, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		f.asking.store.Events(receiving, func(agent string, _ breaker.Event) { f.asking.m.Invalidate(agent) })
	})
	defer func() {
		stop()
		wg.Wait()
		err = errors.Join(err, f.close(ctx))
	}()
	if err := server.subscribed(ctx, f.asking.store.Keys().Events()); err != nil {
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

// polledTrips makes the trips at the same time, each at another age of the answer that the asking replica has cached.
func polledTrips(t testkit.T, server *redisServer, n int) (took []float64, err error) {
	ctx, f := t.Context(), newTripFleet(t, server, "polled")
	defer func() { err = errors.Join(err, f.close(ctx)) }()
	took = make([]float64, n)
	g, tripping := errgroup.WithContext(ctx)
	for i := range n {
		g.Go(func() error {
			age := time.Duration(i) * time.Second / time.Duration(n)
			d, err := f.trip(tripping, fmt.Sprintf("trip-%d", i), age, 5*time.Millisecond)
			took[i] = millis(d)
			return err
		})
	}
	return took, g.Wait()
}

// trip has the asking replica cache that the agent is closed, trips its breaker after that, and measures how long the
// asking replica, which is asked every so often, takes to refuse.
func (f *tripFleet) trip(ctx context.Context, agent string, after, every time.Duration) (time.Duration, error) {
	failing, err := f.failing.m.Agent(agent)
	if err != nil {
		return 0, err
	}
	asking, err := f.asking.m.Agent(agent)
	if err != nil {
		return 0, err
	}
	if err := cachedPairs(ctx, asking, 1); err != nil {
		return 0, err
	}
	if _, err := firstRefusal(ctx, asking, time.Now().Add(after), every); err != nil {
		return 0, err
	}
	if err := f.cached(ctx, asking); err != nil {
		return 0, err
	}
	var last time.Time
	for range breaker.DefaultPolicy().FailureThreshold {
		p, err := failing.Acquire(ctx)
		if err != nil {
			return 0, err
		}
		last = time.Now()
		if _, err := p.Failure(ctx, "bench"); err != nil {
			return 0, err
		}
	}
	at, err := firstRefusal(ctx, asking, last.Add(10*time.Second), every)
	switch {
	case err != nil:
		return 0, err
	case at.IsZero():
		return 0, fmt.Errorf("%s: void: no refusal", agent)
	}
	return at.Sub(last), nil
}

// cached is an error unless the asking replica answers from its cache.
func (f *tripFleet) cached(ctx context.Context, asking *breaker.Agent) error {
	for range 3 { // the cached answer may become stale at this very moment
		before := f.asking.asked.of(asking.Name())
		p, err := asking.Acquire(ctx)
		if err != nil {
			return err
		}
		if _, err := p.Ignore(ctx); err != nil {
			return err
		}
		if f.asking.asked.of(asking.Name()) == before {
			return nil
		}
	}
	return fmt.Errorf("%s: void: the replica asks Redis every time", asking.Name())
}

// firstRefusal asks for permits until one is refused, and returns when that was, or the zero time if none is refused
// before end.
func firstRefusal(ctx context.Context, a *breaker.Agent, end time.Time, every time.Duration) (time.Time, error) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		p, err := a.Acquire(ctx)
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

// subscribed waits until a channel has a subscriber.
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
