package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/redis/go-redis/v9"
)

// setting is the number of goroutines and of the agents that they call.
type setting struct{ goroutines, agents int }

// agent is the agent that goroutine g calls.
func (s setting) agent(g int) string {
	return fmt.Sprintf("a%d-%d-%d", s.goroutines, s.agents, g%s.agents)
}

func (s setting) all() (agents []string) {
	for i := range s.agents {
		agents = append(agents, s.agent(i))
	}
	return agents
}

func (s setting) String() string {
	if s.agents > 1 {
		return fmt.Sprintf("%d on %d agents", s.goroutines, s.agents)
	}
	return strconv.Itoa(s.goroutines)
}

// pairs compares the candidates of the strict mode on one Redis.
type pairs struct {
	server *redisServer
	us     *replica
	fleet  *breaker.Manager // of a Fleet
	plain  *redis.Client
	made   int64 // calls of breakerd that Redis has counted
}

// strictPairs compares a call in the strict mode, with a closed breaker and the default policy, with two EVALSHA of
// "return 1" on the default pool of go-redis, and with gobreaker's distributed breaker.
func strictPairs(t testkit.T, b *bench) (string, error) {
	server := startRedis(t)
	p := &pairs{
		server: server, us: join(t, server, breaker.DefaultPolicy(), ""),
		fleet: joinFleet(t, server, breaker.DefaultPolicy()).Manager(),
		plain: redis.NewClient(&redis.Options{Addr: server.Addr}),
	}
	defer func() { _ = p.plain.Close() }()
	table := newTable("goroutines", "", "pairs a second", "ratio", "spread of the ratio", "Redis commands a call",
		"Redis CPU, µs a call", "client CPU, µs a call", "allocations a call")
	settings := []setting{}
	for _, g := range b.callers {
		settings = append(settings, setting{g, 1})
	}
	var lost strings.Builder
	for _, s := range append(settings, setting{64, 64}) {
		fmt.Fprintln(b.out, "pairs:", s)
		line, err := p.compare(t.Context(), b, table, s)
		if err != nil {
			return "", fmt.Errorf("%v goroutines: %w", s, err)
		}
		lost.WriteString(line)
	}
	return fmt.Sprintf("%s\nRedis counted every one of breakerd's %s calls. "+
		"gobreaker Distributed lost some of its own, without an error:%s.\n",
		table, count(float64(p.made)), strings.TrimSuffix(lost.String(), ";")), nil
}

// compare measures one setting, and returns a sentence about the calls that the distributed peer lost.
func (p *pairs) compare(ctx context.Context, b *bench, t *table, s setting) (string, error) {
	base, err := p.baseline(ctx)
	if err != nil {
		return "", err
	}
	peer, err := newDistributed(p.server, s)
	if err != nil {
		return "", err
	}
	defer peer.close()
	all := []*candidate{
		base, strict("breakerd, strict", p.us.m, s), strict("the same through a `Fleet`", p.fleet, s), peer.candidate(),
	}
	rounds, err := b.compare(ctx, meter{p.server}, all, s.goroutines, 1, b.round)
	if err != nil {
		return "", err
	}
	made := all[1].made + all[2].made
	if err := p.us.exact(ctx, made, s.all()...); err != nil {
		return "", err
	}
	p.made += made
	rate := func(x sample) float64 { return x.rate }
	for i, c := range all {
		r := ratios(rounds[i], rounds[0], rate)
		t.row(s.String(), c.name, count(mid(rounds[i], rate)), fmt.Sprintf("**%.2f**", median(r)), spread(r),
			figure(rounds[i], func(x sample) float64 { return x.commands }),
			figure(rounds[i], func(x sample) float64 { return x.redis }),
			figure(rounds[i], func(x sample) float64 { return x.client }),
			figure(rounds[i], func(x sample) float64 { return x.allocs }))
	}
	p.judge(b, s, rounds)
	return peer.lost(ctx, all[3])
}

func figure(rounds []sample, f func(sample) float64) string {
	return fmt.Sprintf("%.1f", mid(rounds, f))
}

// judge adds the goals and the bars.
func (p *pairs) judge(b *bench, s setting, rounds [][]sample) {
	if s.agents > 1 {
		return
	}
	rate := func(x sample) float64 { return x.rate }
	if want := map[int]float64{1: 0.95, 64: 2.5, 256: 3.5}[s.goroutines]; want > 0 {
		b.atLeast("strict pairs against two trivial EVALSHA, "+callers(s.goroutines),
			median(ratios(rounds[1], rounds[0], rate)), want)
	}
	if s.goroutines == 64 {
		b.atLeast("strict pairs against gobreaker Distributed, 64 callers",
			median(ratios(rounds[1], rounds[3], rate)), 25)
		b.atLeast("strict pairs of a `Fleet` against those of a `Manager`, 64 callers",
			median(ratios(rounds[2], rounds[1], rate)), 0.95)
	}
	for i, who := range []series{trivialPair, strictPair, strictFleetPair, gobreakerDistributed} {
		b.bar(who, s.goroutines, mid(rounds[i], sample.perCall))
	}
}

func (p *pairs) baseline(ctx context.Context) (*candidate, error) {
	sha, err := p.plain.ScriptLoad(ctx, "return 1").Result()
	if err != nil {
		return nil, err
	}
	return &candidate{name: "two trivial EVALSHA", calls: func(ctx context.Context, _, n int) (int, error) {
		for range 2 * n {
			if err := p.plain.EvalSha(ctx, sha, []string{"k"}).Err(); err != nil {
				return 0, err
			}
		}
		return 0, nil
	}}, nil
}

func strict(name string, m *breaker.Manager, s setting) *candidate {
	return &candidate{name: name, calls: func(ctx context.Context, g, n int) (int, error) {
		agent := s.agent(g)
		for range n {
			permit, err := m.Acquire(ctx, agent)
			if err != nil {
				return 0, err
			}
			if _, err := permit.Success(ctx); err != nil {
				return 0, err
			}
		}
		return 0, nil
	}}
}
