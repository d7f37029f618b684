package redisstore_test

import (
	"bytes"
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

// twoReplicas are two Managers on one Redis, strict, each with connections of its own.
type twoReplicas struct {
	t        *testing.T
	managers [2]*breaker.Manager
	stores   [2]*redisstore.Store
	returned atomic.Int64
	watcher  *redis.Client // reads the keys, past whatever is broken
	over     atomic.Int64  // rounds with too many leases
}

const healthyAgent = "healthy"

// newTwoReplicas opens the breaker of a healthy agent. Its wait is nearly over then.
func newTwoReplicas(t *testing.T, server *testkit.Server, addr string) *twoReplicas {
	t.Helper()
	f := &twoReplicas{t: t, watcher: server.Client(t)}
	p := breaker.DefaultPolicy()
	p.FailureThreshold, p.Timeout = 1, time.Second
	for i := range f.managers {
		conn, err := redisstore.Open(t.Context(), "redis://"+addr, redisstore.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		f.stores[i], err = redisstore.New(conn.Client, false, redisstore.Config{OnReturn: func(string) { f.returned.Add(1) }})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(f.stores[i].Close)
		if f.managers[i], err = breaker.NewManager(breaker.Options{Store: f.stores[i], Policy: p}); err != nil {
			t.Fatal(err)
		}
		_ = f.managers[i].Do(t.Context(), healthyAgent, func(context.Context) error { return errors.New("once") })
	}
	if v := f.see(); v.State != breaker.Open {
		t.Fatalf("the breaker is %s", v.State)
	}
	return f
}

func (f *twoReplicas) see() breaker.View {
	f.t.Helper()
	v, _, err := f.managers[0].Inspect(f.t.Context(), healthyAgent)
	if err != nil {
		f.t.Fatal(err)
	}
	return v
}

// waitIsOver returns when the breaker's wait has just ended by Redis' clock.
func (f *twoReplicas) waitIsOver() {
	f.t.Helper()
	v := f.see()
	<-time.After(time.Duration(v.DeadlineMs()-v.NowMs+5) * time.Millisecond)
}

// call calls the agent through one replica.
func (f *twoReplicas) call(ctx context.Context, replica int) error {
	return f.managers[replica].Do(ctx, healthyAgent, func(context.Context) error { return nil })
}

// closesWithin lets both replicas call the agent, two callers each, until its breaker is closed, and watches that no
// round has a probe too many. None of the leases may be left without a holder.
func (f *twoReplicas) closesWithin(limit time.Duration) {
	f.t.Helper()
	begin, ctx := time.Now(), context.Background()
	done := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				case <-time.After(10 * time.Millisecond):
					_ = f.call(ctx, i%2)
				}
			}
		})
	}
	var last string
	for state := ""; state != "closed"; {
		<-time.After(5 * time.Millisecond)
		state = f.watcher.Get(ctx, "circuit_breaker:"+healthyAgent+":state").Val()
		round := f.watcher.Eval(ctx, `
			local n = redis.call('HMGET', KEYS[1], 'round_ok', 'round_failed', 'round_max')
			return {redis.call('HLEN', KEYS[2]) + (n[1] or 0) + (n[2] or 0), tonumber(n[3] or '3')}`,
			[]string{"circuit_breaker:" + healthyAgent + ":control", "circuit_breaker:" + healthyAgent + ":probes"}).Val()
		if n, ok := round.([]any); ok && len(n) == 2 && n[0].(int64) > n[1].(int64) {
			f.over.Add(1)
		}
		if last = fmt.Sprint(state, round); time.Since(begin) > limit {
			f.t.Errorf("not closed after %v: %s, %d leases given back", time.Since(begin), last, f.returned.Load())
			break
		}
	}
	took := time.Since(begin)
	close(done)
	wg.Wait()
	if f.over.Load() > 0 {
		f.t.Errorf("%d times a round had more probes than it may have", f.over.Load())
	}
	n := f.watcher.HLen(ctx, "circuit_breaker:"+healthyAgent+":probes").Val()
	if n > 0 {
		f.t.Errorf("%d leases are left", n)
	}
	f.t.Logf("closed after %v, %d leases given back", took.Round(time.Millisecond), f.returned.Load())
}

