package breaker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// namesStore notes the agents of which the store heard, and of which the policy was asked.
type namesStore struct {
	breaker.NopObserver
	*breaker.Memory

	names, observed map[string]bool
}

func (s *namesStore) Apply(ctx context.Context, agent string, p breaker.Policy, op machine.Op) (machine.Result, error) {
	s.names[agent] = true
	return s.Memory.Apply(ctx, agent, p, op)
}

func (s *namesStore) Admitted(agent string, _ breaker.Permit)    { s.observed[agent] = true }
func (s *namesStore) Refused(agent string, _ *breaker.OpenError) { s.observed[agent] = true }

func (s *namesStore) Settled(agent string, _ breaker.Outcome, _ breaker.Report) {
	s.observed[agent] = true
}

// tracking is a manager whose store is a namesStore.
func tracking(t *testing.T, most int, o breaker.Tracking) (*crowd, *namesStore) {
	t.Helper()
	s := &namesStore{Memory: breaker.NewMemory(nil, 0), names: map[string]bool{}, observed: map[string]bool{}}
	m, err := breaker.NewManager(breaker.Options{
		Store: s, Observer: s, MaxAgents: most, Tracking: o,
		PerAgent: func(_ context.Context, agent string) breaker.Policy {
			s.observed[agent] = true
			return breaker.Policy{FailureThreshold: 3}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return &crowd{TB: t, m: m}, s
}

// every is each way into the machine, for a made-up name.
func every() map[string]func(c *crowd, agent string) {
	return map[string]func(c *crowd, agent string){
		"acquire": func(c *crowd, agent string) { _ = c.call(agent, failed) },
		"do": func(c *crowd, agent string) {
			_ = c.m.Do(c.Context(), agent, func(context.Context) error { return errors.New("x") })
		},
		"report": func(c *crowd, agent string) {
			r, err := c.m.Record(c.Context(), agent, breaker.Outcome{Kind: failed})
			if err != nil || r.Counted != (r.Why == "") {
				c.Errorf("%+v, %v", r, err)
			}
		},
		"a permit from a text": func(c *crowd, agent string) {
			p, _ := c.m.Acquire(c.Context(), agent)
			q, err := c.m.Resume(agent, p.String())
			if err != nil {
				c.Fatal(err)
			}
			_, _ = q.Report(c.Context(), breaker.Outcome{Kind: failed})
			_ = q.Renew(c.Context())
		},
		"another agent's permit": func(c *crowd, agent string) {
			p, _ := c.m.Resume(agent, "v1.half_open.0123456789abcdef.0123456789abcdef.00000000")
			_ = p.Renew(c.Context())
			_, _ = p.Report(c.Context(), breaker.Outcome{Kind: failed})
		},
		"made-up permits": func(c *crowd, agent string) {
			given, _ := c.m.Acquire(c.Context(), agent)
			tag := given.String()[strings.LastIndex(given.String(), "."):]
			for _, text := range []string{"closed.0000000000000000.-", "local.0123456789abcdef.-", "observed.0000000000000000.-", "disabled.0000000000000000.-"} {
				p, err := c.m.Resume(agent, "v1."+text+tag)
				if err != nil {
					c.Fatal(err)
				}
				_ = p.Renew(c.Context())
				_, _ = p.Report(c.Context(), breaker.Outcome{Kind: failed})
			}
		},
		"a handle": func(c *crowd, agent string) {
			a, _ := c.m.Agent(agent)
			p, _ := a.Acquire(c.Context())
			_, _ = p.Report(c.Context(), breaker.Outcome{Kind: failed})
		},
	}
}

func (c *crowd) opens(agent string) {
	c.Helper()
	_ = c.call(agent, failed, failed, failed)
	var open *breaker.OpenError
	if err := c.call(agent, failed); !errors.As(err, &open) || open.Reason != breaker.ReasonOpen {
		c.Errorf("%s does not open: %v", agent, err)
	}
}

// OmniRoute PR 4114, anticapture PR 2148, Hystrix 1737: whoever may name agents fills every table.
func TestTracker_MadeUpNamesAreBoundedWhateverWayTheyCome(t *testing.T) {
	t.Parallel()
	for way, enter := range every() {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			c, s := tracking(t, 20, breaker.Tracking{Important: func(agent string) bool { return agent == "registered" }})
			_ = c.call("in-use", breaker.Success)
			c.force("banned", breaker.Force{Target: breaker.HoldOpen, Protected: true})
			for i := range 60 {
				enter(c, fmt.Sprint("made-up-", i))
			}
			if len(s.names) > 20 || len(s.observed) > 20 {
				t.Errorf("the store heard of %d names, the observer of %d", len(s.names), len(s.observed))
			}
			if n := c.m.Untracked(); n < 40 {
				t.Errorf("%d calls untracked", n)
			}
			c.want("banned", breaker.Open, breaker.Open)
			c.opens("in-use")
			c.opens("registered")
		})
	}
}

func TestTracker_UntrackedCallsGoOnAndCountNowhere(t *testing.T) {
	t.Parallel()
	c, s := tracking(t, 1, breaker.Tracking{})
	_ = c.call("a", breaker.Success)
	before := c.m.Outcomes()
	for range 10 {
		p, err := c.m.Acquire(t.Context(), "b")
		if err != nil || p.State() != breaker.Closed || !strings.HasPrefix(p.String(), "v1.untracked.") || p.Lease() != 0 {
			t.Fatalf("%v, %v", p, err)
		}
		r, err := p.Report(t.Context(), breaker.Outcome{Kind: failed})
		if err != nil || r != (breaker.Report{Why: breaker.CodeUntracked}) {
			t.Errorf("%+v, %v", r, err)
		}
	}
	if after := c.m.Outcomes(); after.Taken != before.Taken || len(s.names) != 1 || c.m.Untracked() != 10 {
		t.Errorf("%+v, names %v, untracked %d", after, s.names, c.m.Untracked())
	}
}

func TestTracker_RefusesOnlyIfAsked(t *testing.T) {
	t.Parallel()
	c, _ := tracking(t, 1, breaker.Tracking{Refuse: true})
	_ = c.call("a", breaker.Success)
	ran := false
	err := c.m.Do(t.Context(), "b", func(context.Context) error { ran = true; return nil })
	var open *breaker.OpenError
	if !errors.Is(err, breaker.ErrTooManyAgents) || !errors.As(err, &open) || open.RetryAfter() != time.Second || ran {
		t.Errorf("%v, ran %v", err, ran)
	}
	c.opens("a")
	if err := c.call("a", failed); errors.Is(err, breaker.ErrTooManyAgents) {
		t.Error(err)
	}
}

func TestTracker_NewNamesASecondAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, s := tracking(t, 1000, breaker.Tracking{NewPerSecond: 10, Important: func(agent string) bool { return agent == "registered" }})
		for second := range 3 {
			for i := range 50 {
				_ = c.call(fmt.Sprint("made-up-", second, "-", i), breaker.Success)
			}
			if want := 10 * (second + 1); len(s.names) != want {
				t.Errorf("%d names after %d seconds, want %d", len(s.names), second+1, want)
			}
			_ = c.call("made-up-0-0", breaker.Success) // it is tracked
			time.Sleep(time.Second)
		}
		for i := range 50 {
			_ = c.call(fmt.Sprint("more-", i), breaker.Success)
		}
		c.opens("registered")
		c.opens("made-up-0-0")
	})
}

