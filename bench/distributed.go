package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/redis/go-redis/v9"
	gobreaker "gobreaker.store/v2"
)

// distributed is gobreaker's breaker on its own Redis store: one store and one breaker for each agent, which all
// goroutines share.
type distributed struct {
	setting  setting
	store    *gobreaker.RedisStore
	client   *redis.Client // reads what the store has written
	breakers []*gobreaker.DistributedCircuitBreaker[bool]
}

func newDistributed(server *redisServer, s setting) (*distributed, error) {
	d := &distributed{setting: s, store: gobreaker.NewRedisStore(server.Addr), client: server.client}
	for _, agent := range s.all() {
		b, err := gobreaker.NewDistributedCircuitBreaker[bool](d.store, gobreaker.Settings{
			Name: agent, ReadyToTrip: func(gobreaker.Counts) bool { return false },
		})
		if err != nil {
			d.close()
			return nil, fmt.Errorf("gobreaker: %w", err)
		}
		d.breakers = append(d.breakers, b)
	}
	return d, nil
}

func (d *distributed) close() { d.store.Close() }

// candidate counts a call that the breaker answers with an error as failed. The breaker does so if it does not get
// its lock, for example.
func (d *distributed) candidate() *candidate {
	nothing := func() (bool, error) { return true, nil }
	return &candidate{name: "gobreaker Distributed", calls: func(_ context.Context, g, n int) (failed int, err error) {
		b := d.breakers[g%len(d.breakers)]
		for range n {
			if _, err := b.Execute(nothing); err != nil {
				failed++
			}
		}
		return failed, nil
	}}
}

// lost compares the counts in Redis with the calls that were made.
func (d *distributed) lost(ctx context.Context, c *candidate) (string, error) {
	var known int64
	for _, agent := range d.setting.all() {
		text, err := d.client.Get(ctx, "gobreaker:state:"+agent).Result()
		if err != nil {
			return "", err
		}
		var state gobreaker.SharedState
		if err := json.Unmarshal([]byte(text), &state); err != nil {
			return "", err
		}
		known += int64(state.Counts.Requests)
	}
	line := fmt.Sprintf(" %.0f %% at %v", 100*(1-float64(known)/float64(c.made-c.lost)), d.setting)
	if c.lost > 0 {
		line += fmt.Sprintf(" (and %s of %s calls failed)", count(float64(c.lost)), count(float64(c.made)))
	}
	return line + ";", nil
}
