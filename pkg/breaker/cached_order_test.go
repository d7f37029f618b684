package breaker_test

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// TestOutcomesSentByThemselvesDoNotOvertake: F F F, S, F F is no run of five, though only the success waits to be sent with others.
func TestOutcomesSentByThemselvesDoNotOvertake(t *testing.T) {
	t.Parallel()
	for name, alone := range map[string]func(ctx context.Context, m *breaker.Manager, i int) (breaker.Report, error){
		"Idempotency-Key": func(ctx context.Context, m *breaker.Manager, i int) (breaker.Report, error) {
			return m.Record(ctx, "a", breaker.Outcome{Kind: breaker.Failure, ReportID: strconv.Itoa(i)})
		},
		"Idempotency-Key with a permit": func(ctx context.Context, m *breaker.Manager, i int) (breaker.Report, error) {
			p, err := m.Acquire(ctx, "a")
			if err != nil {
				return breaker.Report{}, err
			}
			return p.Report(ctx, breaker.Outcome{Kind: breaker.Failure, ReportID: strconv.Itoa(i)})
		},
		"a reporter of its own": func(ctx context.Context, m *breaker.Manager, _ int) (breaker.Report, error) {
			return m.Record(ctx, "a", breaker.Outcome{Kind: breaker.Failure, Reporter: "sidecar"})
		},
		"no permit, and nothing known": func(ctx context.Context, m *breaker.Manager, _ int) (breaker.Report, error) {
			m.Invalidate("a")
			return m.Record(ctx, "a", breaker.Outcome{Kind: breaker.Failure})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := cachedOn(t, newLedger(), nil, byRun)
				for i := range 5 {
					if i == 3 {
						p := acquire(t, m, "a")
						if _, err := p.Success(t.Context()); err != nil {
							t.Fatal(err)
						}
					}
					if r, err := alone(t.Context(), m, i); err != nil || !r.Counted || r.Pending || r.State != breaker.Closed {
						t.Fatalf("failure %d: %+v, %v", i, r, err)
					}
				}
				if v, _, err := m.Inspect(t.Context(), "a"); err != nil || v.State != breaker.Closed || v.Run != 2 || v.Failures != 5 || v.Successes != 1 {
					t.Errorf("%s, %d in a row of %d and %d; %v", v.State, v.Run, v.Failures, v.Successes, err)
				}
			})
		})
	}
}

// TestAllThatWasCountedIsShown, though it takes a record for each: no two upstream waits share one.
func TestAllThatWasCountedIsShown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLedger()
		l.slows(time.Millisecond)
		m := cachedOn(t, l, nil, func(p *breaker.Policy) { p.FailureThreshold, p.FailureRateThreshold = breaker.Off, breaker.Off })
		_ = m.Do(t.Context(), "a", succeed)
		settleAll(t, acquireAll(t, m, "a", 5), breaker.Outcome{Kind: breaker.Failure, RetryAfter: time.Second})
		if v, _, err := m.Inspect(t.Context(), "a"); err != nil || v.Successes != 1 || v.Failures != 5 {
			t.Errorf("%d and %d of 1 and 5 shown; %v", v.Successes, v.Failures, err)
		}
		if n, _, _ := l.count(); n < 5 {
			t.Errorf("%d records", n)
		}
	})
}

// TestWhatCameBehindARecordIsShown: it goes at once when that is done, for somebody waits for it.
func TestWhatCameBehindARecordIsShown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLedger()
		m := cachedOn(t, l, nil, nil)
		all := acquireAll(t, m, "a", 2)
		l.slows(10 * time.Millisecond)
		settleAll(t, all[:1], breaker.Outcome{Kind: breaker.Success})
		<-time.After(12 * time.Millisecond) // its record left after ten
		settleAll(t, all[1:], breaker.Outcome{Kind: breaker.Success})
		start := time.Now()
		if v, _, err := m.Inspect(t.Context(), "a"); err != nil || v.Successes != 2 || time.Since(start) != 18*time.Millisecond {
			t.Errorf("%d of 2 shown after %v; %v", v.Successes, time.Since(start), err)
		}
	})
}

