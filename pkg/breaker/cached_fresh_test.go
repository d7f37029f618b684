package breaker_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// Another replica opens the breaker. A replica that only acquires refuses within MaxStaleness, one that also settles
// within a flush interval, and one that gets the event at once.
func TestCached_StalenessIsBounded(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		reports, push bool
		within        time.Duration
	}{
		"only acquires": {within: time.Second}, "settles": {reports: true, within: 11 * time.Millisecond}, "gets the event": {push: true, within: 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for offset := range 7 { // of the opening from the last sweep
				synctest.Test(t, func(t *testing.T) {
					l := newRecordingStore()
					m, other := newCachedManager(t, l, nil, nil), newCachedManager(t, l, nil, nil)
					for range 400 + offset*97 {
						p := acquire(t, m, "a")
						_, _ = p.Success(t.Context())
						<-time.After(time.Millisecond)
					}
					if _, err := other.Force(t.Context(), "a", breaker.Force{Target: breaker.HoldOpen, Actor: "test"}); err != nil {
						t.Fatal(err)
					}
					opened := time.Now()
					if c.push {
						m.Invalidate("a")
					}
					for {
						synctest.Wait() // a sweep that is due now comes first
						p, err := m.Acquire(t.Context(), "a")
						if err != nil {
							break
						}
						if c.reports {
							_, _ = p.Success(t.Context())
						}
						<-time.After(time.Millisecond)
						if time.Since(opened) > 2*time.Second {
							break
						}
					}
					if took := time.Since(opened); took > c.within {
						t.Errorf("refused after %v, want %v", took, c.within)
					}
				})
			}
		})
	}
}

// The store answers that the breaker is closed, the breaker opens and its event comes, and only then does the answer
// arrive.
func TestCached_AnswerFromBeforeAnInvalidationIsNotCached(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newRecordingStore()
		m := newCachedManager(t, &slowStore{l}, nil, nil)
		got := make(chan error)
		go func() {
			_, err := m.Acquire(t.Context(), "a")
			got <- err
		}()
		synctest.Wait()
		if _, err := m.Force(t.Context(), "a", breaker.Force{Target: breaker.HoldOpen, Actor: "test"}); err != nil {
			t.Fatal(err)
		}
		m.Invalidate("a")
		if err := <-got; err != nil {
			t.Fatal(err)
		}
		if _, err := m.Acquire(t.Context(), "a"); err == nil {
			t.Error("admitted by an answer from before the opening")
		}
	})
}

func TestCached_FollowsAPolicyThatIsNoLongerCached(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*breaker.Policy){
		"strict":   func(p *breaker.Policy) { p.Consistency = breaker.Strict },
		"disabled": func(p *breaker.Policy) { p.Disabled = true },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newRecordingStore()
				changed := false
				m := newCachedManager(t, l, nil, func(p *breaker.Policy) {
					if changed {
						change(p)
					}
				})
				p := acquire(t, m, "a")
				changed = true
				_, _ = p.Success(t.Context())
				<-time.After(10 * time.Millisecond)
				synctest.Wait()
				_, _, before := l.count()
				for range 3 {
					acquire(t, m, "a")
				}
				if _, _, after := l.count(); after != before+3 {
					t.Errorf("three calls made %d requests", after-before)
				}
			})
		})
	}
}

func TestCached_ResumedPermitsAndRecordsAreJoined(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newRecordingStore()
		m := newCachedManager(t, l, nil, nil)
		p := acquire(t, m, "a")
		ok := breaker.Outcome{Kind: breaker.Success}
		joined := func(text string, o breaker.Outcome) bool {
			t.Helper()
			r := breaker.Report{}
			var err error
			if text == "" {
				r, err = m.Record(t.Context(), "a", o)
			} else {
				var again breaker.Permit
				if again, err = m.Resume("a", text); err == nil {
					r, err = again.Report(t.Context(), o)
				}
			}
			if err != nil || !r.Counted {
				t.Fatal(r, err)
			}
			return r.Pending
		}
		if !joined("", ok) || !joined(p.String(), ok) {
			t.Error("an outcome that may be joined is not")
		}
		if joined("", breaker.Outcome{Kind: breaker.Success, Reporter: "other"}) || joined("", breaker.Outcome{Kind: breaker.Success, ReportID: "1"}) {
			t.Error("an outcome with a reporter or a report id of its own is joined")
		}
		if ok, err := p.Settle(t.Context(), breaker.Outcome{Kind: breaker.Success, Reporter: "other"}); !ok || err != nil {
			t.Error(ok, err)
		}
		_ = m.Close(t.Context())
		if v, _, err := m.Inspect(t.Context(), "a"); err != nil || v.Successes != 5 {
			t.Errorf("%d counted, %v", v.Successes, err)
		}
	})
}

