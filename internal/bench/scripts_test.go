//go:build bench

package bench

import (
	"context"
	"flag"
	"fmt"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/internal/redistest"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

var calls = flag.Int("calls", 4000, "calls of one case in one round of TestScripts")

// TestScripts measures what an operation costs the server, and nobody else, by INFO commandstats: default policy, a window of
// twelve buckets, the cases in turns.
func TestScripts(t *testing.T) {
	fmt.Println(serverHead)
	for _, row := range serverTimes(t) {
		fmt.Println(row)
	}
}

const serverHead = `| case | server time, µs a call | commands a call, those of scripts included |
|---|---|---|`

// ground is what the cases stand on: one server, one store, one agent for each case.
type ground struct {
	t      *testing.T
	client *redis.Client
	store  *redisstore.Store
	policy breaker.Policy
	draws  int
}

// serverCase is one operation in one situation: prepare once a round, before each call, and the call that is measured.
type serverCase struct {
	name    string
	prepare func(g *ground, agent string)
	before  func(g *ground, agent string, i int)
	op      breaker.Op
}

func serverCases() []serverCase {
	success, failure := breaker.Outcome{Kind: breaker.Success}, breaker.Outcome{Kind: breaker.Failure}
	record := func(outcomes ...breaker.Outcome) breaker.Op {
		op := breaker.Op{Verb: breaker.VerbRecord}
		for _, o := range outcomes {
			op.Summary = op.Summary.Join(breaker.One(o))
		}
		return op
	}
	acquire := breaker.Op{Verb: breaker.VerbAcquire}
	calm := func(g *ground, agent string) { g.window(agent, 0) }
	failing := func(g *ground, agent string) { g.window(agent, 1) }
	force := func(target breaker.Target) func(*ground, string) {
		return func(g *ground, agent string) {
			g.apply(agent, breaker.Op{Verb: breaker.VerbForce, Force: breaker.Force{Target: target, Actor: "bench"}})
		}
	}
	// a run of five would trip
	endRun := func(g *ground, agent string, i int) {
		if i%4 == 0 {
			g.client.HDel(g.t.Context(), g.store.Keys().Machine(agent)[3], "run")
		}
	}
	noBucket := func(g *ground, agent string, _ int) { g.client.Del(g.t.Context(), g.store.Keys().Machine(agent)[2]) }
	return []serverCase{
		{"acquire, closed", failing, nil, acquire},
		{"acquire, open: refused", func(g *ground, agent string) {
			for range g.policy.FailureThreshold {
				g.apply(agent, record(failure))
			}
		}, nil, acquire},
		{"acquire, held open: refused", force(breaker.HoldOpen), nil, acquire},
		{"acquire, half-open, no place: refused", func(g *ground, agent string) {
			force(breaker.ResetHalfOpen)(g, agent)
			for range g.policy.HalfOpenMaxCalls {
				g.apply(agent, acquire)
			}
		}, nil, acquire},
		{"record of a success, calm window", calm, nil, record(success)},
		{"record of a success, failures in the window", failing, nil, record(success)},
		{"record of a failure, failures in the window", failing, endRun, record(failure)},
		{"record of 3 successes around a failure, likewise", failing, nil, record(success, failure, success, success)},
		{"record that begins a window", calm, noBucket, record(success)},
	}
}

// serverTimes gives a row for each case: the median of the rounds.
func serverTimes(t *testing.T) (rows []string) {
	t.Helper()
	server := redistest.Start(t)
	client := server.Client(t)
	store, err := redisstore.New(client, false, redisstore.Config{Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	g := &ground{t: t, client: client, store: store, policy: breaker.DefaultPolicy()}
	cases := serverCases()
	times, commands := make([][]float64, len(cases)), make([][]float64, len(cases))
	for r := range *rounds {
		for i, c := range cases {
			agent := fmt.Sprintf("case%d-%d", i, r)
			c.prepare(g, agent)
			us, n := g.measure(agent, c)
			times[i], commands[i] = append(times[i], us), append(commands[i], n)
		}
	}
	for i, c := range cases {
		rows = append(rows, fmt.Sprintf("| %s | %.1f | %.1f |", c.name, median(times[i]), median(commands[i])))
	}
	return rows
}

// window gives an agent twelve buckets with many successes, and so many failures in each.
func (g *ground) window(agent string, failures int) {
	g.t.Helper()
	first := breaker.Summary{Successes: 1}
	if failures > 0 {
		first = breaker.Summary{Successes: 1, Failures: 1, Lead: 1, MaxRun: 1}
	}
	g.apply(agent, breaker.Op{Verb: breaker.VerbRecord, Summary: first})
	now := g.client.Time(g.t.Context()).Val().UnixMilli()
	width := g.policy.WindowSize.Milliseconds() / 12
	var fields []any
	for i := range int64(12) {
		start := now - now%width - i*width
		fields = append(fields, fmt.Sprintf("s%d", start), 100_000)
		if failures > 0 {
			fields = append(fields, fmt.Sprintf("f%d", start), failures)
		}
	}
	keys := g.store.Keys().Machine(agent)
	if err := g.client.HSet(g.t.Context(), keys[2], fields...).Err(); err != nil {
		g.t.Fatal(err)
	}
	if err := g.client.HDel(g.t.Context(), keys[3], "past").Err(); err != nil { // the cached sums are those before this hand
		g.t.Fatal(err)
	}
}

func (g *ground) apply(agent string, op breaker.Op) {
	g.t.Helper()
	g.draws++
	op.Draw = fmt.Sprintf("%015x", g.draws)
	if op.Verb == breaker.VerbAcquire {
		op.Token = fmt.Sprintf("%016x", g.draws)
	}
	if _, err := g.store.Apply(context.Background(), agent, g.policy, op); err != nil {
		g.t.Fatal(err)
	}
}

// measure makes the calls of one round. What a hand does between them is not counted.
func (g *ground) measure(agent string, c serverCase) (us, commands float64) {
	g.t.Helper()
	g.apply(agent, c.op) // the script is known, and the short way found
	g.client.ConfigResetStat(context.Background())
	for i := range *calls {
		if c.before != nil {
			c.before(g, agent, i)
		}
		g.apply(agent, c.op)
	}
	stats := commandStats(g.client.Info(context.Background(), "commandstats").Val())
	total, scripts := sum(stats), stats["evalsha"]
	us = float64(total.us)
	if scripts.n > 0 { // its time includes that of its commands
		us = float64(scripts.us)
	}
	return us / float64(*calls), float64(total.n-scripts.n) / float64(*calls)
}

// stat is one command's line: how often, and µs in all.
type stat struct{ n, us int64 }

var statLine = regexp.MustCompile(`cmdstat_([^:]+):calls=(\d+),usec=(\d+)`)

func commandStats(info string) map[string]stat {
	out := map[string]stat{}
	for _, m := range statLine.FindAllStringSubmatch(info, -1) {
		n, _ := strconv.ParseInt(m[2], 10, 64)
		us, _ := strconv.ParseInt(m[3], 10, 64)
		out[m[1]] = stat{n, us}
	}
	return out
}

// sum leaves out the bench's own commands.
func sum(stats map[string]stat) (all stat) {
	for name, s := range stats {
		switch name {
		case "config|resetstat", "info", "hdel", "del":
		default:
			all.n, all.us = all.n+s.n, all.us+s.us
		}
	}
	return all
}
