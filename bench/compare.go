package main

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// candidate is one of the breakers that a section compares.
type candidate struct {
	name  string
	calls func(ctx context.Context, g, n int) (failed int, err error) // n calls of goroutine g, one after the other
	made  int64                                                       // calls of all rounds, the failed ones included
	lost  int64                                                       // those that failed
}

// sample is one round of one candidate. Figures for one call are means of all calls that were made.
type sample struct {
	rate     float64 // calls a second, of those that ended within the round
	commands float64 // Redis commands a call, those inside scripts included
	scripts  float64 // scripts run, a second
	redis    float64 // Redis CPU, µs a call
	client   float64 // CPU of this process, µs a call
	allocs   float64 // allocations a call
	busy     float64 // share of a core that Redis used
}

func (s sample) perCall() float64 { return 1e9 / s.rate } // ns of wall clock for one call, all goroutines together

// meter reads the counters by which a round is measured. server may be nil.
type meter struct {
	server *redisServer
}

// instant is the state of the counters at one moment.
type instant struct {
	at      time.Time
	redis   reading
	cpu     time.Duration
	mallocs uint64
}

func (m meter) now(ctx context.Context) (instant, error) {
	var i instant
	var err error
	if m.server != nil {
		if i.redis, err = m.server.read(ctx); err != nil {
			return i, err
		}
	}
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		return i, fmt.Errorf("getrusage: %w", err)
	}
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	i.cpu, i.mallocs, i.at = time.Duration(use.Utime.Nano()+use.Stime.Nano()), mem.Mallocs, time.Now()
	return i, nil
}

// sample is what happened between two instants, between which so many calls were made.
func (m meter) sample(a, b instant, made int64) sample {
	n, took := float64(max(made, 1)), b.at.Sub(a.at).Seconds()
	return sample{
		rate:     float64(made) / took,
		commands: float64(b.redis.all().n-a.redis.all().n) / n,
		scripts:  float64(b.redis.scripts()-a.redis.scripts()) / took,
		redis:    (b.redis.cpu - a.redis.cpu).Seconds() * 1e6 / n,
		client:   (b.cpu - a.cpu).Seconds() * 1e6 / n,
		allocs:   float64(b.mallocs-a.mallocs) / n,
		busy:     (b.redis.cpu - a.redis.cpu).Seconds() / took,
	}
}

// round lets goroutines make calls for d, chunk by chunk. A chunk that ends after d counts as made and not in the
// rate, so that the last call of a candidate whose callers sleep does not lower its rate.
func (m meter) round(ctx context.Context, c *candidate, goroutines, chunk int, d time.Duration) (sample, error) {
	runtime.GC()
	before, err := m.now(ctx)
	if err != nil {
		return sample{}, err
	}
	var sum total
	var wg sync.WaitGroup
	start := time.Now()
	for g := range goroutines {
		wg.Go(func() { sum.add(callUntil(ctx, c, g, chunk, start.Add(d))) })
	}
	wg.Wait()
	after, err := m.now(ctx)
	if err != nil {
		return sample{}, err
	}
	if sum.err != nil {
		return sample{}, fmt.Errorf("%s: %w", c.name, sum.err)
	}
	c.made, c.lost = c.made+sum.made, c.lost+sum.failed
	s := m.sample(before, after, sum.made)
	s.rate = float64(sum.inTime) / d.Seconds()
	return s, nil
}

// total adds up the calls of goroutines.
type total struct {
	mu                   sync.Mutex
	made, inTime, failed int64
	err                  error
}

func (t *total) add(made, inTime, failed int64, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.made, t.inTime, t.failed = t.made+made, t.inTime+inTime, t.failed+failed
	if t.err == nil {
		t.err = err
	}
}

func callUntil(ctx context.Context, c *candidate, g, chunk int, end time.Time) (made, inTime, failed int64, err error) {
	for ctx.Err() == nil {
		bad, err := c.calls(ctx, g, chunk)
		made, failed = made+int64(chunk), failed+int64(bad)
		if err != nil {
			return made, inTime, failed, err
		}
		if !time.Now().Before(end) {
			return made, inTime, failed, nil
		}
		inTime += int64(chunk - bad)
	}
	return made, inTime, failed, ctx.Err()
}

// compare runs the candidates in turns, after a short round of each to warm up, and returns the rounds of each.
func (b *bench) compare(
	ctx context.Context, m meter, all []*candidate, goroutines, chunk int, d time.Duration,
) ([][]sample, error) {
	for _, c := range all {
		if _, err := m.round(ctx, c, goroutines, chunk, d/4); err != nil {
			return nil, err
		}
	}
	out := make([][]sample, len(all))
	for range b.rounds {
		for i, c := range all {
			s, err := m.round(ctx, c, goroutines, chunk, d)
			if err != nil {
				return nil, err
			}
			out[i] = append(out[i], s)
		}
	}
	return out, nil
}
