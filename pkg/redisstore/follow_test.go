package redisstore_test

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

// ear is a Follower that remembers.
type ear struct {
	mu     sync.Mutex
	events []string // agent, kind and text
	missed []string
	end    func()
}

// hear lets an ear follow a feed; it has begun when hear returns. t ends it.
func hear(t *testing.T, feed breaker.Feed, handle func()) *ear {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	began, done := make(chan struct{}), make(chan struct{})
	e := &ear{end: func() { cancel(); <-done }}
	go func() {
		defer close(done)
		feed.Follow(ctx, breaker.Follower{
			Began: func() { close(began) },
			Event: func(agent string, event breaker.Event) {
				handle()
				e.mu.Lock()
				defer e.mu.Unlock()
				e.events = append(e.events, agent+" "+event.Kind+" "+event.Text)
			},
			Missed: func(why string) {
				e.mu.Lock()
				defer e.mu.Unlock()
				e.missed = append(e.missed, why)
			},
		})
	}()
	t.Cleanup(e.end)
	<-began
	return e
}

func (e *ear) snapshot() (events, missed []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.events), slices.Clone(e.missed)
}

// wants waits until the last event was heard, and compares all, and how often events were missed.
func (e *ear) wants(t *testing.T, missed int, want ...string) {
	t.Helper()
	testkit.Eventually(t, "all events to be heard", 20*time.Second, func() error {
		if got, _ := e.snapshot(); !slices.Contains(got, want[len(want)-1]) {
			return fmt.Errorf("%d heard, the last %q", len(got), slices.Concat([]string{""}, got)[len(got)])
		}
		return nil
	})
	got, gaps := e.snapshot()
	if !slices.Equal(got, want) {
		t.Errorf("heard %q, want %q", tail(got), tail(want))
	}
	if len(gaps) != missed {
		t.Errorf("missed %q, want %d", gaps, missed)
	}
}

func tail(all []string) []string { return all[max(0, len(all)-10):] }

// texts is what an ear hears of write.
func texts(from, to int) (out []string) {
	for i := from; i < to; i++ {
		out = append(out, fmt.Sprintf("a%d opened %d", i%3, i))
	}
	return out
}

// write adds events as a script does. push: they are published too.
func write(t *testing.T, client redis.UniversalClient, push bool, from, to int) {
	t.Helper()
	pipe := client.Pipeline()
	for i := from; i < to; i++ {
		line := machine.Event{
			AtMs: 1, Kind: machine.EventOpened, From: breaker.Closed, To: breaker.Open, Epoch: machine.ZeroEpoch, Actor: "-",
			Text: strconv.Itoa(i),
		}.String()
		agent := fmt.Sprintf("a%d", i%3)
		pipe.XAdd(t.Context(), &redis.XAddArgs{
			Stream: "circuit_breaker:stream", MaxLen: 10_000, Approx: true, Values: []any{"agent", agent, "event", line},
		})
		if push {
			pipe.Publish(t.Context(), "circuit_breaker:events", agent+" "+line)
		}
	}
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// onBothEngines runs a test on miniredis and on a server.
func onBothEngines(t *testing.T, test func(t *testing.T, e *engine)) {
	t.Helper()
	for name, e := range map[string]*engine{"miniredis": miniEngine(t), "redis": realEngine(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, e)
		})
	}
}

func quiet() {}

