package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/breakerd/breakerd/internal/policycache"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

// yard is where the constants of the model are measured.
type yard struct {
	capacityPlan
	costs

	server *redisServer
	us     *replica
	names  []string
	full   []string // those of them that get a full window
}

// measureCosts measures the constants of the model, on a server of their own.
func measureCosts(ctx context.Context, plan capacityPlan) (costs, error) {
	server, err := startRedis(ctx)
	if err != nil {
		return costs{}, err
	}
	defer server.close()
	us, err := join(ctx, server, breaker.DefaultPolicy(), "")
	if err != nil {
		return costs{}, err
	}
	defer us.close()
	y := &yard{capacityPlan: plan, server: server, us: us}
	for i := range plan.agents {
		y.names = append(y.names, fmt.Sprintf("agent-%06d", i)) // 12 bytes, as in docs/keys.md
	}
	y.full = y.names[:len(y.names)/5]
	for _, step := range []func(context.Context) error{y.inRedis, y.firsts, y.crowds, y.alone, y.polls, y.deliveries, y.lists, y.inReplica} {
		if err := step(ctx); err != nil {
			return costs{}, err
		}
	}
	return y.costs, nil
}

// inRedis makes agents with a full window, and measures what they take.
func (y *yard) inRedis(ctx context.Context) error {
	g := &ground{server: y.server, store: y.us.store, policy: breaker.DefaultPolicy()}
	if err := g.window(ctx, "warm", 0); err != nil { // Redis knows the script from here on
		return err
	}
	before, err := y.server.usedMemory(ctx)
	if err != nil {
		return err
	}
	for _, name := range y.full {
		if err := g.window(ctx, name, 0); err != nil {
			return err
		}
	}
	after, err := y.server.usedMemory(ctx)
	y.redisAgent = (after - before) / float64(len(y.full))
	return err
}

// firsts measures a record of each, which goes the long way, as the sums of the past buckets are not there.
func (y *yard) firsts(ctx context.Context) (err error) {
	y.first, err = y.server.spend(ctx, func(ctx context.Context) (int64, error) {
		return int64(len(y.full)), y.all(ctx, y.full, y.succeed)
	})
	return err
}

// all does something once for every agent, 64 at a time.
func (y *yard) all(ctx context.Context, agents []string, do func(context.Context, string) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(manyAgentsCallers)
	for _, a := range agents {
		g.Go(func() error { return do(ctx, a) })
	}
	return g.Wait()
}

// succeed is a record that nobody can join.
func (y *yard) succeed(ctx context.Context, agent string) error {
	_, err := y.us.m.Record(ctx, agent, breaker.Outcome{Kind: breaker.Success})
	return err
}

// crowds measures acquires, and then records, of 64 callers who call different agents, so that nobody can share an answer.
func (y *yard) crowds(ctx context.Context) error {
	acquire := func(ctx context.Context, agent string) error {
		_, err := y.us.m.Acquire(ctx, agent)
		return err
	}
	for _, x := range []struct {
		to   *cost
		call func(context.Context, string) error
	}{{&y.acquire, acquire}, {&y.record, y.succeed}} {
		next := make([]int, manyAgentsCallers)
		c := &candidate{name: "crowd", calls: func(ctx context.Context, g, n int) (int, error) {
			for range n {
				if err := x.call(ctx, y.full[(g+next[g]*manyAgentsCallers)%len(y.full)]); err != nil {
					return 0, err
				}
				next[g]++
			}
			return 0, nil
		}}
		each, err := y.server.spend(ctx, func(ctx context.Context) (int64, error) {
			s, err := meter{}.round(ctx, c, manyAgentsCallers, 1, y.round)
			y.sent = s.rate // of the records, which come last
			return c.made, err
		})
		if err != nil {
			return err
		}
		*x.to = each
	}
	clients, err := y.server.numbers(ctx, "clients")
	y.connections = clients["connected_clients"] - 1 // the bench's own eye
	return err
}

// alone measures records ten milliseconds apart.
func (y *yard) alone(ctx context.Context) (err error) {
	var trips []float64
	y.lone, err = y.server.spend(ctx, func(ctx context.Context) (n int64, err error) {
		for end := time.Now().Add(y.round); time.Now().Before(end) && pause(ctx, 10*time.Millisecond); n++ {
			start := time.Now()
			if err := y.succeed(ctx, y.names[0]); err != nil {
				return n, err
			}
			trips = append(trips, time.Since(start).Seconds())
		}
		return n, ctx.Err()
	})
	y.trip = median(trips)
	return err
}

