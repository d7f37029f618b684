package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

// Faults of the nearest peer's distributed breaker, none of which may be ours.

// fleet is several replicas on one real Redis.
type fleet struct {
	redis    *testkit.Server
	client   *redis.Client
	managers []*breaker.Manager
	stores   []*redisstore.Store
}

func newFleet(t *testing.T, replicas int, edit func(*breaker.Policy)) *fleet {
	t.Helper()
	return newFleetWithin(t, 5*time.Second, replicas, edit)
}

// newFleetWithin bounds the round trips.
func newFleetWithin(t *testing.T, timeout time.Duration, replicas int, edit func(*breaker.Policy)) *fleet {
	t.Helper()
	f := &fleet{redis: testkit.Start(t)}
	f.client = f.redis.Client(t)
	p := breaker.DefaultPolicy()
	if edit != nil {
		edit(&p)
	}
	for i := range replicas {
		conn, err := redisstore.Open(t.Context(), f.redis.URL(), redisstore.Options{Timeout: timeout})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		s, err := redisstore.New(conn.Client, false, redisstore.Config{Timeout: timeout})
		if err != nil {
			t.Fatal(err)
		}
		m, err := breaker.NewManager(breaker.Options{
			Store: s, Reporter: fmt.Sprintf("replica-%d", i),
			Policy: p,
		})
		if err != nil {
			t.Fatal(err)
		}
		f.stores, f.managers = append(f.stores, s), append(f.managers, m)
	}
	return f
}

var (
	errAgent  = errors.New("agent failed")
	succeed   = func(context.Context) error { return nil }
	failAgent = func(context.Context) error { return errAgent }
)

func TestPeerFault1_OneRoundTripToAskAndOneToReport(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, nil)
	m := f.managers[0]
	_ = m.Do(t.Context(), "warm", succeed) // loads the scripts
	scripts := scriptCalls(t, f.client)
	const calls = 50
	for range calls {
		if err := m.Do(t.Context(), "a", succeed); err != nil {
			t.Fatal(err)
		}
	}
	// A script reports, and two reads in one round trip ask. Before the first two calls the breaker is not known to be
	// closed: a script asks.
	if got := scriptCalls(t, f.client) - scripts; got != calls+2 {
		t.Errorf("%d scripts for %d calls, want one a call, and two more", got, calls)
	}
	for range 5 {
		_ = m.Do(t.Context(), "sick", failAgent)
	}
	scripts = scriptCalls(t, f.client)
	for range calls {
		var refused *breaker.OpenError
		if err := m.Do(t.Context(), "sick", succeed); !errors.As(err, &refused) {
			t.Fatal(err)
		}
	}
	if got := scriptCalls(t, f.client) - scripts; got != calls {
		t.Errorf("%d commands for %d refusals, want one each", got, calls)
	}
}

func TestPeerFault2_NothingIsLockedWhileTheAgentIsCalled(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2, nil)
	inside, leave := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	for i := range 40 { // unless all are inside at once, this never ends
		wg.Go(func() {
			_ = f.managers[i%2].Do(t.Context(), "a", func(context.Context) error { inside <- struct{}{}; <-leave; return nil })
		})
	}
	for range 40 {
		<-inside
	}
	if err := f.managers[0].Do(t.Context(), "a", succeed); err != nil { // it does not wait for them
		t.Error(err)
	}
	close(leave)
	wg.Wait()
}

func TestPeerFault3_NoOutcomeIsLostAndNoStaleWriteCloses(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 8, func(p *breaker.Policy) { p.FailureThreshold, p.FailureRateThreshold = breaker.Off, breaker.Off })
	var wg sync.WaitGroup
	for _, m := range f.managers {
		for range 10 {
			wg.Go(func() { _ = m.Do(t.Context(), "a", failAgent) })
		}
	}
	wg.Wait()
	v, _, err := f.managers[0].Inspect(t.Context(), "a")
	if err != nil || v.Failures != 80 || v.Window(v.NowMs, 120_000).Failures != 80 {
		t.Fatalf("80 failures left %d recorded, %d in the window (%v)", v.Failures, v.Window(v.NowMs, 120_000).Failures, err)
	}
	late, err := f.managers[1].Acquire(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.managers[0].Force(t.Context(), "a", breaker.Force{Target: breaker.HoldOpen, Actor: "test"}); err != nil {
		t.Fatal(err)
	}
	if counted, err := late.Success(t.Context()); counted || err != nil {
		t.Errorf("late success counted: %v %v", counted, err)
	}
	if v, _, _ := f.managers[2].Inspect(t.Context(), "a"); v.State != breaker.Open {
		t.Errorf("a stale write put an open breaker to %s", v.State)
	}
}