func TestTracker_APlaceIsFreeWhenItsKeysAreGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, s := tracking(t, 20, breaker.Tracking{Life: time.Hour})
		_ = c.call("open", failed, failed, failed)
		for i := range 60 {
			_ = c.call(fmt.Sprint("made-up-", i), breaker.Success)
		}
		time.Sleep(50 * time.Minute)
		_ = c.call("made-up-0", breaker.Success)
		if _ = c.call("late", breaker.Success); s.names["late"] {
			t.Error("a place was free too early")
		}
		time.Sleep(11 * time.Minute)
		for i := range 30 {
			_ = c.call(fmt.Sprint("new-", i), breaker.Success)
			_ = c.call("made-up-0", breaker.Success)
		}
		if len(s.names) != 20+18 || !s.names["new-0"] || s.names["new-29"] {
			t.Errorf("%d names", len(s.names))
		}
		c.opens("made-up-0")
		c.want("open", breaker.HalfOpen, "")
	})
}

func TestTracker_KnownAgentsFindRoom(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	full := false
	c, s := tracking(t, 20, breaker.Tracking{
		Known:     func(_ context.Context, agent string) bool { asked.Add(1); return strings.HasPrefix(agent, "known") },
		StoreFull: func() bool { return full },
	})
	for i := range 60 {
		_ = c.call(fmt.Sprint("made-up-", i), breaker.Success)
	}
	if n := asked.Load(); n != 40 {
		t.Errorf("the store was asked %d times, want for those without room", n)
	}
	for i := range 10 {
		c.opens(fmt.Sprint("known-", i))
	}
	full = true
	_ = c.call("made-up-99", failed)
	c.opens("known-99")
	if s.names["made-up-99"] {
		t.Error("taken, although the store is full")
	}
	c.m.Evict("known-99")
	c.m.Track("told", breaker.View{})
	c.opens("told")
	for i := range 30 { // holds that another replica has, beyond the bound
		c.m.Track(fmt.Sprint("held-", i), breaker.View{Snapshot: machine.Snapshot{State: breaker.Open, Hold: machine.Hold{Kind: breaker.Open}}})
	}
	for i := range 30 {
		if _ = c.call(fmt.Sprint("held-", i), breaker.Success); !s.names[fmt.Sprint("held-", i)] {
			t.Errorf("held-%d is not tracked", i)
		}
	}
}

