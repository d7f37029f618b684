//go:build bench

// Package bench measures a call's two operations against what a pipeline-less client pays for two trivial scripts, side by side
// in one run. make bench runs it and writes docs/performance.md.
package bench

import (
	"context"
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/internal/redistest"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

var (
	write  = flag.String("write", "", "the document whose figures are replaced")
	round  = flag.Duration("round", time.Second, "length of one round of one contestant")
	rounds = flag.Int("rounds", 7, "rounds of each contestant, in turns")
)

// contestant makes pairs until told to stop.
type contestant struct {
	name string
	pair func(ctx context.Context) error
}

// TestPair compares Acquire+Settle, shipped scripts and default policy, closed breaker, with two trivial EVALSHA on go-redis's
// default pool. A run is void unless Redis's totals equal the calls made.
func TestPair(t *testing.T) {
	server := redistest.Start(t)
	trivial := redis.NewClient(&redis.Options{Addr: server.Addr})
	defer func() { _ = trivial.Close() }()
	sha := trivial.ScriptLoad(t.Context(), "return 1").Val()
	conn, err := redisstore.Open(t.Context(), server.URL(), redisstore.Options{Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	store, err := redisstore.New(conn.Client, false, redisstore.Config{Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	m, err := breaker.NewManager(breaker.Options{Store: store})
	if err != nil {
		t.Fatal(err)
	}
	us := contestant{"breakerd", func(ctx context.Context) error {
		p, err := m.Acquire(ctx, "bench")
		if err != nil {
			return err
		}
		_, err = p.Success(ctx)
		return err
	}}
	base := contestant{"two trivial EVALSHA", func(ctx context.Context) error {
		if err := trivial.EvalSha(ctx, sha, []string{"k"}).Err(); err != nil {
			return err
		}
		return trivial.EvalSha(ctx, sha, []string{"k"}).Err()
	}}
	var made int64
	var rows []string
	for _, g := range []int{1, 8, 64, 256} {
		made += run(t, us, g, *round/4) // warm
		run(t, base, g, *round/4)
		var ours, theirs, ratios []float64
		for range *rounds {
			a, b := run(t, us, g, *round), run(t, base, g, *round)
			made += a
			ours, theirs, ratios = append(ours, float64(a)/round.Seconds()), append(theirs, float64(b)/round.Seconds()), append(ratios, float64(a)/float64(b))
		}
		rows = append(rows, fmt.Sprintf("| %d | %.0f | %.0f | **%.2f** | %.2f to %.2f |", g, median(ours), median(theirs), median(ratios), slices.Min(ratios), slices.Max(ratios)))
		t.Log(rows[len(rows)-1])
	}
	v, _, err := m.Inspect(t.Context(), "bench")
	if err != nil || v.Successes != made {
		t.Fatalf("void: Redis counted %d calls, %d were made (%v)", v.Successes, made, err)
	}
	times := serverTimes(t, m, store, server)
	report(t, rows, times, made)
}

// run lets g goroutines make pairs for d, and counts them.
func run(t *testing.T, c contestant, g int, d time.Duration) int64 {
	t.Helper()
	var mu sync.Mutex
	var total int64
	var wg sync.WaitGroup
	end := time.Now().Add(d)
	for range g {
		wg.Go(func() {
			var n int64
			for time.Now().Before(end) {
				if err := c.pair(context.Background()); err != nil {
					t.Error(c.name, err)
					return
				}
				n++
			}
			mu.Lock()
			total += n
			mu.Unlock()
		})
	}
	wg.Wait()
	return total
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

// serverTimes measures each script by INFO commandstats, alone, so that the figures are the server's and nobody else's.
func serverTimes(t *testing.T, m *breaker.Manager, store *redisstore.Store, server *redistest.Server) []string {
	t.Helper()
	client := server.Client(t)
	ctx := t.Context()
	p := breaker.DefaultPolicy()
	p.FailureThreshold, p.FailureRateThreshold = 0, 1
	measure := func(name string, n int, do func(i int) error) string {
		client.ConfigResetStat(ctx)
		for i := range n {
			if err := do(i); err != nil {
				t.Fatal(name, err)
			}
		}
		return fmt.Sprintf("| %s | %.1f |", name, usecPerCall(t, client))
	}
	op := func(agent string, o breaker.Op) func(int) error {
		return func(i int) error {
			o.Draw, o.Token = fmt.Sprintf("%015x", i), fmt.Sprintf("%016x", i)
			if o.Verb == breaker.VerbRecord {
				o.Token = ""
			}
			_, err := store.Apply(ctx, agent, p, o)
			return err
		}
	}
	success := breaker.Op{Verb: breaker.VerbRecord, Summary: breaker.One(breaker.Outcome{Kind: breaker.Success})}
	failure := breaker.Op{Verb: breaker.VerbRecord, Summary: breaker.One(breaker.Outcome{Kind: breaker.Failure})}
	out := []string{measure("acquire, closed", 20_000, op("bench", breaker.Op{Verb: breaker.VerbAcquire}))}
	if err := op("mixed", failure)(0); err != nil {
		t.Fatal(err)
	}
	out = append(out, measure("record of a success, failures in the window", 20_000, op("mixed", success)),
		measure("record of a failure", 20_000, op("mixed", failure)))
	if _, err := m.Force(ctx, "held", breaker.Force{Target: breaker.HoldOpen, Actor: "bench"}); err != nil {
		t.Fatal(err)
	}
	return append(out, measure("acquire, open: refused", 20_000, op("held", breaker.Op{Verb: breaker.VerbAcquire})))
}

func usecPerCall(t *testing.T, client *redis.Client) float64 {
	t.Helper()
	for line := range strings.SplitSeq(client.Info(t.Context(), "commandstats").Val(), "\r\n") {
		if rest, ok := strings.CutPrefix(line, "cmdstat_evalsha:"); ok {
			for _, f := range strings.Split(rest, ",") {
				if v, ok := strings.CutPrefix(f, "usec_per_call="); ok {
					n, err := strconv.ParseFloat(v, 64)
					if err != nil {
						t.Fatal(err)
					}
					return n
				}
			}
		}
	}
	t.Fatal("INFO commandstats shows no EVALSHA")
	return 0
}

// report prints the figures, and puts them into the document.
func report(t *testing.T, rows, server []string, made int64) {
	t.Helper()
	replace(t, "bench", fmt.Sprintf(`%d cores (%s), Go %s, Redis on loopback, %d rounds of %v each in turns, medians. Redis counted every one of the %d calls.

| goroutines | pairs a second | two trivial EVALSHA | ratio | spread of the ratio |
|---|---|---|---|---|
%s

| script | server time, µs a call |
|---|---|
%s
`, runtime.NumCPU(), runtime.GOARCH, runtime.Version(), *rounds, *round, made, strings.Join(rows, "\n"), strings.Join(server, "\n")))
}

// replace prints a text, and puts it between the markers of this name in the document.
func replace(t *testing.T, name, text string) {
	t.Helper()
	fmt.Println(text)
	if *write == "" {
		return
	}
	begin, end := "<!-- "+name+":begin -->\n", "<!-- "+name+":end -->"
	doc, err := os.ReadFile(*write)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(doc), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s lacks the markers of %s", *write, name)
	}
	if err := os.WriteFile(*write, []byte(before+begin+"\n"+text+"\n"+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