func TestPeerFault4_EightReplicasSendNoMoreProbesThanOne(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 8, func(p *breaker.Policy) { p.HalfOpenMaxCalls = 1 })
	if _, err := f.managers[0].Force(t.Context(), "a", breaker.Force{Target: breaker.ResetHalfOpen, Actor: "test"}); err != nil {
		t.Fatal(err)
	}
	var probes atomic.Int64
	var wg sync.WaitGroup
	leave := make(chan struct{})
	answered := make(chan struct{}, 8)
	for _, m := range f.managers {
		wg.Go(func() {
			err := m.Do(t.Context(), "a", func(context.Context) error { probes.Add(1); answered <- struct{}{}; <-leave; return nil })
			if err != nil {
				answered <- struct{}{}
			}
		})
	}
	for range 8 {
		<-answered
	}
	close(leave)
	wg.Wait()
	if probes.Load() != 1 {
		t.Errorf("%d probes, want one", probes.Load())
	}
}

func TestPeerFault5_ALongCallKeepsItsLeaseAndSettles(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, func(p *breaker.Policy) { p.HalfOpenMaxCalls, p.ProbeTimeout = 1, 600*time.Millisecond })
	m := f.managers[0]
	if _, err := m.Force(t.Context(), "a", breaker.Force{Target: breaker.ResetHalfOpen, Actor: "test"}); err != nil {
		t.Fatal(err)
	}
	err := m.Do(t.Context(), "a", func(ctx context.Context) error {
		for { // until the lease has been renewed beyond two of its lives
			v, _, err := m.Inspect(ctx, "a")
			if err != nil {
				return err
			}
			for _, l := range v.Leases {
				if v.NowMs-l.IssuedMs > 1300 {
					return nil
				}
			}
			if len(v.Leases) == 0 {
				return errors.New("the lease lapsed under a call that goes on")
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if v, _, _ := m.Inspect(t.Context(), "a"); v.State != breaker.Closed {
		t.Errorf("state %s after the probe's success, want closed", v.State)
	}
}

func TestPeerFault6_CallsGoOnWithoutRedis(t *testing.T) {
	t.Parallel()
	f := newFleetWithin(t, time.Second, 1, nil) // the first call without Redis takes so long
	fb := breaker.NewFallback(breaker.FallbackOptions{Store: f.stores[0], Ping: f.stores[0].Ping})
	defer fb.Close()
	m := onStore(t, fb)
	_ = m.Do(t.Context(), "a", succeed)
	f.redis.Kill()
	ran := 0
	for range 10 {
		if err := m.Do(t.Context(), "a", func(context.Context) error { ran++; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	if ran != 10 {
		t.Errorf("%d of 10 calls ran", ran)
	}
}

func onStore(t *testing.T, s breaker.Store) *breaker.Manager {
	t.Helper()
	m, err := breaker.NewManager(breaker.Options{Store: s})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestPeerFault7_AStoreErrorDoesNotReplaceTheResult(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, nil)
	m := onStore(t, f.stores[0])
	if err := m.Do(t.Context(), "a", func(context.Context) error { f.redis.Kill(); return nil }); err != nil {
		t.Errorf("a call that succeeded gave %v", err)
	}
}

func TestPeerFault8_KeysExpirePanicsCountAndOneClockRules(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2, nil)
	func() {
		defer func() { _ = recover() }()
		_ = f.managers[0].Do(t.Context(), "a", func(context.Context) error { panic("x") })
	}()
	v, _, err := f.managers[1].Inspect(t.Context(), "a")
	if err != nil || v.Failures != 1 {
		t.Errorf("failures %d after a panic (%v)", v.Failures, err)
	}
	server, err := f.client.Time(t.Context()).Result()
	if err != nil || server.UnixMilli()-v.NowMs > 5000 || v.NowMs > server.UnixMilli() {
		t.Errorf("view at %d, the server's clock says %d (%v)", v.NowMs, server.UnixMilli(), err)
	}
	keys, err := f.client.Keys(t.Context(), "*").Result()
	if err != nil || len(keys) == 0 {
		t.Fatal(keys, err)
	}
	for _, k := range keys {
		if ttl := f.client.TTL(t.Context(), k).Val(); ttl <= 0 {
			t.Errorf("%s never expires", k)
		}
	}
}

func TestPing_SeesAServerThatTakesNoWrites(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, nil)
	if err := f.stores[0].Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := f.client.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil { // full, and noeviction
		t.Fatal(err)
	}
	if err := f.stores[0].Ping(t.Context()); err == nil {
		t.Error("a server out of memory answers as if records could be written")
	}
}
