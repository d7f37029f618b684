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
	report(t, rows, serverTimes(t), made)
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

// report prints the figures, and puts them into the document.
func report(t *testing.T, rows, server []string, made int64) {
	t.Helper()
	replace(t, "bench", fmt.Sprintf(`%d cores (%s), Go %s, Redis on loopback, %d rounds of %v each in turns, medians. Redis counted every one of the %d calls.

| goroutines | pairs a second | two trivial EVALSHA | ratio | spread of the ratio |
|---|---|---|---|---|
%s

%s
%s
`, runtime.NumCPU(), runtime.GOARCH, runtime.Version(), *rounds, *round, made, strings.Join(rows, "\n"), serverHead, strings.Join(server, "\n")))
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
