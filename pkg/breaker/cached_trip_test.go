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

// The store answers that the breaker is closed, failures of this replica trip it, and then the answer arrives: while
// the failures are in flight, or after they were recorded.
func TestCached_AnswerFromBeforeAnOwnTripIsNotCached(t *testing.T) {
	t.Parallel()
	for name, after := range map[string]time.Duration{"in flight": 999 * time.Millisecond, "recorded": 900 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newRecordingStore()
				m := newCachedManager(t, &slowStore{l}, nil, tripOnRunOnly)
				held := acquireAll(t, m, "a", 5)
				m.Invalidate("a")
				got := make(chan error)
				go func() {
					_, err := m.Acquire(t.Context(), "a")
					got <- err
				}()
				<-time.After(after)
				l.setLatency(20 * time.Millisecond)
				settleAll(t, held, breaker.Outcome{Kind: breaker.Failure})
				if err := <-got; err != nil {
					t.Fatal(err)
				}
				if n := admittedBeforeRefusal(t, m, "a"); n != 0 {
					t.Errorf("%d calls admitted by an answer from before the trip", n)
				}
			})
		})
	}
}

// Operations of this replica that are not joined outcomes take effect with its next call.
func TestCached_OwnOperationsTakeEffectAtOnce(t *testing.T) {
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
				m := newCachedManager(t, newRecordingStore(), nil, tripOnRunOnly)
				acquire(t, m, "a")
				if err := act(t, m); err != nil {
					t.Fatal(err)
				}
				if n := admittedBeforeRefusal(t, m, "a"); n != 0 {
					t.Errorf("%d calls admitted", n)
				}
			})
		})
	}
}

func TestCached_OutcomesAfterAnOwnResetCount(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := &outcomeCounter{}
		m := newCachedManager(t, newRecordingStore(), o, nil)
		c, err := m.Classic("a")
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Execute(t.Context(), succeed); err != nil {
			t.Fatal(err)
		}
		if _, _, err := m.Inspect(t.Context(), "a"); err != nil { // flushes
			t.Fatal(err)
		}
		if err := c.Reset(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			_ = c.Execute(t.Context(), succeed)
		}
		_ = m.Close(t.Context())
		if want := map[machine.Code]int64{"counted": 11}; fmt.Sprint(o.final) != fmt.Sprint(want) {
			t.Errorf("observed %v, want %v", o.final, want)
		}
	})
}

// No call is admitted after the fifth failure in a row, whether the failures are in the word of the buffer or in
// pending summaries.
func TestCached_EveryKindOfFailureTripsAtOnce(t *testing.T) {
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
				l := newRecordingStore()
				m := newCachedManager(t, l, nil, tripOnRunOnly)
				_ = m.Do(t.Context(), "a", succeed)
				<-time.After(100 * time.Millisecond)
				l.setLatency(time.Millisecond)
				for i, p := range acquireAll(t, m, "a", 5) {
					if _, err := p.Settle(t.Context(), kinds[i]); err != nil {
						t.Fatal(err)
					}
				}
				if n := admittedBeforeRefusal(t, m, "a"); n != 0 {
					t.Errorf("%d calls admitted after the failure that trips", n)
				}
				if _, sum, _ := l.count(); sum.Calls() != 6 || sum.MaxRun != 5 {
					t.Errorf("sent %+v", sum)
				}
			})
		})
	}
}

// It waits neither for their successes, which are paced, nor for their failures, which take all slots.
func TestCached_TripDoesNotWaitForOtherAgents(t *testing.T) {
	t.Parallel()
	for _, kind := range []breaker.OutcomeKind{breaker.Success, breaker.Failure} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newRecordingStore()
				m := newCachedManager(t, l, nil, tripOnRunOnly)
				bad := acquireAll(t, m, "bad", 5)
				settleAll(t, bad[:1], breaker.Outcome{Kind: breaker.Failure})
				synctest.Wait() // the rest is not a first failure after a pause
				l.setLatency(time.Millisecond)
				if makeBacklog(t, m, kind); kind == breaker.Success {
					<-time.After(11 * time.Millisecond) // the successes are due
				}
				start := time.Now()
				settleAll(t, bad[1:], breaker.Outcome{Kind: breaker.Failure})
				<-time.After(3 * time.Millisecond)
				if u := m.Backlog(); u.Agents < 1000 {
					t.Fatalf("the backlog is too small: %+v", u)
				}
				if at, n := l.last("bad"); n != 2 || at.Sub(start) > 2*time.Millisecond {
					t.Errorf("%d records, the last after %v", n, at.Sub(start))
				}
				if n := admittedBeforeRefusal(t, m, "bad"); n != 0 || time.Since(start) > 5*time.Millisecond {
					t.Errorf("%d calls admitted; refused after %v", n, time.Since(start))
				}
			})
		})
	}
}

