package redisdocs_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/internal/redisdocs"
	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
	"github.com/breakerd/breakerd/pkg/redisstore"
	"github.com/breakerd/breakerd/pkg/redisstore/embedded"
)

const maxAgents = 20

// fixture is a Docs and what it stands on.
type fixture struct {
	client redis.UniversalClient
	store  *redisstore.Store
	docs   *redisdocs.Docs
	keys   redisstore.Keys
}

func newFixture(t *testing.T, client redis.UniversalClient, timeout time.Duration) *fixture {
	t.Helper()
	_, cluster := client.(*redis.ClusterClient)
	store, err := redisstore.New(client, cluster, redisstore.Config{Timeout: timeout})
	if err != nil {
		t.Fatal(err)
	}
	docs := redisdocs.New(store, client, redisdocs.Config{MaxAgents: maxAgents, Timeout: timeout})
	return &fixture{client, store, docs, store.Keys()}
}

func open(t *testing.T, url string) *fixture {
	t.Helper()
	conn, err := redisstore.Open(t.Context(), url, redisstore.Options{Timeout: 10 * time.Second, Embedded: embedded.Start})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return newFixture(t, conn.Client, 10*time.Second)
}

func onRedis(t *testing.T) *fixture {
	t.Helper()
	return open(t, testkit.Start(t).URL())
}

// onEachEngine runs a test on miniredis, on a server and on a Cluster.
func onEachEngine(t *testing.T, test func(t *testing.T, f *fixture)) {
	t.Helper()
	for name, url := range map[string]func(*testing.T) string{
		"miniredis": func(*testing.T) string { return "embedded://" },
		"redis":     func(t *testing.T) string { t.Helper(); return testkit.Start(t).URL() },
		"cluster":   func(t *testing.T) string { t.Helper(); return testkit.StartCluster(t).URL() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if testing.Short() && name == "cluster" {
				t.Skip("make quick leaves the Cluster out")
			}
			test(t, open(t, url(t)))
		})
	}
}

// fail records a failure, so that the agent has keys.
func (f *fixture) fail(t *testing.T, agent string) {
	t.Helper()
	failure := machine.Op{Verb: machine.VerbRecord, Draw: machine.ZeroEpoch[1:], Summary: machine.One(true, false, 0)}
	if _, err := f.store.Apply(t.Context(), agent, breaker.DefaultPolicy(), failure); err != nil {
		t.Fatal(err)
	}
}

