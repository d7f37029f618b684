package breaker_test

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// wantSum fails unless every outcome that was taken has a place.
func wantSum(t interface {
	Errorf(format string, args ...any)
}, m *breaker.Manager,
) breaker.Outcomes {
	o := m.Outcomes()
	var settled, lost int64
	for _, n := range o.Settled {
		settled += n
	}
	for _, n := range o.Lost {
		lost += n
	}
	if o.Taken != settled+o.Unsent.Outcomes || lost != o.Settled[machine.CodeLost] || o.Unsent.Outcomes < 0 {
		t.Errorf("the sum does not hold: %+v", o)
	}
	return o
}

// replica is a Manager on a Fallback on a store that may be down.
type replica struct {
	*outage
	log *testkit.Buffer
	o   *outcomeCounter
}

func newReplica(t *testing.T, edit func(*breaker.Policy)) *replica {
	t.Helper()
	r := &replica{outage: newOutage(t, edit), log: new(testkit.Buffer), o: &outcomeCounter{}}
	p := breaker.DefaultPolicy()
	if edit != nil {
		edit(&p)
	}
	var err error
	r.manager, err = breaker.NewManager(breaker.Options{
		Store: r.fallback, Policy: p, Reporter: "test", Observer: r.o, Logger: slog.New(slog.NewTextHandler(r.log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.manager.Close(context.WithoutCancel(t.Context())) })
	return r
}

func cached(p *breaker.Policy) { p.Consistency = breaker.Cached }

func settle(ctx context.Context, t *testing.T, m *breaker.Manager, agent string, kind breaker.OutcomeKind) breaker.Report {
	t.Helper()
	p, err := m.Acquire(ctx, agent)
	if err != nil {
		t.Fatal(err)
	}
	r, err := p.Report(ctx, breaker.Outcome{Kind: kind})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestReplay_OutcomesOfAnOutageCount(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*breaker.Policy){
		"strict": nil, "cached": cached,
		"allow": func(p *breaker.Policy) { p.OnStoreError = breaker.OnStoreErrorAllow },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newReplica(t, edit)
				defer r.fallback.Close()
				for agent := range 7 {
					settle(t.Context(), t, r.manager, fmt.Sprint("agent-", agent), breaker.Success)
				}
				<-time.After(time.Second)
				r.store.down.Store(true)
				for i := range 142 {
					kind := breaker.Success
					if i%7 == 3 {
						kind = breaker.Failure
						if i > 30 { // four failures, which do not open the breaker in memory
							kind = breaker.Success
						}
					}
					settle(t.Context(), t, r.manager, fmt.Sprint("agent-", i%7), kind)
					wantSum(t, r.manager)
				}
				<-time.After(time.Second)
				if u := wantSum(t, r.manager).Unsent; u.Outcomes != 142 || u.Agents != 7 || u.Oldest < time.Second {
					t.Errorf("unsent: %+v", u)
				}
				r.store.down.Store(false)
				<-time.After(3 * time.Second)
				synctest.Wait()
				o := wantSum(t, r.manager)
				if o.Settled[machine.CodeOK] != 149 || o.Taken != 149 || o.Unsent != (breaker.Backlog{}) {
					t.Errorf("%+v", o)
				}
				for agent := range 7 {
					v, _, err := r.manager.Inspect(t.Context(), fmt.Sprint("agent-", agent))
					want := int64(21) // 142 = 2 * 21 + 5 * 20, and one before
					if agent < 2 {
						want++
					}
					if err != nil || v.Successes+v.Failures != want || agent == 3 && v.Failures != 4 {
						t.Errorf("agent %d: %d successes, %d failures, %v", agent, v.Successes, v.Failures, err)
					}
				}
				if log := r.log.String(); !strings.Contains(log, "Replaying 142 outcomes of 7 agents") || !strings.Contains(log, "in step") {
					t.Error(log)
				}
				if r.o.final["counted"] != 149 {
					t.Errorf("observed %+v", r.o)
				}
			})
		})
	}
}