func TestCached_FailuresDoNotWaitForSuccesses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newRecordingStore()
		m := newCachedManager(t, l, nil, tripOnRunOnly)
		first, again := acquire(t, m, "first"), acquireAll(t, m, "again", 2)
		l.setLatency(time.Millisecond)
		makeBacklog(t, m, breaker.Success)
		<-time.After(9 * time.Millisecond)
		settleAll(t, again[:1], breaker.Outcome{Kind: breaker.Failure})
		<-time.After(2 * time.Millisecond) // the successes are due
		start := time.Now()
		_, _ = first.Failure(t.Context(), "boom")
		settleAll(t, again[1:], breaker.Outcome{Kind: breaker.Failure})
		<-time.After(7 * time.Millisecond)
		if u := m.Backlog(); u.Agents < 1000 {
			t.Fatalf("the backlog is too small: %+v", u)
		}
		if at, n := l.last("first"); n != 1 || at.Sub(start) > 2*time.Millisecond {
			t.Errorf("a first failure: %d records, after %v", n, at.Sub(start))
		}
		if at, n := l.last("again"); n != 2 || at.Sub(start) > 6*time.Millisecond { // half an interval after the first
			t.Errorf("a second failure: %d records, after %v", n, at.Sub(start))
		}
	})
}

// Failures of an ended epoch come after those that trip in the current epoch, and their record is answered first.
func TestCached_BufferOfAnOldEpochDoesNotHideATrip(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newRecordingStore()
		m := newCachedManager(t, l, nil, tripOnRunOnly)
		old := acquireAll(t, m, "a", 10)
		if _, err := m.Force(t.Context(), "a", breaker.Force{Target: breaker.ResetClosed, Actor: "test"}); err != nil {
			t.Fatal(err)
		}
		now := acquireAll(t, m, "a", 5)
		l.setLatency(5 * time.Millisecond)
		settleAll(t, old[:1], breaker.Outcome{Kind: breaker.Failure})
		<-time.After(time.Millisecond)
		settleAll(t, now, breaker.Outcome{Kind: breaker.Failure})
		<-time.After(time.Millisecond)
		settleAll(t, old[1:], breaker.Outcome{Kind: breaker.Failure})
		l.setLatency(0)
		if n := admittedBeforeRefusal(t, m, "a"); n != 0 {
			t.Errorf("%d calls admitted after the failure that trips", n)
		}
	})
}

// Once one call meets the outage, no agent is admitted from memory, and outcomes wait.
func TestCached_OutageInvalidatesAllAgents(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &switchableStore{Memory: breaker.NewMemory(nil, 0)}
		f := breaker.NewFallback(breaker.FallbackOptions{Store: s, Ping: s.ping})
		defer f.Close()
		m := newCachedManager(t, f, nil, func(p *breaker.Policy) { p.OnStoreError = breaker.OnStoreErrorDeny })
		p := acquire(t, m, "a")
		text := p.String()
		s.down.Store(true)
		for _, agent := range []string{"b", "a"} { // the call of b meets the outage
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
		if want := (breaker.Report{State: breaker.Closed, Counted: true, Degraded: true, Pending: true}); r != want || err != nil {
			t.Errorf("report: %+v, %v; want %+v", r, err, want)
		}
	})
}

// minimumReportersStore behaves as if no other replica saw failures: this one alone trips nothing.
type minimumReportersStore struct{ *recordingStore }

func (s *minimumReportersStore) Apply(ctx context.Context, agent string, p breaker.Policy, op machine.Op) (machine.Result, error) {
	p.FailureThreshold = breaker.Off
	return s.recordingStore.Apply(ctx, agent, p, op)
}

// With minimum_reporters one replica cannot trip the breaker, so no call waits for its failures.
func TestCached_ReplicaThatFailsAloneAsksOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newRecordingStore()
		m := newCachedManager(t, &minimumReportersStore{l}, nil, func(p *breaker.Policy) { p.FailureRateThreshold, p.MinimumReporters = breaker.Off, 2 })
		l.setLatency(time.Millisecond)
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
			t.Errorf("%d requests, %d failures in %d records", asked, sum.Failures, n)
		}
	})
}
