package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// side is one way to the same agent, or one server of the same verbs.
type side struct {
	name    string
	mode    breaker.Consistency // "": no breaker
	process process
	url     string // what wrk calls
	script  string // of wrk
	op      *replica
	late    int64 // how many answers wrk may have left behind at the end of its runs
	through int64 // outcomes that wrk saw counted
	rounds  []load
}

// gatewayStand is the same agent behind a bare httputil.ReverseProxy and behind bridges of both modes.
type gatewayStand struct {
	*fixture

	agent string
	sides []*side // the bare one first
}

// gateway compares a call through bridge, over a Redis on this machine, with the same call through a bare httputil.ReverseProxy,
// and measures what a refusal costs. It is void unless Redis has counted the calls.
func gateway(ctx context.Context, b *bench) (text string, err error) {
	s, err := newFixture(ctx, b)
	if err != nil {
		return "", err
	}
	defer func() {
		s.close()
		err = s.explain(err)
	}()
	g := &gatewayStand{fixture: s}
	if err := g.open(ctx); err != nil {
		return "", err
	}
	calls := newTable("connections", "", "requests a second", "ratio", "spread of the ratio", "p50 / p99 ms", "proxy CPU, µs a call", "Redis CPU, µs a call")
	refusals := newTable("connections", "", "refusals a second", "p50 / p99 ms", "bridge CPU, µs a refusal", "Redis CPU, µs a refusal")
	for _, connections := range b.connections {
		fmt.Fprintln(b.out, "gateway:", connections)
		if err := b.turns(ctx, s, g.sides, connections); err != nil {
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

func (g *gatewayStand) open(ctx context.Context) error {
	agent, err := g.role(ctx, "-as", "agent")
	if err != nil {
		return err
	}
	g.agent = agent.url
	proxy, err := g.role(ctx, "-as", "proxy", "-to", agent.url)
	if err != nil {
		return err
	}
	g.sides = []*side{{name: "bare proxy", process: proxy, url: proxy.url, script: "tally"}}
	binary, err := g.build(ctx, "bridge")
	if err != nil {
		return err
	}
	agents := filepath.Join(g.dir, "agents.json")
	if err := os.WriteFile(agents, []byte(`[{"name":"bench","url":"`+agent.url+`"}]`), 0o600); err != nil {
		return err
	}
	for _, mode := range []breaker.Consistency{breaker.Strict, breaker.Cached} {
		p, err := g.start(ctx, []string{binary}, append(g.settings(mode), "BRIDGE_LISTEN=127.0.0.1:0", "AGENTS_FILE="+agents)...)
		if err != nil {
			return err
		}
		op, err := g.operator(ctx, mode)
		if err != nil {
			return err
		}
		g.sides = append(g.sides, &side{name: "bridge, " + string(mode), mode: mode, process: p, url: p.url + "/agents/bench/", script: "tally", op: op})
	}
	return nil
}

// operator is one more of a side's fleet, which holds breakers and reads them.
func (s *fixture) operator(ctx context.Context, mode breaker.Consistency) (*replica, error) {
	op, err := join(ctx, s.redis, breaker.DefaultPolicy(), sidePrefix(mode))
	if err == nil {
		s.ends = append(s.ends, op.close)
	}
	return op, err
}

// turns runs wrk against the sides, in turns, after some runs to warm up.
func (b *bench) turns(ctx context.Context, s *fixture, sides []*side, connections int) error {
	for _, side := range sides {
		side.rounds = nil
	}
	for round := range b.warm + b.rounds {
		for _, side := range sides {
			l, err := s.wrk.drive(ctx, side.script, side.url, connections, map[string]int{"server": side.process.pid, "redis": s.redis.pid()})
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

// sideRows tells what the sides did, as ratios to the first.
func sideRows(b *bench, t *table, sides []*side, connections int, what string, goal float64) {
	for _, side := range sides {
		r := ratios(side.rounds, sides[0].rounds, load.rate)
		t.row(strconv.Itoa(connections), side.name, count(mid(side.rounds, load.rate)), fmt.Sprintf("**%.2f**", median(r)), spread(r),
			fmt.Sprintf("%.2f / %.2f", mid(side.rounds, load.p50), mid(side.rounds, load.p99)),
			fmt.Sprintf("%.0f", mid(side.rounds, cpuOf("server"))), fmt.Sprintf("%.0f", mid(side.rounds, cpuOf("redis"))))
		if side.mode == breaker.Cached {
			b.atLeast(fmt.Sprintf("%s, cached, %d connections", what, connections), median(r), goal)
		}
	}
}

// refuse holds a side's breaker open and measures its refusals.
func (g *gatewayStand) refuse(ctx context.Context, b *bench, t *table, side *side, connections int) error {
	if _, err := side.op.m.Force(ctx, "bench", breaker.Force{Target: breaker.HoldOpen, Actor: "bench"}); err != nil {
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
		l, err := g.wrk.drive(ctx, side.script, side.url, connections, map[string]int{"server": side.process.pid, "redis": g.redis.pid()})
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
	t.row(strconv.Itoa(connections), side.name, count(mid(refused, load.rate)), fmt.Sprintf("%.2f / %.2f", mid(refused, load.p50), mid(refused, load.p99)),
		fmt.Sprintf("%.0f", mid(refused, cpuOf("server"))), fmt.Sprintf("%.0f", mid(refused, cpuOf("redis"))))
	_, err = side.op.m.Force(ctx, "bench", breaker.Force{Target: breaker.ResetClosed, Actor: "bench"})
	return err
}

// called is how many calls the agent has had, once no call is under way any more: wrk ends without waiting for its last ones.
func (g *gatewayStand) called(ctx context.Context) (string, error) {
	for last := ""; ; {
		now, err := fetch(ctx, g.agent+countPath)
		if err != nil || now == last {
			return now, err
		}
		last = now
		time.Sleep(200 * time.Millisecond)
	}
}

// awaitRefusal waits until a call is refused: a replica in the cached mode may hear of a hold a moment later.
func awaitRefusal(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for {
		_, err := fetch(ctx, url)
		if ctx.Err() != nil {
			return fmt.Errorf("void: no refusal: %w", ctx.Err())
		}
		if err != nil {
			return nil // a refusal is what is waited for
		}
	}
}

// settled checks that Redis has counted what wrk saw, and at most the answers that wrk left behind besides. It gives the sum.
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
