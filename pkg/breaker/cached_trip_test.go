package breaker_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// byRun opens on failures in a row only: five of them.
func byRun(p *breaker.Policy) { p.FailureRateThreshold = breaker.Off }

// slows makes every answer from now on take so long.
func (l *ledger) slows(latency time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.latency = latency
}

// last is when the newest record of an agent came, and how many came.
func (l *ledger) last(agent string) (at time.Time, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.records {
		if e.agent == agent {
			at, n = e.at, n+1
		}
	}
	return at, n
}

// acquireAll takes n permits.
func acquireAll(t *testing.T, m *breaker.Manager, agent string, n int) []breaker.Permit {
	t.Helper()
	all := make([]breaker.Permit, n)
	for i := range all {
		all[i] = acquire(t, m, agent)
	}
	return all
}

// settleAll settles each permit so.
func settleAll(t *testing.T, all []breaker.Permit, o breaker.Outcome) {
	t.Helper()
	for i := range all {
		if _, err := all[i].Settle(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
}

// passing is how many calls are admitted before the breaker refuses one; a thousand if it does not.
func passing(t *testing.T, m *breaker.Manager, agent string) (n int) {
	t.Helper()
	for ; n < 1000; n++ {
		if _, err := m.Acquire(t.Context(), agent); errors.As(err, new(*breaker.OpenError)) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// TestAnAnswerFromBeforeAnOwnTripDoesNotCount: the store said closed, this replica's own failures open the breaker, and only then
// does the answer arrive: while they are on their way, or behind what the store made of them.
func TestAnAnswerFromBeforeAnOwnTripDoesNotCount(t *testing.T) {
	t.Parallel()
	for name, after := range map[string]time.Duration{"on their way": 999 * time.Millisecond, "recorded": 900 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newLedger()
				m := cachedOn(t, &slowAnswers{l}, nil, byRun)
				held := acquireAll(t, m, "a", 5)
				m.Invalidate("a")
				got := make(chan error)
				go func() {
					_, err := m.Acquire(t.Context(), "a")
					got <- err
				}()
				<-time.After(after)
				l.slows(20 * time.Millisecond)
				settleAll(t, held, breaker.Outcome{Kind: breaker.Failure})
				if err := <-got; err != nil {
					t.Fatal(err)
				}
				if n := passing(t, m, "a"); n != 0 {
					t.Errorf("%d calls passed by an old answer", n)
				}
			})
		})
	}
}

// TestAnOwnHandIsFeltAtOnce: what this replica does to a breaker otherwise than by joined outcomes counts for its next call.
func TestAnOwnHandIsFeltAtOnce(t *testing.T) {
	t.Parallel()
	for name, act := range map[string]func(*testing.T, *breaker.Manager) error{
		"forced open": func(t *testing.T, m *breaker.Manager) error {
			t.Helper()
			_, err := m.Force(t.Context(), "a", breaker.Force{Target: breaker.HoldOpen, Actor: "test"})
			return err
		},
		"opened by records of their own": func(t *testing.T, m *breaker.Manager) (err error) {
			t.Helper()
			for range 5 {
				if _, e := m.Record(t.Context(), "a", breaker.Outcome{Kind: breaker.Failure, Reporter: "sidecar"}); e != nil {
					err = e
				}
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := cachedOn(t, newLedger(), nil, byRun)
				acquire(t, m, "a")
				if err := act(t, m); err != nil {
					t.Fatal(err)
				}
				if n := passing(t, m, "a"); n != 0 {
					t.Errorf("%d calls passed", n)
				}
			})
		})
	}
}

func TestOutcomesBehindAnOwnResetCount(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := &told{}
		m := cachedOn(t, newLedger(), o, nil)
		c, err := m.Classic("a")
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Execute(t.Context(), succeed); err != nil {
			t.Fatal(err)
		}
		if _, _, err := m.Inspect(t.Context(), "a"); err != nil { // sends it
			t.Fatal(err)
		}
		if err := c.Reset(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			_ = c.Execute(t.Context(), succeed)
		}
		_ = m.Close(t.Context())
		if want := map[machine.Code]int64{"counted": 11}; fmt.Sprint(o.flushed) != fmt.Sprint(want) {
			t.Errorf("told %v, want %v", o.flushed, want)
		}
	})
}

