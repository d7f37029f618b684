package redisstore_test

import (
	"context"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

// onEachStore runs a test on miniredis, on a server and on a Cluster.
func onEachStore(t *testing.T, test func(t *testing.T, s *redisstore.Store)) {
	t.Helper()
	for name, engine := range map[string]*engine{"miniredis": miniEngine(t), "redis": realEngine(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, engine.store)
		})
	}
	if testing.Short() { // a Cluster takes two seconds to start
		return
	}
	t.Run("cluster", func(t *testing.T) {
		t.Parallel()
		conn, err := redisstore.Open(t.Context(), testkit.StartCluster(t).URL(), redisstore.Options{Timeout: 5 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		s, err := redisstore.New(conn.Client, true, redisstore.Config{Timeout: 5 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		test(t, s)
	})
}

// TestRenew_ChangesTheIdentityOnce: of replicas that have all found an older copy.
func TestRenew_ChangesTheIdentityOnce(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, s *redisstore.Store) {
		ctx := t.Context()
		former, err := s.Born(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for range 3 {
			id, err := s.Renew(ctx, former)
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, id)
		}
		born, err := s.Born(ctx)
		if err != nil || ids[0] == former || ids[0] != ids[2] || born != ids[0] {
			t.Errorf("former %s, renewed %v, born %s (%v)", former, ids, born, err)
		}
		if n := len(strings.Split(former, ",")); len(strings.Split(born, ",")) != n {
			t.Errorf("%s was %s", born, former)
		}
	})
}

// TestAnnounce_ReachesSubscribersAndTheStream also where the stream's key was planted.
func TestAnnounce_ReachesSubscribersAndTheStream(t *testing.T) {
	t.Parallel()
	for name, engine := range map[string]*engine{"miniredis": miniEngine(t), "redis": realEngine(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			stream := engine.store.Keys().Stream()
			if err := engine.client.SAdd(ctx, stream, "planted").Err(); err != nil {
				t.Fatal(err)
			}
			heard := make(chan string, 100)
			done := make(chan struct{})
			go func() {
				defer close(done)
				engine.store.Events(ctx, func(agent string, e breaker.Event) { heard <- agent + " " + e.String() })
			}()
			var last string
			testkit.Eventually(t, "the event to be heard", 10*time.Second, func() error {
				err := engine.store.Announce(ctx, redisstore.EventStoreReset, "-", "Redis lost its\ndata", false)
				if err != nil {
					return err
				}
				select {
				case last = <-heard:
					return nil
				case <-time.After(50 * time.Millisecond): // not subscribed yet
					return context.DeadlineExceeded
				}
			})
			entries, err := engine.client.XRange(ctx, stream, "-", "+").Result()
			if err != nil || len(entries) == 0 || entries[0].Values["agent"] != "-" {
				t.Fatalf("the stream has %v (%v)", entries, err)
			}
			want := " store_reset > 0000000000000000 - 0/0/0/0 Redis lost its data"
			if !strings.HasPrefix(last, "- ") || !strings.HasSuffix(last, want) {
				t.Errorf("heard %q, want …%q", last, want)
			}
			for _, junk := range []string{"- 1 opened closed>open 00 - 0/0/0/0 x", "-", "", "- 1 store_reset", "a b c"} {
				if err := engine.client.Publish(ctx, engine.store.Keys().Events(), junk).Err(); err != nil {
					t.Fatal(err)
				}
			}
			cancel()
			<-done
			close(heard)
			for text := range heard {
				if !strings.HasSuffix(text, want) {
					t.Errorf("heard %q", text)
				}
			}
		})
	}
}

// TestBorn_OnAClusterTakesTwoRoundTrips, whatever the number of masters: which there are, and all identities at once.
func TestBorn_OnAClusterTakesTwoRoundTrips(t *testing.T) {
	t.Parallel()
	conn, err := redisstore.Open(t.Context(), testkit.StartCluster(t).URL(), redisstore.Options{Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	s, err := redisstore.New(conn.Client, true, redisstore.Config{Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	counter := new(tripCounter)
	conn.Client.AddHook(counter)
	for range 3 {
		counter.n.Store(0)
		if id, err := s.Born(t.Context()); err != nil || strings.Count(id, ",") != 2 {
			t.Fatal(id, err)
		}
		if n := counter.n.Load(); n != 2 {
			t.Errorf("%d round trips", n)
		}
	}
}

// tripCounter counts commands and pipelines.
type tripCounter struct{ n atomic.Int64 }

func (c *tripCounter) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c *tripCounter) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		c.n.Add(1)
		return next(ctx, cmd)
	}
}

func (c *tripCounter) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		c.n.Add(1)
		return next(ctx, cmds)
	}
}

// TestSlot_IsWhatAClusterSays of the keys of all masters' identities, and of any hash tag.
func TestSlot_IsWhatAClusterSays(t *testing.T) {
	t.Parallel()
	client := testkit.Start(t, "--cluster-enabled", "yes").Client(t)
	tags := []string{"a", "payments", "\x00\xff", "123456789", strings.Repeat("long", 100), "größe"}
	for i := range 5000 {
		tags = append(tags, strconv.Itoa(i), strconv.Itoa(rand.IntN(1<<20)))
	}
	pipe := client.Pipeline()
	slots := make([]*redis.IntCmd, len(tags))
	for i, tag := range tags {
		slots[i] = pipe.ClusterKeySlot(t.Context(), "prefix:born.{"+tag+"}")
	}
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, tag := range tags {
		if got, want := redisstore.SlotOf(tag), slots[i].Val(); got != want {
			t.Errorf("slot of %q: %d, want %d", tag, got, want)
		}
	}
}

// TestSlot_EachHasAnIdentity: no master's slots are out of reach, however few.
func TestSlot_EachHasAnIdentity(t *testing.T) {
	t.Parallel()
	met := map[int64]bool{}
	last := 0
	for i := 0; i < redisstore.MaxBorn && len(met) < 16384; i++ {
		met[redisstore.SlotOf(strconv.Itoa(i))] = true
		last = i
	}
	if len(met) != 16384 || last > redisstore.MaxBorn/4 {
		t.Errorf("%d slots, the last by %d", len(met), last)
	}
}