// An agent that is open has its place, whoever comes.
func TestTracker_OpenOnesKeepTheirPlaces(t *testing.T) {
	t.Parallel()
	c, _ := tracking(t, 5, breaker.Tracking{Known: func(context.Context, string) bool { return true }})
	c.opens("open")
	for i := range 60 {
		_ = c.call(fmt.Sprint("known-", i), breaker.Success)
	}
	before := c.m.Untracked()
	if err := c.call("open", failed); !errors.As(err, new(*breaker.OpenError)) || c.m.Untracked() != before {
		t.Errorf("%v", err)
	}
}

// A probe's outcome and renewal reach the store through a replica that has no room for the agent: else its lease would
// last on, and nobody could call the agent. So does every outcome whose permit shows that the store has the agent.
func TestTracker_PermitOfTheStoreIsNeverUntracked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := breaker.NewMemory(nil, 0)
		p := breaker.Policy{Timeout: time.Second, HalfOpenMaxCalls: 1}
		one, err := breaker.NewManager(breaker.Options{Store: store, Policy: p})
		if err != nil {
			t.Fatal(err)
		}
		full, err := breaker.NewManager(breaker.Options{Store: store, Policy: p, MaxAgents: 1})
		if err != nil {
			t.Fatal(err)
		}
		_, _ = full.Acquire(t.Context(), "made-up")
		a, b := &crowd{TB: t, m: one}, &crowd{TB: t, m: full}
		for range 5 {
			_ = a.call("a", failed)
		}
		<-time.After(2 * time.Second)
		resume := func() breaker.Permit {
			given := acquire(t, one, "a")
			q, err := b.m.Resume("a", given.String())
			if err != nil {
				t.Fatal(err)
			}
			return q
		}
		probe := resume()
		if err := probe.Renew(t.Context()); err != nil {
			t.Error(err)
		}
		if r, err := probe.Report(t.Context(), breaker.Outcome{Kind: breaker.Success}); err != nil || !r.Counted {
			t.Errorf("probe: %+v, %v", r, err)
		}
		closed := resume()
		if r, err := closed.Report(t.Context(), breaker.Outcome{Kind: failed}); err != nil || !r.Counted || closed.Lease() != 0 {
			t.Errorf("closed: %+v, %v", r, err)
		}
		if full.Tracks(t.Context(), "a") || full.Untracked() != 0 {
			t.Errorf("the agent has a slot, or %d calls are untracked", full.Untracked())
		}
		if r, err := full.Record(t.Context(), "a", breaker.Outcome{Kind: failed}); err != nil || r.Why != breaker.CodeUntracked {
			t.Errorf("without a permit: %+v, %v", r, err)
		}
	})
}