// TestEveryKindOfFailureTripsAtOnce: no call passes behind the fifth in a row, however each of them is kept until it is sent.
func TestEveryKindOfFailureTripsAtOnce(t *testing.T) {
	t.Parallel()
	plain := breaker.Outcome{Kind: breaker.Failure}
	slow := breaker.Outcome{Kind: breaker.Failure, Slow: true}
	wait := breaker.Outcome{Kind: breaker.Failure, RetryAfter: time.Second}
	for name, kinds := range map[string][]breaker.Outcome{
		"plain":               {plain, plain, plain, plain, plain},
		"slow":                {slow, slow, slow, slow, slow},
		"Retry-After":         {wait, wait, wait, wait, wait},
		"slow and then plain": {slow, plain, plain, plain, plain},
		"plain and then slow": {plain, plain, plain, plain, slow},
		"wait and then plain": {wait, wait, wait, wait, plain},
		"all":                 {wait, slow, plain, wait, slow},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newLedger()
				m := cachedOn(t, l, nil, byRun)
				_ = m.Do(t.Context(), "a", succeed)
				<-time.After(100 * time.Millisecond)
				l.slows(time.Millisecond)
				for i, p := range acquireAll(t, m, "a", 5) {
					if _, err := p.Settle(t.Context(), kinds[i]); err != nil {
						t.Fatal(err)
					}
				}
				if n := passing(t, m, "a"); n != 0 {
					t.Errorf("%d calls passed behind the failure that trips", n)
				}
				if _, sum, _ := l.count(); sum.Calls() != 6 || sum.MaxRun != 5 {
					t.Errorf("sent %+v", sum)
				}
			})
		})
	}
}

// backlogged leaves outcomes of 5,000 other agents to be sent: where a record takes 1 ms, that takes 20 and more.
func backlogged(t *testing.T, m *breaker.Manager, kind breaker.OutcomeKind) {
	t.Helper()
	all := make([]breaker.Permit, 5000)
	for i := range all {
		all[i] = acquire(t, m, fmt.Sprint("agent-", i))
	}
	settleAll(t, all, breaker.Outcome{Kind: kind})
}

// TestATripDoesNotWaitForOtherAgents: neither for their successes, which are paced, nor for their failures, of which many go at once.
func TestATripDoesNotWaitForOtherAgents(t *testing.T) {
	t.Parallel()
	for _, kind := range []breaker.OutcomeKind{breaker.Success, breaker.Failure} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newLedger()
				m := cachedOn(t, l, nil, byRun)
				bad := acquireAll(t, m, "bad", 5)
				settleAll(t, bad[:1], breaker.Outcome{Kind: breaker.Failure})
				synctest.Wait() // the others do not go as the first after a pause
				l.slows(time.Millisecond)
				if backlogged(t, m, kind); kind == breaker.Success {
					<-time.After(11 * time.Millisecond) // all are due
				}
				start := time.Now()
				settleAll(t, bad[1:], breaker.Outcome{Kind: breaker.Failure})
				<-time.After(3 * time.Millisecond)
				if u := m.Backlog(); u.Agents < 1000 {
					t.Fatalf("no backlog to speak of: %+v", u)
				}
				if at, n := l.last("bad"); n != 2 || at.Sub(start) > 2*time.Millisecond {
					t.Errorf("%d records, the last after %v", n, at.Sub(start))
				}
				if n := passing(t, m, "bad"); n != 0 || time.Since(start) > 5*time.Millisecond {
					t.Errorf("%d calls passed; refused after %v", n, time.Since(start))
				}
			})
		})
	}
}

func TestFailuresDoNotWaitForSuccesses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLedger()
		m := cachedOn(t, l, nil, byRun)
		first, again := acquire(t, m, "first"), acquireAll(t, m, "again", 2)
		l.slows(time.Millisecond)
		backlogged(t, m, breaker.Success)
		<-time.After(9 * time.Millisecond)
		settleAll(t, again[:1], breaker.Outcome{Kind: breaker.Failure})
		<-time.After(2 * time.Millisecond) // the successes are due
		start := time.Now()
		_, _ = first.Failure(t.Context(), "boom")
		settleAll(t, again[1:], breaker.Outcome{Kind: breaker.Failure})
		<-time.After(7 * time.Millisecond)
		if u := m.Backlog(); u.Agents < 1000 {
			t.Fatalf("no backlog to speak of: %+v", u)
		}
		if at, n := l.last("first"); n != 1 || at.Sub(start) > 2*time.Millisecond {
			t.Errorf("a first failure: %d records, after %v", n, at.Sub(start))
		}
		if at, n := l.last("again"); n != 2 || at.Sub(start) > 6*time.Millisecond { // half an interval after the first
			t.Errorf("a second failure: %d records, after %v", n, at.Sub(start))
		}
	})
}

