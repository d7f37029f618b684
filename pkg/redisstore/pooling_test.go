package redisstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// echo answers each call with its own token, never plainly, and counts the successes that it gets.
func echo(sent *atomic.Int64) func(context.Context, *roundTrip) {
	return func(_ context.Context, in *roundTrip) {
		for range rand.IntN(20) {
			runtime.Gosched()
		}
		for _, c := range in.calls {
			sent.Add(c.op.Summary.Successes)
			c.answer(machine.Result{Epoch: c.op.Token, NowMs: 1})
		}
	}
}

// TestDispatcher_NobodyGetsTheAnswerOfACancelledCall: calls are used again, and many callers leave theirs, in the queue
// or on its way.
func TestDispatcher_NobodyGetsTheAnswerOfACancelledCall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var sent, answered, cancelled atomic.Int64
		d := newDispatcher(2, echo(&sent), time.Minute)
		entries := []*entry{{agent: "a"}, {agent: "b"}}
		one := func(token string) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if rand.IntN(3) == 0 {
				go cancel()
			}
			c := d.newCall()
			c.agent, c.share = entries[rand.IntN(2)], share(rand.IntN(3))
			record := c.share == shareRecord
			c.op = machine.Op{Verb: machine.VerbAcquire, Token: token}
			if record {
				c.op = machine.Op{Verb: machine.VerbRecord, Epoch: strconv.Itoa(rand.IntN(2)), Summary: machine.Summary{Successes: 1}}
			}
			r, _, err := d.do(ctx, d.limit.context(), c)
			switch {
			case record && err == nil:
				answered.Add(1)
			case record && !errors.Is(err, errNotRun):
				cancelled.Add(1)
			case err == nil && r.Epoch != token:
				t.Errorf("the caller with token %s was answered %q", token, r.Epoch)
			}
		}
		var wg sync.WaitGroup
		for g := range 50 {
			wg.Go(func() {
				for i := range 200 {
					one(fmt.Sprint(g, "-", i))
				}
			})
		}
		wg.Wait()
		synctest.Wait()
		if sent.Load() != answered.Load()+cancelled.Load() {
			t.Errorf("%d successes sent, of %d answered callers and %d cancelled ones", sent.Load(), answered.Load(), cancelled.Load())
		}
		if len(d.idle) != 2 || len(d.queue) != 0 {
			t.Errorf("%d round trips are idle, %d calls wait", len(d.idle), len(d.queue))
		}
		for _, e := range entries {
			if e.acquire != nil || e.record != nil {
				t.Error("a call that was sent can still be joined")
			}
		}
	})
}

func TestDispatcher_ACallCancelledOnItsWayIsNotRecycled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		var sent atomic.Int64
		answer := echo(&sent)
		d := newDispatcher(1, func(ctx context.Context, in *roundTrip) { <-gate; answer(ctx, in) }, time.Minute)
		var wg sync.WaitGroup
		start := func(ctx context.Context, token string, want error) {
			wg.Go(func() {
				r, _, err := d.do(ctx, d.limit.context(), d.acquire(&entry{}, token))
				if !errors.Is(err, want) || errors.Is(err, errNotRun) || err == nil && r.Epoch != token {
					t.Errorf("%s: answered %q, %v", token, r.Epoch, err)
				}
			})
			synctest.Wait()
		}
		leaving, leave := context.WithCancel(t.Context())
		start(t.Context(), "only", nil)
		start(leaving, "leaves", context.Canceled)
		gate <- struct{}{} // the first round trip ends, the next takes the call that waits
		synctest.Wait()
		leave()
		synctest.Wait()
		for i := range 4 { // the pool must not give them the call that is still in a round trip
			start(t.Context(), fmt.Sprint("next-", i), nil)
		}
		close(gate)
		wg.Wait()
	})
}

func TestDispatcher_AJoinedCallReplacesItsCancelledLeader(t *testing.T) {
	t.Parallel()
	d, e := newDispatcher(0, nil, time.Minute), new(entry)
	calls := make([]*call, 4)
	for i := range calls {
		calls[i] = d.acquire(e, strconv.Itoa(i))
		d.enqueue(calls[i])
	}
	for _, c := range []*call{calls[2], calls[0], calls[3]} { // one that joined; the leader; the one that replaced it, or joined that
		if err := d.leave(c, context.Canceled); !errors.Is(err, errNotRun) {
			t.Error(err)
		}
		if len(d.queue) != 1 || e.acquire != d.queue[0] || d.queue[0].leader != d.queue[0] {
			t.Fatalf("the queue holds %d calls, or another can be joined", len(d.queue))
		}
	}
	if d.queue[0] != calls[1] || calls[1].joined != nil || calls[1].op.Token != "1" {
		t.Error("the caller who stayed does not ask with its own token")
	}
	if err := d.leave(calls[1], context.Canceled); !errors.Is(err, errNotRun) || len(d.queue) != 0 || e.acquire != nil {
		t.Errorf("%d calls wait for nobody, %v", len(d.queue), err)
	}
}

