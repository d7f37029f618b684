package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/breaker"
	"golang.org/x/sync/errgroup"
)

// manyAgentsCallers is the number of goroutines, each of which calls a share of the agents.
const manyAgentsCallers = 64

// manyAgents keeps very many agents busy in the cached mode from one process, and measures how old an outcome grows
// before it is sent.
func manyAgents(t testkit.T, b *bench) (string, error) {
	ctx, server := t.Context(), startRedis(t)
	us := join(t, server, cachedPolicy(), "")
	agents, made := make([]*breaker.Agent, b.agents), make([]int64, b.agents)
	for i := range agents {
		agents[i] = us.agent(t, manyAgentsName(i))
	}
	if err := warmUp(ctx, agents, made, b.manyAgents); err != nil {
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
	ages, err := backlogAges(ctx, us.m, func(ctx context.Context) error {
		return callAll(ctx, agents, made, b.manyAgents)
	})
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
	calls, err := countedAll(ctx, join(t, server, breaker.DefaultPolicy(), ""), made)
	if err != nil {
		return "", err
	}
	s := m.sample(before, after, calls-warm)
	p99 := percentile(ages, 0.99)
	who := fmt.Sprintf("%s agents at %s calls a second", count(float64(len(agents))), count(s.rate))
	b.atMost(who+": age of the oldest unsent outcome, p99", p99, 250, " ms")
	b.atMost(who+": Redis", s.busy, 1, " core")
	table := newTable("agents", "calls a second", "oldest unsent outcome, p50 / p99 / max ms", "records a second",
		"of a core in Redis", "client CPU, µs a call")
	table.row(count(float64(len(agents))), count(s.rate),
		fmt.Sprintf("%.0f / %.0f / %.0f", percentile(ages, 0.5), p99, percentile(ages, 1)),
		fmt.Sprintf("%.0f", s.scripts), fmt.Sprintf("%.2f", s.busy), fmt.Sprintf("%.2f", s.client))
	return fmt.Sprintf("%s\nAfter `Close`, Redis had counted every one of the %s calls, agent by agent.\n",
		table, count(float64(calls))), nil
}

// warmUp calls every agent once, and then all of them for d: the first call of an agent asks Redis, and the first
// bucket of its window costs more than the others.
func warmUp(ctx context.Context, agents []*breaker.Agent, made []int64, d time.Duration) error {
	err := forEach(ctx, len(agents), func(ctx context.Context, i int) error {
		made[i]++
		return cachedPairs(ctx, agents[i], 1)
	})
	if err != nil {
		return err
	}
	return callAll(ctx, agents, made, d)
}

func manyAgentsName(i int) string { return fmt.Sprintf("many-agents-%d", i) }

// forEach calls do for 0 to n-1, 64 at a time.
func forEach(ctx context.Context, n int, do func(ctx context.Context, i int) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(manyAgentsCallers)
	for i := range n {
		g.Go(func() error { return do(ctx, i) })
	}
	return g.Wait()
}

// callAll calls the agents in turn for d, at perSecond in all, and counts the calls of each in made.
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

// backlogAges runs do, and reads every ten milliseconds the age of the oldest unsent outcome, in milliseconds.
func backlogAges(
	ctx context.Context, m *breaker.Manager, do func(context.Context) error,
) (ages []float64, err error) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
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

// countedAll is an error unless Redis has counted every call of every agent. It returns their sum. reader sends no
// outcomes itself.
func countedAll(ctx context.Context, reader *replica, made []int64) (sum int64, err error) {
	for _, n := range made {
		sum += n
	}
	return sum, forEach(ctx, len(made), func(ctx context.Context, i int) error {
		if err := reader.exact(ctx, made[i], manyAgentsName(i)); err != nil {
			return fmt.Errorf("%s: %w", manyAgentsName(i), err)
		}
		return nil
	})
}