// TestFollow_HearsEachEventOnce of two replicas, in one order, as does who begins later from there on.
func TestFollow_HearsEachEventOnce(t *testing.T) {
	t.Parallel()
	onBothEngines(t, func(t *testing.T, e *engine) {
		e.now = 1e12
		other := newEngine(t, e.client, false)
		other.now = e.now
		force := func(e *engine, target breaker.Target, reason string) {
			t.Helper()
			_, err := e.store.Apply(t.Context(), "payments", breaker.Policy{}, machine.Op{
				Verb: machine.VerbForce, Draw: "0000000000000" + reason,
				Force: breaker.Force{Target: target, Reason: reason, Actor: "test"},
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		force(e, breaker.HoldOpen, "01")
		first := hear(t, e.store, quiet)
		force(other, breaker.ResetClosed, "02")
		force(e, breaker.HoldOpen, "03")
		second := hear(t, other.store, quiet)
		force(other, breaker.HoldClosed, "04")
		if err := e.store.Announce(t.Context(), redisstore.EventStoreReset, "-", "05", false); err != nil {
			t.Fatal(err)
		}
		second.wants(t, 0, "payments manual_close 04", "- store_reset 05")
		first.wants(t, 0, "payments manual_reset 02", "payments manual_open 03", "payments manual_close 04", "- store_reset 05")
	})
}

// TestFollow_TakesABurst of more events than a page, with a slow Follower beside, whose queue is the stream.
func TestFollow_TakesABurst(t *testing.T) {
	t.Parallel()
	onBothEngines(t, func(t *testing.T, e *engine) {
		ready := make(chan struct{})
		slow := hear(t, e.store, func() { <-ready })
		fast := hear(t, e.store, quiet)
		write(t, e.client, true, 0, 2500)
		write(t, e.client, true, 2500, 5000)
		fast.wants(t, 0, texts(0, 5000)...)
		close(ready)
		slow.wants(t, 0, texts(0, 5000)...)
	})
}

// TestFollow_NeedsNoPush: one that is lost costs a second.
func TestFollow_NeedsNoPush(t *testing.T) {
	t.Parallel()
	onBothEngines(t, func(t *testing.T, e *engine) {
		ear := hear(t, e.store, quiet)
		write(t, e.client, true, 0, 1)
		ear.wants(t, 0, texts(0, 1)...)
		if e.ttls { // a server
			if err := e.client.Do(t.Context(), "CLIENT", "KILL", "TYPE", "pubsub").Err(); err != nil {
				t.Fatal(err)
			}
		}
		write(t, e.client, false, 1, 3)
		ear.wants(t, 0, texts(0, 3)...)
	})
}

// TestFollow_ReadsAtOnceWhenPushed: by its polls alone it would need 30 seconds.
func TestFollow_ReadsAtOnceWhenPushed(t *testing.T) {
	t.Parallel()
	onBothEngines(t, func(t *testing.T, e *engine) {
		heard := make(chan struct{}, 1)
		hear(t, e.store, func() { heard <- struct{}{} })
		late := time.After(15 * time.Second)
		for i := range 30 {
			write(t, e.client, true, i, i+1)
			select {
			case <-heard:
			case <-late:
				t.Fatalf("%d heard", i)
			}
		}
	})
}

// TestFollow_TellsOfAGap where the stream was trimmed behind a slow Follower.
func TestFollow_TellsOfAGap(t *testing.T) {
	t.Parallel()
	onBothEngines(t, func(t *testing.T, e *engine) {
		ready, entered := make(chan struct{}), make(chan struct{}, 1000)
		ear := hear(t, e.store, func() { entered <- struct{}{}; <-ready })
		write(t, e.client, true, 0, 1)
		<-entered
		write(t, e.client, true, 1, 600)
		if err := e.client.XTrimMaxLen(t.Context(), "circuit_breaker:stream", 50).Err(); err != nil {
			t.Fatal(err)
		}
		close(ready)
		testkit.Eventually(t, "the last event to be heard", 20*time.Second, func() error {
			if got, _ := ear.snapshot(); !slices.Contains(got, texts(599, 600)[0]) {
				return fmt.Errorf("%q", tail(got))
			}
			return nil
		})
		got, missed := ear.snapshot()
		if len(missed) != 1 || !slices.Equal(got[len(got)-50:], texts(550, 600)) {
			t.Errorf("heard %d, %q, missed %q", len(got), tail(got), missed)
		}
		if len(slices.Compact(slices.Clone(got))) != len(got) || !slices.Equal(got[:1], texts(0, 1)) {
			t.Errorf("heard %q", got)
		}
	})
}

// TestFollow_GoesOnAfterRedisLostItsData, and after a planted key, which the next event replaces.
func TestFollow_GoesOnAfterRedisLostItsData(t *testing.T) {
	t.Parallel()
	onBothEngines(t, func(t *testing.T, e *engine) {
		ear := hear(t, e.store, quiet)
		write(t, e.client, true, 0, 5)
		ear.wants(t, 0, texts(0, 5)...)
		if err := e.client.FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		write(t, e.client, true, 5, 8)
		ear.wants(t, 1, texts(0, 8)...)
		pipe := e.client.TxPipeline()
		pipe.Del(t.Context(), "circuit_breaker:stream")
		pipe.SAdd(t.Context(), "circuit_breaker:stream", "planted")
		pipe.Publish(t.Context(), "circuit_breaker:events", "a0 wake")
		if _, err := pipe.Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, "the planted key to be met", 10*time.Second, func() error {
			if _, missed := ear.snapshot(); len(missed) != 2 {
				return fmt.Errorf("missed %q", missed)
			}
			return nil
		})
		if err := e.store.Announce(t.Context(), redisstore.EventStoreReset, "-", "healed", false); err != nil {
			t.Fatal(err)
		}
		ear.wants(t, 2, slices.Concat(texts(0, 8), []string{"- store_reset healed"})...)
	})
}

// TestFollow_GoesOnBehindAnEmptyStreamWithALowerClock: the ids of the new data are below those that were read.
func TestFollow_GoesOnBehindAnEmptyStreamWithALowerClock(t *testing.T) {
	t.Parallel()
	onBothEngines(t, func(t *testing.T, e *engine) {
		write(t, e.client, true, 100, 103)
		ear := hear(t, e.store, quiet)
		write(t, e.client, true, 0, 3)
		ear.wants(t, 0, texts(0, 3)...)
		if err := e.client.FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, "the loss to be noticed", 10*time.Second, func() error {
			if _, missed := ear.snapshot(); len(missed) != 1 {
				return fmt.Errorf("missed %q", missed)
			}
			return nil
		})
		var want []string
		for i := range 3 {
			line := fmt.Sprintf("1 opened closed>open %s - 0/0/0/0 low%d", machine.ZeroEpoch, i)
			err := e.client.XAdd(t.Context(), &redis.XAddArgs{
				Stream: "circuit_breaker:stream", ID: fmt.Sprintf("%d-1", 1000+i), Values: []any{"agent", "a", "event", line},
			}).Err()
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, fmt.Sprintf("a opened low%d", i))
		}
		ear.wants(t, 1, slices.Concat(texts(0, 3), want)...)
	})
}