// TestDispatcher_SharesAnswersThatDependOnNobodysToken: all calls of an agent that wait are one call, or each asks by
// itself.
func TestDispatcher_SharesAnswersThatDependOnNobodysToken(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		answer machine.Result
		shared bool
	}{
		{machine.Result{Code: machine.CodeRefused, State: breaker.Open, Reason: machine.ReasonOpen}, true},
		{machine.Result{Code: machine.CodeRefused, State: breaker.Open, Reason: machine.ReasonForcedOpen}, true},
		{machine.Result{Code: machine.CodeRefused, State: breaker.HalfOpen, Reason: machine.ReasonProbesBusy}, true},
		{machine.Result{Code: machine.CodeObserved, State: breaker.Open, Reason: machine.ReasonOpen}, true},
		{machine.Result{Code: machine.CodeObserved, State: breaker.HalfOpen, Reason: machine.ReasonProbesBusy}, true},
		{machine.Result{Code: machine.CodeDisabled, State: breaker.Closed}, true},
		{machine.Result{Code: machine.CodeOK, State: breaker.Closed, Hold: breaker.Closed}, true},
		{machine.Result{Code: machine.CodeOK, State: breaker.Closed, Plain: true}, true},
		{machine.Result{Code: machine.CodeRefused, State: breaker.Closed, Reason: machine.ReasonRamping}, false},
		{machine.Result{Code: machine.CodeObserved, State: breaker.Closed, Reason: machine.ReasonRamping}, false},
		{machine.Result{Code: machine.CodeOK, State: breaker.Closed}, false}, // it may have been admitted by a ramp
		{machine.Result{Code: machine.CodeOK, State: breaker.HalfOpen, LeaseMs: 1}, false},
		{machine.Result{Code: machine.CodeExpired, State: breaker.HalfOpen}, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			const agents, callers = 10, 100
			var sent int
			gate := make(chan struct{})
			d := newDispatcher(1, func(_ context.Context, trip *roundTrip) {
				<-gate
				sent += len(trip.calls)
				for _, call := range trip.calls {
					call.answer(c.answer)
				}
			}, time.Minute)
			var wg sync.WaitGroup
			ask := func(e *entry) {
				wg.Go(func() {
					r, _, err := d.do(t.Context(), d.limit.context(), d.acquire(e, "t"))
					if err != nil || r.Code != c.answer.Code || r.Reason != c.answer.Reason {
						t.Errorf("%+v, %v", r, err)
					}
				})
			}
			ask(new(entry)) // the only round trip is in progress
			synctest.Wait()
			for range agents {
				e := new(entry)
				for range callers {
					ask(e)
				}
			}
			synctest.Wait()
			close(gate)
			wg.Wait()
			want := 1 + agents
			if !c.shared {
				want = 1 + agents*callers
			}
			if sent != want {
				t.Errorf("%+v: %d commands, want %d", c.answer, sent, want)
			}
		})
	}
}

