package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// capacityPlan says how much is measured for docs/capacity.md.
type capacityPlan struct {
	agents int
	events int
	round  time.Duration // of one constant
	point  time.Duration // of one load
}

func fullCapacity() capacityPlan { return capacityPlan{10_000, 2000, 2 * time.Second, 5 * time.Second} }

func smallCapacity() capacityPlan {
	return capacityPlan{200, 20, 20 * time.Millisecond, 100 * time.Millisecond}
}

// capacity measures the constants of the model and what it is worth, and tells how far it reaches.
func capacity(ctx context.Context, plan capacityPlan) (string, error) {
	where, err := host(ctx, bench{}.plan)
	if err != nil {
		return "", err
	}
	where, _, _ = strings.Cut(where, " Medians") // there are no rounds here
	c, err := measureCosts(ctx, plan)
	if err != nil {
		return "", fmt.Errorf("constants: %w", err)
	}
	compared, err := comparePoints(ctx, plan, c)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s\n\n### Constants\n\n%s\n### Model and measurement\n\nRedis counted every call of every load.\n\n%s\n"+
		"### Reach\n\n%s\n%s", where, c.table(), compared, c.limits(), c.fleets()), nil
}

func (c costs) table() string {
	t := newTable("constant", "CPU of Redis, µs", "bytes in", "bytes out")
	row := func(name string, x cost) { t.row(name, digits(x.cpu), count(x.in), count(x.out)) }
	row("`a`: an acquire", c.acquire)
	row("`r`: a record", c.record)
	row("`r` of an idle Redis, 10 ms apart", c.lone)
	row("`b`: the first record of an agent's bucket", c.first)
	row("`o`: the look for an agent's override", c.poll)
	row("`e`: an event to one replica", c.delivery)
	return fmt.Sprintf("%s\nAn agent with a full window takes %s bytes of Redis's memory, and %s of a replica that calls it in the cached mode. "+
		"A replica has %s connections under load. A list of all agents stops Redis for %s µs an agent. "+
		"On this machine a lone record was under way for `t` = %s, and 64 callers of one process sent `s` = %s records a second.\n",
		t, count(c.redisAgent), count(c.replicaAgent), count(c.connections), digits(c.list), nanos(c.trip*1e9), count(c.sent))
}

// limits tells how far one Redis reaches, and several.
func (c costs) limits() string {
	t := newTable("Redis kept busy at most 70 % of a core each", "one", "Cluster of 3", "Cluster of 10", "seven Clusters of 10")
	row := func(name string, one float64) {
		t.row(name, count(rounded(one)), count(rounded(3*one)), count(rounded(10*one)), count(rounded(70*one)))
	}
	budget := coreShare * 1e6
	row("strict calls a second", budget/c.acquire.plus(c.record).cpu)
	row("cached: records a second", budget/c.record.cpu)
	for _, i := range []time.Duration{10 * time.Millisecond, 100 * time.Millisecond, time.Second} {
		row(fmt.Sprintf("cached: pairs of a replica and an agent it is busy with, interval %v", i), budget/c.record.cpu*i.Seconds())
	}
	row("agents in 8 GiB each", 8<<30/c.redisAgent)
	row("breakerd, bridge: pairs of a replica and an agent in use (overrides are polled)", budget/c.poll.cpu/pollsPerSecond)
	all := budget / (c.delivery.cpu * 100)
	t.row("transitions a second, 100 replicas listening", count(rounded(all)), "the same, see below", "the same", count(rounded(7*all)))
	return t.String()
}

// rounded keeps two digits: more would promise too much.
func rounded(v float64) float64 {
	scale := 1.0
	for v/scale >= 100 {
		scale *= 10
	}
	return float64(int(v/scale)) * scale
}

// fleets tells what some fleets need.
func (c costs) fleets() string {
	const ten, tenth, second = 10 * time.Millisecond, 100 * time.Millisecond, time.Second
	t := newTable("replicas", "agents", "replicas that call one agent", "calls a second", "mode, interval", "records a second", "Redis, cores",
		"polls, cores", "masters", "MB/s in and out", "Redis, GB", "a replica, MB")
	for _, l := range []fleetLoad{
		{false, 10, 100, 10, 10_000, 0, 0},
		{true, 10, 100, 10, 1e6, ten, 0},
		{true, 10, 10_000, 10, 1e6, ten, 0},
		{true, 10, 10_000, 10, 1e6, tenth, 0},
		{true, 10, 10_000, 10, 1e6, second, 0},
		{true, 100, 100_000, 10, 1e7, second, 0},
		{true, 400, 1e6, 4, 1e8, second, 0},
		{true, 400, 1e6, 400, 1e8, second, 0},
	} {
		n, mode := l.of(c), "strict"
		if l.cached {
			mode = "cached, " + l.interval.String()
		}
		t.row(count(l.replicas), count(l.agents), count(l.callers), count(l.calls), mode, count(rounded(n.records)), digits(n.cores()),
			digits(n.polls/1e6), count(n.masters()), megabytes(n.redis), digits(l.agents*c.redisAgent/1e9),
			digits(l.pairs()/l.replicas*c.replicaAgent/1e6))
	}
	return t.String()
}
