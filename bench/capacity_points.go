package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// point is one load of which the model's answer is compared with what is measured.
type point struct {
	name  string
	load  fleetLoad
	paced bool // at load.calls; otherwise as fast as 64 callers can, and the model is told how fast that was
}

func capacityPoints(agents int) []point {
	const interval = 10 * time.Millisecond
	n, few := float64(agents), float64(agents)/10
	return []point{
		{"strict, 64 callers on as many agents", fleetLoad{replicas: 1, agents: manyAgentsCallers, callers: 1}, false},
		{"strict, 64 callers on one agent", fleetLoad{replicas: 1, agents: 1, callers: 1}, false},
		{"cached, one agent", fleetLoad{true, 1, 1, 1, perSecond, interval, 0}, true},
		{"cached, calls at random", fleetLoad{true, 1, few, 1, 20 * few, interval, 0}, true},
		{"cached, every agent busy", fleetLoad{true, 1, n, 1, perSecond, interval, 0}, true},
	}
}

// seen is what a point was measured to need, a second.
type seen struct {
	calls, records float64
	redis          cost
}

// measurePoint puts the load on a server of its own. It is void unless Redis has counted every call.
func measurePoint(ctx context.Context, p point, plan capacityPlan) (s seen, err error) {
	server, err := startRedis(ctx)
	if err != nil {
		return s, err
	}
	defer server.close()
	policy := breaker.DefaultPolicy()
	if p.load.cached {
		policy = cachedPolicy()
	}
	us, err := join(ctx, server, policy, "")
	if err != nil {
		return s, err
	}
	defer us.close()
	made := make([]int64, int(p.load.agents))
	names := make([]*breaker.Agent, len(made))
	for i := range names {
		if names[i], err = us.m.Agent(manyAgentName(i)); err != nil {
			return s, err
		}
	}
	if err := visit(ctx, names, func(ctx context.Context, i int) error { made[i]++; return cachedPairs(ctx, names[i], 1) }); err != nil {
		return s, err
	}
	before, start := tab{}, time.Now()
	redis, err := server.spend(ctx, func(ctx context.Context) (int64, error) {
		if before, err = server.tab(ctx); err != nil {
			return 0, err
		}
		start = time.Now()
		return 1, p.put(ctx, names, made, plan.point)
	})
	if err != nil {
		return s, err
	}
	took := time.Since(start).Seconds()
	after, err := server.tab(ctx)
	if err != nil {
		return s, err
	}
	if err := us.m.Close(ctx); err != nil {
		return s, err
	}
	calls, err := countedCrowd(ctx, server, names, made)
	s.calls, s.redis = float64(calls-int64(len(made)))/took, redis.times(1/took)
	s.records = float64(after.scripts()-before.scripts()) / took
	return s, err
}

// put makes the calls for d, and notes how many each agent had.
func (p point) put(ctx context.Context, names []*breaker.Agent, made []int64, d time.Duration) error {
	switch {
	case !p.paced:
		return p.hurry(ctx, names, made, d)
	case p.load.agents == 1:
		n, err := busy(ctx, names[0], int(p.load.calls), d)
		made[0] += n
		return err
	case p.load.calls < perSecond:
		pace := newPacer(int(p.load.calls), d)
		for n := pace.wait(ctx); n > 0; n = pace.wait(ctx) {
			for range n {
				i := rand.IntN(len(names))
				if err := cachedPairs(ctx, names[i], 1); err != nil {
					return err
				}
				made[i]++
			}
		}
		return ctx.Err()
	default:
		return callAll(ctx, names, made, d)
	}
}

// hurry lets 64 callers make calls, one after the other.
func (p point) hurry(ctx context.Context, names []*breaker.Agent, made []int64, d time.Duration) error {
	var mu sync.Mutex
	end := time.Now().Add(d)
	g, ctx := errgroup.WithContext(ctx)
	for share := range manyAgentsCallers {
		g.Go(func() error {
			i, n := share%len(names), int64(0)
			defer func() {
				mu.Lock()
				defer mu.Unlock()
				made[i] += n
			}()
			for ; time.Now().Before(end); n++ {
				if err := cachedPairs(ctx, names[i], 1); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// compare measures every point, and tells what the model says of it.
func comparePoints(ctx context.Context, plan capacityPlan, c costs) (string, error) {
	t := newTable("load", "calls a second", "records a second: model", "measured", "of a core in Redis: model", "measured",
		"MB/s in and out: model", "measured")
	for _, p := range capacityPoints(plan.agents) {
		s, err := measurePoint(ctx, p, plan)
		if err != nil {
			return "", fmt.Errorf("%s: %w", p.name, err)
		}
		l := p.load
		l.calls, l.most = s.calls, c.sent
		n := l.of(c)
		t.row(fmt.Sprintf("%s (%s)", p.name, count(l.agents)), count(s.calls), count(n.records), count(s.records),
			digits(n.cores()), digits(s.redis.cpu/1e6), megabytes(n.redis), megabytes(s.redis))
	}
	return t.String(), nil
}

func megabytes(c cost) string { return digits(c.in/1e6) + " + " + digits(c.out/1e6) }
