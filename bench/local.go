package main

import (
	"context"
	"fmt"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/sony/gobreaker/v2"
)

// localChunk is how many calls are made between two looks at the clock.
const localChunk = 512

// localCalls compares a call that stays in the process: ours in the cached mode, over a Redis that gets the outcomes, with breakers
// that know one process only.
func localCalls(ctx context.Context, b *bench) (string, error) {
	server, err := startRedis(ctx)
	if err != nil {
		return "", err
	}
	defer server.close()
	ours, err := newCachedStand(ctx, server)
	if err != nil {
		return "", err
	}
	defer ours.close()
	t := newTable("", "1 goroutine", "2", "64", "allocations a call", "counts in")
	memory, err := memoryStore()
	if err != nil {
		return "", err
	}
	all := append(ours.entrants(), memory, gobreakerLocal(), failsafeCount(), failsafeRate())
	cells := make([][]string, len(all))
	results := make([]map[int]float64, len(all))
	for _, g := range []int{1, 2, 64} {
		rounds, err := b.compare(ctx, meter{}, contestants(all), g, localChunk, b.local)
		if err != nil {
			return "", err
		}
		for i := range all {
			if results[i] == nil {
				results[i] = map[int]float64{}
			}
			results[i][g] = mid(rounds[i], sample.perCall)
			cells[i] = append(cells[i], fmt.Sprintf("%s (%s)", digits(results[i][g]), span(each(rounds[i], sample.perCall), "%.0f")))
			all[i].allocs = max(all[i].allocs, mid(rounds[i], func(s sample) float64 { return s.allocs }))
			b.bar(all[i].who, g, results[i][g])
		}
	}
	if err := ours.settle(ctx); err != nil {
		return "", err
	}
	for i, e := range all {
		t.row(e.name, cells[i][0], cells[i][1], cells[i][2], fmt.Sprintf("%.1f", e.allocs), e.counts)
	}
	judgeLocal(b, all, results)
	return fmt.Sprintf("Nanoseconds of wall clock a call, all goroutines together: median (spread).\n\n%s\n"+
		"Redis counted every one of breakerd's %s cached calls.\n", t, count(float64(ours.made()))), nil
}

// entrant is a contestant of the local table.
type entrant struct {
	candidate

	who    contender
	counts string // where its counts are
	allocs float64
}

func contestants(all []*entrant) []*candidate {
	out := make([]*candidate, len(all))
	for i, e := range all {
		out[i] = &e.candidate
	}
	return out
}

const inProcess, inFleet = "the process", "the fleet"

// memoryStore is our machine in one process: a map and a lock around the same steps that the scripts take.
func memoryStore() (*entrant, error) {
	m, err := breaker.NewManager(breaker.Options{Store: breaker.NewMemory(nil, 0)})
	return newEntrant("breakerd over `Memory`: `Acquire`, `Success`", memoryPair, inProcess, func(ctx context.Context, n int) error {
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
	}), err
}

func gobreakerLocal() *entrant {
	cb := gobreaker.NewCircuitBreaker[bool](gobreaker.Settings{Name: "bench"})
	nothing := func() (bool, error) { return true, nil }
	return newEntrant("gobreaker: `Execute`", gobreakerExecute, inProcess, func(_ context.Context, n int) error {
		for range n {
			if _, err := cb.Execute(nothing); err != nil {
				return err
			}
		}
		return nil
	})
}

// failsafeCount opens at half of the last hundred calls.
func failsafeCount() *entrant {
	cb := circuitbreaker.NewBuilder[any]().WithFailureThresholdRatio(50, 100).Build()
	return failsafe("failsafe-go, by count: `TryAcquirePermit`, `RecordSuccess`", failsafeByCount, cb)
}

// failsafeRate opens at half of the calls of two minutes, as our default policy does.
func failsafeRate() *entrant {
	cb := circuitbreaker.NewBuilder[any]().WithFailureRateThreshold(0.5, 10, 2*time.Minute).Build()
	return failsafe("failsafe-go, by rate: `TryAcquirePermit`, `RecordSuccess`", failsafeByRate, cb)
}

func failsafe(name string, who contender, cb circuitbreaker.CircuitBreaker[any]) *entrant {
	return newEntrant(name, who, inProcess, func(_ context.Context, n int) error {
		for range n {
			if !cb.TryAcquirePermit() {
				return fmt.Errorf("%s refused", name)
			}
			cb.RecordSuccess()
		}
		return nil
	})
}

func newEntrant(name string, who contender, counts string, calls func(ctx context.Context, n int) error) *entrant {
	return &entrant{who: who, counts: counts, candidate: candidate{
		name: name, calls: func(ctx context.Context, _, n int) (int, error) { return 0, calls(ctx, n) },
	}}
}

func judgeLocal(b *bench, all []*entrant, results []map[int]float64) {
	at := map[contender]map[int]float64{}
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
	for _, e := range all {
		if e.who == cachedHandle || e.who == cachedMany {
			b.atMost("allocations a call, "+e.name, e.allocs, 0.01, "")
		}
	}
}
