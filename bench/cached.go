package main

import (
	"context"
	"fmt"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// cachedPolicy is the default policy in the cached mode.
func cachedPolicy() breaker.Policy {
	p := breaker.DefaultPolicy()
	p.Consistency = breaker.Cached
	return p
}

// cachedStand is two replicas in the cached mode: one that needs no call's duration, and one whose policy asks for slow calls.
type cachedStand struct {
	fast, slow *replica
	eye        *replica // reads what the two have sent
	all        []*entrant
	agents     []string
}

func newCachedStand(ctx context.Context, server *redisServer) (*cachedStand, error) {
	c := &cachedStand{}
	timed := cachedPolicy()
	timed.SlowCallDuration, timed.SlowCallRateThreshold = time.Second, 0.5
	for _, r := range []struct {
		to     **replica
		policy breaker.Policy
	}{{&c.fast, cachedPolicy()}, {&c.slow, timed}, {&c.eye, breaker.DefaultPolicy()}} {
		joined, err := join(ctx, server, r.policy, "")
		if err != nil {
			c.close()
			return nil, err
		}
		*r.to = joined
	}
	if err := c.enter(); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// enter makes the contestants, whose agents differ, so that their counts can be told apart.
func (c *cachedStand) enter() error {
	hot, err := c.agent("hot")
	if err != nil {
		return err
	}
	many := make([]*breaker.Agent, 64)
	for i := range many {
		if many[i], err = c.agent(fmt.Sprintf("many-%d", i)); err != nil {
			return err
		}
	}
	nothing := func(context.Context) error { return nil }
	do := func(m *breaker.Manager, agent string) func(context.Context, int) error {
		c.agents = append(c.agents, agent)
		return func(ctx context.Context, n int) error {
			for range n {
				if err := m.Do(ctx, agent, nothing); err != nil {
					return err
				}
			}
			return nil
		}
	}
	c.all = []*entrant{
		newEntrant("breakerd, cached, by handle: `Acquire`, `Success`", cachedHandle, inFleet, func(ctx context.Context, n int) error {
			return cachedPairs(ctx, hot, n)
		}),
		{who: cachedMany, counts: inFleet, candidate: candidate{
			name: "the same, every goroutine an agent of its own",
			calls: func(ctx context.Context, g, n int) (int, error) {
				return 0, cachedPairs(ctx, many[g], n)
			},
		}},
		newEntrant("breakerd, cached, by name: `Do`", cachedDo, inFleet, do(c.fast.m, "do")),
		newEntrant("the same with slow calls watched, which takes two clock readings", cachedDoSlow, inFleet, do(c.slow.m, "slow")),
	}
	return nil
}

func (c *cachedStand) agent(name string) (*breaker.Agent, error) {
	c.agents = append(c.agents, name)
	return c.fast.m.Agent(name)
}

func cachedPairs(ctx context.Context, a *breaker.Agent, n int) error {
	for range n {
		p, err := a.Acquire(ctx)
		if err != nil {
			return err
		}
		if _, err := p.Success(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (c *cachedStand) entrants() []*entrant { return c.all }

func (c *cachedStand) made() (sum int64) {
	for _, e := range c.all {
		sum += e.made
	}
	return sum
}

// settle sends what is unsent, and checks that Redis has counted all that was made.
func (c *cachedStand) settle(ctx context.Context) error {
	for _, r := range []*replica{c.fast, c.slow} {
		if err := r.m.Close(ctx); err != nil {
			return err
		}
	}
	return c.eye.exact(ctx, c.made(), c.agents...)
}

func (c *cachedStand) close() {
	for _, r := range []*replica{c.fast, c.slow, c.eye} {
		if r != nil {
			r.close()
		}
	}
}
