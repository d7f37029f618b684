package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/sony/gobreaker/v2"
)

// localChunk is the number of calls between two readings of the clock.
const localChunk = 512

// localCalls compares calls that stay in the process: those of the cached mode, whose outcomes go to Redis in the
// background, and those of breakers that count in one process only.
func localCalls(t testkit.T, b *bench) (string, error) {
	ctx := t.Context()
	ours := newCachedFixture(t, startRedis(t))
	memory, err := memoryStore()
	if err != nil {
		return "", err
	}
	table := newTable("", "1 goroutine", "2", "64", "allocations a call", "counts in")
	all := slices.Concat(ours.all, []*localCandidate{memory, gobreakerLocal(), failsafeCount(), failsafeRate()})
	cells := make([][]string, len(all))
	results := make([]map[int]float64, len(all))
	for _, g := range []int{1, 2, 64} {
		rounds, err := b.compare(ctx, meter{}, candidates(all), g, localChunk, b.local)
		if err != nil {
			return "", err
		}
		for i := range all {
			if results[i] == nil {
				results[i] = map[int]float64{}
			}
			results[i][g] = mid(rounds[i], sample.perCall)
			spans := span(each(rounds[i], sample.perCall), "%.0f")
			cells[i] = append(cells[i], fmt.Sprintf("%s (%s)", digits(results[i][g]), spans))
			all[i].allocs = max(all[i].allocs, mid(rounds[i], func(s sample) float64 { return s.allocs }))
			b.bar(all[i].who, g, results[i][g])
		}
	}
	if err := ours.settle(ctx); err != nil {
		return "", err
	}
	for i, e := range all {
		table.row(e.name, cells[i][0], cells[i][1], cells[i][2], fmt.Sprintf("%.1f", e.allocs), e.counts)
	}
	judgeLocal(b, all, results)
	return fmt.Sprintf("Nanoseconds of wall clock a call, all goroutines together: median (spread).\n\n%s\n"+
		"Redis counted every one of breakerd's %s cached calls.\n", table, count(float64(ours.made()))), nil
}

// localCandidate is one row of the table.
type localCandidate struct {
	candidate

	who    series
	counts string // where its counts are
	allocs float64
}

func candidates(all []*localCandidate) []*candidate {
	out := make([]*candidate, len(all))
	for i, e := range all {
		out[i] = &e.candidate
	}
	return out
}

const inProcess, inFleet = "the process", "the fleet"

// memoryStore is breakerd with the Memory store: the machine in Go, with a map and a lock around it.
func memoryStore() (*localCandidate, error) {
	m, err := breaker.NewManager(breaker.Options{Store: breaker.NewMemory(nil, 0)})
	pairs := func(ctx context.Context, n int) error {
		for range n {
			p, err := m.Acquire(ctx, "bench")
			if err != nil {
				return err
			}
			if _, err := p.Success(ctx); err != nil {
				return err
			}
		}
		return nil
	}
	return newLocalCandidate("breakerd over `Memory`: `Acquire`, `Success`", memoryPair, inProcess, pairs), err
}

func gobreakerLocal() *localCandidate {
	cb := gobreaker.NewCircuitBreaker[bool](gobreaker.Settings{Name: "bench"})
	nothing := func() (bool, error) { return true, nil }
	return newLocalCandidate("gobreaker: `Execute`", gobreakerExecute, inProcess, func(_ context.Context, n int) error {
		for range n {
			if _, err := cb.Execute(nothing); err != nil {
				return err
			}
		}
		return nil
	})
}

// failsafeCount opens when half of the last hundred calls failed.
func failsafeCount() *localCandidate {
	cb := circuitbreaker.NewBuilder[any]().WithFailureThresholdRatio(50, 100).Build()
	return failsafe("failsafe-go, by count: `TryAcquirePermit`, `RecordSuccess`", failsafeByCount, cb)
}

// failsafeRate opens when half of the calls of two minutes failed, as the default policy of breakerd does.
func failsafeRate() *localCandidate {
	cb := circuitbreaker.NewBuilder[any]().WithFailureRateThreshold(0.5, 10, 2*time.Minute).Build()
	return failsafe("failsafe-go, by rate: `TryAcquirePermit`, `RecordSuccess`", failsafeByRate, cb)
}

func failsafe(name string, who series, cb circuitbreaker.CircuitBreaker[any]) *localCandidate {
	return newLocalCandidate(name, who, inProcess, func(_ context.Context, n int) error {
		for range n {
			if !cb.TryAcquirePermit() {
				return fmt.Errorf("%s refused", name)
			}
			cb.RecordSuccess()
		}
		return nil
	})
}

func newLocalCandidate(
	name string, who series, counts string, calls func(ctx context.Context, n int) error,
) *localCandidate {
	return &localCandidate{who: who, counts: counts, candidate: candidate{
		name: name, calls: func(ctx context.Context, _, n int) (int, error) { return 0, calls(ctx, n) },
	}}
}

func judgeLocal(b *bench, all []*localCandidate, results []map[int]float64) {
	at := map[series]map[int]float64{}
	for i, e := range all {
		at[e.who] = results[i]
	}
	b.atMost("cached pair by handle, alone", at[cachedHandle][1], 15, " ns")
	b.atMost("cached pair by handle, two cores on one agent", at[cachedHandle][2], 30, " ns")
	b.atMost("cached pair by handle, two cores on an agent each", at[cachedMany][2], 10, " ns")
	b.atMost("cached `Do` without durations, alone", at[cachedDo][1], 40, " ns")
	b.atMost("cached `Do` with durations, alone", at[cachedDoSlow][1], 120, " ns")
	for _, g := range []int{1, 2, 64} {
		b.atMost("cached `Do` with durations against gobreaker's `Execute`, "+callers(g),
			at[cachedDoSlow][g]/at[gobreakerExecute][g], 1, "×")
	}
	for _, g := range []int{1, 2, 64} {
		b.atMost("cached `Do` of a `Fleet` against that of a `Manager`, "+callers(g),
			at[cachedFleetDo][g]/at[cachedDo][g], 1.1, "×")
	}
	for _, e := range all {
		if e.who == cachedFleetDo || e.who == cachedHandle || e.who == cachedMany {
			b.atMost("allocations a call, "+e.name, e.allocs, 0.01, "")
		}
	}
}
