package main

import (
	"context"
	"fmt"

	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

// scriptFixture is the server and the store on which the cases run. Every case has an agent of its own in every round.
type scriptFixture struct {
	server *redisServer
	store  *redisstore.Store
	policy breaker.Policy
	draws  int
}

// scripts measures by INFO commandstats what an operation costs the server, without the client and the network:
// default policy, a window of twelve buckets, the cases in turns.
func scripts(t testkit.T, b *bench) (string, error) {
	server, policy := startRedis(t), breaker.DefaultPolicy()
	f := &scriptFixture{server: server, store: join(t, server, policy, "").store, policy: policy}
	cases := scriptCases()
	times, commands := make([][]float64, len(cases)), make([][]float64, len(cases))
	for round := range b.rounds {
		for i, c := range cases {
			us, n, err := f.measure(t.Context(), fmt.Sprintf("case%d-%d", i, round), c, b.calls)
			if err != nil {
				return "", fmt.Errorf("%s: %w", c.name, err)
			}
			times[i], commands[i] = append(times[i], us), append(commands[i], n)
		}
	}
	table := newTable("case", "server time, µs a call", "spread", "commands a call, those of scripts included")
	for i, c := range cases {
		table.row(c.name, fmt.Sprintf("%.1f", median(times[i])), span(times[i], "%.1f"),
			fmt.Sprintf("%.1f", median(commands[i])))
		if c.goal > 0 {
			b.atMost("server time, "+c.name, median(times[i]), c.goal, " µs")
		}
	}
	return table.String(), nil
}

// window gives an agent twelve buckets, each with many successes and so many failures.
func (f *scriptFixture) window(ctx context.Context, agent string, failures int) error {
	first := machine.Summary{Successes: 1}
	if failures > 0 {
		first = machine.Summary{Successes: 1, Failures: 1, Lead: 1, MaxRun: 1}
	}
	if err := f.apply(ctx, agent, machine.Op{Verb: machine.VerbRecord, Summary: first}); err != nil {
		return err
	}
	at, err := f.server.client.Time(ctx).Result()
	if err != nil {
		return err
	}
	now, width := at.UnixMilli(), f.policy.WindowSize.Milliseconds()/12
	var fields []any
	for i := range int64(12) {
		start := now - now%width - i*width
		fields = append(fields, fmt.Sprintf("s%d", start), 100_000)
		if failures > 0 {
			fields = append(fields, fmt.Sprintf("f%d", start), failures)
		}
	}
	keys := f.store.Keys().Machine(agent)
	if err := f.server.client.HSet(ctx, keys[2], fields...).Err(); err != nil {
		return err
	}
	return f.server.client.HDel(ctx, keys[3], "past").Err() // the cached sums are older than this edit
}

func (f *scriptFixture) apply(ctx context.Context, agent string, op machine.Op) error {
	f.draws++
	op.Draw = fmt.Sprintf("%015x", f.draws)
	if op.Verb == machine.VerbAcquire {
		op.Token = fmt.Sprintf("%016x", f.draws)
	}
	_, err := f.store.Apply(ctx, agent, f.policy, op)
	return err
}

// measure makes the calls of one round. It does not count the external edits between them.
func (f *scriptFixture) measure(
	ctx context.Context, agent string, c scriptCase, calls int,
) (us, commands float64, err error) {
	if err := c.prepare(ctx, f, agent); err != nil {
		return 0, 0, err
	}
	if err := f.apply(ctx, agent, c.op); err != nil { // loads the script and sets the hint
		return 0, 0, err
	}
	if err := f.server.client.ConfigResetStat(ctx).Err(); err != nil {
		return 0, 0, err
	}
	for i := range calls {
		if c.before != nil {
			if err := c.before(ctx, f, agent, i); err != nil {
				return 0, 0, err
			}
		}
		if err := f.apply(ctx, agent, c.op); err != nil {
			return 0, 0, err
		}
	}
	r, err := f.server.read(ctx)
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
