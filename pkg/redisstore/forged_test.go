package redisstore_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

// Permits that nobody gave, for names that nobody knows: the store finds them late or foreign, and has no key of them.
func TestReport_ForgedPermitsWriteNothing(t *testing.T) { // OmniRoute PR 4114, anticapture PR 2148
	t.Parallel()
	for name, addr := range map[string]string{"miniredis": miniredis.RunT(t).Addr(), "redis": testkit.Start(t).Addr} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := redis.NewClient(&redis.Options{Addr: addr, Protocol: 2, MaxRetries: -1, DisableIdentity: true})
			t.Cleanup(func() { _ = client.Close() })
			store, err := redisstore.New(client, false, redisstore.Config{Timeout: 10 * time.Second})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(store.Close)
			m, err := breaker.NewManager(breaker.Options{Store: store, MaxAgents: 1})
			if err != nil {
				t.Fatal(err)
			}
			tagger, err := breaker.NewManager(breaker.Options{Store: breaker.NewMemory(nil, 0)})
			if err != nil {
				t.Fatal(err)
			}
			for i := range 20 {
				agent := fmt.Sprint("made-up-", i)
				given, _ := tagger.Acquire(t.Context(), agent)
				tag := given.String()[strings.LastIndex(given.String(), "."):]
				for _, kind := range []string{
					"closed.0123456789abcdef.-", "closed.ffffffffffffffff.-", "half_open.0123456789abcdef.0123456789abcdef",
					"half_open.0000000000000000.0123456789abcdef", "half_open.ffffffffffffffff.0000000000000000",
				} {
					p, err := m.Resume(agent, "v1."+kind+tag)
					if err != nil {
						t.Fatal(err)
					}
					if err := p.Renew(t.Context()); err == nil && p.State() == breaker.HalfOpen {
						t.Errorf("%s: renewed", kind)
					}
					r, err := p.Report(t.Context(), breaker.Outcome{Kind: breaker.Failure})
					if err != nil || r.Counted || r.Why != "late" && r.Why != "foreign" {
						t.Errorf("%s: %+v, %v", kind, r, err)
					}
				}
			}
			if keys, err := client.Keys(t.Context(), "*").Result(); err != nil || len(keys) > 0 || m.Untracked() != 0 {
				t.Errorf("%v, %v; %d calls untracked", keys, err, m.Untracked())
			}
		})
	}
}
