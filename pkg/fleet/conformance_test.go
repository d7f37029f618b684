package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
	"github.com/breakerd/breakerd/pkg/fleet"
)

// The suite of package storetest drives a store by operations at given times. What is here is above it: sequences of
// calls through the verbs of a Fleet, which end the same on each store, in both modes, and whatever the user's code does
// that is called meanwhile. No sequence depends on how long anything takes.

// sequence is a history of one agent, and what its caller saw.
type sequence struct {
	name   string
	policy breaker.Policy // the agent's override
	play   func(p *player)
	want   string
	// changes are those that OnStateChange is to be told of.
	changes string
}

func (s *sequence) agent() string { return strings.ReplaceAll(s.name, " ", "-") }

// player plays one sequence, and notes what it sees.
type player struct {
	*fleet.Fleet

	ctx   context.Context //nolint:containedctx // a player is played once, with it
	agent string
	seen  []string
}

func (p *player) see(format string, args ...any) {
	p.seen = append(p.seen, fmt.Sprintf(format, args...))
}

// verdict is the short form of what a call returned.
func verdict(err error) string {
	refusal, refused := errors.AsType[*breaker.OpenError](err)
	switch {
	case err == nil:
		return "ok"
	case refused:
		return string(refusal.Reason)
	case errors.Is(err, errAgent):
		return "failed"
	}
	return err.Error()
}

// do makes calls, one after the other.
func (p *player) do(fns ...func(context.Context) error) {
	for _, fn := range fns {
		func() {
			defer func() {
				if v := recover(); v != nil {
					p.see("%v", v)
				}
			}()
			p.see("%s", verdict(p.Do(p.ctx, p.agent, fn)))
		}()
	}
}

func (p *player) acquire() *breaker.Permit {
	permit, err := p.Acquire(p.ctx, p.agent)
	if err != nil {
		p.see("%s", verdict(err))
		return &permit
	}
	p.see("%s", permit.State())
	return &permit
}

// settle notes why an outcome did not count.
func (p *player) settle(permit *breaker.Permit, kind breaker.OutcomeKind) {
	r, err := permit.Report(p.ctx, breaker.Outcome{Kind: kind})
	p.note(r, err)
}

func (p *player) record(o breaker.Outcome) { p.note(p.Record(p.ctx, p.agent, o)) }

func (p *player) note(r breaker.Report, err error) {
	switch {
	case err != nil:
		p.see("%v", err)
	case r.Counted:
		p.see("counted")
	default:
		p.see("%s", r.Why)
	}
}

// state also sends what cached mode has not sent.
func (p *player) state() breaker.State {
	state, err := p.State(p.ctx, p.agent)
	if err != nil {
		p.see("%v", err)
	}
	return state
}

// look notes the state, and the successes and failures that were counted.
func (p *player) look() {
	v, _, err := p.Inspect(p.ctx, p.agent)
	if err != nil {
		p.see("%v", err)
		return
	}
	p.see("[%s %d+%d]", v.State, v.Successes, v.Failures)
}

func (p *player) force(target breaker.Target) {
	state, err := p.Manager().Force(p.ctx, p.agent, breaker.Force{Target: target, Actor: "test", Reason: "test"})
	if err != nil {
		p.see("%v", err)
		return
	}
	p.see("(%s)", state)
}

func (p *player) operate(err error) {
	if err != nil {
		p.see("%v", err)
	}
}

func (p *player) configure(policy breaker.Policy) {
	p.operate(p.Configure(p.ctx, p.agent, policy))
}

// trip makes a call fail, which opens the breaker. Cached mode has sent it then: in another epoch it would be late.
func (p *player) trip() {
	p.do(fail)
	p.see("%s", p.state())
}