// A probe whose outcome meets the outage keeps its place until the store has the outcome.
func TestReplay_ProbesSettleByToken(t *testing.T) {
	t.Parallel()
	for _, hang := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r := newReplica(t, func(p *breaker.Policy) { p.HalfOpenMaxCalls = 1 })
			defer r.fallback.Close()
			for range 5 {
				settle(t.Context(), t, r.manager, "a", breaker.Failure)
			}
			<-time.After(time.Minute)
			probe, err := r.manager.Acquire(t.Context(), "a")
			if err != nil || probe.State() != breaker.HalfOpen {
				t.Fatal(probe, err)
			}
			if r.store.down.Store(true); hang {
				r.store.down.Store(false)
				r.store.hang.Store(true)
			}
			if rep, err := probe.Report(t.Context(), breaker.Outcome{Kind: breaker.Success}); err != nil || !rep.Pending {
				t.Errorf("%+v, %v", rep, err)
			}
			<-time.After(5 * time.Second)
			r.store.down.Store(false)
			r.store.hang.Store(false)
			<-time.After(2 * time.Second)
			synctest.Wait()
			v, _, err := r.manager.Inspect(t.Context(), "a")
			if err != nil || v.State != breaker.Closed {
				t.Errorf("%s, %v: want closed", v.State, err)
			}
			wantSum(t, r.manager)
		})
	}
}

// An outcome with an idempotency key counts once, whether its first record was carried out or not.
func TestReplay_ReportsWithAKeyCountOnce(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"down", "hang", "lost"} {
		synctest.Test(t, func(t *testing.T) {
			r := newReplica(t, nil)
			defer r.fallback.Close()
			settle(t.Context(), t, r.manager, "a", breaker.Success)
			r.store.down.Store(mode == "down")
			r.store.hang.Store(mode == "hang")
			r.store.lost.Store(mode == "lost")
			o := breaker.Outcome{Kind: breaker.Failure, ReportID: "key"}
			if rep, err := r.manager.Record(t.Context(), "a", o); err != nil || !rep.Counted {
				t.Errorf("%s: %+v, %v", mode, rep, err)
			}
			<-time.After(time.Second)
			r.store.down.Store(false)
			r.store.hang.Store(false)
			r.store.lost.Store(false)
			<-time.After(3 * time.Second)
			if rep, err := r.manager.Record(t.Context(), "a", o); err != nil || rep.Why != machine.CodeDuplicate {
				t.Errorf("%s: again: %+v, %v", mode, rep, err)
			}
			if s, f, _ := totals(t, r.manager); s != 1 || f != 1 {
				t.Errorf("%s: %d successes, %d failures", mode, s, f)
			}
			sum, unknown := wantSum(t, r.manager).Settled, int64(0)
			if mode == "lost" {
				unknown = 1
			}
			if sum[machine.CodeOK] != 2-unknown || sum[breaker.CodeUnknown] != unknown || sum[machine.CodeDuplicate] != 1 {
				t.Errorf("%s: %+v", mode, sum)
			}
		})
	}
}

