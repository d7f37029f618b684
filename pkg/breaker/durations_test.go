package breaker_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// stopwatch is a quiet Observer that gets durations.
type stopwatch struct {
	breaker.NopObserver

	mu    sync.Mutex
	calls map[string]int
	sum   time.Duration
	odd   []int // what single notifications stood for, other than 1 and 16
}

func (*stopwatch) Quiet() bool { return true }

func (s *stopwatch) Took(agent string, d time.Duration, calls int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calls == nil {
		s.calls = map[string]int{}
	}
	s.calls[agent] += calls
	s.sum += d * time.Duration(calls)
	if calls != 1 && calls != 16 {
		s.odd = append(s.odd, calls)
	}
}

func timedManager(t testing.TB, p breaker.Policy, o ...breaker.Observer) *breaker.Manager {
	t.Helper()
	m, err := breaker.NewManager(breaker.Options{Store: breaker.NewMemory(nil, 0), Policy: p, Observer: breaker.Observers(o...)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close(context.Background()) })
	return m
}

func TestDurationObserver_HearsOfEachCallOnce(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]breaker.Policy{
		"strict":           {FailureThreshold: breaker.Off, FailureRateThreshold: breaker.Off},
		"cached, measured": {Consistency: breaker.Cached, SlowCallDuration: time.Hour, FailureThreshold: breaker.Off, FailureRateThreshold: breaker.Off},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var first, second stopwatch
			m := timedManager(t, p, &first, breaker.NopObserver{}, &second)
			boom := errors.New("boom")
			for range 10 {
				_ = m.Do(t.Context(), "a", func(context.Context) error { return nil })
				_ = m.Do(t.Context(), "a", func(context.Context) error { return boom })
			}
			permit, err := m.Acquire(t.Context(), "b")
			if err != nil {
				t.Fatal(err)
			}
			_, _ = permit.Settle(t.Context(), breaker.Outcome{Kind: breaker.Success, Duration: time.Second})
			for _, o := range []breaker.Outcome{
				{Kind: breaker.Failure, Duration: time.Second},
				{Kind: breaker.Success},
				{Kind: breaker.Ignored, Duration: time.Second},
			} {
				if _, err := m.Record(t.Context(), "b", o); err != nil {
					t.Fatal(err)
				}
			}
			for _, s := range []*stopwatch{&first, &second} {
				if s.calls["a"] != 20 || s.calls["b"] != 2 || s.odd != nil {
					t.Errorf("%v %v, want 20 of a and 2 of b", s.calls, s.odd)
				}
			}
		})
	}
}

// What only a DurationObserver wants is sampled, and the samples stand for all calls.
func TestDurationObserver_OfCachedCallsHearsOfSamples(t *testing.T) {
	t.Parallel()
	var s stopwatch
	m := timedManager(t, breaker.Policy{Consistency: breaker.Cached}, &s)
	const calls = 100_000
	for range calls {
		if err := m.Do(t.Context(), "a", func(context.Context) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	// Of so many draws the sum is within 5 % of it but for one run in 10⁴ (four standard deviations are 4.9 %).
	if got := s.calls["a"]; got < calls*94/100 || got > calls*106/100 || s.odd != nil {
		t.Errorf("%d calls, %v", got, s.odd)
	}
}

// The panic of one does not reach the caller.
type panickyStopwatch struct{ stopwatch }

func (*panickyStopwatch) Took(string, time.Duration, int) { panic("no") }

func TestDurationObserver_PanicIsRecovered(t *testing.T) {
	t.Parallel()
	var s stopwatch
	m := timedManager(t, breaker.Policy{}, &panickyStopwatch{}, &s)
	if err := m.Do(t.Context(), "a", func(context.Context) error { return nil }); err != nil || s.calls["a"] != 1 {
		t.Error(err, s.calls)
	}
}

func TestDurationObserver_CostsNoAllocation(t *testing.T) { //nolint:paralleltest // it counts allocations
	m := timedManager(t, breaker.Policy{Consistency: breaker.Cached}, &quietWatch{})
	ctx, nothing := context.Background(), func(context.Context) error { return nil }
	_ = m.Do(ctx, "a", nothing)
	if n := testkit.FewestAllocs(func() {
		for range 64 {
			_ = m.Do(ctx, "a", nothing)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// quietWatch is a stopwatch that keeps nothing.
type quietWatch struct{ breaker.NopObserver }

func (*quietWatch) Quiet() bool                     { return true }
func (*quietWatch) Took(string, time.Duration, int) {}

type quietOnly struct{ breaker.NopObserver }

func (*quietOnly) Quiet() bool { return true }

// BenchmarkCachedDoSampled is BenchmarkCachedDo/bare with an Observer that wants durations.
func BenchmarkCachedDoSampled(b *testing.B) {
	for name, o := range map[string][]breaker.Observer{"without": {&quietOnly{}}, "with": {&quietWatch{}}} {
		b.Run(name, func(b *testing.B) {
			m := timedManager(b, breaker.Policy{Consistency: breaker.Cached, FailureThreshold: breaker.Off}, o...)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				ctx, nothing := context.Background(), func(context.Context) error { return nil }
				for pb.Next() {
					_ = m.Do(ctx, "bench", nothing)
				}
			})
		})
	}
}
