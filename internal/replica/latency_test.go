package replica

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/latency"
	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// took reports a call that took so long.
func (m *member) took(agent string, kind breaker.OutcomeKind, d time.Duration) {
	m.t.Helper()
	if _, err := m.Manager.Record(m.t.Context(), agent, breaker.Outcome{Kind: kind, Duration: d}); err != nil {
		m.t.Fatal(err)
	}
}

// latencies are the figures of all replicas, read anew.
func (m *member) latencies() map[string]latency.Figures {
	m.t.Helper()
	m.durations.reading <- struct{}{}
	m.durations.read = nil
	<-m.durations.reading
	all, alone := m.Latency(m.t.Context())
	if alone {
		m.t.Fatal("the other replicas could not be read")
	}
	return all
}

func TestLatency_OfAllReplicasIsOneAnswer(t *testing.T) {
	t.Parallel()
	check := func(t *testing.T, url string) {
		t.Helper()
		all := joinAll(t, 3, url)
		a, b, third := all[0], all[1], all[2]
		for range 99 {
			a.took("payments", breaker.Success, 10*time.Millisecond)
		}
		a.took("payments", breaker.Ignored, time.Hour)
		for range 101 {
			b.took("payments", breaker.Failure, time.Second)
		}
		b.took("search", breaker.Success, 3*time.Millisecond)
		for _, m := range all {
			m.eventually("its heartbeat", func() error {
				if len(m.logged("joined")) == 0 {
					return fmt.Errorf("%s has not joined", m.ID)
				}
				return nil
			})
			m.durations.publish(t.Context())
		}
		for _, m := range []*member{a, b, third} {
			f := m.latencies()["payments"]
			want := (99*10*time.Millisecond + 101*time.Second) / 200
			if f.Calls.Calls() != 200 || f.Calls.Average() != want || f.Replicas != 2 {
				t.Fatalf("%s sees %d calls of %d replicas, average %v, want 200 of 2, %v",
					m.ID, f.Calls.Calls(), f.Replicas, f.Calls.Average(), want)
			}
			if p50, p25 := f.Calls.Percentile(50), f.Calls.Percentile(25); p50 < time.Second/2 || p50 > 2*time.Second || p25 < 8*time.Millisecond || p25 > 16*time.Millisecond {
				t.Errorf("%s: p25 %v, p50 %v", m.ID, p25, p50)
			}
			if age := time.Since(f.Since); age < 0 || age > time.Minute {
				t.Errorf("%s: since %v", m.ID, f.Since)
			}
		}
	}
	onEachEngine(t, func(t *testing.T, s shop) { check(t, s.url) })
	t.Run("cluster", func(t *testing.T) {
		t.Parallel()
		if testing.Short() {
			t.Skip("make quick leaves the Cluster out")
		}
		check(t, testkit.StartCluster(t).URL())
	})
}

// What a replica published that has died expires with its key, and what was planted there is not read [B20].
func TestLatency_OfADeadReplicaEnds(t *testing.T) {
	t.Parallel()
	srv := testkit.Start(t)
	client := srv.Client(t)
	all := joinAll(t, 2, srv.URL())
	a, b := all[0], all[1]
	b.took("payments", breaker.Success, time.Second)
	key := "circuit_breaker:latency." + b.ID
	b.eventually("what b publishes to be seen", func() error {
		b.durations.publish(t.Context())
		if f := a.latencies()["payments"]; f.Calls.Calls() != 1 {
			return fmt.Errorf("%+v", f)
		}
		return nil
	})
	if ttl := client.PTTL(t.Context(), key).Val(); ttl < 20*time.Second || ttl > 30*time.Second {
		t.Errorf("it lives for %v, want 30 s", ttl)
	}
	for _, planted := range []string{"x", `{"agents":{"payments":{"calls":[-5]}}}`} {
		client.Set(t.Context(), key, planted, time.Minute)
		if got := a.latencies(); len(got) != 0 {
			t.Errorf("%s: %+v", planted, got)
		}
	}
	client.Del(t.Context(), key)
	client.LPush(t.Context(), key, "a list")
	if got := a.latencies(); len(got) != 0 {
		t.Errorf("a list: %+v", got)
	}
	b.durations.publish(t.Context())
	if f := a.latencies()["payments"]; f.Calls.Calls() != 1 {
		t.Errorf("what was planted stays: %+v", f)
	}
	client.PExpire(t.Context(), key, time.Millisecond)
	a.eventually("the figures to end with their key", func() error {
		if got := a.latencies(); len(got) != 0 {
			return fmt.Errorf("%+v", got)
		}
		return nil
	})
}

func TestLatency_IsOwnWhileRedisIsDown(t *testing.T) {
	t.Parallel()
	srv := testkit.Start(t)
	m := joinAll(t, 1, srv.URL(), "REDIS_TIMEOUT_MS=50")[0]
	m.took("payments", breaker.Success, time.Second)
	srv.Pause()
	t.Cleanup(srv.Resume)
	began := time.Now()
	all, alone := m.Latency(context.Background())
	if f := all["payments"]; f.Calls.Calls() != 1 || !alone {
		t.Errorf("%+v %v", all, alone)
	}
	if waited := time.Since(began); waited > 5*time.Second {
		t.Errorf("it took %v", waited)
	}
}

// bridge says by NoteCall when answers ended: the durations of its outcomes end with the first data.
func TestLatency_OfAProgramThatTimesCallsIsNotCountedTwice(t *testing.T) {
	t.Parallel()
	m := joinAll(t, 1, testkit.Start(t).URL())[0]
	m.o.TimesCalls = true
	m.took("payments", breaker.Success, time.Second)
	m.NoteCall("payments", 3*time.Second, time.Second)
	m.NoteCall("", time.Second, time.Second)
	f, others := m.latencies()["payments"], len(m.latencies())-1
	if f.Calls.Calls() != 1 || f.Calls.Average() != 3*time.Second || f.FirstByte.Average() != time.Second || others != 0 {
		t.Errorf("%+v", f)
	}
	m.evict("payments")
	if len(m.latencies()) != 0 {
		t.Error("a deleted agent is still there")
	}
}
