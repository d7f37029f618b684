package main

import (
	"context"
	"fmt"

	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// service compares breakerd's acquire and report by HTTP with a bare net/http server that reads and writes the same
// bodies, one verb a request and by batches. It is void unless Redis has counted the reports.
func service(t testkit.T, b *bench) (text string, err error) {
	ctx, f := t.Context(), newFixture(t, b)
	defer func() { err = f.explain(err) }()
	sides := serviceSides(t, f)
	single := newTable("connections", "", "requests a second", "ratio", "spread of the ratio", "p50 / p99 ms",
		"server CPU, µs a request", "Redis CPU, µs a request")
	for _, connections := range b.connections {
		fmt.Fprintln(b.out, "service:", connections)
		if err := b.turns(ctx, f, sides, connections); err != nil {
			return "", err
		}
		sideRows(b, single, sides, connections, "acquire and report by HTTP", 0.7)
	}
	sum, err := settled(ctx, sides, "bench")
	if err != nil {
		return "", err
	}
	batches, batched, err := serviceBatches(ctx, b, f, sides)
	return fmt.Sprintf("%s\nBy batches of %d, acquires and their reports in turns, %d connections:\n\n%s\n"+
		"Redis counted every one of the %s reports.\n",
		single, batchSize, batchConnections, batches, count(float64(sum+batched))), err
}

func serviceSides(t testkit.T, f *fixture) []*side {
	t.Helper()
	bare := f.role("-as", "bare")
	sides := []*side{{name: "bare net/http", process: bare, url: bare.url, script: "pairs"}}
	binary := f.build("breakerd")
	for _, mode := range []breaker.Consistency{breaker.Strict, breaker.Cached} {
		p := f.start([]string{binary}, append(f.settings(mode), "BREAKERD_LISTEN=127.0.0.1:0")...)
		sides = append(sides, &side{
			name: "breakerd, " + string(mode), mode: mode, process: p, url: p.url, script: "pairs",
			op: join(t, f.redis, breaker.DefaultPolicy(), modePrefix(mode)),
		})
	}
	return sides
}

// batchConnections is the number of connections that send batches.
const batchConnections = 8

func serviceBatches(ctx context.Context, b *bench, f *fixture, sides []*side) (t *table, sum int64, err error) {
	for _, side := range sides {
		side.script, side.through, side.late = "batch", 0, 0
	}
	if err := b.turns(ctx, f, sides, batchConnections); err != nil {
		return nil, 0, err
	}
	t = newTable("", "verbs a second", "µs a verb", "ratio", "server CPU, µs a verb", "Redis CPU, µs a verb")
	for _, side := range sides {
		side.late *= batchSize
		rate := batchSize * mid(side.rounds, load.rate)
		t.row(side.name, count(rate), digits(1e6/rate),
			fmt.Sprintf("**%.2f**", median(ratios(side.rounds, sides[0].rounds, load.rate))),
			digits(mid(side.rounds, cpuOf("server"))/batchSize), digits(mid(side.rounds, cpuOf("redis"))/batchSize))
	}
	var agents []string
	for i := range batchSize {
		agents = append(agents, fmt.Sprintf("bench-%d", i+1))
	}
	sum, err = settled(ctx, sides, agents...)
	return t, sum, err
}