// TestAnOldCellDoesNotHideTheTrip: failures of an epoch that is over come behind those that trip in this one, and are answered first.
func TestAnOldCellDoesNotHideTheTrip(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLedger()
		m := cachedOn(t, l, nil, byRun)
		old := acquireAll(t, m, "a", 10)
		if _, err := m.Force(t.Context(), "a", breaker.Force{Target: breaker.ResetClosed, Actor: "test"}); err != nil {
			t.Fatal(err)
		}
		now := acquireAll(t, m, "a", 5)
		l.slows(5 * time.Millisecond)
		settleAll(t, old[:1], breaker.Outcome{Kind: breaker.Failure})
		<-time.After(time.Millisecond)
		settleAll(t, now, breaker.Outcome{Kind: breaker.Failure})
		<-time.After(time.Millisecond)
		settleAll(t, old[1:], breaker.Outcome{Kind: breaker.Failure})
		l.slows(0)
		if n := passing(t, m, "a"); n != 0 {
			t.Errorf("%d calls passed behind the failure that trips", n)
		}
	})
}

// TestOneOutageIsKnownToAllAgents: when one call meets it, nobody is admitted from memory any more, and nothing is called counted
// that no store will count.
func TestOneOutageIsKnownToAllAgents(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &switched{Memory: breaker.NewMemory(nil, 0)}
		f := breaker.NewFallback(s, s.ping, 0, nil)
		defer f.Close()
		m := cachedOn(t, f, nil, func(p *breaker.Policy) { p.OnStoreError = breaker.OnStoreErrorDeny })
		p := acquire(t, m, "a")
		text := p.String()
		s.away.Store(true)
		for _, agent := range []string{"b", "a"} { // b meets it, a knows it
			var refusal *breaker.OpenError
			if _, err := m.Acquire(t.Context(), agent); !errors.As(err, &refusal) || refusal.Reason != breaker.ReasonStoreUnavailable {
				t.Errorf("agent %s: %v", agent, err)
			}
		}
		again, err := m.Resume("a", text)
		if err != nil {
			t.Fatal(err)
		}
		r, err := again.Report(t.Context(), breaker.Outcome{Kind: breaker.Success})
		if want := (breaker.Report{State: breaker.Closed, Why: machine.CodeLost, Degraded: true}); r != want || err != nil {
			t.Errorf("a report meanwhile: %+v, %v; want %+v", r, err, want)
		}
	})
}

// together is a fleet in which more than one replica must fail: alone this one opens nothing.
type together struct{ *ledger }

func (s *together) Apply(ctx context.Context, agent string, p breaker.Policy, op machine.Op) (machine.Result, error) {
	p.FailureThreshold = breaker.Off
	return s.ledger.Apply(ctx, agent, p, op)
}

// TestAReplicaThatFailsAloneAsksOnce: with minimum_reporters the threshold is not for one replica to reach, and no call waits for it.
func TestAReplicaThatFailsAloneAsksOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLedger()
		m := cachedOn(t, &together{l}, nil, func(p *breaker.Policy) { p.FailureRateThreshold, p.MinimumReporters = breaker.Off, 2 })
		l.slows(time.Millisecond)
		_ = m.Do(t.Context(), "a", succeed)
		start := time.Now()
		for range 200 {
			if err := m.Do(t.Context(), "a", fail); !errors.Is(err, errAgent) {
				t.Fatal(err)
			}
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("200 calls waited %v", took)
		}
		_ = m.Close(t.Context())
		if n, sum, asked := l.count(); asked != 1 || sum.Failures != 200 || n > 3 {
			t.Errorf("asked %d times, %d failures in %d records", asked, sum.Failures, n)
		}
	})
}
