package redisstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// bubble is a miniredis in virtual time, and a Store on it.
type bubble struct {
	*Store

	other    *Store // another replica, whose operations bring their own UselessAfterMs
	mini     *miniredis.Miniredis
	silent   atomic.Bool // it takes commands, and nothing reads its replies
	returned []string
	mu       sync.Mutex
}

// Dial implements Engine.
func (b *bubble) Dial(context.Context, string, string) (net.Conn, error) {
	conn, err := b.mini.Dial()
	return &silentConn{Conn: conn, silent: &b.silent}, err
}

func (b *bubble) Addr() string { return "" }
func (b *bubble) Close()       { b.mini.Close() }

// silentConn loses what is answered while it is silent.
type silentConn struct {
	net.Conn

	silent *atomic.Bool
}

func (c *silentConn) Read(buf []byte) (int, error) {
	for {
		n, err := c.Conn.Read(buf)
		if err != nil || !c.silent.Load() {
			return n, err
		}
	}
}

// inBubble runs f in virtual time. An agent "a" is half-open with three places; whatever the Store began has ended by
// itself when the test returns, or the bubble does not end.
func inBubble(t *testing.T, f func(t *testing.T, b *bubble)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &bubble{mini: miniredis.NewMiniRedis()}
		conn, err := Open(t.Context(), "embedded://", Options{Embedded: func(string) (Engine, error) { return b, nil }})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		b.Store, err = New(conn.Client, false, Config{OnReturn: func(agent string) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.returned = append(b.returned, agent)
		}})
		if err != nil {
			t.Fatal(err)
		}
		if b.other, err = New(conn.Client, false, Config{}); err != nil {
			t.Fatal(err)
		}
		b.other.shifted = true
		f(t, b)
	})
}

func (b *bubble) op(t *testing.T, op machine.Op) machine.Result {
	t.Helper()
	return b.opOf(t, b.Store, op)
}

func (b *bubble) opOf(t *testing.T, s *Store, op machine.Op) machine.Result {
	t.Helper()
	op.Draw, op.JitterPPM = draws()
	r, err := s.Apply(t.Context(), "a", breaker.DefaultPolicy(), op)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (b *bubble) halfOpen(t *testing.T) {
	t.Helper()
	b.op(t, machine.Op{Verb: machine.VerbForce, Force: breaker.Force{Target: breaker.ResetHalfOpen, Actor: "test"}})
}

// leases waits so long, and gives the tokens that hold a lease, and how many were given back.
func (b *bubble) leases(t *testing.T, after time.Duration) (tokens []string, returned int) {
	t.Helper()
	<-time.After(after)
	synctest.Wait()
	v, err := b.Inspect(t.Context(), "a", breaker.DefaultPolicy())
	if err != nil {
		t.Fatal(err)
	}
	for token := range v.Leases {
		tokens = append(tokens, token)
	}
	slices.Sort(tokens)
	b.mu.Lock()
	defer b.mu.Unlock()
	return tokens, len(b.returned)
}

func token(n int) string { return fmt.Sprintf("%016x", n+1) }

// TestReturn_ALostAnswersLeaseIsGivenBack [B12]: the acquire was executed, and its caller never heard of it.
func TestReturn_ALostAnswersLeaseIsGivenBack(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, b *bubble) {
		b.halfOpen(t)
		held := b.op(t, machine.Op{Verb: machine.VerbAcquire, Token: token(0)})
		b.silent.Store(true)
		_, err := b.Apply(t.Context(), "a", breaker.DefaultPolicy(), machine.Op{Verb: machine.VerbAcquire, Token: token(1), Draw: machine.ZeroEpoch[1:]})
		if e, ok := errors.AsType[*breaker.StoreError](err); !ok || !e.Unknown {
			t.Fatalf("acquire: %v", err)
		}
		<-time.After(10 * time.Second) // as long as Redis is silent
		b.silent.Store(false)
		tokens, returned := b.leases(t, time.Second)
		if !slices.Equal(tokens, []string{token(0)}) || returned != 1 || held.LeaseMs == 0 {
			t.Errorf("leases of %v, %d given back", tokens, returned)
		}
	})
}