// polls measures what each replica asks twice a second of every agent in use.
func (y *yard) polls(ctx context.Context) (err error) {
	y.poll, err = y.server.spend(ctx, func(ctx context.Context) (n int64, err error) {
		for end := time.Now().Add(y.round); time.Now().Before(end); n += int64(len(y.names)) {
			if _, err := y.us.store.Documents(ctx, redisstore.ConfigDoc, y.names); err != nil {
				return n, err
			}
		}
		return n, nil
	})
	return err
}

// capacityListeners is how many replicas hear of each event.
const capacityListeners = 50

// deliveries measures events with listeners, and without.
func (y *yard) deliveries(ctx context.Context) error {
	without, err := y.server.spend(ctx, y.publish)
	if err != nil {
		return err
	}
	hearing, stop := context.WithCancel(ctx)
	defer stop()
	var all errgroup.Group
	for range capacityListeners {
		all.Go(func() error { return y.listen(hearing) })
	}
	channel := y.us.store.Keys().Events()
	for n := int64(0); n < capacityListeners; {
		subs, err := y.server.client.PubSubNumSub(ctx, channel).Result()
		if err != nil || !pause(ctx, time.Millisecond) {
			return errors.Join(err, ctx.Err())
		}
		n = subs[channel]
	}
	with, err := y.server.spend(ctx, func(ctx context.Context) (int64, error) {
		n, err := y.publish(ctx)
		if err != nil {
			stop()
		}
		return n, errors.Join(err, all.Wait())
	})
	y.delivery = with.plus(without.times(-1)).times(1.0 / capacityListeners)
	return err
}

func (y *yard) publish(ctx context.Context) (int64, error) {
	line := y.names[0] + " 1795318426543 opened closed>open 77b84132c64b1aa1 - 5/6/5 consecutive_failures"
	for range y.events {
		if err := y.server.client.Publish(ctx, y.us.store.Keys().Events(), line).Err(); err != nil {
			return 0, err
		}
	}
	return int64(y.events), nil
}

// listen is a replica that hears all events.
func (y *yard) listen(ctx context.Context) error {
	client := redis.NewClient(&redis.Options{Addr: y.server.addr, Protocol: 2, DisableIdentity: true})
	defer func() { _ = client.Close() }()
	sub := client.Subscribe(ctx, y.us.store.Keys().Events())
	defer func() { _ = sub.Close() }()
	for heard := 0; heard <= y.events; heard++ { // the first thing heard is that it listens
		if _, err := sub.Receive(ctx); err != nil {
			return err
		}
	}
	return nil
}

// lists measures how long Redis does nothing else while it lists all agents.
func (y *yard) lists(ctx context.Context) error {
	if err := y.us.store.MarkSeen(ctx, y.names); err != nil {
		return err
	}
	const times = 5
	for range times {
		if _, err := y.us.store.Agents(ctx); err != nil {
			return err
		}
	}
	r, err := y.server.read(ctx)
	y.list = float64(r.stats["zrange"].us) / times / float64(len(y.names))
	return err
}

// inReplica measures what an agent takes in a process that calls it in the cached mode: of Manager, Fallback and the policies.
func (y *yard) inReplica(ctx context.Context) error {
	fallback := breaker.NewFallback(y.us.store, y.us.store.Ping, 0, nil)
	defer fallback.Close()
	book := policycache.New(policycache.Options{
		Default: cachedPolicy(), Source: overrides{y.us.store}, Logger: slog.New(slog.DiscardHandler), Timeout: storeTimeout,
	})
	m, err := breaker.NewManager(breaker.Options{Store: fallback, PerAgent: book.Policy, MaxStaleness: time.Hour})
	if err != nil {
		return err
	}
	before := heapNow()
	err = y.all(ctx, y.names, func(ctx context.Context, agent string) error {
		p, err := m.Acquire(ctx, agent)
		if err != nil {
			return err
		}
		_, err = p.Success(ctx)
		return err
	})
	y.replicaAgent = (heapNow() - before) / float64(len(y.names))
	return errors.Join(err, m.Close(ctx))
}

func heapNow() float64 {
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return float64(s.HeapAlloc)
}
