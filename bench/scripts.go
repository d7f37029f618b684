package main

import (
	"context"
	"fmt"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

// ground is what the cases stand on: one server, one store, one agent for each case and round.
type ground struct {
	server *redisServer
	store  *redisstore.Store
	policy breaker.Policy
	draws  int
}

// scripts measures what an operation costs the server, and nobody else, by INFO commandstats: default policy, a window of twelve
// buckets, the cases in turns.
func scripts(ctx context.Context, b *bench) (string, error) {
	server, err := startRedis(ctx)
	if err != nil {
		return "", err
	}
	defer server.close()
	policy := breaker.DefaultPolicy()
	r, err := join(ctx, server, policy, "")
	if err != nil {
		return "", err
	}
	defer r.close()
	g := &ground{server: server, store: r.store, policy: policy}
	cases := scriptCases()
	times, commands := make([][]float64, len(cases)), make([][]float64, len(cases))
	for round := range b.rounds {
		for i, c := range cases {
			us, n, err := g.measure(ctx, fmt.Sprintf("case%d-%d", i, round), c, b.calls)
			if err != nil {
				return "", fmt.Errorf("%s: %w", c.name, err)
			}
			times[i], commands[i] = append(times[i], us), append(commands[i], n)
		}
	}
	t := newTable("case", "server time, µs a call", "spread", "commands a call, those of scripts included")
	for i, c := range cases {
		t.row(c.name, fmt.Sprintf("%.1f", median(times[i])), span(times[i], "%.1f"), fmt.Sprintf("%.1f", median(commands[i])))
		if c.goal > 0 {
			b.atMost("server time, "+c.name, median(times[i]), c.goal, " µs")
		}
	}
	return t.String(), nil
}

// window gives an agent twelve buckets with many successes, and so many failures in each.
func (g *ground) window(ctx context.Context, agent string, failures int) error {
	first := machine.Summary{Successes: 1}
	if failures > 0 {
		first = machine.Summary{Successes: 1, Failures: 1, Lead: 1, MaxRun: 1}
	}
	if err := g.apply(ctx, agent, machine.Op{Verb: machine.VerbRecord, Summary: first}); err != nil {
		return err
	}
	at, err := g.server.client.Time(ctx).Result()
	if err != nil {
		return err
	}
	now, width := at.UnixMilli(), g.policy.WindowSize.Milliseconds()/12
	var fields []any
	for i := range int64(12) {
		start := now - now%width - i*width
		fields = append(fields, fmt.Sprintf("s%d", start), 100_000)
		if failures > 0 {
			fields = append(fields, fmt.Sprintf("f%d", start), failures)
		}
	}
	keys := g.store.Keys().Machine(agent)
	if err := g.server.client.HSet(ctx, keys[2], fields...).Err(); err != nil {
		return err
	}
	return g.server.client.HDel(ctx, keys[3], "past").Err() // the cached sums are those before this hand
}

func (g *ground) apply(ctx context.Context, agent string, op machine.Op) error {
	g.draws++
	op.Draw = fmt.Sprintf("%015x", g.draws)
	if op.Verb == machine.VerbAcquire {
		op.Token = fmt.Sprintf("%016x", g.draws)
	}
	_, err := g.store.Apply(ctx, agent, g.policy, op)
	return err
}

// measure makes the calls of one round. What a hand does between them is not counted.
func (g *ground) measure(ctx context.Context, agent string, c scriptCase, calls int) (us, commands float64, err error) {
	if err := c.prepare(ctx, g, agent); err != nil {
		return 0, 0, err
	}
	if err := g.apply(ctx, agent, c.op); err != nil { // the script is known, and the short way found
		return 0, 0, err
	}
	if err := g.server.client.ConfigResetStat(ctx).Err(); err != nil {
		return 0, 0, err
	}
	for i := range calls {
		if c.before != nil {
			if err := c.before(ctx, g, agent, i); err != nil {
				return 0, 0, err
			}
		}
		if err := g.apply(ctx, agent, c.op); err != nil {
			return 0, 0, err
		}
	}
	r, err := g.server.read(ctx)
	if err != nil {
		return 0, 0, err
	}
	total, scripts := r.all(), r.stats["evalsha"]
	us = float64(total.us)
	if scripts.n > 0 { // its time includes that of its commands
		us = float64(scripts.us)
	}
	return us / float64(calls), float64(total.n-scripts.n) / float64(calls), nil
}
