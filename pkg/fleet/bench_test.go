package fleet_test

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breakerlog"
	"github.com/breakerd/breakerd/pkg/breakerprom"
	"github.com/breakerd/breakerd/pkg/fleet"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

// candidate is a way to make calls, by the name of its metric.
type candidate struct {
	name string
	call func(ctx context.Context, agent string) error
}

// bareManager is a Manager on a Redis, with nothing beside it.
func bareManager(tb testing.TB, url string, p breaker.Policy) *breaker.Manager {
	tb.Helper()
	conn, err := redisstore.Open(tb.Context(), url, redisstore.Options{Timeout: 10 * time.Second})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	store, err := redisstore.New(conn.Client, false, redisstore.Config{Timeout: 10 * time.Second, Prefix: "bare"})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(store.Close)
	fallback := breaker.NewFallback(breaker.FallbackOptions{Store: store, Ping: store.Ping})
	tb.Cleanup(fallback.Close)
	m, err := breaker.NewManager(breaker.Options{Store: fallback, Policy: p})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = m.Close(context.Background()) })
	return m
}

// nowhere is a log that is written, and not kept.
type nowhere struct{}

func (nowhere) Write(p []byte) (int, error) { return len(p), nil }

// infoLog is a log at level info.
func infoLog() *slog.Logger { return slog.New(slog.NewJSONHandler(nowhere{}, nil)) }

func joinFleet(tb testing.TB, url, prefix string, o fleet.Options) *fleet.Fleet {
	tb.Helper()
	o.Prefix, o.Logger, o.FromEnv = prefix, infoLog(), true // with the time-out of TestMain
	f, err := fleet.Join(tb.Context(), url, o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = f.Close(context.Background()) })
	return f
}

// observed is what a program that is watched well gives a Fleet.
func observed() breaker.Observer {
	return breaker.Observers(breakerprom.New(breakerprom.Options{}), breakerlog.New(infoLog(), breakerlog.Options{}))
}

// neverTrips is a policy in the cached mode.
func neverTrips() breaker.Policy {
	return breaker.Policy{Consistency: breaker.Cached, FailureThreshold: breaker.Off, FailureRateThreshold: breaker.Off}
}

// cachedCalls are the ways to call one agent in cached mode: of a Manager, of a Fleet, and of one with observers.
func cachedCalls(tb testing.TB, agent string) []candidate {
	tb.Helper()
	url := testkit.Start(tb).URL()
	bare := bareManager(tb, url, neverTrips())
	plain := joinFleet(tb, url, "plain", fleet.Options{Policy: neverTrips()})
	watched := joinFleet(tb, url, "watched", fleet.Options{
		Policy: neverTrips(), Observer: observed(), OnStateChange: func(breaker.Change) {},
	})
	var out []candidate
	for _, of := range []struct {
		name string
		c    breaker.Caller
	}{{"manager", bare}, {"fleet", plain}, {"watched", watched}} {
		handle, err := of.c.Manager().Agent(agent)
		if err != nil {
			tb.Fatal(err)
		}
		result := func(context.Context) (int, error) { return 1, nil }
		out = append(out,
			candidate{of.name + "-do", func(ctx context.Context, agent string) error { return of.c.Manager().Do(ctx, agent, succeed) }},
			candidate{of.name + "-call", func(ctx context.Context, agent string) error {
				_, err := breaker.Call(ctx, of.c, agent, result)
				return err
			}},
			candidate{of.name + "-handle", func(ctx context.Context, _ string) error { return handle.Do(ctx, succeed) }},
		)
	}
	return out
}

// inTurns measures the candidates in turns, in rounds of n calls by each of some callers, so that what else the machine
// does meets all of them. It reports the median of each: ns of wall clock a call, all callers together.
func inTurns(b *testing.B, all []candidate, callers, n int) {
	b.Helper()
	took := make([][]float64, len(all))
	for b.Loop() {
		for i, c := range all {
			start := time.Now()
			var running sync.WaitGroup
			for range callers {
				running.Go(func() {
					for range n {
						if err := c.call(b.Context(), "bench"); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			running.Wait()
			took[i] = append(took[i], float64(time.Since(start).Nanoseconds())/float64(n*callers))
		}
	}
	for i, c := range all {
		slices.Sort(took[i])
		b.ReportMetric(took[i][len(took[i])/2], c.name+"-ns/call")
	}
}

// BenchmarkCached is a call in cached mode, of a function that does nothing.
func BenchmarkCached(b *testing.B) {
	all := cachedCalls(b, "bench")
	for _, verb := range []string{"do", "call", "handle"} {
		b.Run(verb, func(b *testing.B) {
			inTurns(b, slices.DeleteFunc(slices.Clone(all), func(c candidate) bool { return !strings.HasSuffix(c.name, "-"+verb) }), 1, 20_000)
		})
	}
}

// BenchmarkStrict is a call in strict mode, an acquire and a success, on a real Redis.
func BenchmarkStrict(b *testing.B) {
	url := testkit.Start(b).URL()
	var all []candidate
	for name, m := range map[string]*breaker.Manager{
		"manager": bareManager(b, url, breaker.Policy{}),
		"fleet":   joinFleet(b, url, "plain", fleet.Options{}).Manager(),
		"watched": joinFleet(b, url, "watched", fleet.Options{Observer: observed()}).Manager(),
	} {
		all = append(all, candidate{name, func(ctx context.Context, agent string) error {
			p, err := m.Acquire(ctx, agent)
			if err == nil {
				_, err = p.Success(ctx)
			}
			return err
		}})
	}
	slices.SortFunc(all, func(a, b candidate) int { return cmp.Compare(a.name, b.name) })
	for _, callers := range []int{1, 64} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) { inTurns(b, all, callers, 20) })
	}
}

func TestFleet_CachedCallAllocatesNothing(t *testing.T) {
	for _, c := range cachedCalls(t, "bench") {
		ctx := t.Context()
		if err := c.call(ctx, "bench"); err != nil {
			t.Fatal(err)
		}
		if n := testkit.FewestAllocs(func() { _ = c.call(ctx, "bench") }); n > 0 {
			t.Errorf("%s allocates %v times", c.name, n)
		}
	}
}
