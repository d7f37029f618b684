package redisstore_test

import (
	"context"
	"errors"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

// waitingReplica is a Manager with a store of its own, whose questions are counted.
type waitingReplica struct {
	breaker.Store
	*breaker.Manager

	inspects, acquires atomic.Int64
	full               chan struct{} // closed once a question met a round without a free place
	once               sync.Once
}

func (r *waitingReplica) Inspect(ctx context.Context, agent string, p breaker.Policy) (breaker.View, error) {
	v, err := r.Store.Inspect(ctx, agent, p)
	r.inspects.Add(1)
	if v.State == breaker.HalfOpen && v.Free() == 0 {
		r.once.Do(func() { close(r.full) })
	}
	return v, err
}

func (r *waitingReplica) Apply(ctx context.Context, agent string, p breaker.Policy, op machine.Op) (machine.Result, error) {
	if op.Verb == machine.VerbAcquire {
		r.acquires.Add(1)
	}
	return r.Store.Apply(ctx, agent, p, op)
}

const waitingReplicas, waitersEach, probesEach = 3, 334, 3

func newWaitingReplica(t *testing.T, client redis.UniversalClient, mode breaker.Consistency) *waitingReplica {
	t.Helper()
	store, err := redisstore.New(client, false, redisstore.Config{Timeout: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	r := &waitingReplica{Store: store, full: make(chan struct{})}
	r.Manager, err = breaker.NewManager(breaker.Options{Store: struct{ breaker.Store }{r}, Policy: breaker.Policy{
		Consistency: mode, FailureThreshold: 1, Timeout: 300 * time.Millisecond, HalfOpenMaxCalls: probesEach,
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var events sync.WaitGroup
	events.Go(func() { store.Events(ctx, func(agent string, _ breaker.Event) { r.Invalidate(agent) }) })
	t.Cleanup(func() {
		_ = r.Close(context.Background())
		cancel()
		events.Wait()
		store.Close()
	})
	return r
}

// TestWait_ThreeReplicasSendOneRound: 1,000 loops in three replicas meet the moment at which a breaker becomes
// half-open. The agent gets one round of probes, Redis some questions, and once the breaker is closed each loop goes on.
func TestWait_ThreeReplicasSendOneRound(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(testing.TB) *engine{"miniredis": miniEngine, "redis": realEngine} {
		for _, mode := range []breaker.Consistency{breaker.Strict, breaker.Cached} {
			t.Run(name+" "+string(mode), func(t *testing.T) {
				t.Parallel()
				waitForOneRound(t, start(t), mode)
			})
		}
	}
}

func waitForOneRound(t *testing.T, e *engine, mode breaker.Consistency) {
	t.Helper()
	var all []*waitingReplica
	for range waitingReplicas {
		all = append(all, newWaitingReplica(t, e.client, mode))
	}
	channel := e.store.Keys().Events()
	testkit.Eventually(t, "replicas hear of events", 30*time.Second, func() error {
		n, err := e.client.PubSubNumSub(t.Context(), channel).Result()
		if err == nil && n[channel] < waitingReplicas {
			err = errors.New("not yet")
		}
		return err
	})
	_ = all[0].Do(t.Context(), "a", func(context.Context) error { return errors.New("down") })
	if err := all[0].Do(t.Context(), "a", func(context.Context) error { return nil }); !errors.Is(err, breaker.ErrOpen) {
		t.Fatalf("not open: %v", err)
	}
	scripts := scriptsOf(t, e)
	var calls atomic.Int64
	verdict := make(chan struct{})
	var loops sync.WaitGroup
	for _, r := range all {
		for range waitersEach {
			loops.Go(func() {
				err := waitAndCall(t.Context(), r.Manager, func(context.Context) error {
					calls.Add(1)
					<-verdict
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
	}
	for _, r := range all {
		<-r.full
	}
	inspects, acquires := all[0].inspects.Load(), all[0].acquires.Load()
	for _, r := range all[1:] {
		inspects, acquires = inspects+r.inspects.Load(), acquires+r.acquires.Load()
	}
	scripts = scriptsOf(t, e) - scripts
	t.Logf("until the round was full: %d questions, %d acquires, %d scripts in all", inspects, acquires, scripts)
	if n := calls.Load(); n > probesEach {
		t.Errorf("%d probes reached the agent, want at most %d", n, probesEach)
	}
	// Each replica asks once before the moment and some times after it, and sends no more callers than it saw places.
	if most := int64(waitingReplicas * 20); inspects+acquires > most || scripts > most {
		t.Errorf("%d questions, %d acquires, %d scripts, want at most %d", inspects, acquires, scripts, most)
	}
	close(verdict)
	loops.Wait()
	if n := calls.Load(); n != waitingReplicas*waitersEach {
		t.Errorf("%d calls, want one of each loop", n)
	}
}

// waitAndCall waits and calls until the breaker admits the call.
func waitAndCall(ctx context.Context, m *breaker.Manager, call func(context.Context) error) error {
	for {
		if err := m.Wait(ctx, "a"); err != nil {
			return err
		}
		if err := m.Do(ctx, "a", call); !errors.Is(err, breaker.ErrOpen) {
			return err
		}
	}
}

// scriptsOf returns how many scripts a real Redis has run; miniredis does not tell.
func scriptsOf(t *testing.T, e *engine) (n int64) {
	t.Helper()
	if !e.ttls {
		return 0
	}
	text, err := e.client.Info(t.Context(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`cmdstat_eval[a-z_]*:calls=(\d+)`).FindAllStringSubmatch(text, -1) {
		calls, err := strconv.ParseInt(m[1], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		n += calls
	}
	return n
}