// TestProbes_OfCallersThatGaveUpWhileRedisStoodStill: Redis runs the acquires that were in its sockets when it goes on.
func TestProbes_OfCallersThatGaveUpWhileRedisStoodStill(t *testing.T) {
	t.Parallel()
	for name, callers := range map[string]int{"one caller each": 1, "two callers each": 2, "ten callers each": 10} {
		if testing.Short() && callers != 2 {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testkit.Start(t)
			f := newTwoReplicas(t, server, server.Addr)
			f.waitIsOver()
			server.Pause()
			var wg sync.WaitGroup
			for i := range 2 * callers {
				wg.Go(func() {
					if err := f.call(t.Context(), i%2); !errors.Is(err, breaker.ErrStoreUnavailable) {
						t.Errorf("a caller while Redis stands still: %v", err)
					}
				})
			}
			wg.Wait()
			<-time.After(600*time.Millisecond - redisstore.DefaultTimeout)
			server.Resume()
			testkit.Eventually(t, "what was in the sockets", 10*time.Second, func() error {
				if state := f.watcher.Get(t.Context(), "circuit_breaker:"+healthyAgent+":state").Val(); state != "half_open" {
					return errors.New(state)
				}
				return nil
			})
			if n := f.watcher.HLen(t.Context(), "circuit_breaker:"+healthyAgent+":probes").Val() + f.returned.Load(); n > 0 {
				t.Errorf("%d callers that had gone were given a lease", n)
			}
			f.closesWithin(time.Second)
		})
	}
}

// TestProbes_OfLostAnswers: the acquire was executed, and its reply was lost on the way, or its connection ended.
func TestProbes_OfLostAnswers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fault fault
		from  int // the first reply of a half-open breaker that meets it
		n     int // how many do
	}{
		"the first is lost": {lose, 0, 1}, "the second is lost": {lose, 1, 1}, "three are lost": {lose, 0, 3},
		"every one is lost for a while": {lose, 0, 12}, "the first is cut": {cut, 0, 1}, "the third is cut": {cut, 2, 1},
		"twelve are cut": {cut, 0, 12}, "three are reset": {reset, 0, 3}, "four are torn": {tear, 0, 4},
	} {
		if testing.Short() && c.n < 4 {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testkit.Start(t)
			proxy := startProxy(t, server.Addr)
			f := newTwoReplicas(t, server, proxy.addr)
			f.waitIsOver()
			var replies atomic.Int64
			proxy.meet(func(request []byte) fault {
				if n := int(replies.Add(1)) - 1; bytes.Contains(request, []byte("eval")) && n >= c.from && n < c.from+c.n {
					return c.fault
				}
				return pass
			})
			var wg sync.WaitGroup
			for i := range 4 { // until all faults have been met
				wg.Go(func() {
					for int(replies.Load()) < c.from+c.n {
						_ = f.call(t.Context(), i%2)
					}
				})
			}
			wg.Wait()
			f.closesWithin(time.Second)
		})
	}
}

// TestProbes_OfCallersThatAreCancelled: each goes while Redis' answer is on its way.
func TestProbes_OfCallersThatAreCancelled(t *testing.T) {
	t.Parallel()
	server := testkit.Start(t)
	proxy := startProxy(t, server.Addr)
	f := newTwoReplicas(t, server, proxy.addr)
	f.waitIsOver()
	proxy.delay.Store(int64(60 * time.Millisecond))
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Duration(5+10*i)*time.Millisecond, cancel)
			if err := f.call(ctx, i%2); err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, breaker.ErrStoreUnavailable) {
				if _, refused := errors.AsType[*breaker.OpenError](err); !refused {
					t.Errorf("a cancelled caller: %v", err)
				}
			}
		})
	}
	wg.Wait()
	proxy.delay.Store(0)
	f.closesWithin(time.Second)
}