func TestReplay_WhatIsLostSaysWhy(t *testing.T) {
	t.Parallel()
	trip := func(t *testing.T, r *replica) { // by another replica
		p := breaker.DefaultPolicy()
		for range 5 {
			op := machine.Op{Verb: machine.VerbRecord, Summary: machine.One(true, false, 0), Draw: machine.ZeroEpoch[1:]}
			if _, err := r.store.Memory.Apply(t.Context(), "a", p, op); err != nil {
				t.Fatal(err)
			}
		}
	}
	for why, during := range map[machine.Reason]func(*testing.T, *replica){
		"open": trip,
		"epoch": func(t *testing.T, r *replica) {
			trip(t, r)
			op := machine.Op{Verb: machine.VerbForce, Draw: "100000000000000", Force: breaker.Force{Target: breaker.ResetClosed, Actor: "me"}}
			_, _ = r.store.Memory.Apply(t.Context(), "a", breaker.DefaultPolicy(), op)
		},
		"expired":     func(*testing.T, *replica) { <-time.After(3 * time.Minute) },
		"store_reset": func(_ *testing.T, r *replica) { r.fallback.Identify("another") },
		"local": func(t *testing.T, r *replica) {
			for range 5 { // the breaker in memory opens, and closes
				_ = r.manager.Do(t.Context(), "b", fail)
			}
			<-time.After(time.Minute)
			for range 3 {
				_ = r.manager.Do(t.Context(), "b", succeed)
			}
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newReplica(t, nil)
			defer r.fallback.Close()
			r.fallback.Identify("one")
			settle(t.Context(), t, r.manager, "a", breaker.Success)
			r.store.down.Store(true)
			for range 3 {
				settle(t.Context(), t, r.manager, "a", breaker.Success)
			}
			during(t, r)
			r.store.down.Store(false)
			<-time.After(3 * time.Second)
			synctest.Wait()
			if o := wantSum(t, r.manager); o.Lost[why] != 3 || o.Unsent.Outcomes != 0 {
				t.Errorf("%s: %+v", why, o)
			}
		})
	}
}

// What was sent may have been carried out: it is sent again, and counts once.
func TestReplay_LostAnswersAndASecondOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newReplica(t, cached)
		defer r.fallback.Close()
		settle(t.Context(), t, r.manager, "a", breaker.Success)
		<-time.After(time.Second)
		for range 3 {
			r.store.down.Store(true)
			for range 5 {
				settle(t.Context(), t, r.manager, "a", breaker.Success)
			}
			<-time.After(time.Second)
			r.store.lost.Store(true) // what is sent is carried out, and the answer is lost
			r.store.down.Store(false)
			<-time.After(3 * time.Second)
			wantSum(t, r.manager)
			r.store.lost.Store(false)
			<-time.After(3 * time.Second)
		}
		synctest.Wait()
		o := wantSum(t, r.manager)
		if s, _, _ := totals(t, r.manager); s != 16 || o.Settled[machine.CodeOK] != 16 {
			t.Errorf("%d successes; %+v", s, o)
		}
	})
}

// An agent whose operations the store refuses is alone in that.
func TestFallback_RefusedAgentIsAlone(t *testing.T) { // litellm PR 35273, cerberus 2900
	t.Parallel()
	deny := func(p *breaker.Policy) { p.OnStoreError = breaker.OnStoreErrorDeny }
	allow := func(p *breaker.Policy) { p.OnStoreError = breaker.OnStoreErrorAllow }
	for name, c := range map[string]struct {
		verb machine.Verb
		edit func(p *breaker.Policy)
		ran  int // of 100 calls of the bad agent, which all fail
	}{
		"records":          {machine.VerbRecord, nil, 5},
		"acquires":         {machine.VerbAcquire, nil, 5},
		"records, cached":  {machine.VerbRecord, cached, 5},
		"acquires, cached": {machine.VerbAcquire, cached, 5},
		"records, allow":   {machine.VerbRecord, allow, 100},
		"records, deny":    {machine.VerbRecord, deny, 1},
		"acquires, deny":   {machine.VerbAcquire, deny, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newReplica(t, c.edit)
			defer r.fallback.Close()
			r.store.refuse("bad", c.verb)
			ran := 0
			for range 100 {
				_ = r.manager.Do(t.Context(), "bad", func(context.Context) error { ran++; return errAgent })
				synctest.Wait() // cached mode has sent the outcome
				if err := r.manager.Do(t.Context(), "good", succeed); err != nil {
					t.Fatal(err)
				}
			}
			if ran != c.ran || r.fallback.Degraded() || r.fallback.Refusals().Agents != 1 {
				t.Errorf("%s: %d of 100 calls ran, degraded %v, %+v", name, ran, r.fallback.Degraded(), r.fallback.Refusals())
			}
			v, _, err := r.manager.Inspect(t.Context(), "good")
			if err != nil || v.Successes != 100 {
				t.Errorf("%s: good: %d, %v", name, v.Successes, err)
			}
			if n := strings.Count(r.outage.log.String(), "refuses the operations of an agent"); n != 1 {
				t.Errorf("%s: logged %d times", name, n)
			}
			r.store.refuse("", "")
			<-time.After(time.Minute)
			for range 5 {
				_ = r.manager.Do(t.Context(), "bad", succeed)
				<-time.After(time.Second)
			}
			if r.fallback.Refusals().Agents != 0 {
				t.Errorf("%s: still refused", name)
			}
			wantSum(t, r.manager)
		})
	}
}