// While the store is down it cannot tell a forged permit: what waits for it must stay within the agents that are tracked.
func TestTracker_ForgedPermitsDoNotFillTheQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newReplica(t, nil)
		m, err := breaker.NewManager(breaker.Options{Store: r.fallback, MaxAgents: 5})
		if err != nil {
			t.Fatal(err)
		}
		_, _ = m.Acquire(t.Context(), "a")
		r.store.down.Store(true)
		_, _ = m.Acquire(t.Context(), "a")
		for i := range 60 {
			agent := fmt.Sprint("made-up-", i)
			for _, kind := range []string{"closed.0123456789abcdef.-", "half_open.0123456789abcdef.0123456789abcdef"} {
				_, _ = forge(t, m, agent, kind).Report(t.Context(), breaker.Outcome{Kind: failed})
			}
		}
		if n := m.Outcomes().Unsent.Outcomes; n > 10 {
			t.Errorf("%d outcomes of made-up names wait", n)
		}
	})
}

// forge makes a permit for an agent that the store never gave.
func forge(t *testing.T, m *breaker.Manager, agent, kind string) *breaker.Permit {
	t.Helper()
	given, err := breaker.NewManager(breaker.Options{Store: breaker.NewMemory(nil, 0)})
	if err != nil {
		t.Fatal(err)
	}
	text := acquire(t, given, agent).String()
	p, err := m.Resume(agent, "v1."+kind+text[strings.LastIndex(text, "."):])
	if err != nil {
		t.Fatal(err)
	}
	return &p
}

// One name that is called again and again takes one of the names of a second, and of the questions to the store.
func TestTracker_AllowanceCountsNames(t *testing.T) {
	t.Parallel()
	for name, madeUp := range map[string]int{"one name": 1, "two names": 2, "nine names": 9} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				asked := 0
				c, s := tracking(t, 5, breaker.Tracking{NewPerSecond: 10, Known: func(_ context.Context, agent string) bool {
					asked++
					return strings.HasPrefix(agent, "known")
				}})
				for i := range 5 {
					_ = c.call(fmt.Sprint("first-", i), breaker.Success)
				}
				for second := range 4 {
					<-time.After(time.Second)
					for range 10 {
						for i := range madeUp {
							_ = c.call(fmt.Sprint("made-up-", i), breaker.Success)
						}
					}
					known := fmt.Sprint("known-", second)
					if _ = c.call(known, breaker.Success); !s.names[known] || asked != (second+1)*(madeUp+1) {
						t.Errorf("%s tracked: %v; the store was asked %d times", known, s.names[known], asked)
					}
				}
			})
		})
	}
}

// Names without room leave the allowance to those that find it: here a place is free again.
func TestTracker_NamesWithoutRoomTakeNoAllowance(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		c, s := tracking(t, 5, breaker.Tracking{NewPerSecond: 10, Known: func(context.Context, string) bool { asked++; return false }})
		for i := range 5 {
			_ = c.call(fmt.Sprint("first-", i), breaker.Success)
		}
		<-time.After(time.Second)
		for i := range 60 {
			_ = c.call(fmt.Sprint("made-up-", i), breaker.Success)
		}
		c.m.Evict("first-0")
		if _ = c.call("new", breaker.Success); !s.names["new"] || asked != 10 {
			t.Errorf("tracked: %v; the store was asked %d times", s.names["new"], asked)
		}
	})
}

// All callers of a known agent without room wait for one question to the store, no longer than their contexts last.
func TestTracker_CrowdAsksTheStoreOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var asked, tracked atomic.Int64
		m, err := breaker.NewManager(breaker.Options{
			Store: breaker.NewMemory(nil, 0), MaxAgents: 1,
			Tracking: breaker.Tracking{NewPerSecond: 10, Known: func(context.Context, string) bool {
				asked.Add(1)
				<-time.After(100 * time.Millisecond)
				return true
			}},
		})
		if err != nil {
			t.Fatal(err)
		}
		_ = m.Tracks(t.Context(), "made-up")
		for range 100 {
			go func() {
				if m.Tracks(t.Context(), "known") {
					tracked.Add(1)
				}
			}()
		}
		synctest.Wait()
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if m.Tracks(ended, "known") {
			t.Error("tracked before the store has answered")
		}
		<-time.After(time.Second)
		if asked.Load() != 1 || tracked.Load() != 100 {
			t.Errorf("asked %d times, %d of 100 are tracked", asked.Load(), tracked.Load())
		}
	})
}

