package main

import (
	"context"
	"fmt"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/fleet"
)

// cachedPolicy is the default policy in the cached mode.
func cachedPolicy() breaker.Policy {
	p := breaker.DefaultPolicy()
	p.Consistency = breaker.Cached
	return p
}

// cachedFixture is two replicas in the cached mode, of which only slow measures the duration of calls, a Fleet that is
// like fast, and a strict replica that reads what they have sent.
type cachedFixture struct {
	fast, slow, reader *replica
	fleet              *fleet.Fleet
	all                []*localCandidate
	agents             []string
}

func newCachedFixture(t testkit.T, server *redisServer) *cachedFixture {
	t.Helper()
	timed := cachedPolicy()
	timed.SlowCallDuration, timed.SlowCallRateThreshold = time.Second, 0.5
	c := &cachedFixture{
		fast: join(t, server, cachedPolicy(), ""), slow: join(t, server, timed, ""),
		reader: join(t, server, breaker.DefaultPolicy(), ""), fleet: joinFleet(t, server, cachedPolicy()),
	}
	c.addCandidates(t)
	return c
}

// addCandidates gives each candidate agents of its own, so that the calls of each can be counted.
func (c *cachedFixture) addCandidates(t testkit.T) {
	t.Helper()
	hot := c.agent(t, "hot")
	many := make([]*breaker.Agent, 64)
	for i := range many {
		many[i] = c.agent(t, fmt.Sprintf("many-%d", i))
	}
	byHandle := func(ctx context.Context, n int) error { return cachedPairs(ctx, hot, n) }
	each := func(ctx context.Context, g, n int) (int, error) { return 0, cachedPairs(ctx, many[g], n) }
	c.all = []*localCandidate{
		newLocalCandidate("breakerd, cached, by handle: `Acquire`, `Success`", cachedHandle, inFleet, byHandle),
		{who: cachedMany, counts: inFleet, candidate: candidate{
			name: "the same, every goroutine an agent of its own", calls: each,
		}},
		newLocalCandidate("breakerd, cached, by name: `Do`", cachedDo, inFleet, c.do(c.fast.m, "do")),
		newLocalCandidate("the same through a `Fleet`, with breakerprom and breakerlog", cachedFleetDo, inFleet,
			c.do(c.fleet.Manager(), "fleet")),
		newLocalCandidate("the same with slow calls, which takes two clock readings", cachedDoSlow, inFleet,
			c.do(c.slow.m, "slow")),
	}
}

func (c *cachedFixture) agent(t testkit.T, name string) *breaker.Agent {
	t.Helper()
	c.agents = append(c.agents, name)
	return c.fast.agent(t, name)
}

// do makes calls of a function that does nothing.
func (c *cachedFixture) do(m *breaker.Manager, agent string) func(context.Context, int) error {
	c.agents = append(c.agents, agent)
	nothing := func(context.Context) error { return nil }
	return func(ctx context.Context, n int) error {
		for range n {
			if err := m.Do(ctx, agent, nothing); err != nil {
				return err
			}
		}
		return nil
	}
}

// cachedPairs makes n calls of an agent, each an acquire and a success.
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

func (c *cachedFixture) made() (sum int64) {
	for _, e := range c.all {
		sum += e.made
	}
	return sum
}

// settle sends what is unsent. It is an error unless Redis has counted every call then.
func (c *cachedFixture) settle(ctx context.Context) error {
	for _, r := range []*replica{c.fast, c.slow} {
		if err := r.m.Close(ctx); err != nil {
			return err
		}
	}
	if err := c.fleet.Close(ctx); err != nil {
		return err
	}
	return c.reader.exact(ctx, c.made(), c.agents...)
}
