package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// side is one of the servers that wrk calls in turns: a way to the same agent, or a server of the same verbs.
type side struct {
	name    string
	mode    breaker.Consistency // "" without a breaker
	process process
	url     string   // what wrk calls
	script  string   // of wrk
	op      *replica // holds breakers of this side, and reads them
	late    int64    // answers that wrk may not have waited for at the end of its runs
	through int64    // outcomes that wrk saw counted
	rounds  []load
}

// gatewayFixture is one agent behind a bare httputil.ReverseProxy and behind bridges of both modes.
type gatewayFixture struct {
	*fixture

	agent string
	sides []*side // the bare one first
}

// gateway compares a call through bridge, over a Redis on this machine, with the same call through a bare
// httputil.ReverseProxy, and measures what a refusal costs. It is void unless Redis has counted the calls.
func gateway(t testkit.T, b *bench) (text string, err error) {
	ctx, g := t.Context(), newGatewayFixture(t, b)
	defer func() { err = g.explain(err) }()
	calls := newTable("connections", "", "requests a second", "ratio", "spread of the ratio", "p50 / p99 ms",
		"proxy CPU, µs a call", "Redis CPU, µs a call")
	refusals := newTable("connections", "", "refusals a second", "p50 / p99 ms",
		"bridge CPU, µs a refusal", "Redis CPU, µs a refusal")
	for _, connections := range b.connections {
		fmt.Fprintln(b.out, "gateway:", connections)
		if err := b.turns(ctx, g.fixture, g.sides, connections); err != nil {
			return "", err
		}
		sideRows(b, calls, g.sides, connections, "call through bridge", 0.85)
		for _, side := range g.sides[1:] {
			if err := g.refuse(ctx, b, refusals, side, connections); err != nil {
				return "", fmt.Errorf("refusals, %s: %w", side.name, err)
			}
		}
	}
	sum, err := settled(ctx, g.sides, "bench")
	return fmt.Sprintf("%s\nRedis counted every one of the %s calls through bridge that wrk saw answered.\n\n%s\n"+
		"While a breaker was open the agent was called 0 times.\n", calls, count(float64(sum)), refusals), err
}

func newGatewayFixture(t testkit.T, b *bench) *gatewayFixture {
	t.Helper()
	g := &gatewayFixture{fixture: newFixture(t, b)}
	g.agent = g.role("-as", "agent").url
	proxy := g.role("-as", "proxy", "-to", g.agent)
	g.sides = []*side{{name: "bare proxy", process: proxy, url: proxy.url, script: "tally"}}
	agents := filepath.Join(g.dir, "agents.json")
	if err := os.WriteFile(agents, []byte(`[{"name":"bench","url":"`+g.agent+`"}]`), 0o600); err != nil {
		t.Fatalf("the file of the agents: %v", err)
	}
	binary := g.build("bridge")
	for _, mode := range []breaker.Consistency{breaker.Strict, breaker.Cached} {
		p := g.start([]string{binary}, append(g.settings(mode), "BRIDGE_LISTEN=127.0.0.1:0", "AGENTS_FILE="+agents)...)
		g.sides = append(g.sides, &side{
			name: "bridge, " + string(mode), mode: mode, process: p, url: p.url + "/agents/bench/", script: "tally",
			op: join(t, g.redis, breaker.DefaultPolicy(), modePrefix(mode)),
		})
	}
	return g
}

// turns runs wrk against the sides, in turns, after some runs to warm up.
func (b *bench) turns(ctx context.Context, f *fixture, sides []*side, connections int) error {
	for _, side := range sides {
		side.rounds = nil
	}
	for round := range b.warm + b.rounds {
		for _, side := range sides {
			l, err := f.drive(ctx, side, connections)
			if err != nil {
				return fmt.Errorf("%s: %w", side.name, err)
			}
			if side.script == "tally" {
				l.Counted = l.Requests
			}
			if l.Refused > 0 {
				return fmt.Errorf("void: %s refused %d of %d calls", side.name, l.Refused, l.Requests)
			}
			side.through, side.late = side.through+l.Counted, side.late+int64(connections)
			if round >= b.warm {
				side.rounds = append(side.rounds, l)
			}
		}
	}
	return nil
}

