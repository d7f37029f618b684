package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"golang.org/x/sync/errgroup"
)

// manyAgentsCallers is how many goroutines make the crowd's calls, each to its share of the agents.
const manyAgentsCallers = 64

// manyAgents keeps very many agents busy in the cached mode from one process, and watches how old an outcome gets before it is sent.
func manyAgents(ctx context.Context, b *bench) (string, error) {
	server, err := startRedis(ctx)
	if err != nil {
		return "", err
	}
	defer server.close()
	us, err := join(ctx, server, cachedPolicy(), "")
	if err != nil {
		return "", err
	}
	defer us.close()
	agents, made, err := warmCrowd(ctx, b, us.m)
	if err != nil {
		return "", err
	}
	m := meter{server}
	var warm int64
	for _, n := range made {
		warm += n
	}
	before, err := m.now(ctx)
	if err != nil {
		return "", err
	}
	ages, err := watched(ctx, us.m, func(ctx context.Context) error { return callAll(ctx, agents, made, b.crowd) })
	if err != nil {
		return "", err
	}
	after, err := m.now(ctx)
	if err != nil {
		return "", err
	}
	if err := us.m.Close(ctx); err != nil {
		return "", err
	}
	calls, err := countedCrowd(ctx, server, agents, made)
	if err != nil {
		return "", err
	}
	s := m.sample(before, after, calls-warm)
	p99 := percentile(ages, 0.99)
	who := fmt.Sprintf("%s agents at %s calls a second", count(float64(len(agents))), count(s.rate))
	b.atMost(who+": age of the oldest unsent outcome, p99", p99, 250, " ms")
	b.atMost(who+": Redis", s.busy, 1, " core")
	t := newTable("agents", "calls a second", "oldest unsent outcome, p50 / p99 / max ms", "records a second", "of a core in Redis", "client CPU, µs a call")
	t.row(count(float64(len(agents))), count(s.rate), fmt.Sprintf("%.0f / %.0f / %.0f", percentile(ages, 0.5), p99, percentile(ages, 1)),
		fmt.Sprintf("%.0f", s.scripts), fmt.Sprintf("%.2f", s.busy), fmt.Sprintf("%.2f", s.client))
	return fmt.Sprintf("%s\nAfter `Close`, Redis had counted every one of the %s calls, agent by agent.\n", t, count(float64(calls))), nil
}

// warmCrowd has every agent called, for as long as the measurement takes: its first call asks Redis, and the first bucket of its window
// costs more than the others.
func warmCrowd(ctx context.Context, b *bench, m *breaker.Manager) (agents []*breaker.Agent, made []int64, err error) {
	agents, made = make([]*breaker.Agent, b.agents), make([]int64, b.agents)
	for i := range agents {
		if agents[i], err = m.Agent(manyAgentName(i)); err != nil {
			return nil, nil, err
		}
	}
	if err := visit(ctx, agents, func(ctx context.Context, i int) error { made[i]++; return cachedPairs(ctx, agents[i], 1) }); err != nil {
		return nil, nil, err
	}
	return agents, made, callAll(ctx, agents, made, b.crowd)
}

func manyAgentName(i int) string { return fmt.Sprintf("crowd-%d", i) }

// visit does something once for every agent, 64 at a time.
func visit(ctx context.Context, agents []*breaker.Agent, do func(ctx context.Context, i int) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(64)
	for i := range agents {
		g.Go(func() error { return do(ctx, i) })
	}
	return g.Wait()
}

// callAll calls the agents in turn, at the pace of perSecond in all.
func callAll(ctx context.Context, agents []*breaker.Agent, made []int64, d time.Duration) error {
	g, ctx := errgroup.WithContext(ctx)
	for share := range manyAgentsCallers {
		g.Go(func() error {
			p, i := newPacer(perSecond/manyAgentsCallers, d), share
			for n := p.wait(ctx); n > 0; n = p.wait(ctx) {
				for range n {
					if err := cachedPairs(ctx, agents[i], 1); err != nil {
						return err
					}
					made[i]++
					if i += manyAgentsCallers; i >= len(agents) {
						i = share
					}
				}
			}
			return ctx.Err()
		})
	}
	return g.Wait()
}

// watched runs do and looks every millisecond how old the oldest unsent outcome is, in milliseconds.
func watched(ctx context.Context, m *breaker.Manager, do func(context.Context) error) (ages []float64, err error) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				ages = append(ages, millis(m.Backlog().Oldest))
			}
		}
	})
	err = do(ctx)
	close(done)
	wg.Wait()
	return ages, err
}

// countedCrowd checks every agent's count, and gives their sum.
func countedCrowd(ctx context.Context, server *redisServer, agents []*breaker.Agent, made []int64) (sum int64, err error) {
	eye, err := join(ctx, server, breaker.DefaultPolicy(), "")
	if err != nil {
		return 0, err
	}
	defer eye.close()
	for _, n := range made {
		sum += n
	}
	return sum, visit(ctx, agents, func(ctx context.Context, i int) error {
		if err := eye.exact(ctx, made[i], manyAgentName(i)); err != nil {
			return fmt.Errorf("%s: %w", manyAgentName(i), err)
		}
		return nil
	})
}
