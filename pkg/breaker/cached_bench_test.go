package breaker_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// newBenchManager makes a Manager in cached mode on a Memory.
func newBenchManager(b *testing.B, edit func(*breaker.Policy)) *breaker.Manager {
	b.Helper()
	p := breaker.DefaultPolicy()
	p.Consistency, p.FailureThreshold, p.FailureRateThreshold = breaker.Cached, 0, 0
	if edit != nil {
		edit(&p)
	}
	m, err := breaker.NewManager(breaker.Options{
		Store: breaker.NewMemory(nil, 0), PerAgent: func(context.Context, string) breaker.Policy { return p },
	})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.Cleanup(func() {
		b.Helper()
		if err := m.Close(context.Background()); err != nil {
			b.Fatal(err)
		}
	})
	return m
}

// checkCounted fails unless the agents' breakers have counted n calls.
func checkCounted(b *testing.B, m *breaker.Manager, n int, agents ...string) {
	b.Helper()
	b.StopTimer()
	var sum int64
	for _, agent := range agents {
		v, _, err := m.Inspect(context.Background(), agent)
		if err != nil {
			b.Fatal(err)
		}
		sum += v.Successes + v.Failures
	}
	if sum != int64(n) {
		b.Fatalf("%d calls counted of %d", sum, n)
	}
}

// BenchmarkCachedPair is Acquire and Success, or at times Failure, by handle; with -cpu 2, two cores share one agent.
func BenchmarkCachedPair(b *testing.B) {
	for name, every := range map[string]int{"successes": 0, "one failure in 1000": 1000, "one failure in 10": 10} {
		b.Run(name, func(b *testing.B) {
			m := newBenchManager(b, nil)
			a, err := m.Agent("bench")
			if err != nil {
				b.Fatal(err)
			}
			b.RunParallel(func(pb *testing.PB) {
				ctx := context.Background()
				for i := 1; pb.Next(); i++ {
					p, err := a.Acquire(ctx)
					if err != nil {
						b.Error(err)
						return
					}
					if every > 0 && i%every == 0 {
						_, err = p.Failure(ctx, "bench")
					} else {
						_, err = p.Success(ctx)
					}
					if err != nil {
						b.Error(err)
						return
					}
				}
			})
			checkCounted(b, m, b.N, "bench")
		})
	}
}

// BenchmarkCachedPairOwn is Acquire and Success, with an agent for each goroutine.
func BenchmarkCachedPairOwn(b *testing.B) {
	m := newBenchManager(b, nil)
	var agents []string
	for i := range 64 {
		agents = append(agents, fmt.Sprintf("bench-%d", i))
	}
	var next atomic.Int64
	b.RunParallel(func(pb *testing.PB) {
		a, err := m.Agent(agents[next.Add(1)-1])
		if err != nil {
			b.Error(err)
			return
		}
		ctx := context.Background()
		for pb.Next() {
			p, err := a.Acquire(ctx)
			if err != nil {
				b.Error(err)
				return
			}
			_, _ = p.Success(ctx)
		}
	})
	checkCounted(b, m, b.N, agents...)
}

// BenchmarkCachedDo is Do by name of one agent, while the Manager has 1,000 others.
func BenchmarkCachedDo(b *testing.B) {
	for name, slow := range map[string]time.Duration{"bare": 0, "timed": time.Second} {
		b.Run(name, func(b *testing.B) {
			m := newBenchManager(b, func(p *breaker.Policy) { p.SlowCallDuration = slow })
			for i := range 1000 {
				if _, err := m.Agent(fmt.Sprintf("other-%d", i)); err != nil {
					b.Fatal(err)
				}
			}
			b.RunParallel(func(pb *testing.PB) {
				ctx := context.Background()
				nothing := func(context.Context) error { return nil }
				for pb.Next() {
					if err := m.Do(ctx, "bench", nothing); err != nil {
						b.Error(err)
						return
					}
				}
			})
			checkCounted(b, m, b.N, "bench")
		})
	}
}