// TestFollow_KnowsAnOlderCopy: what it has in common with what was heard is not told again, and what came since is.
func TestFollow_KnowsAnOlderCopy(t *testing.T) {
	t.Parallel()
	e := realEngine(t)
	write(t, e.client, true, 0, 10)
	ear := hear(t, e.store, quiet)
	write(t, e.client, true, 10, 400)
	older, err := e.client.Dump(t.Context(), "circuit_breaker:stream").Result()
	if err != nil {
		t.Fatal(err)
	}
	write(t, e.client, true, 400, 410)
	ear.wants(t, 0, texts(10, 410)...)
	if err := e.client.RestoreReplace(t.Context(), "circuit_breaker:stream", 0, older).Err(); err != nil {
		t.Fatal(err)
	}
	write(t, e.client, true, 410, 415)
	ear.wants(t, 1, texts(10, 415)...)
	// Some replicas of a failover had written with a clock that was behind: an id between two that were heard.
	last, err := e.client.XRevRangeN(t.Context(), "circuit_breaker:stream", "+", "-", 1).Result()
	if err != nil {
		t.Fatal(err)
	}
	if err := e.client.RestoreReplace(t.Context(), "circuit_breaker:stream", 0, older).Err(); err != nil {
		t.Fatal(err)
	}
	line := fmt.Sprintf("1 opened closed>open %s - 0/0/0/0 same id", machine.ZeroEpoch)
	err = e.client.XAdd(t.Context(), &redis.XAddArgs{
		Stream: "circuit_breaker:stream", ID: last[0].ID, Values: []any{"agent", "a", "event", line},
	}).Err()
	if err != nil {
		t.Fatal(err)
	}
	got, _ := ear.snapshot()
	testkit.Eventually(t, "the entry to be heard", 10*time.Second, func() error {
		if got, _ = ear.snapshot(); got[len(got)-1] != "a opened same id" {
			return fmt.Errorf("%q", tail(got))
		}
		return nil
	})
	if want := append(texts(10, 415), "a opened same id"); !slices.Equal(got, want) {
		t.Errorf("heard %q", tail(got))
	}
}