// A broken connection is checked by one ping: nobody is degraded if the store answers it.
func TestFallback_CutConnectionIsChecked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newReplica(t, nil)
		defer r.fallback.Close()
		settle(t.Context(), t, r.manager, "a", breaker.Success)
		r.store.cut.Store(true)
		if err := r.manager.Do(t.Context(), "a", succeed); err != nil {
			t.Error(err)
		}
		if len(r.changes) != 0 {
			t.Error("degraded though pings are answered")
		}
		r.store.cut.Store(false)
		if err := r.manager.Do(t.Context(), "a", succeed); err != nil {
			t.Error(err)
		}
		if o := wantSum(t, r.manager); o.Settled[machine.CodeOK] != 2 || o.Settled[breaker.CodeUnknown] != 1 {
			t.Errorf("%+v", o)
		}
		r.store.cut.Store(true)
		r.store.pingsFail.Store(true)
		_ = r.manager.Do(t.Context(), "a", succeed)
		if !r.fallback.Degraded() {
			t.Error("not degraded though pings fail")
		}
	})
}

// A store that fails again and again is believed later each time.
func TestFallback_RelapsesTakeLongerToReturn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newReplica(t, nil)
		defer r.fallback.Close()
		var last time.Duration
		for i := range 6 {
			r.store.down.Store(true)
			_, _ = r.manager.Record(t.Context(), "a", breaker.Outcome{Kind: breaker.Success})
			r.store.down.Store(false)
			begin := time.Now()
			for r.fallback.Degraded() {
				<-time.After(time.Millisecond)
			}
			took := time.Since(begin)
			if took < last-5*time.Millisecond || i == 5 && took > time.Second {
				t.Errorf("outage %d: %v, before %v", i, took, last)
			}
			last = took
		}
		<-time.After(time.Minute)
		r.store.down.Store(true)
		_, _ = r.manager.Record(t.Context(), "a", breaker.Outcome{Kind: breaker.Success})
		r.store.down.Store(false)
		if <-time.After(100 * time.Millisecond); r.fallback.Degraded() {
			t.Error("a first outage takes as long as a relapse")
		}
	})
}

// Random histories of three replicas whose store is down for each at other times, in each of the ways in which a store
// fails: nothing counts twice, and every outcome has a place.
func TestReplay_RandomOutagesKeepTheSum(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		steps := rapid.SliceOfN(rapid.IntRange(0, 999), 20, 120).Draw(rt, "steps")
		isCached := rapid.Bool().Draw(rt, "cached")
		synctest.Test(t, func(t *testing.T) { runOutages(t, rt, steps, isCached) })
	})
}

