package main

import (
	"context"
	"fmt"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// perSecond is the pace of the measurements at a given load.
const perSecond = 1_000_000

// redisLoad measures what one busy agent in the cached mode costs Redis, at a pace and as fast as two goroutines can.
func redisLoad(ctx context.Context, b *bench) (string, error) {
	server, err := startRedis(ctx)
	if err != nil {
		return "", err
	}
	defer server.close()
	us, err := join(ctx, server, cachedPolicy(), "")
	if err != nil {
		return "", err
	}
	defer us.close()
	agent, err := us.m.Agent("hot")
	if err != nil {
		return "", err
	}
	t := newTable("calls a second", "records a second", "Redis commands a second, those inside scripts included", "of a core in Redis")
	m := meter{server}
	var made int64
	for _, pace := range []int{perSecond, 0} {
		before, err := m.now(ctx)
		if err != nil {
			return "", err
		}
		n, err := busy(ctx, agent, pace, b.paced)
		if err != nil {
			return "", err
		}
		after, err := m.now(ctx)
		if err != nil {
			return "", err
		}
		made += n
		s := m.sample(before, after, n)
		t.row(count(s.rate), fmt.Sprintf("%.0f", s.scripts), fmt.Sprintf("%.0f", s.commands*s.rate), fmt.Sprintf("%.3f", s.busy))
		b.atMost(fmt.Sprintf("records a second of one agent at %s calls a second", count(s.rate)), s.scripts, 200, "")
	}
	if err := us.m.Close(ctx); err != nil {
		return "", err
	}
	eye, err := join(ctx, server, breaker.DefaultPolicy(), "")
	if err != nil {
		return "", err
	}
	defer eye.close()
	return fmt.Sprintf("%s\nRedis counted every one of the %s calls.\n", t, count(float64(made))), eye.exact(ctx, made, "hot")
}

// busy calls an agent from two goroutines for d: so many times a second, or 0: as often as it can.
func busy(ctx context.Context, agent *breaker.Agent, pace int, d time.Duration) (int64, error) {
	c := &candidate{name: "cached", calls: func(ctx context.Context, _, n int) (int, error) { return 0, cachedPairs(ctx, agent, n) }}
	if pace == 0 {
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

// pacer says how many calls are due.
type pacer struct {
	rate  float64 // a second
	start time.Time
	end   time.Time
	given int
}

func newPacer(rate int, d time.Duration) *pacer {
	now := time.Now()
	return &pacer{rate: float64(rate), start: now, end: now.Add(d)}
}

// wait gives way until calls are due, and says how many; 0 at the end.
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