// plant puts a set where Docs keeps something else.
func (f *fixture) plant(t *testing.T, keys ...string) {
	t.Helper()
	for _, key := range keys {
		if err := errors.Join(f.client.Del(t.Context(), key).Err(), f.client.SAdd(t.Context(), key, "planted").Err()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDocuments_AreComparedAndReplaced(t *testing.T) {
	t.Parallel()
	onEachEngine(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		reads := func(wantOverride, wantProfile string) {
			t.Helper()
			override, err := f.docs.Override(ctx, "a")
			overrides, err2 := f.docs.Overrides(ctx, []string{"b", "a"})
			profile, err3 := f.docs.Profile(ctx, "a")
			profiles, err4 := f.docs.ProfilesOf(ctx, []string{"b", "a"})
			if err := errors.Join(err, err2, err3, err4); err != nil || override != wantOverride || profile != wantProfile ||
				!slices.Equal(overrides, []string{"", wantOverride}) || !slices.Equal(profiles, []string{"", wantProfile}) {
				t.Errorf("override %q %q, want %q; profile %q %q, want %q; %v", override, overrides, wantOverride, profile, profiles, wantProfile, err)
			}
		}
		reads("", "")
		err := errors.Join(f.docs.PutOverride(ctx, "a", "", "{1}", "alice"), f.docs.PutProfile(ctx, "a", redisstore.AnyVersion, "{p}", "bob"))
		if err != nil {
			t.Fatal(err)
		}
		if known, err := f.docs.Known(ctx, "a"); err != nil || !known {
			t.Errorf("with documents an agent is known: %v, %v", known, err)
		}
		if err := f.docs.PutOverride(ctx, "a", "", "{2}", "bob"); !errors.Is(err, redisstore.ErrConflict) {
			t.Errorf("another's version is replaced: %v", err)
		}
		reads("{1}", "{p}")
		if err := f.docs.PutOverride(ctx, "a", "{1}", "", "alice"); err != nil {
			t.Fatal(err)
		}
		reads("", "{p}")
		f.plant(t, f.keys.Config("a"))
		reads("", "{p}")
		if err := f.docs.PutOverride(ctx, "a", "", "{3}", "alice"); err != nil {
			t.Fatal(err)
		}
		reads("{3}", "{p}")
		view, err := f.store.Inspect(ctx, "a", breaker.DefaultPolicy())
		n, err2 := f.client.XLen(ctx, f.keys.Audit()).Result()
		if err := errors.Join(err, err2); err != nil || len(view.Log) != 4 || view.Log[1].Text != `config deleted {"after":null,"before":"{1}"}` || view.Log[1].Actor != "alice" || n != 4 {
			t.Errorf("the log is %v, the audit has %d entries, %v", view.Log, n, err)
		}
	})
}

// An ACL that denies one agent's key, be it first, last or in another pipeline than others, denies that alone.
func TestEachOverride_RefusedKeyIsItsAgentsAlone(t *testing.T) {
	t.Parallel()
	for name, url := range map[string]func(*testing.T) string{
		"redis":   func(t *testing.T) string { t.Helper(); return testkit.Start(t).URL() },
		"cluster": func(t *testing.T) string { t.Helper(); return testkit.StartCluster(t).URL() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := open(t, url(t))
			agents := make([]string, 1200)
			for i := range agents {
				agents[i] = fmt.Sprintf("good%04d", i)
				if i%10 == 7 {
					agents[i] = fmt.Sprintf("planted%04d", i)
				}
			}
			bad := []int{0, 1, 499, 500, 1199}
			for _, i := range bad {
				agents[i] = fmt.Sprintf("bad%04d", i)
			}
			pipe := f.client.Pipeline()
			for i, a := range agents {
				if i%10 == 7 {
					pipe.SAdd(t.Context(), f.keys.Config(a), "planted")
				} else {
					pipe.Set(t.Context(), f.keys.Config(a), a, 0)
				}
			}
			_, err := pipe.Exec(t.Context())
			deny := []any{"ACL", "SETUSER", "default", "resetkeys", "~*good*", "~*planted*"}
			if cluster, ok := f.client.(*redis.ClusterClient); ok {
				err = errors.Join(err, cluster.ForEachMaster(t.Context(), func(ctx context.Context, node *redis.Client) error { return node.Do(ctx, deny...).Err() }))
			} else {
				err = errors.Join(err, f.client.Do(t.Context(), deny...).Err())
			}
			if err != nil {
				t.Fatal(err)
			}
			texts, refused, err := f.docs.EachOverride(t.Context(), agents)
			if err != nil || len(texts) != len(agents) || len(refused) != len(bad) {
				t.Fatalf("%d texts, %v refused, %v", len(texts), refused, err)
			}
			for i, a := range agents {
				want, denied := a, slices.Contains(bad, i)
				if denied || i%10 == 7 {
					want = ""
				}
				e, _ := errors.AsType[*breaker.StoreError](refused[a])
				if texts[i] != want || denied != (e != nil) || denied && (!e.Refused || e.Agent != a) {
					t.Errorf("%s: %q, %v", a, texts[i], refused[a])
				}
			}
			if texts, err := f.docs.Overrides(t.Context(), agents); texts != nil || !errors.Is(err, breaker.ErrStoreUnavailable) {
				t.Errorf("all or none: %d texts, %v", len(texts), err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if texts, refused, err := f.docs.EachOverride(ctx, agents); texts != nil || refused != nil || err == nil {
				t.Errorf("without a connection: %d texts, %v refused, %v", len(texts), refused, err)
			}
		})
	}
}

func TestOverridesVersion_IsAnotherOneAfterEachChange(t *testing.T) {
	t.Parallel()
	onEachEngine(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		seen := map[string]bool{}
		another := func(what string, err error) {
			t.Helper()
			version, err2 := f.docs.OverridesVersion(ctx)
			if err := errors.Join(err, err2); err != nil || seen[version] {
				t.Errorf("%s: version %q again, %v", what, version, err)
			}
			seen[version] = true
		}
		set := func(v string) { _ = f.client.Set(ctx, f.keys.Overrides(), v, 0).Err() }
		another("at first", nil)
		another("an override", f.docs.PutOverride(ctx, "a", redisstore.AnyVersion, "{1}", "x"))
		another("another override", f.docs.PutOverride(ctx, "a", redisstore.AnyVersion, "{2}", "x"))
		another("a profile", f.docs.PutProfile(ctx, "b", redisstore.AnyVersion, "{}", "x"))
		another("a deleted one", f.docs.PutProfile(ctx, "b", redisstore.AnyVersion, "", "x"))
		f.docs.OverridesChanged(ctx)
		another("told", nil)
		_ = f.client.Del(ctx, f.keys.Overrides()).Err()
		another("deleted by hand", f.docs.PutOverride(ctx, "a", redisstore.AnyVersion, "{3}", "x"))
		for _, planted := range []string{"nonsense", "9223372036854775807", "1.5"} {
			set(planted)
			another("planted "+planted, f.docs.PutOverride(ctx, "a", redisstore.AnyVersion, "{4}", "x"))
		}
		f.plant(t, f.keys.Overrides())
		another("planted a set", f.docs.PutOverride(ctx, "a", redisstore.AnyVersion, "{5}", "x"))
		if err := f.docs.PutOverride(ctx, "a", "{1}", "{6}", "x"); !errors.Is(err, redisstore.ErrConflict) {
			t.Error(err)
		}
		if version, err := f.docs.OverridesVersion(ctx); err != nil || !seen[version] {
			t.Errorf("changed by a refused change: %q, %v", version, err)
		}
	})
}

func TestQuarantine_KeepsTheNewest(t *testing.T) {
	t.Parallel()
	onEachEngine(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		f.plant(t, f.keys.Quarantine("a"))
		if items, err := f.docs.Quarantine(ctx, "a"); err != nil || len(items) != 0 {
			t.Errorf("planted: %q, %v", items, err)
		}
		for i := range 60 {
			if err := f.docs.PushQuarantine(ctx, "a", strconv.Itoa(i)); err != nil {
				t.Fatal(err)
			}
		}
		if items, err := f.docs.Quarantine(ctx, "a"); err != nil || len(items) != 50 || items[0] != "59" || items[49] != "10" {
			t.Errorf("%q, %v", items, err)
		}
		if ttl, err := f.client.TTL(ctx, f.keys.Quarantine("a")).Result(); err != nil || ttl <= 23*time.Hour || ttl > 24*time.Hour {
			t.Errorf("lives %v, %v", ttl, err)
		}
	})
}

func TestIndex_HoldsTheAgentsSeenLast(t *testing.T) {
	t.Parallel()
	onEachEngine(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		f.plant(t, f.keys.Agents())
		if agents, err := f.docs.Agents(ctx); err != nil || len(agents) != 0 {
			t.Errorf("planted: %q, %v", agents, err)
		}
		if seen, err := f.docs.Seen(ctx, "a"); err != nil || !seen.IsZero() {
			t.Errorf("planted: seen %v, %v", seen, err)
		}
		long := float64(time.Now().Add(-31 * 24 * time.Hour).Unix())
		if err := f.docs.MarkSeen(ctx, []string{"b", "a"}); err != nil {
			t.Fatal(err)
		}
		if err := f.client.ZAdd(ctx, f.keys.Agents(), redis.Z{Score: long, Member: "stale"}, redis.Z{Score: long, Member: "no name"}).Err(); err != nil {
			t.Fatal(err)
		}
		if agents, err := f.docs.Agents(ctx); err != nil || !slices.Equal(agents, []string{"a", "b", "stale"}) {
			t.Errorf("%q, %v", agents, err)
		}
		seen, err := f.docs.Seen(ctx, "a")
		never, err2 := f.docs.Seen(ctx, "never")
		if err := errors.Join(err, err2); err != nil || time.Since(seen) > time.Minute || !never.IsZero() {
			t.Errorf("a seen %v, one that never was %v, %v", seen, never, err)
		}
		each, err := f.docs.EachSeen(ctx, []string{"stale", "never", "a"})
		if err != nil || float64(each[0].Unix()) != long || !each[1].IsZero() || !each[2].Equal(seen) {
			t.Errorf("each seen %v, %v", each, err)
		}
		f.fail(t, "keys")
		for agent, want := range map[string]bool{"a": true, "keys": true, "stale": false, "never": false} {
			if known, err := f.docs.Known(ctx, agent); err != nil || known != want {
				t.Errorf("%s is known: %v, %v", agent, known, err)
			}
		}
		var many []string
		for i := range maxAgents {
			many = append(many, fmt.Sprintf("x%02d", i))
		}
		if err := f.docs.MarkSeen(ctx, many); err != nil {
			t.Fatal(err)
		}
		if err := f.docs.Trim(ctx, func(string) bool { return false }); err != nil {
			t.Fatal(err)
		}
		n, err := f.docs.SeenWithin(ctx, time.Hour)
		if agents, err2 := f.docs.Agents(ctx); errors.Join(err, err2) != nil || n != maxAgents || len(agents) != maxAgents || slices.Contains(agents, "stale") {
			t.Errorf("more than %d: %d, %q, %v %v", maxAgents, n, agents, err, err2)
		}
	})
}