func runOutages(t *testing.T, rt *rapid.T, steps []int, isCached bool) {
	shared := breaker.NewMemory(nil, 0)
	var replicas []*replica
	for range 3 {
		r := newReplica(t, func(p *breaker.Policy) {
			p.FailureRateThreshold, p.Timeout = breaker.Off, 5*time.Second
			if isCached {
				p.Consistency = breaker.Cached
			}
		})
		r.store.Memory = shared
		replicas = append(replicas, r)
	}
	var owed []breaker.Permit
	for _, step := range steps {
		r, agent := replicas[step%3], fmt.Sprint("a", step/3%2)
		switch what := step / 6 % 20; what {
		case 0, 1, 2, 3, 4, 5:
			_, _ = r.manager.Record(t.Context(), agent, breaker.Outcome{Kind: breaker.Success})
		case 6, 7, 8:
			_, _ = r.manager.Record(t.Context(), agent, breaker.Outcome{Kind: breaker.Failure, ReportID: strconv.Itoa(step % 50)})
		case 9, 10, 11:
			if p, err := r.manager.Acquire(t.Context(), agent); err == nil {
				owed = append(owed, p)
			}
		case 12, 13, 14:
			if len(owed) > 0 {
				kind := []breaker.OutcomeKind{breaker.Success, breaker.Failure, breaker.Ignored}[step%3]
				_, _ = owed[0].Report(t.Context(), breaker.Outcome{Kind: kind})
				owed = owed[1:]
			}
		case 15:
			r.store.down.Store(!r.store.down.Load())
		case 16:
			r.store.lost.Store(!r.store.lost.Load())
		case 17:
			r.store.cut.Store(!r.store.cut.Load())
		default:
			<-time.After(time.Duration(step) * 5 * time.Millisecond)
		}
		wantSum(rt, r.manager)
	}
	var acknowledged, unknown int64
	for _, r := range replicas {
		r.store.down.Store(false)
		r.store.lost.Store(false)
		r.store.cut.Store(false)
	}
	<-time.After(30 * time.Second)
	for _, r := range replicas {
		if err := r.manager.Close(t.Context()); err != nil {
			rt.Fatal(err)
		}
		o := wantSum(rt, r.manager)
		if o.Unsent.Outcomes != 0 {
			rt.Errorf("unsent after the outages: %+v", o)
		}
		acknowledged += o.Settled[machine.CodeOK]
		unknown += o.Settled[breaker.CodeUnknown]
	}
	var counted int64
	for _, agent := range []string{"a0", "a1"} {
		v, err := shared.Inspect(t.Context(), agent, breaker.DefaultPolicy())
		if err != nil {
			rt.Fatal(err)
		}
		counted += v.Successes + v.Failures
	}
	if counted < acknowledged || counted > acknowledged+unknown {
		rt.Errorf("the store counted %d, of %d acknowledged and %d unknown", counted, acknowledged, unknown)
	}
	for _, r := range replicas {
		r.fallback.Close()
	}
}

// What waits is bounded: an agent has twelve sums, a Manager MaxAgents agents.
func TestReplay_QueueIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &switchableStore{Memory: breaker.NewMemory(nil, 0)}
		f := breaker.NewFallback(breaker.FallbackOptions{Store: s, Ping: s.ping})
		defer f.Close()
		o := &outcomeCounter{}
		m, err := breaker.NewManager(breaker.Options{Store: f, Reporter: "test", Observer: o, MaxAgents: 3})
		if err != nil {
			t.Fatal(err)
		}
		s.down.Store(true)
		for range 20 { // a bucket is ten seconds long
			_, _ = m.Record(t.Context(), "old", breaker.Outcome{Kind: breaker.Success})
			<-time.After(10 * time.Second)
		}
		for agent := range 10 {
			r, err := m.Record(t.Context(), fmt.Sprint("new-", agent), breaker.Outcome{Kind: breaker.Success})
			if kept := agent < 2; r.Counted != kept && r.Why != breaker.CodeUntracked || err != nil {
				t.Errorf("agent %d: %+v, %v", agent, r, err)
			}
		}
		sum := wantSum(t, m)
		if sum.Unsent.Outcomes > 14 || sum.Lost[breaker.LostExpired] != 8 || o.final[machine.CodeLost] < 8 {
			t.Errorf("%+v; observed %+v", sum, o.final)
		}
		s.down.Store(false)
		<-time.After(5 * time.Second)
		if err := m.Close(t.Context()); err != nil || wantSum(t, m).Unsent.Outcomes != 0 {
			t.Error(err)
		}
	})
}
