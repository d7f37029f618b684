package main

import (
	"context"
	"fmt"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// perSecond is the calls a second of a paced load.
const perSecond = 1_000_000

// redisLoad measures what one busy agent in the cached mode costs Redis: at perSecond, and as fast as two goroutines
// can call it.
func redisLoad(t testkit.T, b *bench) (string, error) {
	ctx, server := t.Context(), startRedis(t)
	us := join(t, server, cachedPolicy(), "")
	agent := us.agent(t, "hot")
	table := newTable("calls a second", "records a second", "Redis commands a second, those inside scripts included",
		"of a core in Redis")
	m := meter{server}
	var made int64
	for _, pace := range []int{perSecond, 0} {
		before, err := m.now(ctx)
		if err != nil {
			return "", err
		}
		n, err := callAgent(ctx, agent, pace, b.paced)
		if err != nil {
			return "", err
		}
		after, err := m.now(ctx)
		if err != nil {
			return "", err
		}
		made += n
		s := m.sample(before, after, n)
		table.row(count(s.rate), fmt.Sprintf("%.0f", s.scripts), fmt.Sprintf("%.0f", s.commands*s.rate),
			fmt.Sprintf("%.3f", s.busy))
		b.atMost(fmt.Sprintf("records a second of one agent at %s calls a second", count(s.rate)), s.scripts, 200, "")
	}
	if err := us.m.Close(ctx); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s\nRedis counted every one of the %s calls.\n", table, count(float64(made))),
		join(t, server, breaker.DefaultPolicy(), "").exact(ctx, made, "hot")
}

// callAgent calls an agent for d: pace times a second, or from two goroutines as fast as they can if pace is 0.
func callAgent(ctx context.Context, agent *breaker.Agent, pace int, d time.Duration) (int64, error) {
	if pace == 0 {
		c := &candidate{name: "cached", calls: func(ctx context.Context, _, n int) (int, error) {
			return 0, cachedPairs(ctx, agent, n)
		}}
		_, err := meter{}.round(ctx, c, 2, localChunk, d)
		return c.made, err
	}
	made := int64(0)
	p := newPacer(pace, d)
	for {
		n := p.wait(ctx)
		if n == 0 {
			return made, ctx.Err()
		}
		if err := cachedPairs(ctx, agent, n); err != nil {
			return made, err
		}
		made += int64(n)
	}
}

// pacer tells how many calls are due at a rate.
type pacer struct {
	rate  float64 // a second
	start time.Time
	end   time.Time
	given int // calls that wait has returned
}

func newPacer(rate int, d time.Duration) *pacer {
	now := time.Now()
	return &pacer{rate: float64(rate), start: now, end: now.Add(d)}
}

// wait sleeps until calls are due, and returns their number. It returns 0 at the end.
func (p *pacer) wait(ctx context.Context) int {
	for ctx.Err() == nil {
		now := time.Now()
		if now.After(p.end) {
			return 0
		}
		due := int(now.Sub(p.start).Seconds()*p.rate) - p.given
		if due > 0 {
			p.given += due
			return due
		}
		time.Sleep(time.Millisecond)
	}
	return 0
}