// TestReturn_ACallerThatHasGoneGetsNoLease: cancelled on the way, alone or among others that share round trips.
func TestReturn_ACallerThatHasGoneGetsNoLease(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, b *bubble) {
		b.halfOpen(t)
		send := b.dispatch.send
		b.dispatch.send = func(ctx context.Context, trip *roundTrip) {
			send(ctx, trip)
			<-time.After(100 * time.Millisecond) // the answer is on its way
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(150*time.Millisecond, cancel) // the first two round trips are over, the others have been sent
		var given, none atomic.Int64
		var wg sync.WaitGroup
		for n := range 5 {
			wg.Go(func() {
				p := breaker.DefaultPolicy()
				p.WindowSize += time.Duration(n) * time.Second // so that none joins another
				op := machine.Op{Verb: machine.VerbAcquire, Token: token(n), Draw: machine.ZeroEpoch[1:]}
				switch r, err := b.Apply(ctx, "a", p, op); {
				case err == nil && r.LeaseMs > 0:
					given.Add(1)
				case errors.Is(err, context.Canceled):
					none.Add(1)
				default:
					t.Errorf("%+v, %v", r, err)
				}
			})
		}
		wg.Wait()
		tokens, returned := b.leases(t, time.Second)
		if given.Load() != 2 || none.Load() != 3 || len(tokens) != 2 || returned != 1 {
			t.Errorf("%d callers have a lease, %d went; leases of %v, %d given back", given.Load(), none.Load(), tokens, returned)
		}
		alone, cancel := context.WithCancel(t.Context())
		time.AfterFunc(50*time.Millisecond, cancel)
		r, err := b.Apply(alone, "a", breaker.DefaultPolicy(), machine.Op{Verb: machine.VerbAcquire, Token: token(9), Draw: machine.ZeroEpoch[1:]})
		if errors.Is(err, breaker.ErrStoreUnavailable) || !errors.Is(err, context.Canceled) || r.LeaseMs > 0 {
			t.Errorf("alone: %+v, %v", r, err)
		}
		if tokens, returned = b.leases(t, time.Second); len(tokens) != 2 || returned != 2 {
			t.Errorf("leases of %v, %d given back", tokens, returned)
		}
	})
}

// TestReturn_WaitsUntilTheAcquireIsUseless: until then it may be on its way to Redis.
func TestReturn_WaitsUntilTheAcquireIsUseless(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, b *bubble) {
		b.halfOpen(t)
		now := time.Now().UnixMilli()
		for n, op := range []machine.Op{
			{Token: token(0), UselessAfterMs: now + 5_000}, {Token: token(1), UselessAfterMs: now + 5_000}, {Token: token(2)},
		} {
			b.orphan(b.agents.of("a"), breaker.DefaultPolicy(), op.Token, op.UselessAfterMs)
			<-time.After(2100 * time.Millisecond * time.Duration(n)) // 0, 2.1 and 6.3 s: two in time, one has no such time
			op.Verb = machine.VerbAcquire
			if r := b.opOf(t, b.other, op); n < 2 && r.LeaseMs == 0 {
				t.Errorf("%d: %+v", n, r)
			}
		}
		if tokens, returned := b.leases(t, 30*time.Second); len(tokens) != 0 || returned != 3 {
			t.Errorf("leases of %v, %d given back", tokens, returned)
		}
		if r := b.opOf(t, b.other, machine.Op{Verb: machine.VerbAcquire, Token: token(3), UselessAfterMs: now + 5_000}); r.Code != machine.CodeExpired {
			t.Errorf("%+v", r)
		}
	})
}

// TestReturn_IsBoundedAndEndsByItself: in number, and by the length of a lease.
func TestReturn_IsBoundedAndEndsByItself(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, b *bubble) {
		b.halfOpen(t)
		b.silent.Store(true)
		for n := range 3 * maxReturns {
			b.orphan(b.agents.of("a"), breaker.DefaultPolicy(), token(n), time.Now().UnixMilli())
		}
		<-time.After(30 * time.Second)
		n, oldest := 0, ""
		for n == 0 { // between two tries
			<-time.After(10 * time.Millisecond)
			b.orphans.mu.Lock()
			if n = len(b.orphans.waiting); n > 0 {
				oldest = b.orphans.waiting[0].token
			}
			b.orphans.mu.Unlock()
		}
		if n > maxReturns || oldest < token(2*maxReturns) {
			t.Errorf("%d are remembered, the oldest is %s", n, oldest)
		}
		<-time.After(time.Minute)
		synctest.Wait()
		if b.orphans.running || len(b.orphans.waiting) > 0 {
			t.Errorf("%d are remembered after a lease's length", len(b.orphans.waiting))
		}
		b.silent.Store(false)
		b.orphan(b.agents.of("a"), breaker.DefaultPolicy(), token(0), 1<<60) // its time never comes
		b.Store.Close()
		b.Store.Close()
		b.orphan(b.agents.of("a"), breaker.DefaultPolicy(), token(1), 0)
		if len(b.orphans.waiting) != 1 {
			t.Error("a closed store remembers another")
		}
	})
}