func (p *player) until(what string, holds func() bool) {
	for !holds() {
		select {
		case <-p.ctx.Done():
			p.see("never %s", what)
			return
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func raise(context.Context) error { panic("raised") }

// halfOpen is a policy of a breaker that one failure opens, and that has as many places.
func halfOpen(places int) breaker.Policy {
	return breaker.Policy{FailureThreshold: 1, HalfOpenMaxCalls: places, ProbeTimeout: time.Hour}
}

func sequences() []sequence {
	runOff := breaker.Policy{FailureThreshold: breaker.Off}
	return []sequence{
		{"run", breaker.Policy{FailureThreshold: 3}, func(p *player) {
			p.do(fail, fail, succeed, fail, fail)
			p.look()
			p.do(fail)
			p.state()
			p.do(succeed, succeed)
			p.look()
		}, "failed failed ok failed failed [closed 1+4] failed open open [open 1+5]", "closed>open "},
		{"panics of calls", breaker.Policy{FailureThreshold: 2}, func(p *player) {
			p.do(raise, raise)
			p.state()
			p.do(succeed)
		}, "raised raised open", "closed>open "},
		{"rate", runOff, func(p *player) {
			p.do(succeed, fail, succeed, fail, succeed, fail, succeed, fail, succeed)
			p.look()
			p.do(fail)
			p.state()
			p.do(succeed)
		}, "ok failed ok failed ok failed ok failed ok [closed 5+4] failed open", "closed>open "},
		{"slow rate", breaker.Policy{SlowCallRateThreshold: 0.5, MinimumCalls: 2}, func(p *player) {
			p.record(breaker.Outcome{Kind: breaker.Success, Slow: true})
			p.look()
			p.record(breaker.Outcome{Kind: breaker.Success})
			p.state()
			p.do(succeed)
		}, "counted [closed 1+0] counted open", "closed>open "},
		{"late", breaker.Policy{FailureThreshold: 2}, func(p *player) {
			// Cached mode forgets an agent without a handle that is idle for a second, and then knows only when it sends an
			// outcome that it is late.
			if _, err := p.Agent(p.agent); err != nil {
				p.see("%v", err)
			}
			before := p.acquire()
			p.do(fail, fail)
			p.state()
			p.settle(before, breaker.Success)
			p.force(breaker.ResetClosed)
			p.settle(before, breaker.Success)
			p.look()
		}, "closed failed failed late (closed) permit is settled already [closed 0+2]", "closed>open open>closed "},
		{"ignored", breaker.Policy{FailureThreshold: 1}, func(p *player) {
			for range 3 {
				p.settle(p.acquire(), breaker.Ignored)
			}
			p.do(func(context.Context) error { return &breaker.OpenError{Reason: "another's"} })
			p.look()
		}, "closed ignored closed ignored closed ignored another's [closed 0+0]", ""},
		{"once", runOff, func(p *player) {
			for range 2 {
				p.record(breaker.Outcome{Kind: breaker.Failure, ReportID: "x"})
			}
			p.record(breaker.Outcome{Kind: breaker.Success})
			p.look()
		}, "counted duplicate counted [closed 1+1]", ""},
		{"timeout", breaker.Policy{FailureThreshold: 1, Timeout: time.Millisecond, HalfOpenMaxCalls: 1, ProbeTimeout: time.Hour}, func(p *player) {
			p.do(fail)
			p.until("half-open", func() bool { return p.state() == breaker.HalfOpen })
			p.do(fail)
			p.until("half-open", func() bool { return p.state() == breaker.HalfOpen })
			p.do(succeed)
			p.look()
		}, "failed failed ok [closed 1+2]", "closed>open open>half_open half_open>open open>half_open half_open>closed "},
		{"places", halfOpen(3), func(p *player) {
			p.trip()
			p.force(breaker.ResetHalfOpen)
			a, b, c := p.acquire(), p.acquire(), p.acquire()
			p.acquire()
			p.settle(b, breaker.Ignored)
			d := p.acquire()
			p.acquire()
			for _, permit := range []*breaker.Permit{a, c, d} {
				p.settle(permit, breaker.Success)
			}
			p.do(succeed)
			p.look()
		}, "failed open (half_open) half_open half_open half_open probes_busy ignored half_open probes_busy counted counted counted ok [closed 4+1]", "closed>open open>half_open half_open>closed "},
		{"failed probe", halfOpen(2), func(p *player) {
			p.trip()
			p.force(breaker.ResetHalfOpen)
			a, b := p.acquire(), p.acquire()
			p.settle(a, breaker.Failure)
			p.settle(b, breaker.Success)
			p.do(succeed)
		}, "failed open (half_open) half_open half_open counted late open", "closed>open open>half_open half_open>open "},
		{"nested probe", halfOpen(1), func(p *player) {
			p.trip()
			p.force(breaker.ResetHalfOpen)
			p.do(func(ctx context.Context) error { return p.Do(ctx, p.agent, succeed) })
			p.look()
		}, "failed open (half_open) ok [closed 1+1]", "closed>open open>half_open half_open>closed "},
		{"abandoned probe", breaker.Policy{FailureThreshold: 1, HalfOpenMaxCalls: 1, ProbeTimeout: time.Millisecond}, func(p *player) {
			p.trip()
			p.force(breaker.ResetHalfOpen)
			lost := p.acquire()
			p.configure(halfOpen(1))
			var probe breaker.Permit
			p.until("a free place", func() (free bool) {
				var err error
				probe, err = p.Acquire(p.ctx, p.agent)
				return err == nil
			})
			p.settle(lost, breaker.Failure)
			p.acquire()
			p.settle(&probe, breaker.Success)
			p.look()
		}, "failed open (half_open) half_open late probes_busy counted [closed 1+1]", "closed>open open>half_open half_open>closed "},
		{"hold", halfOpen(1), func(p *player) {
			p.do(succeed)
			p.look()
			p.operate(p.Open(p.ctx, p.agent, breaker.Hold{Reason: "test"}))
			p.do(succeed)
			p.force(breaker.HoldClosed)
			p.do(fail, succeed)
			p.look()
			p.operate(p.Open(p.ctx, p.agent, breaker.Hold{Reason: "test", Protected: true}))
			p.operate(p.Release(p.ctx, p.agent, breaker.Release{}))
			p.operate(p.Release(p.ctx, p.agent, breaker.Release{Force: true}))
			p.do(succeed)
			p.trip()
			p.operate(p.Reset(p.ctx, p.agent, breaker.Reset{Reason: "test"}))
			p.trip()
			p.do(succeed)
		}, "ok [closed 1+0] forced_open (closed) failed ok [closed 2+1] agent \"hold\": hold is protected: lift it with force ok failed open failed open open", "closed>open open>closed closed>open open>half_open half_open>closed closed>open open>closed closed>open "},
		{"override", breaker.Policy{FailureThreshold: 1}, func(p *player) {
			p.do(fail)
			p.state()
			p.do(succeed)
			p.configure(breaker.Policy{Disabled: true})
			p.do(succeed)
			p.configure(breaker.Policy{Mode: breaker.Observe})
			permit := p.acquire()
			p.see("would be %s", permit.WouldRefuse())
			p.settle(permit, breaker.Success)
			p.configure(breaker.Policy{})
			p.do(succeed)
		}, "failed open ok closed would be open observed open", "closed>open "},
	}
}

// variant is what the user's code does that is called beside a call. It does it in each method of an Observer, in
// Classify, PerAgent and OnStateChange.
type variant struct {
	name    string
	disturb func(u *userCode, agent string, waitedFor bool)
}

func variants() []variant {
	return []variant{
		{"calls back", (*userCode).callBack},
		{"blocks", func(*userCode, string, bool) { <-time.After(10 * time.Millisecond) }},
		{"panics", func(*userCode, string, bool) { panic("the user's") }},
	}
}

// userCode notes which of its functions were called.
type userCode struct {
	variant

	policy breaker.Policy // of each agent
	fleet  atomic.Pointer[fleet.Fleet]
	once   bool     // each function calls back once for each agent: a Redis takes no more
	active sync.Map // of agents to *atomic.Int64, how many of its functions run
	called sync.Map // of names, and of names and agents, to true
	hung   atomic.Bool
}

// aside is an agent of which nobody else makes calls.
const aside = "aside"

// call disturbs. waitedFor says that the caller of a verb of this agent waits for the function.
func (u *userCode) call(name, agent string, waitedFor bool) {
	u.called.Store(name, true)
	if _, before := u.called.LoadOrStore(name+" "+agent, true); before && u.once && u.name == "calls back" {
		return
	}
	u.disturb(u, agent, waitedFor)
}

// callBack uses the Fleet. What that notifies comes here again, and looks only; what this notifies does nothing.
func (u *userCode) callBack(agent string, waitedFor bool) {
	f := u.fleet.Load()
	v, _ := u.active.LoadOrStore(agent, new(atomic.Int64))
	active := v.(*atomic.Int64)
	defer active.Add(-1)
	depth := active.Add(1)
	if f == nil || depth > 2 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	defer func() {
		if ctx.Err() != nil {
			u.hung.Store(true)
		}
	}()
	_, _, err := f.Inspect(ctx, agent)
	if depth > 1 || err != nil {
		return
	}
	_, _ = f.State(ctx, agent)
	_, _ = f.List(ctx)
	if waitedFor { // else it might take the place that the player is about to take
		acquireAndIgnore(ctx, f, agent)
	}
	acquireAndIgnore(ctx, f, aside)
}

func acquireAndIgnore(ctx context.Context, f *fleet.Fleet, agent string) {
	if p, err := f.Acquire(ctx, agent); err == nil {
		_, _ = p.Ignore(ctx)
	}
}

func (u *userCode) Admitted(agent string, _ breaker.Permit)      { u.call("Admitted", agent, true) }
func (u *userCode) Refused(agent string, _ *breaker.OpenError)   { u.call("Refused", agent, true) }
func (u *userCode) Probed(agent string, _ breaker.Outcome)       { u.call("Probed", agent, true) }
func (u *userCode) Event(agent string, _ breaker.Event, _ bool)  { u.call("Event", agent, false) }
func (u *userCode) StoreCall(machine.Verb, time.Duration, error) { u.call("StoreCall", aside, false) }

func (u *userCode) PolicyRejected(agent string, _ error) { u.call("PolicyRejected", agent, false) }

func (u *userCode) Settled(agent string, _ breaker.Outcome, _ breaker.Report) {
	u.call("Settled", agent, true)
}

func (u *userCode) Flushed(agent string, _ machine.Summary, _ breaker.Report) {
	u.call("Flushed", agent, false)
}

func (u *userCode) PerAgent(agent string) breaker.Policy {
	u.call("PerAgent", agent, false)
	return u.policy
}

func (u *userCode) Classify(ctx context.Context, c breaker.CallInfo) breaker.Outcome {
	u.call("Classify", c.Agent, false)
	return breaker.Classify(ctx, c.Err)
}

// results are what the players of all sequences saw, the transitions that OnStateChange was told of, by agent, and how
// many outcomes the Manager has settled, by how.
type results struct {
	mu      sync.Mutex
	seen    map[string]string
	changes map[string]string
	settled map[machine.Code]int64
}

func (r *results) change(c breaker.Change) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changes[c.Agent] += fmt.Sprintf("%s>%s ", c.From, c.To)
}

func (r *results) told(agent string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changes[agent]
}

// conform plays all sequences at once, with a user's code or none.
func conform(
	t *testing.T, consistency breaker.Consistency, u *userCode, join func(o fleet.Options) (*fleet.Fleet, error),
) *results {
	t.Helper()
	r := &results{seen: map[string]string{}, changes: map[string]string{}}
	o := fleet.Options{
		Policy: breaker.Policy{Consistency: consistency, Timeout: time.Hour}, Logger: slog.New(slog.DiscardHandler),
		OnStateChange: r.change,
	}
	if u != nil {
		u.policy, o.Observer, o.PerAgent, o.Classify = o.Policy, u, u.PerAgent, u.Classify
		o.OnStateChange = func(c breaker.Change) {
			r.change(c)
			u.call("OnStateChange", c.Agent, false)
		}
	}
	f, err := join(o)
	if err != nil {
		t.Error(err)
		return r
	}
	if u != nil {
		u.fleet.Store(f)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var players sync.WaitGroup
	places := make(chan struct{}, 4) // more would overload a Redis
	for _, s := range sequences() {
		players.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			p := &player{Fleet: f, ctx: ctx, agent: s.agent()}
			p.configure(s.policy)
			s.play(p)
			p.until("told", func() bool { return len(r.told(p.agent)) >= len(s.changes) })
			r.mu.Lock()
			defer r.mu.Unlock()
			r.seen[s.name] = strings.Join(p.seen, " ")
		})
	}
	players.Wait()
	if err := f.Close(ctx); err != nil {
		t.Error(err)
	}
	r.account(t, f.Manager().Outcomes())
	return r
}

// account checks that each outcome was settled once, and keeps how, but for those that userCode adds.
func (r *results) account(t *testing.T, o breaker.Outcomes) {
	t.Helper()
	var sum int64
	for _, n := range o.Settled {
		sum += n
	}
	if sum != o.Taken || o.Unsent.Outcomes != 0 || len(o.Lost) > 0 {
		t.Errorf("%+v", o)
	}
	r.settled = maps.Clone(o.Settled)
	for _, code := range []machine.Code{machine.CodeIgnored, machine.CodeDisabled, machine.CodeObserved} {
		delete(r.settled, code)
	}
}

// check compares with what the players are to see, and with the results without user's code.
func (r *results) check(t *testing.T, bare *results) {
	t.Helper()
	for _, s := range sequences() {
		if got := r.seen[s.name]; got != s.want {
			t.Errorf("%s:\nsaw  %s\nwant %s", s.name, got, s.want)
		}
		if got := r.told(s.agent()); got != s.changes {
			t.Errorf("%s: told of %s, want %s", s.name, got, s.changes)
		}
	}
	if !maps.Equal(r.settled, bare.settled) {
		t.Errorf("settled %v\nwant    %v", r.settled, bare.settled)
	}
}

// check checks that each function was called, and that none hung.
func (u *userCode) check(t *testing.T, consistency breaker.Consistency) {
	t.Helper()
	want := []string{"Admitted", "Refused", "Settled", "Probed", "Event", "StoreCall", "Classify", "PerAgent", "OnStateChange"}
	if consistency == breaker.Cached {
		want = append(want, "Flushed")
	}
	for _, name := range want {
		if _, called := u.called.Load(name); !called {
			t.Errorf("%s was not called", name)
		}
	}
	if u.hung.Load() {
		t.Error("what it called back did not return")
	}
}

var modes = []breaker.Consistency{breaker.Strict, breaker.Cached}

func TestFleet_VerdictsDoNotDependOnUserCodeInMemory(t *testing.T) {
	t.Parallel()
	inMemory := func(o fleet.Options) (*fleet.Fleet, error) { return fleet.New(breaker.NewMemory(nil, 0), o) }
	for _, consistency := range modes {
		t.Run(string(consistency), func(t *testing.T) {
			t.Parallel()
			var bare *results
			synctest.Test(t, func(t *testing.T) {
				bare = conform(t, consistency, nil, inMemory)
				bare.check(t, bare)
			})
			for _, v := range variants() {
				t.Run(v.name, func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) {
						u := &userCode{variant: v}
						conform(t, consistency, u, inMemory).check(t, bare)
						u.check(t, consistency)
					})
				})
			}
		})
	}
}

func TestFleet_VerdictsDoNotDependOnUserCode(t *testing.T) {
	t.Parallel()
	onEachEngine(t, func(t *testing.T, url string, consistency breaker.Consistency) {
		t.Helper()
		joinAs := func(prefix string) func(o fleet.Options) (*fleet.Fleet, error) {
			return func(o fleet.Options) (*fleet.Fleet, error) {
				o.Prefix, o.FromEnv = prefix, true // with the time-out of TestMain
				return fleet.Join(t.Context(), url, o)
			}
		}
		bare := conform(t, consistency, nil, joinAs("bare"))
		bare.check(t, bare)
		for _, v := range variants() {
			t.Run(v.name, func(t *testing.T) {
				t.Parallel()
				u := &userCode{variant: v, once: true}
				conform(t, consistency, u, joinAs(strings.ReplaceAll(v.name, " ", "_"))).check(t, bare)
				u.check(t, consistency)
			})
		}
	})
}
