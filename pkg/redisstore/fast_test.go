package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
	"github.com/breakerd/breakerd/pkg/breaker/storetest"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

// TestFastPath_RunsTheseCommandsAndNoOthers is [B3], [B5]–[B9]: what Redis runs where the fast path is promised, by its
// own count.
func TestFastPath_RunsTheseCommandsAndNoOthers(t *testing.T) {
	t.Parallel()
	client := testkit.Start(t).Client(t)
	store, err := redisstore.New(client, false, redisstore.Config{Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	now := int64(storetest.BaseMs)
	store.SetNow(func() int64 { return now })
	d := &driver{t: t, store: store, client: client, policy: breaker.DefaultPolicy()}
	d.agent = "warm"
	d.apply(machine.Op{Verb: machine.VerbAcquire, Token: "00000000000000aa"}) // loads the script
	d.record(1, 0)
	for _, c := range []struct {
		name    string
		prepare func()
		op      machine.Op
		want    string
	}{
		{
			"a success in a calm window",
			func() { d.record(10, 0); now += 10_000; d.record(1, 0); d.record(1, 0) },
			record(1, 0), "evalsha=1 get=1 hincrby=1 hmget=1",
		},
		{
			"a success after a failure",
			func() { d.record(10, 0); now += 10_000; d.record(1, 0); d.record(0, 1) },
			record(1, 0), "evalsha=1 get=1 hdel=1 hincrby=1 hmget=2",
		},
		{
			"a failure",
			func() { d.record(10, 0); now += 10_000; d.record(1, 0) },
			record(0, 1), "evalsha=1 get=1 hincrby=1 hmget=2 hset=1",
		},
		{
			"both at once",
			func() { d.record(10, 0) },
			record(2, 1), "evalsha=1 get=1 hincrby=2 hmget=2 hset=1",
		},
		{
			"a success that begins a bucket",
			func() { d.record(10, 1); now += 10_000 },
			record(1, 0), "evalsha=1 get=1 hdel=1 hgetall=1 hincrby=1 hlen=1 hmget=2 hset=1",
		},
		{
			"a failure that begins a bucket, when another leaves the window",
			func() { d.record(10, 1); now += 120_000 },
			record(0, 1), "evalsha=1 get=1 hdel=1 hgetall=1 hincrby=1 hlen=1 hmget=2 hset=1",
		},
		{
			"an acquire of an open breaker",
			func() { d.record(0, 5) },
			machine.Op{Verb: machine.VerbAcquire, Token: "00000000000000aa"},
			"evalsha=1 get=2 hmget=1",
		},
		{
			"an acquire of a half-open breaker without a place",
			func() {
				d.record(0, 5)
				now += 60_000
				for i := range 3 {
					d.apply(machine.Op{Verb: machine.VerbAcquire, Token: fmt.Sprintf("%016x", i+1)})
				}
			},
			machine.Op{Verb: machine.VerbAcquire, Token: "00000000000000aa"},
			"evalsha=1 get=2 hgetall=1 hlen=1 hmget=1",
		},
		{
			"an acquire of a closed breaker",
			func() { d.record(1, 0); d.apply(machine.Op{Verb: machine.VerbAcquire, Token: "00000000000000aa"}) },
			machine.Op{Verb: machine.VerbAcquire, Token: "00000000000000ab"},
			"get=1 hget=1",
		},
	} {
		d.agent = strings.ReplaceAll(c.name, " ", "-")
		d.agent = strings.ReplaceAll(d.agent, ",", "")
		c.prepare()
		if err := client.ConfigResetStat(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		if r := d.apply(c.op); !r.Fast {
			t.Errorf("%s: not the fast path: %+v", c.name, r)
		}
		if got := d.commands(); got != c.want {
			t.Errorf("%s runs %s, not %s", c.name, got, c.want)
		}
	}
}

// driver applies operations to one agent.
type driver struct {
	t      *testing.T
	store  *redisstore.Store
	client *redis.Client
	policy breaker.Policy
	agent  string
	draws  int
}

func record(successes, failures int64) machine.Op {
	s := machine.Summary{Successes: successes, Failures: failures, Trail: failures, MaxRun: failures}
	if successes == 0 {
		s.Lead = failures
	}
	return machine.Op{Verb: machine.VerbRecord, Summary: s}
}

func (d *driver) record(successes, failures int64) { d.apply(record(successes, failures)) }

func (d *driver) apply(op machine.Op) machine.Result {
	d.t.Helper()
	d.draws++
	op.Draw = fmt.Sprintf("%015x", d.draws)
	r, err := d.store.Apply(d.t.Context(), d.agent, d.policy, op)
	if err != nil {
		d.t.Fatal(err)
	}
	return r
}

func (d *driver) see() breaker.View {
	d.t.Helper()
	v, err := d.store.Inspect(d.t.Context(), d.agent, d.policy)
	if err != nil {
		d.t.Fatal(err)
	}
	return v
}

// commands are what Redis has run since its counters were reset, in the order of their names.
func (d *driver) commands() string {
	d.t.Helper()
	text, err := d.client.Info(d.t.Context(), "commandstats").Result()
	if err != nil {
		d.t.Fatal(err)
	}
	var out []string
	for _, m := range regexp.MustCompile(`cmdstat_([^:]+):calls=(\d+)`).FindAllStringSubmatch(text, -1) {
		if m[1] != "config|resetstat" && m[1] != "hello" {
			out = append(out, m[1]+"="+m[2])
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// TestClaim_OneReplicaWritesTheIdentity of a server that has none, or has lost it, or where a key was planted.
func TestClaim_OneReplicaWritesTheIdentity(t *testing.T) {
	t.Parallel()
	for name, engine := range map[string]*engine{"miniredis": miniEngine(t), "redis": realEngine(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, client, key := t.Context(), engine.client, engine.store.Keys().Prefix+":born"
			first := claimed(t, engine.store, 1)
			if again, err := engine.store.Born(ctx); err != nil || again != first || len(first) != 16 {
				t.Errorf("born is %q, then %q (%v)", first, again, err)
			}
			if again := claimed(t, engine.store, 0); again != first {
				t.Errorf("claimed again it is %q, was %q", again, first)
			}
			for lost, do := range map[string]func() error{
				"deleted":  func() error { return client.Del(ctx, key).Err() },
				"a set":    func() error { return errors.Join(client.Del(ctx, key).Err(), client.SAdd(ctx, key, "x").Err()) },
				"a list":   func() error { return errors.Join(client.Del(ctx, key).Err(), client.LPush(ctx, key, "x").Err()) },
				"a hash":   func() error { return errors.Join(client.Del(ctx, key).Err(), client.HSet(ctx, key, "x", 1).Err()) },
				"an empty": func() error { return client.Set(ctx, key, "", 0).Err() },
				"all lost": func() error { return client.FlushAll(ctx).Err() },
				"a counter": func() error {
					return errors.Join(client.Del(ctx, key).Err(), client.ZAdd(ctx, key, redis.Z{Member: 1}).Err())
				},
			} {
				if err := do(); err != nil {
					t.Fatal(err)
				}
				if again := claimed(t, engine.store, 1); again == first || len(again) != 16 {
					t.Errorf("%s: born is %q, before %q", lost, again, first)
				}
			}
		})
	}
}

// TestClaim_OnAClusterEveryMasterHasAnIdentity: one that loses its data gets another.
func TestClaim_OnAClusterEveryMasterHasAnIdentity(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("a Cluster takes two seconds to start: with -short TestBorn has one")
	}
	ctx := t.Context()
	set := testkit.StartCluster(t)
	conn, err := redisstore.Open(ctx, set.URL(), redisstore.Options{Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	many, err := redisstore.New(conn.Client, true, redisstore.Config{Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	first, created, err := many.Claim(ctx)
	if err != nil || !created || strings.Count(first, ",") != 2 {
		t.Errorf("of three empty masters born is %q, %v (%v)", first, created, err)
	}
	if again := claimed(t, many, 0); again != first {
		t.Errorf("claimed again it is %q, was %q", again, first)
	}
	if err := set.Nodes[1].Client(t).FlushAll(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	if again := claimed(t, many, 1); again == first || strings.Count(again, ",") != 2 {
		t.Errorf("after one of three masters lost its data, born is %q, before %q", again, first)
	}
}

// claimed lets eight replicas claim the data at once. So many of them must have written the identity.
func claimed(t *testing.T, s *redisstore.Store, writers int64) string {
	t.Helper()
	var wrote atomic.Int64
	var ids sync.Map
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			id, created, err := s.Claim(t.Context())
			if err != nil {
				t.Error(err)
			}
			if created {
				wrote.Add(1)
			}
			ids.Store(id, true)
		})
	}
	wg.Wait()
	var all []string
	ids.Range(func(id, _ any) bool { all = append(all, id.(string)); return true })
	if wrote.Load() != writers || len(all) != 1 {
		t.Errorf("of eight replicas %d wrote the identity, want %d; they have %q", wrote.Load(), writers, all)
	}
	return all[0]
}

// TestStreams_OnAClusterTheReplicaWritesThem: events, the audit and the index of what is not closed [B17], [B25].
func TestStreams_OnAClusterTheReplicaWritesThem(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	set := testkit.StartCluster(t)
	conn, err := redisstore.Open(ctx, set.URL(), redisstore.Options{Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	store, err := redisstore.New(conn.Client, true, redisstore.Config{Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	d := &driver{t: t, store: store, policy: breaker.DefaultPolicy(), agent: "payments"}
	d.record(0, 5)
	counts(ctx, t, conn.Client, store.Keys(), 1, 0, 1)
	d.apply(machine.Op{Verb: machine.VerbForce, Force: breaker.Force{Target: breaker.HoldClosed, Reason: "r", Actor: "alice"}})
	counts(ctx, t, conn.Client, store.Keys(), 2, 1, 1)
	d.apply(machine.Op{Verb: machine.VerbForce, Force: breaker.Force{Target: breaker.ResetClosed, Reason: "r", Actor: "alice"}})
	counts(ctx, t, conn.Client, store.Keys(), 3, 2, 0)
	change := redisstore.Change{Actor: "alice", Documents: []redisstore.Document{
		{Key: store.Keys().Config("payments"), Name: "config", Expected: redisstore.AnyVersion, Text: "{}"},
	}}
	if err := store.Configure(ctx, "payments", change); err != nil {
		t.Fatal(err)
	}
	counts(ctx, t, conn.Client, store.Keys(), 4, 3, 0)
	d.record(0, 5)
	if err := store.Forget(ctx, "payments", "alice", false); err != nil {
		t.Fatal(err)
	}
	counts(ctx, t, conn.Client, store.Keys(), 6, 4, 0)
}

func counts(ctx context.Context, t *testing.T, c redis.UniversalClient, keys redisstore.Keys, stream, audit, notClosed int64) {
	t.Helper()
	s, err := c.XLen(ctx, keys.Stream()).Result()
	a, err2 := c.XLen(ctx, keys.Audit()).Result()
	n, err3 := c.ZCard(ctx, keys.NotClosed()).Result()
	if err != nil || err2 != nil || err3 != nil || s != stream || a != audit || n != notClosed {
		t.Errorf("stream %d, audit %d, not closed %d; want %d, %d, %d (%v %v %v)", s, a, n, stream, audit, notClosed, err, err2, err3)
	}
}
