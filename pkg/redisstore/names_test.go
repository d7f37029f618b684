package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

// 60,000 made-up names, called by Do, write no more keys than MaxAgents names have; the agents that were there before
// trip and recover as ever.
func TestDo_MadeUpNamesAreBounded(t *testing.T) { // OmniRoute PR 4114, anticapture PR 2148
	t.Parallel()
	for name, addr := range map[string]string{"miniredis": miniredis.RunT(t).Addr(), "redis": testkit.Start(t).Addr} {
		for _, mode := range []breaker.Consistency{breaker.Strict, breaker.Cached} {
			t.Run(name+" "+string(mode), func(t *testing.T) {
				t.Parallel()
				client := redis.NewClient(&redis.Options{Addr: addr, Protocol: 2, MaxRetries: -1, DisableIdentity: true})
				t.Cleanup(func() { _ = client.Close() })
				prefix := "names-" + string(mode)
				store, err := redisstore.New(client, false, redisstore.Config{Prefix: prefix, Timeout: 10 * time.Second})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(store.Close)
				const most = 500
				m, err := breaker.NewManager(breaker.Options{
					Store: store, MaxAgents: most, Policy: breaker.Policy{Consistency: mode, Timeout: 10 * time.Millisecond},
				})
				if err != nil {
					t.Fatal(err)
				}
				bad := errors.New("bad")
				call := func(agent string, err error) error {
					return m.Do(t.Context(), agent, func(context.Context) error { return err })
				}
				_ = call("real", nil)
				for i := range redisstore.Rounds(60_000, 1500) {
					if err := call(fmt.Sprint("made-up-", i), nil); err != nil {
						t.Fatal(err)
					}
				}
				for range 20 {
					_ = call("real", bad)
				}
				if err := m.Flush(t.Context(), "real"); err != nil {
					t.Fatal(err)
				}
				v, _, err := m.Inspect(t.Context(), "real")
				if err != nil || v.Transitions == 0 {
					t.Errorf("the real agent does not trip: %+v, %v", v.Snapshot, err)
				}
				for range 1000 {
					if _ = call("real", nil); v.State == breaker.Closed && v.Epoch != "0000000000000000" {
						break
					}
					if v, _, err = m.Inspect(t.Context(), "real"); err != nil {
						t.Fatal(err)
					}
				}
				if v.State != breaker.Closed {
					t.Errorf("the real agent does not recover: %s", v.State)
				}
				if err := m.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
				keys, err := client.Keys(t.Context(), prefix+":*").Result()
				if err != nil || len(keys) > most*4 {
					t.Errorf("%d keys, want at most four of each of %d names; %v", len(keys), most, err)
				}
			})
		}
	}
}
