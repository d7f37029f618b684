package redisstore_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

// BenchmarkStrictPair is a call in the strict mode, an acquire and a success, at a closed breaker of a real Redis.
// cpu-µs/op is this process's; allocs/op is the figure to trust on a machine that is shared.
func BenchmarkStrictPair(b *testing.B) {
	for _, c := range []struct{ callers, agents int }{{1, 1}, {8, 1}, {64, 1}, {256, 1}, {64, 64}} {
		b.Run(fmt.Sprintf("callers=%d/agents=%d", c.callers, c.agents), func(b *testing.B) { strictPairs(b, c.callers, c.agents) })
	}
}

func strictPairs(b *testing.B, callers, agents int) {
	b.Helper()
	conn, err := redisstore.Open(b.Context(), testkit.Start(b).URL(), redisstore.Options{Timeout: 5 * time.Second})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	store, err := redisstore.New(conn.Client, false, redisstore.Config{Timeout: 5 * time.Second})
	if err != nil {
		b.Fatal(err)
	}
	names := make([]string, agents)
	for i := range names {
		names[i] = fmt.Sprintf("agent-%d", i)
	}
	fillBucket(b, conn, names)
	fallback := breaker.NewFallback(breaker.FallbackOptions{Store: store, Ping: store.Ping})
	defer fallback.Close()
	m, err := breaker.NewManager(breaker.Options{Store: fallback})
	if err != nil {
		b.Fatal(err)
	}
	pair := func(agent string) error {
		permit, err := m.Acquire(b.Context(), agent)
		if err == nil {
			_, err = permit.Success(b.Context())
		}
		return err
	}
	run := func(pairs int64) {
		var left atomic.Int64
		left.Store(pairs)
		var wg sync.WaitGroup
		for i := range callers {
			wg.Go(func() {
				for left.Add(-1) >= 0 {
					if err := pair(names[i%agents]); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
	}
	run(int64(20*agents + 200)) // hints are set, connections made
	b.ReportAllocs()
	b.ResetTimer()
	before := cpuTime()
	run(int64(b.N))
	b.ReportMetric(float64((cpuTime()-before).Nanoseconds())/1e3/float64(b.N), "cpu-µs/op")
}

// fillBucket records minimum_calls successes in a bucket before the present one, as there are after the first seconds
// of an agent.
func fillBucket(b *testing.B, conn *redisstore.Conn, names []string) {
	b.Helper()
	store, err := redisstore.New(conn.Client, false, redisstore.Config{})
	if err != nil {
		b.Fatal(err)
	}
	store.SetNow(func() int64 { return time.Now().Add(-11 * time.Second).UnixMilli() })
	for _, name := range names {
		op := machine.Op{Verb: machine.VerbRecord, Draw: machine.ZeroEpoch[1:], Summary: machine.Summary{Successes: 10}}
		if _, err := store.Apply(b.Context(), name, breaker.DefaultPolicy(), op); err != nil {
			b.Fatal(err)
		}
	}
}

// cpuTime is the CPU that this process has used.
func cpuTime() time.Duration {
	var use syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &use) // cannot fail for the process itself
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}