// TestFollow_SurvivesARestartFromDisk: of what the disk did not have nothing is told twice, nor lost of what comes.
func TestFollow_SurvivesARestartFromDisk(t *testing.T) {
	t.Parallel()
	server := testkit.Start(t)
	client := server.Client(t)
	store, err := redisstore.New(client, false, redisstore.Config{Timeout: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ear := hear(t, store, quiet)
	write(t, client, true, 0, 20)
	if err := client.Save(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	write(t, client, true, 20, 30)
	ear.wants(t, 0, texts(0, 30)...)
	server.Restart()
	write(t, client, true, 30, 35)
	ear.wants(t, 1, texts(0, 35)...)
}

// TestFollow_GoesOnAfterAnOutage without a loss, also where Redis was away when it began.
func TestFollow_GoesOnAfterAnOutage(t *testing.T) {
	t.Parallel()
	server := testkit.Start(t)
	client := server.Client(t)
	way := startProxy(t, server.Addr)
	behind := redis.NewClient(&redis.Options{
		Addr: way.addr, MaxRetries: -1, DialTimeout: time.Second, ReadTimeout: 300 * time.Millisecond,
	})
	t.Cleanup(func() { _ = behind.Close() })
	store, err := redisstore.New(behind, false, redisstore.Config{Timeout: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	write(t, client, true, 0, 2)
	early := hear(t, store, quiet)
	write(t, client, true, 2, 4)
	early.wants(t, 0, texts(2, 4)...)
	way.meet(func([]byte) fault { return cut })
	came := client.Time(t.Context()).Val()
	testkit.Eventually(t, "what came to be older than the margin", 10*time.Second, func() error {
		if now := client.Time(t.Context()).Val(); now.Sub(came) < 50*time.Millisecond {
			return fmt.Errorf("it is %s old", now.Sub(came))
		}
		return nil
	})
	late := hear(t, store, quiet)
	write(t, client, true, 4, 9)
	way.meet(nil)
	early.wants(t, 0, texts(2, 9)...)
	testkit.Eventually(t, "the late one to hear", 10*time.Second, func() error {
		if got, _ := late.snapshot(); !slices.Contains(got, texts(8, 9)[0]) {
			return fmt.Errorf("%q", got)
		}
		return nil
	})
	if got, _ := late.snapshot(); !slices.Equal(got[len(got)-5:], texts(4, 9)) || slices.Contains(got, texts(1, 2)[0]) {
		t.Errorf("late heard %q", got)
	}
}

// TestFollow_WithoutPermissionTakesTheChannel, and says so once.
func TestFollow_WithoutPermissionTakesTheChannel(t *testing.T) {
	t.Parallel()
	server := testkit.Start(t)
	admin := server.Client(t)
	err := admin.Do(t.Context(), "ACL", "SETUSER", "u", "on", ">p", "~*", "&*", "+@all", "-xrange", "-xrevrange").Err()
	if err != nil {
		t.Fatal(err)
	}
	address := (&url.URL{Scheme: "redis", User: url.UserPassword("u", "p"), Host: server.Addr}).String()
	conn, err := redisstore.Open(t.Context(), address, redisstore.Options{Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	store, err := redisstore.New(conn.Client, false, redisstore.Config{Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	ear := hear(t, store, quiet)
	write(t, admin, true, 0, 3)
	ear.wants(t, 1, texts(0, 3)...)
	if _, missed := ear.snapshot(); !strings.Contains(missed[0], "NOPERM") {
		t.Errorf("missed %q", missed)
	}
	if err := admin.Do(t.Context(), "CLIENT", "KILL", "TYPE", "pubsub").Err(); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the loss of the subscription to be told", 10*time.Second, func() error {
		if _, missed := ear.snapshot(); len(missed) != 2 {
			return fmt.Errorf("missed %q", missed)
		}
		return nil
	})
	write(t, admin, true, 3, 4)
	ear.wants(t, 2, texts(0, 4)...)
}

// TestFollow_OnAClusterTakesTheChannel, whichever node publishes.
func TestFollow_OnAClusterTakesTheChannel(t *testing.T) {
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
	ear := hear(t, s, quiet)
	var want []string
	for i := range 9 {
		agent := fmt.Sprintf("agent%d", i)
		_, err := s.Apply(t.Context(), agent, breaker.Policy{}, machine.Op{
			Verb: machine.VerbForce, Draw: machine.ZeroEpoch[1:],
			Force: breaker.Force{Target: breaker.HoldOpen, Reason: "r", Actor: "test"},
		})
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, agent+" manual_open r")
		ear.wants(t, 0, want...)
	}
}