// TestOneCellWhateverIsSlow: a success that waits under the old slow_call_duration is not overtaken by a failure under the new one.
func TestOneCellWhateverIsSlow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		slow := atomic.Int64{}
		m := cachedOn(t, newLedger(), nil, func(p *breaker.Policy) {
			p.FailureRateThreshold, p.FailureThreshold, p.SlowCallDuration = breaker.Off, 3, time.Duration(slow.Load())
		})
		waits := acquire(t, m, "a")
		settleAll(t, acquireAll(t, m, "a", 2), breaker.Outcome{Kind: breaker.Failure})
		<-time.After(100 * time.Millisecond)
		_, _ = waits.Success(t.Context())
		slow.Store(int64(time.Second))
		m.Invalidate("a") // configured
		settleAll(t, acquireAll(t, m, "a", 1), breaker.Outcome{Kind: breaker.Failure})
		if v, _, err := m.Inspect(t.Context(), "a"); err != nil || v.State != breaker.Closed || v.Failures != 3 || v.Successes != 1 {
			t.Errorf("F F S F: %s, %d failures and %d successes shown; %v", v.State, v.Failures, v.Successes, err)
		}
	})
}

// TestANewSlowCallDurationTakesEffect where the cell stands: from the next answer, or record, on.
func TestANewSlowCallDurationTakesEffect(t *testing.T) {
	t.Parallel()
	for name, learn := range map[string]func(*testing.T, *breaker.Manager){
		"by an answer": func(t *testing.T, m *breaker.Manager) {
			t.Helper()
			m.Invalidate("a")
			acquire(t, m, "a")
		},
		"by a record": func(t *testing.T, m *breaker.Manager) {
			t.Helper()
			_ = m.Do(t.Context(), "a", succeed)
			if _, _, err := m.Inspect(t.Context(), "a"); err != nil { // sends it
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newLedger()
				slow := atomic.Int64{}
				m := cachedOn(t, l, nil, func(p *breaker.Policy) { p.SlowCallDuration = time.Duration(slow.Load()) })
				lasts := func(context.Context) error { <-time.After(200 * time.Millisecond); return nil }
				_ = m.Do(t.Context(), "a", lasts)
				_ = m.Do(t.Context(), "a", lasts)
				if _, sum, asked := l.count(); sum.Slow != 0 || asked != 1 {
					t.Fatalf("%d slow calls of %d, %d questions", sum.Slow, sum.Calls(), asked)
				}
				slow.Store(int64(100 * time.Millisecond))
				learn(t, m)
				_ = m.Do(t.Context(), "a", lasts)
				_ = m.Close(t.Context())
				if _, sum, _ := l.count(); sum.Slow != 1 {
					t.Errorf("%d slow calls of %d, want 1", sum.Slow, sum.Calls())
				}
			})
		})
	}
}

// admissions counts the calls that an observer is told of.
type admissions struct {
	breaker.NopObserver

	n atomic.Int64
}

func (a *admissions) Admitted(string, breaker.Permit) { a.n.Add(1) }

func TestEveryAdmissionIsTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := &admissions{}
		m := cachedOn(t, newLedger(), o, nil)
		handle, err := m.Agent("a")
		if err != nil {
			t.Fatal(err)
		}
		for i := range 10 {
			_ = m.Do(t.Context(), "a", succeed)
			_ = handle.Do(t.Context(), fail)
			_ = m.Do(t.Context(), "a", succeed)
			acquire(t, m, "a")
			if got, want := o.n.Load(), int64(4*(i+1)); got != want {
				t.Fatalf("told of %d of %d calls", got, want)
			}
		}
	})
}

// TestOutcomesOfAnEpochThatIsOverAreLateAtOnce: nobody is told that they count, and nothing is kept of them.
func TestOutcomesOfAnEpochThatIsOverAreLateAtOnce(t *testing.T) {
	t.Parallel()
	for name, observer := range map[string]breaker.Observer{"watched": &told{}, "bare": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newLedger()
				m := cachedOn(t, l, observer, nil)
				old := acquireAll(t, m, "a", 3)
				err := m.Do(t.Context(), "a", func(ctx context.Context) error {
					settleAll(t, acquireAll(t, m, "a", 5), breaker.Outcome{Kind: breaker.Failure})
					if n := passing(t, m, "a"); n != 0 {
						t.Errorf("%d calls passed", n)
					}
					return ctx.Err()
				})
				if err != nil {
					t.Fatal(err)
				}
				late := breaker.Report{Why: machine.CodeLate}
				if r, err := old[0].Report(t.Context(), breaker.Outcome{Kind: breaker.Success}); r != late || err != nil {
					t.Errorf("a success: %+v, %v", r, err)
				}
				if r, err := old[1].Report(t.Context(), breaker.Outcome{Kind: breaker.Failure, Slow: true}); r != late || err != nil {
					t.Errorf("a slow failure: %+v, %v", r, err)
				}
				if counted, err := old[2].Success(t.Context()); counted || err != nil {
					t.Errorf("the short way: %v, %v", counted, err)
				}
				if u := m.Backlog(); u != (breaker.Backlog{}) {
					t.Errorf("unsent: %+v", u)
				}
			})
		})
	}
}