// 60,000 made-up names: what the index knew of real agents must not make room for them.
func TestIndex_MakesRoomByWhatNobodyNeeds(t *testing.T) {
	t.Parallel()
	onEachEngine(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		old := float64(time.Now().Add(-time.Hour).Unix())
		for _, a := range []string{"registered", "overridden", "profiled", "open", "held", "seen-long-ago"} {
			_ = f.client.ZAdd(ctx, f.keys.Agents(), redis.Z{Score: old, Member: a}).Err()
		}
		draw := machine.ZeroEpoch[1:]
		_, err := f.store.Apply(ctx, "held", breaker.DefaultPolicy(), machine.Op{Verb: machine.VerbForce, Draw: draw, Force: breaker.Force{Target: breaker.HoldClosed, Actor: "op", Reason: "r"}})
		if err := errors.Join(err, f.docs.PutOverride(ctx, "overridden", "", "{}", "op"), f.docs.PutProfile(ctx, "profiled", "", "{}", "op")); err != nil {
			t.Fatal(err)
		}
		for range breaker.DefaultPolicy().FailureThreshold {
			f.fail(t, "open")
		}
		for i := range 60 {
			_ = f.client.ZAdd(ctx, f.keys.Agents(), redis.Z{Score: old + float64(i), Member: fmt.Sprint("made-up-", i)}).Err()
		}
		for _, a := range []string{"registered", "overridden", "profiled", "open", "held", "seen-long-ago"} {
			_ = f.client.ZAdd(ctx, f.keys.Agents(), redis.Z{Score: old, Member: a}).Err()
		}
		for range 2 {
			if err := f.docs.Trim(ctx, func(agent string) bool { return agent == "registered" }); err != nil {
				t.Fatal(err)
			}
			agents, err := f.docs.Agents(ctx)
			if err != nil || len(agents) != maxAgents || slices.Contains(agents, "seen-long-ago") || !slices.Contains(agents, "made-up-59") {
				t.Errorf("%q, %v", agents, err)
			}
			for _, a := range []string{"registered", "overridden", "profiled", "open", "held"} {
				if !slices.Contains(agents, a) {
					t.Errorf("%s made room", a)
				}
			}
		}
		all := func(string) bool { return true }
		if err := errors.Join(f.docs.MarkSeen(ctx, []string{"x1", "x2", "x3"}), f.docs.Trim(ctx, all)); err != nil {
			t.Fatal(err)
		}
		if agents, err := f.docs.Agents(ctx); err != nil || len(agents) != maxAgents+3 {
			t.Errorf("%d agents, although all are important: %v", len(agents), err)
		}
		_ = f.client.ZAdd(ctx, f.keys.Agents(), redis.Z{Score: float64(time.Now().Unix()), Member: "no name"}).Err()
		n, err := f.docs.SeenWithin(ctx, time.Minute)
		agents, err2 := f.docs.AgentsWithin(ctx, time.Minute)
		slices.Sort(agents)
		if err := errors.Join(err, err2); err != nil || n != 4 || !slices.Equal(agents, []string{"x1", "x2", "x3"}) {
			t.Errorf("%d seen within a minute, %q, %v", n, agents, err)
		}
	})
}

