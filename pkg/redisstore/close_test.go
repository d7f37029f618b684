package redisstore

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// slow makes each round trip take so long: half before Redis runs it, half after.
func (b *bubble) slow(d time.Duration) {
	send := b.dispatch.send
	b.dispatch.send = func(ctx context.Context, trip *roundTrip) {
		<-time.After(d / 2)
		send(ctx, trip)
		<-time.After(d / 2)
	}
}

// acquireAndGo acquires so many leases at once, whose callers go after a while.
func (b *bubble) acquireAndGo(t *testing.T, n int, after time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), after)
	defer cancel()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			p := breaker.DefaultPolicy()
			p.WindowSize += time.Duration(i) * time.Second // so that none joins another
			op := machine.Op{Verb: machine.VerbAcquire, Token: token(i), Draw: machine.ZeroEpoch[1:]}
			if r, err := b.Apply(ctx, "a", p, op); err == nil || r.LeaseMs > 0 {
				t.Errorf("a caller that has gone: %+v, %v", r, err)
			}
		})
	}
	wg.Wait()
}

// TestClose_GivesBackWhatItCan: a program ends right after callers were cut off.
func TestClose_GivesBackWhatItCan(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]func(t *testing.T, b *bubble){
		"the answer came to a caller that had gone": func(t *testing.T, b *bubble) {
			b.slow(60 * time.Millisecond)
			b.acquireAndGo(t, 1, 50*time.Millisecond)
		},
		"the answer is on its way": func(t *testing.T, b *bubble) {
			b.slow(60 * time.Millisecond)
			for range maxRoundTrips {
				go func() { _, _ = b.Inspect(t.Context(), "other", breaker.DefaultPolicy()) }()
			}
			synctest.Wait()
			b.acquireAndGo(t, 1, 100*time.Millisecond)
		},
		"it was tried in vain, and would be again in seconds": func(t *testing.T, b *bubble) {
			b.silent.Store(true)
			b.acquireAndGo(t, 2, time.Second)
			for pending := false; !pending; { // between two tries
				<-time.After(10 * time.Millisecond)
				b.orphans.mu.Lock()
				pending = len(b.orphans.waiting) == 2
				for i := range b.orphans.waiting {
					b.orphans.waiting[i].next = time.Now().Add(4 * time.Second)
				}
				b.orphans.mu.Unlock()
			}
			b.silent.Store(false)
		},
		"Redis stood still, and goes on while the store closes": func(t *testing.T, b *bubble) {
			b.silent.Store(true)
			b.acquireAndGo(t, 3, time.Second)
			<-time.After(100 * time.Millisecond)
			b.silent.Store(false)
		},
		"the acquire is useless in a moment only": func(t *testing.T, b *bubble) {
			b.op(t, machine.Op{Verb: machine.VerbAcquire, Token: token(0)})
			b.orphan(b.agents.of("a"), breaker.DefaultPolicy(), token(0), b.agents.clock.at(time.Now())+100)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T, b *bubble) {
				b.halfOpen(t)
				begin(t, b)
				closing := time.Now()
				b.Store.Close()
				if took := time.Since(closing); took > DefaultTimeout+20*time.Millisecond {
					t.Errorf("Close took %v", took)
				}
				if tokens, _ := b.leases(t, 0); len(tokens) > 0 {
					t.Errorf("leases of %v are left", tokens)
				}
			})
		})
	}
}

// TestClose_IsBounded however many leases wait, however slow Redis is.
func TestClose_IsBounded(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]func(b *bubble){
		"slow": func(b *bubble) { b.slow(90 * time.Millisecond) }, "slower": func(b *bubble) { b.slow(240 * time.Millisecond) },
		"silent": func(b *bubble) { b.silent.Store(true) },
	} {
		for _, after := range []time.Duration{0, 60 * time.Millisecond, 400 * time.Millisecond} {
			t.Run(name+" after "+after.String(), func(t *testing.T) {
				t.Parallel()
				inBubble(t, func(t *testing.T, b *bubble) {
					b.halfOpen(t)
					begin(b)
					for n := range maxReturns {
						b.orphan(b.agents.of("a"), breaker.DefaultPolicy(), token(n), 1)
					}
					<-time.After(after)
					closing := time.Now()
					b.Store.Close()
					if took := time.Since(closing); took > 2*DefaultTimeout {
						t.Errorf("Close took %v", took)
					}
					b.silent.Store(false)
					<-time.After(time.Second) // round trips that were in progress end
					synctest.Wait()
				})
			})
		}
	}
}

// heard is an Observer of events.
type heard struct {
	breaker.NopObserver

	mu     sync.Mutex
	events []string
}

func (h *heard) Event(agent string, e breaker.Event, _ bool) { h.add(agent, e) }