// Memory is bounded by the agents that were called lately.
func TestCached_IdleAgentsAreRemoved(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newCachedManager(t, newRecordingStore(), nil, nil)
		handle, _ := m.Agent("kept")
		for i := range 5000 {
			p := acquire(t, m, fmt.Sprint("agent-", i))
			_, _ = p.Success(t.Context())
		}
		if n := m.KnownAgents(); n != 5001 {
			t.Errorf("%d agents known", n)
		}
		<-time.After(3 * time.Second)
		synctest.Wait()
		if n := m.KnownAgents(); n != 1 {
			t.Errorf("%d agents known after a pause", n)
		}
		if _, err := handle.Acquire(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestCached_BeyondMaxAgentsCallsGoOnUntracked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newRecordingStore()
		p := breaker.DefaultPolicy()
		p.Consistency = breaker.Cached
		m, err := breaker.NewManager(breaker.Options{Store: l, MaxAgents: 2, Policy: p})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = m.Close(t.Context()) }()
		for range 10 {
			for _, agent := range []string{"a", "b", "c"} {
				if err := m.Do(t.Context(), agent, succeed); err != nil {
					t.Fatal(err)
				}
			}
		}
		if _, _, asked := l.count(); asked != 2 || m.Untracked() != 10 {
			t.Errorf("%d requests, %d calls untracked", asked, m.Untracked())
		}
	})
}

func TestCached_CloseFlushesUntilItsContextEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newRecordingStore()
		m := newCachedManager(t, l, nil, nil)
		for i := range 500 {
			p := acquire(t, m, fmt.Sprint("agent-", i))
			_, _ = p.Success(t.Context())
		}
		late := acquire(t, m, "agent-1")
		l.setLatency(300 * time.Millisecond)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if err := m.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Close on a slow store: %v", err)
		}
		if err := m.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if _, sum, _ := l.count(); sum.Successes != 500 {
			t.Errorf("%d of 500 sent", sum.Successes)
		}
		_, _ = late.Success(t.Context())
		if err := m.Do(t.Context(), "agent-1", succeed); err != nil {
			t.Error(err)
		}
		<-time.After(time.Second)
		if _, sum, _ := l.count(); sum.Successes != 502 {
			t.Errorf("%d of 502 sent", sum.Successes)
		}
	})
}

// In real time, for the race detector.
func TestCached_ConcurrentCallsLoseNoOutcome(t *testing.T) {
	t.Parallel()
	l := newRecordingStore()
	m := newCachedManager(t, l, nil, func(p *breaker.Policy) { p.FailureThreshold, p.FailureRateThreshold = breaker.Off, breaker.Off })
	const goroutines, each = 8, 5000
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for i := range each {
				agent := []string{"a", "b", "c"}[i%3]
				if i%500 == g {
					m.Invalidate(agent)
				}
				p, err := m.Acquire(t.Context(), agent)
				if err != nil {
					t.Error(err)
					return
				}
				o := breaker.Outcome{Kind: breaker.Success, Slow: i%11 == 0}
				if i%7 == 0 {
					o.Kind = breaker.Failure
				}
				_, _ = p.Settle(t.Context(), o)
			}
		})
	}
	wg.Wait()
	if err := m.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	var got []int64
	for _, agent := range []string{"a", "b", "c"} {
		v, _, _ := m.Inspect(t.Context(), agent)
		got = append(got, v.Successes+v.Failures)
	}
	if _, sum, _ := l.count(); sum.Calls() != goroutines*each || got[0]+got[1]+got[2] != goroutines*each {
		t.Errorf("sent %d, counted %v of %d", sum.Calls(), got, goroutines*each)
	}
	if slices.Contains(got, 0) {
		t.Error(got)
	}
}