func TestIndex_IsRepairedFromTheKeys(t *testing.T) {
	t.Parallel()
	onEachEngine(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		want := make([]string, 12)
		for i := range want {
			want[i] = fmt.Sprintf("lost%02d", i)
			f.fail(t, want[i])
		}
		long := float64(time.Now().Add(-31 * 24 * time.Hour).Unix())
		err := f.client.ZAdd(ctx, f.keys.Agents(), redis.Z{Score: long, Member: "stale"}, redis.Z{Score: long, Member: "lost00"}, redis.Z{Score: long, Member: "profile"}).Err()
		if err := errors.Join(err, f.client.Set(ctx, f.keys.Profile("profile"), "{}", 0).Err()); err != nil {
			t.Fatal(err)
		}
		if err := f.docs.Repair(ctx, 100); err != nil {
			t.Fatal(err)
		}
		if agents, err := f.docs.Agents(ctx); err != nil || !slices.Equal(agents, append(slices.Clone(want), "profile")) {
			t.Errorf("%q, %v", agents, err)
		}
		if seen, err := f.docs.Seen(ctx, "lost00"); err != nil || float64(seen.Unix()) != long {
			t.Errorf("a repair makes an agent seen at %v, %v", seen, err)
		}
		states, err := f.docs.States(ctx, []string{"lost01", "never", "lost02"})
		if err != nil || !slices.Equal(states, []breaker.State{breaker.Closed, "", breaker.Closed}) {
			t.Errorf("%q, %v", states, err)
		}
		f.plant(t, f.keys.Agents())
		if err := f.docs.Repair(ctx, 5); err != nil {
			t.Fatal(err)
		}
		if agents, err := f.docs.Agents(ctx); err != nil || len(agents) != 5 {
			t.Errorf("in the place of a planted key, of at most 5: %q, %v", agents, err)
		}
	})
}