func TestAPanicInClassifyCountsAFailure(t *testing.T) {
	t.Parallel()
	for _, consistency := range []breaker.Consistency{breaker.Cached, breaker.Strict} {
		t.Run(string(consistency), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newLedger()
				m, err := breaker.NewManager(breaker.Options{
					Store: l,
					PerAgent: func(context.Context, string) breaker.Policy {
						p := breaker.DefaultPolicy()
						p.Consistency = consistency
						return p
					},
					Classify: func(ctx context.Context, err error) breaker.Outcome {
						if err != nil {
							panic(err)
						}
						return breaker.Classify(ctx, err)
					},
				})
				if err != nil {
					t.Fatal(err)
				}
				_ = m.Do(t.Context(), "a", succeed)
				func() {
					defer func() {
						if recover() == nil {
							t.Error("the panic went no further")
						}
					}()
					_ = m.Do(t.Context(), "a", fail)
				}()
				_ = m.Close(t.Context())
				if _, sum, _ := l.count(); sum.Successes != 1 || sum.Failures != 1 {
					t.Errorf("sent %+v", sum)
				}
			})
		})
	}
}

// TestOutcomesAgeBehindASlowRecord: what came while a record was under way is not young when that is done.
func TestOutcomesAgeBehindASlowRecord(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLedger()
		m := cachedOn(t, l, nil, nil)
		p, q := acquire(t, m, "a"), acquire(t, m, "a")
		l.slows(900 * time.Millisecond)
		_, _ = p.Success(t.Context())
		<-time.After(20 * time.Millisecond) // its record left after ten
		_, _ = q.Success(t.Context())
		const waited = 895 * time.Millisecond
		<-time.After(waited) // the first is recorded, the second waits for its interval
		synctest.Wait()
		if v, err := l.Inspect(t.Context(), "a", breaker.DefaultPolicy()); err != nil || v.Successes != 1 {
			t.Fatalf("%d recorded, %v", v.Successes, err)
		}
		if u := m.Backlog(); u.Agents != 1 || u.Oldest < waited || u.Oldest > waited+10*time.Millisecond {
			t.Errorf("after %v: %+v", waited, u)
		}
	})
}

// TestADeletedAgentDoesNotComeBack by outcomes that were not sent, or not even known, when it was deleted.
func TestADeletedAgentDoesNotComeBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, o := newLedger(), &told{}
		m := cachedOn(t, l, o, nil)
		all := acquireAll(t, m, "a", 4)
		other := acquire(t, m, "b")
		settleAll(t, all[:2], breaker.Outcome{Kind: breaker.Success})
		_, _ = other.Success(t.Context())
		m.Evict("a")
		late := breaker.Report{Why: machine.CodeLate}
		for i, kind := range []breaker.OutcomeKind{breaker.Success, breaker.Failure} {
			if r, err := all[2+i].Report(t.Context(), breaker.Outcome{Kind: kind}); r != late || err != nil {
				t.Errorf("%s after it: %+v, %v", kind, r, err)
			}
		}
		_ = m.Close(t.Context())
		if _, n := l.last("a"); n != 0 {
			t.Errorf("%d records of the deleted agent", n)
		}
		if want := map[machine.Code]int64{"counted": 1, machine.CodeLate: 4}; fmt.Sprint(o.flushed) != fmt.Sprint(want) || o.pending != 3 {
			t.Errorf("told of %d, then %v, want %v", o.pending, o.flushed, want)
		}
		if v, _, err := m.Inspect(t.Context(), "a"); err != nil || v.Present {
			t.Errorf("present: %v, %v", v.Present, err)
		}
	})
}