func (h *heard) add(agent string, e breaker.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, agent+" "+string(e.From)+">"+string(e.To))
}

// TestEvents_OfCallersThatHaveGoneAreTold once, and on a Cluster also the fleet is told.
func TestEvents_OfCallersThatHaveGoneAreTold(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ cluster, fallback, queued, atClose bool }{
		"alone":                      {},
		"alone, through a Fallback":  {fallback: true},
		"queued":                     {queued: true},
		"queued, through a Fallback": {queued: true, fallback: true},
		"queued, the store closes":   {queued: true, atClose: true},
		"alone on a Cluster":         {cluster: true},
		"queued on a Cluster":        {cluster: true, queued: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T, b *bubble) {
				h := &heard{}
				s, err := New(b.client, c.cluster, Config{OnEvent: h.add})
				if err != nil {
					t.Fatal(err)
				}
				b.Store = s
				var store breaker.Store = s
				if c.fallback {
					f := breaker.NewFallback(breaker.FallbackOptions{Store: s, Ping: s.Ping})
					defer f.Close()
					store = f
				}
				p := breaker.DefaultPolicy()
				p.FailureThreshold, p.Timeout = 1, time.Second
				m, err := breaker.NewManager(breaker.Options{Store: store, Policy: p, Observer: h})
				if err != nil {
					t.Fatal(err)
				}
				_ = m.Do(t.Context(), "a", func(context.Context) error { return errors.New("once") })
				<-time.After(3 * time.Second)
				b.slow(60 * time.Millisecond)
				var wg sync.WaitGroup
				if c.queued { // behind the others
					for range maxRoundTrips {
						wg.Go(func() { _, _, _ = m.Inspect(t.Context(), "other") })
					}
					synctest.Wait()
				}
				ctx, cancel := context.WithCancel(t.Context())
				onItsWay := 50 * time.Millisecond
				if c.queued {
					onItsWay += 60 * time.Millisecond
				}
				time.AfterFunc(onItsWay, cancel)
				if _, err := m.Acquire(ctx, "a"); !errors.Is(err, context.Canceled) {
					t.Errorf("acquire: %v", err)
				}
				wg.Wait()
				if !c.atClose {
					<-time.After(time.Second)
				}
				s.Close()
				if want := []string{"a closed>open", "a open>half_open"}; !slices.Equal(h.events, want) {
					t.Errorf("told %v, want %v", h.events, want)
				}
				stream := b.client.XLen(t.Context(), s.keys.Stream()).Val()
				if at := b.client.ZScore(t.Context(), s.keys.NotClosed(), "a").Val(); stream != 2 || at == 0 {
					t.Errorf("the stream has %d events, the index %v", stream, at)
				}
			})
		})
	}
}

// TestEvents_OfAnAcquireWhoseSecondTryFails: they are told beside the error, and the index gets no breaker without a
// state.
func TestEvents_OfAnAcquireWhoseSecondTryFails(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		state  machine.State
		hold   machine.State
		listed bool
	}{
		"it opened": {state: machine.Open, listed: true}, "it is half-open": {state: machine.HalfOpen, listed: true},
		"it closed": {state: machine.Closed}, "it is held closed": {state: machine.Closed, hold: machine.Closed, listed: true},
		"it is held open": {state: machine.Open, hold: machine.Open, listed: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T, b *bubble) {
				s, err := New(b.client, true, Config{})
				if err != nil {
					t.Fatal(err)
				}
				tries := 0
				s.dispatch.send = func(_ context.Context, trip *roundTrip) {
					if tries++; tries == 2 {
						trip.calls[0].fail(reply("ERR a script error"))
						return
					}
					trip.calls[0].answer(machine.Result{
						Code: machine.CodeExpired, State: c.state, Hold: c.hold, Epoch: token(0), NowMs: 1234,
						Events: []machine.Event{{AtMs: 1234, Kind: "x", From: machine.Open, To: c.state, Epoch: token(0), Actor: "-"}},
					})
				}
				r, err := s.Apply(t.Context(), "a", breaker.DefaultPolicy(), machine.Op{Verb: machine.VerbAcquire, Token: token(1), Draw: machine.ZeroEpoch[1:]})
				if e, ok := errors.AsType[*breaker.StoreError](err); !ok || !e.Refused || len(r.Events) != 1 || tries != 2 {
					t.Errorf("%+v, %v after %d tries", r, err, tries)
				}
				at, err := b.client.ZScore(t.Context(), s.keys.NotClosed(), "a").Result()
				if c.listed != (err == nil && at == 1234) {
					t.Errorf("the index has it at %v (%v)", at, err)
				}
				s.Close()
			})
		})
	}
}