// drive runs wrk once against a side.
func (f *fixture) drive(ctx context.Context, s *side, connections int) (load, error) {
	processes := map[string]int{"server": s.process.pid, "redis": f.redis.PID()}
	return f.wrk.drive(ctx, s.script, s.url, connections, processes)
}

// sideRows adds a row for each side, with its ratio to the first.
func sideRows(b *bench, t *table, sides []*side, connections int, what string, goal float64) {
	for _, side := range sides {
		r := ratios(side.rounds, sides[0].rounds, load.rate)
		t.row(strconv.Itoa(connections), side.name, count(mid(side.rounds, load.rate)),
			fmt.Sprintf("**%.2f**", median(r)), spread(r),
			fmt.Sprintf("%.2f / %.2f", mid(side.rounds, load.p50), mid(side.rounds, load.p99)),
			fmt.Sprintf("%.0f", mid(side.rounds, cpuOf("server"))), fmt.Sprintf("%.0f", mid(side.rounds, cpuOf("redis"))))
		if side.mode == breaker.Cached {
			b.atLeast(fmt.Sprintf("%s, cached, %d connections", what, connections), median(r), goal)
		}
	}
}

// refuse holds a side's breaker open and measures its refusals.
func (g *gatewayFixture) refuse(ctx context.Context, b *bench, t *table, side *side, connections int) error {
	hold := breaker.Force{Target: breaker.HoldOpen, Actor: "bench"}
	reset := breaker.Force{Target: breaker.ResetClosed, Actor: "bench"}
	if _, err := side.op.m.Force(ctx, "bench", hold); err != nil {
		return err
	}
	if err := awaitRefusal(ctx, side.url); err != nil {
		return err
	}
	before, err := g.called(ctx)
	if err != nil {
		return err
	}
	var refused []load
	for range b.rounds {
		l, err := g.drive(ctx, side, connections)
		if err != nil {
			return err
		}
		if l.Refused != l.Requests {
			return fmt.Errorf("void: %d of %d calls were refused", l.Refused, l.Requests)
		}
		refused = append(refused, l)
	}
	after, err := g.called(ctx)
	if err != nil {
		return err
	}
	if after != before {
		return fmt.Errorf("void: the agent had %s calls before its breaker was held open, and has %s", before, after)
	}
	t.row(strconv.Itoa(connections), side.name, count(mid(refused, load.rate)),
		fmt.Sprintf("%.2f / %.2f", mid(refused, load.p50), mid(refused, load.p99)),
		fmt.Sprintf("%.0f", mid(refused, cpuOf("server"))), fmt.Sprintf("%.0f", mid(refused, cpuOf("redis"))))
	_, err = side.op.m.Force(ctx, "bench", reset)
	return err
}

// called is the number of calls of the agent, as text, once no call is under way: wrk ends without waiting for its
// last ones.
func (g *gatewayFixture) called(ctx context.Context) (string, error) {
	for last := ""; ; {
		now, err := fetch(ctx, g.agent+countPath)
		if err != nil || now == last {
			return now, err
		}
		last = now
		time.Sleep(200 * time.Millisecond)
	}
}

// awaitRefusal waits until a call is refused: the event of a hold reaches a replica in the cached mode a moment later.
func awaitRefusal(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for {
		_, err := fetch(ctx, url)
		if ctx.Err() != nil {
			return fmt.Errorf("void: no refusal: %w", ctx.Err())
		}
		if err != nil {
			return nil // it is refused
		}
	}
}

// settled is an error unless Redis has counted the outcomes that wrk saw, and at most the answers that wrk did not
// wait for besides. It returns the sum.
func settled(ctx context.Context, sides []*side, agents ...string) (sum int64, err error) {
	for _, side := range sides {
		if side.mode == "" {
			continue
		}
		if err := side.settled(ctx, agents); err != nil {
			return 0, err
		}
		sum += side.through
	}
	return sum, nil
}

func (s *side) settled(ctx context.Context, agents []string) error {
	end := time.Now().Add(3 * time.Second)
	for {
		n, err := s.op.counted(ctx, agents...)
		if err != nil {
			return err
		}
		if n >= s.through && n <= s.through+s.late {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("void: %s: wrk saw %d outcomes counted, Redis says %d", s.name, s.through, n)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