func TestHeartbeat_CountsTheReplicasHeardOf(t *testing.T) {
	t.Parallel()
	onEachEngine(t, func(t *testing.T, f *fixture) {
		ctx := context.WithoutCancel(t.Context())
		f.plant(t, f.keys.Replicas())
		if _, _, err := f.docs.Heartbeat(ctx, "one", time.Minute, redisdocs.ReplicaReport{}); !errors.Is(err, breaker.ErrStoreUnavailable) {
			t.Errorf("over a planted key: %v", err)
		}
		old := func(age time.Duration) float64 { return float64(time.Now().Add(-age).UnixMilli()) }
		for i, replica := range []string{"one", "two", "two"} {
			if n, _, err := f.docs.Heartbeat(ctx, replica, time.Minute, redisdocs.ReplicaReport{}); err != nil || n != min(i+1, 2) {
				t.Errorf("%d replicas, %v", n, err)
			}
		}
		err := f.client.ZAdd(ctx, f.keys.Replicas(), redis.Z{Score: old(time.Hour), Member: "silent"}, redis.Z{Score: old(25 * time.Hour), Member: "gone"}).Err()
		if err != nil {
			t.Fatal(err)
		}
		if n, _, err := f.docs.Heartbeat(ctx, "one", time.Minute, redisdocs.ReplicaReport{}); err != nil || n != 2 {
			t.Errorf("%d replicas, %v", n, err)
		}
		if err := f.docs.EndHeartbeat(ctx, "three"); err != nil {
			t.Errorf("of one that has none: %v", err)
		}
		if all, err := f.client.ZRange(ctx, f.keys.Replicas(), 0, -1).Result(); err != nil || !slices.Equal(slices.Sorted(slices.Values(all)), []string{"one", "silent", "two"}) {
			t.Errorf("%q, %v", all, err)
		}
		if err := f.docs.EndHeartbeat(ctx, "two"); err != nil {
			t.Error(err)
		}
		if n, _, err := f.docs.Heartbeat(ctx, "one", time.Minute, redisdocs.ReplicaReport{}); err != nil || n != 1 {
			t.Errorf("after the end of one: %d replicas, %v", n, err)
		}
	})
}