// TestApply_AHerdOfOpenAgentsIsFewCommands: 20,000 callers of 10 agents at once.
func TestApply_AHerdOfOpenAgentsIsFewCommands(t *testing.T) {
	t.Parallel()
	client := testkit.Start(t).Client(t)
	s, err := New(client, false, Config{Timeout: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	const agents = 10
	callers := Rounds(20_000, 4000)
	for i := range agents {
		op := machine.Op{Verb: machine.VerbForce, Force: breaker.Force{Target: breaker.HoldOpen, Actor: "test"}}
		op.Draw, op.JitterPPM = draws()
		if _, err := s.Apply(t.Context(), fmt.Sprint("agent-", i), breaker.DefaultPolicy(), op); err != nil {
			t.Fatal(err)
		}
	}
	scripts(t, client)
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range callers {
		wg.Go(func() {
			<-start
			op := machine.Op{Verb: machine.VerbAcquire, Token: token(i), Draw: token(i)[1:]}
			r, err := s.Apply(t.Context(), fmt.Sprint("agent-", i%agents), breaker.DefaultPolicy(), op)
			if err != nil || r.Code != machine.CodeRefused || r.Reason != machine.ReasonForcedOpen || r.RetryAfterMs == 0 {
				t.Errorf("%+v, %v", r, err)
			}
		})
	}
	close(start)
	wg.Wait()
	n := scripts(t, client)
	if n > callers/10 {
		t.Errorf("%d callers of %d open agents took %d scripts", callers, agents, n)
	}
	t.Logf("%d callers of %d open agents took %d scripts", callers, agents, n)
}

// TestApply_AgentsAreNotMixedUp: each agent has an epoch of its own on a real Redis, and many callers leave.
func TestApply_AgentsAreNotMixedUp(t *testing.T) {
	t.Parallel()
	s, err := New(testkit.Start(t).Client(t), false, Config{Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	p, epochs := breaker.DefaultPolicy(), map[string]string{}
	for i := range 8 {
		agent := fmt.Sprint("agent-", i)
		force := breaker.Force{Target: breaker.ResetClosed, Actor: "test"}
		r, err := s.Apply(t.Context(), agent, p, machine.Op{Verb: machine.VerbForce, Draw: fmt.Sprintf("%015x", i+1), Force: force})
		if err != nil {
			t.Fatal(err)
		}
		epochs[agent] = r.Epoch
	}
	var answered, unknown [8]atomic.Int64
	one := func(i int, token string) {
		agent := fmt.Sprint("agent-", i)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		if rand.IntN(4) == 0 {
			go cancel()
		}
		op := machine.Op{Verb: machine.VerbAcquire, Draw: token[1:], Token: token}
		if rand.IntN(2) == 0 {
			op = success(1)
			op.Epoch = epochs[agent]
		}
		r, err := s.Apply(ctx, agent, p, op)
		var failed *breaker.StoreError
		switch {
		case err == nil && (r.Epoch != epochs[agent] || r.Code != machine.CodeOK):
			t.Errorf("%s of %s: %s in epoch %s, want %s", op.Verb, agent, r.Code, r.Epoch, epochs[agent])
		case op.Verb == machine.VerbRecord && err == nil:
			answered[i].Add(1)
		case op.Verb == machine.VerbRecord && errors.As(err, &failed) && failed.Unknown:
			unknown[i].Add(1)
		}
	}
	var wg sync.WaitGroup
	for g := range 64 {
		wg.Go(func() {
			for n := range Rounds(60, 15) {
				one(rand.IntN(8), fmt.Sprintf("%016x", g*1000+n))
			}
		})
	}
	wg.Wait()
	for i := range 8 {
		v, err := s.Inspect(t.Context(), fmt.Sprint("agent-", i), p)
		if err != nil || v.Successes < answered[i].Load() || v.Successes > answered[i].Load()+unknown[i].Load() {
			t.Errorf("agent %d: %d successes are recorded, %d callers were answered, %d do not know (%v)",
				i, v.Successes, answered[i].Load(), unknown[i].Load(), err)
		}
	}
}

func TestAgents_AreBounded(t *testing.T) {
	t.Parallel()
	for _, most := range []int{0, 1, 64, 1_000_000_000} {
		table := newAgents(Keys{Prefix: "p"}, most)
		bound := min(max(most, setEntries), maxEntries)
		var wg sync.WaitGroup
		for g := range 4 {
			wg.Go(func() {
				for i := range Rounds(10_000, 2000) {
					agent := fmt.Sprint("agent-", g%2, "-", i)
					e := table.of(agent)
					if e.agent != agent || e.who != "p:events "+agent || e.keys[stateKey] != "p:"+agent+":state" {
						t.Errorf("%s has the entry of %s", agent, e.agent)
						return
					}
				}
			})
		}
		wg.Wait()
		kept := 0
		for i := range table.sets {
			for j := range table.sets[i] {
				if table.sets[i][j].Load() != nil {
					kept++
				}
			}
		}
		if kept > bound || len(table.sets)*setEntries > bound {
			t.Errorf("%d entries are kept, %d can be, want at most %d", kept, len(table.sets)*setEntries, bound)
		}
		if e := table.of("again"); table.of("again") != e {
			t.Error("an agent's second call does not find the entry of its first")
		}
	}
}