// TestReturn_ADeniedAgentDoesNotHoldUpOthers: Redis refuses the one, and answers the other.
func TestReturn_ADeniedAgentDoesNotHoldUpOthers(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, b *bubble) {
		b.halfOpen(t)
		b.op(t, machine.Op{Verb: machine.VerbAcquire, Token: token(0)})
		send := b.dispatch.send
		b.dispatch.send = func(ctx context.Context, trip *roundTrip) {
			if trip.calls[0].agent != nil && trip.calls[0].agent.agent == "bad" {
				trip.calls[0].fail(reply("ERR a script error"))
				return
			}
			send(ctx, trip)
		}
		for range 20 {
			b.orphan(b.agents.of("bad"), breaker.DefaultPolicy(), token(1), 1)
		}
		b.orphan(b.agents.of("a"), breaker.DefaultPolicy(), token(0), 1)
		if tokens, returned := b.leases(t, time.Second); len(tokens) != 0 || returned != 1 {
			t.Errorf("leases of %v, %d given back", tokens, returned)
		}
		b.Store.Close()
	})
}

// TestAcquire_AsksOnceMoreWhenItsClockWasBehind: Redis' clock was set on, or another server is asked now.
func TestAcquire_AsksOnceMoreWhenItsClockWasBehind(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, b *bubble) {
		b.halfOpen(t)
		for n, jump := range []time.Duration{time.Hour, -2 * time.Hour, 3 * time.Hour} {
			b.mini.SetTime(time.Now().Add(jump))
			if jump < 0 {
				b.halfOpen(t) // any answer sets the clock back
			}
			r := b.op(t, machine.Op{Verb: machine.VerbAcquire, Token: token(n)})
			if r.LeaseMs == 0 || r.Code != machine.CodeOK {
				t.Errorf("by %v: %+v", jump, r)
			}
			if off := time.Duration(b.agents.clock.at(time.Now())-time.Now().UnixMilli()) * time.Millisecond; off > jump || off < jump-time.Second {
				t.Errorf("Redis is %v off, the clock %v", jump, off)
			}
		}
	})
}

// TestAcquire_ThatExpiresTwiceWasNotDone, and is not asked a third time.
func TestAcquire_ThatExpiresTwiceWasNotDone(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, b *bubble) {
		var asked []string
		b.dispatch.send = func(_ context.Context, trip *roundTrip) {
			asked = append(asked, trip.calls[0].op.Token+trip.calls[0].op.Draw)
			trip.calls[0].answer(machine.Result{Code: machine.CodeExpired, NowMs: 1})
		}
		op := machine.Op{Verb: machine.VerbAcquire, Token: token(0), Draw: machine.ZeroEpoch[1:]}
		_, err := b.Apply(t.Context(), "a", breaker.DefaultPolicy(), op)
		e, ok := errors.AsType[*breaker.StoreError](err)
		if !ok || e.Unknown || e.Refused || e.Cut || len(asked) != 2 || asked[0] == asked[1] || asked[0][:16] != asked[1][:16] {
			t.Errorf("%v; asked %v", err, asked)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err = b.Apply(ctx, "a", breaker.DefaultPolicy(), op); !errors.Is(err, context.Canceled) || len(asked) != 3 {
			t.Errorf("a caller that has gone: %v; asked %v", err, asked)
		}
	})
}

// TestClock_IsALowerBound of a clock that replies name, whatever time they take, and after it was set.
func TestClock_IsALowerBound(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, ahead := newClock(), time.Hour
		if at := c.at(time.Now()); at != 0 {
			t.Errorf("before any reply it says %d", at)
		}
		redis := func() int64 { return time.Now().Add(ahead).UnixMilli() }
		for n := range 10_000 {
			if n%1000 == 999 {
				ahead = time.Duration(rand.IntN(7200)-3600) * time.Second
			}
			sent := time.Now()
			<-time.After(time.Duration(rand.IntN(2_000_000)))
			ms := redis()
			<-time.After(time.Duration(rand.IntN(2_000_000)))
			c.observe(ms, sent, time.Now())
			<-time.After(time.Duration(rand.IntN(20_000_000)))
			if at, now := c.at(time.Now()), redis(); at > now || now-at > 5 {
				t.Fatalf("after %d replies it says %d at %d", n, at, now)
			}
		}
	})
}

func TestClock_OnAClusterEachAgentHasItsOwn(t *testing.T) {
	t.Parallel()
	for cluster, want := range map[bool]bool{false: true, true: false} {
		table := newAgents(Keys{Prefix: "p", Cluster: cluster}, 8)
		if same := table.of("a").clock == table.of("b").clock; same != want {
			t.Errorf("cluster %v: one clock %v", cluster, same)
		}
	}
}