// The flushes of an agent that is called from memory keep its place.
func TestTracker_BusyCachedAgentKeepsItsPlace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m, err := breaker.NewManager(breaker.Options{
			Store: breaker.NewMemory(nil, 0), MaxAgents: 2, Policy: breaker.Policy{Consistency: breaker.Cached},
			Tracking: breaker.Tracking{Life: 10 * time.Second},
		})
		if err != nil {
			t.Fatal(err)
		}
		for range 2000 {
			_ = m.Do(t.Context(), "busy", succeed)
			<-time.After(10 * time.Millisecond)
		}
		for i := range 10 {
			_ = m.Do(t.Context(), fmt.Sprint("made-up-", i), succeed)
		}
		before := m.Untracked()
		m.Invalidate("busy")
		if _ = m.Do(t.Context(), "busy", succeed); m.Untracked() != before || before == 0 {
			t.Errorf("%d calls untracked, %d before", m.Untracked(), before)
		}
		_ = m.Close(t.Context())
	})
}

// Names that were opened once, and are called no more, give their places back. Those that are held never do.
func TestTracker_OpenOnesThatNobodyCallsMakeRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, s := tracking(t, 4, breaker.Tracking{Life: time.Hour})
		for i := range 3 {
			_ = c.call(fmt.Sprint("open-", i), failed, failed, failed)
		}
		c.force("held", breaker.Force{Target: breaker.HoldOpen})
		<-time.After(24 * time.Hour)
		if _ = c.call("early", breaker.Success); s.names["early"] {
			t.Error("a place was free too early")
		}
		<-time.After(time.Hour + time.Minute)
		for i := range 5 {
			_ = c.call(fmt.Sprint("new-", i), breaker.Success)
		}
		if !s.names["new-2"] || s.names["new-3"] {
			t.Errorf("%v", s.names)
		}
		c.opens("new-0")
		before := c.m.Untracked()
		if err := c.call("held", breaker.Success); !errors.As(err, new(*breaker.OpenError)) || c.m.Untracked() != before {
			t.Errorf("held: %v", err)
		}
	})
}

func TestTracker_PanicsOfItsFunctionsAreReplaced(t *testing.T) {
	t.Parallel()
	for name, value := range map[string]any{"text": "boom", "error": errAgent, "nil": nil, "number": 7, "typed nil": (*breaker.OpenError)(nil)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log bytes.Buffer
			m, err := breaker.NewManager(breaker.Options{
				Store: breaker.NewMemory(nil, 0), MaxAgents: 2, Logger: slog.New(slog.NewTextHandler(&log, nil)),
				Tracking: breaker.Tracking{
					NewPerSecond: 100,
					Important:    func(string) bool { panic(value) },
					Known:        func(context.Context, string) bool { panic(value) },
					StoreFull:    func() bool { panic(value) },
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			for i := range 6 {
				if err := m.Do(t.Context(), fmt.Sprint("agent-", i), succeed); err != nil {
					t.Error(err)
				}
			}
			if n := m.Untracked(); n != 4 {
				t.Errorf("%d calls untracked, want those beyond two agents", n)
			}
			(&crowd{TB: t, m: m}).force("agent-5", breaker.Force{Target: breaker.HoldOpen})
			for _, function := range []string{"Important", "Known", "StoreFull"} {
				if n := strings.Count(log.String(), "function=Tracking."+function+" "); n != 1 {
					t.Errorf("%s: logged %d times", function, n)
				}
			}
		})
	}
}

func BenchmarkTracker_TrackedAgent(b *testing.B) {
	m, err := breaker.NewManager(breaker.Options{Store: breaker.NewMemory(nil, 0)})
	if err != nil {
		b.Fatal(err)
	}
	_, _ = m.Acquire(b.Context(), "a")
	for b.Loop() {
		_ = m.Tracks(b.Context(), "a")
	}
}
