package breaker_test

import (
	"context"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// Three failures, a success and two failures are no run of five, though only the success is not sent at once.
func TestCached_OutcomesSentByThemselvesKeepTheOrder(t *testing.T) {
	t.Parallel()
	for name, sendSingly := range map[string]func(ctx context.Context, m *breaker.Manager, i int) (breaker.Report, error){
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
		"no permit, and no active buffer": func(ctx context.Context, m *breaker.Manager, _ int) (breaker.Report, error) {
			m.Invalidate("a")
			return m.Record(ctx, "a", breaker.Outcome{Kind: breaker.Failure})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newCachedManager(t, newRecordingStore(), nil, tripOnRunOnly)
				for i := range 5 {
					if i == 3 {
						p := acquire(t, m, "a")
						if _, err := p.Success(t.Context()); err != nil {
							t.Fatal(err)
						}
					}
					if r, err := sendSingly(t.Context(), m, i); err != nil || !r.Counted || r.Pending || r.State != breaker.Closed {
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

// Each outcome with a Retry-After takes a record of its own.
func TestCached_InspectFlushesAllRecords(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newRecordingStore()
		l.setLatency(time.Millisecond)
		m := newCachedManager(t, l, nil, func(p *breaker.Policy) { p.FailureThreshold, p.FailureRateThreshold = breaker.Off, breaker.Off })
		_ = m.Do(t.Context(), "a", succeed)
		settleAll(t, acquireAll(t, m, "a", 5), breaker.Outcome{Kind: breaker.Failure, RetryAfter: time.Second})
		if v, _, err := m.Inspect(t.Context(), "a"); err != nil || v.Successes != 1 || v.Failures != 5 {
			t.Errorf("%d successes and %d failures of 1 and 5; %v", v.Successes, v.Failures, err)
		}
		if n, _, _ := l.count(); n < 5 {
			t.Errorf("%d records", n)
		}
	})
}

// Their record is sent as soon as the one in flight has its answer.
func TestCached_InspectFlushesOutcomesBehindARecordInFlight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newRecordingStore()
		m := newCachedManager(t, l, nil, nil)
		all := acquireAll(t, m, "a", 2)
		l.setLatency(10 * time.Millisecond)
		settleAll(t, all[:1], breaker.Outcome{Kind: breaker.Success})
		<-time.After(12 * time.Millisecond) // its record was sent after 10 ms
		settleAll(t, all[1:], breaker.Outcome{Kind: breaker.Success})
		start := time.Now()
		if v, _, err := m.Inspect(t.Context(), "a"); err != nil || v.Successes != 2 || time.Since(start) != 18*time.Millisecond {
			t.Errorf("%d successes of 2 after %v; %v", v.Successes, time.Since(start), err)
		}
	})
}

// A success that waits under the old slow_call_duration is sent before a failure under the new one.
func TestCached_OrderIsKeptOverAChangeOfSlowCallDuration(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		slow := atomic.Int64{}
		m := newCachedManager(t, newRecordingStore(), nil, func(p *breaker.Policy) {
			p.FailureRateThreshold, p.FailureThreshold, p.SlowCallDuration = breaker.Off, 3, time.Duration(slow.Load())
		})
		waits := acquire(t, m, "a")
		settleAll(t, acquireAll(t, m, "a", 2), breaker.Outcome{Kind: breaker.Failure})
		<-time.After(100 * time.Millisecond)
		_, _ = waits.Success(t.Context())
		slow.Store(int64(time.Second))
		m.Invalidate("a") // as the event of the new policy does
		settleAll(t, acquireAll(t, m, "a", 1), breaker.Outcome{Kind: breaker.Failure})
		if v, _, err := m.Inspect(t.Context(), "a"); err != nil || v.State != breaker.Closed || v.Failures != 3 || v.Successes != 1 {
			t.Errorf("F F S F: %s, %d failures and %d successes; %v", v.State, v.Failures, v.Successes, err)
		}
	})
}

// It takes effect with the next answer of the store, to an acquire or to a record.
func TestCached_NewSlowCallDurationTakesEffect(t *testing.T) {
	t.Parallel()
	for name, ask := range map[string]func(*testing.T, *breaker.Manager){
		"acquire": func(t *testing.T, m *breaker.Manager) {
			t.Helper()
			m.Invalidate("a")
			acquire(t, m, "a")
		},
		"record": func(t *testing.T, m *breaker.Manager) {
			t.Helper()
			_ = m.Do(t.Context(), "a", succeed)
			if _, _, err := m.Inspect(t.Context(), "a"); err != nil { // flushes
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newRecordingStore()
				slow := atomic.Int64{}
				m := newCachedManager(t, l, nil, func(p *breaker.Policy) { p.SlowCallDuration = time.Duration(slow.Load()) })
				lasts := func(context.Context) error { <-time.After(200 * time.Millisecond); return nil }
				_ = m.Do(t.Context(), "a", lasts)
				_ = m.Do(t.Context(), "a", lasts)
				if _, sum, asked := l.count(); sum.Slow != 0 || asked != 1 {
					t.Fatalf("%d slow calls of %d, %d requests", sum.Slow, sum.Calls(), asked)
				}
				slow.Store(int64(100 * time.Millisecond))
				ask(t, m)
				_ = m.Do(t.Context(), "a", lasts)
				_ = m.Close(t.Context())
				if _, sum, _ := l.count(); sum.Slow != 1 {
					t.Errorf("%d slow calls of %d, want 1", sum.Slow, sum.Calls())
				}
			})
		})
	}
}

func TestCached_EveryAdmissionIsObserved(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := &admissionCounter{}
		m := newCachedManager(t, newRecordingStore(), o, nil)
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
				t.Fatalf("%d of %d calls observed", got, want)
			}
		}
	})
}

// The age of an outcome counts from when it came, also if a record is in flight then.
func TestCached_BacklogAgesBehindASlowRecord(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newRecordingStore()
		m := newCachedManager(t, l, nil, nil)
		p, q := acquire(t, m, "a"), acquire(t, m, "a")
		l.setLatency(900 * time.Millisecond)
		_, _ = p.Success(t.Context())
		<-time.After(20 * time.Millisecond) // its record was sent after 10 ms
		_, _ = q.Success(t.Context())
		const waited = 895 * time.Millisecond
		<-time.After(waited) // the first is recorded, the second still waits
		synctest.Wait()
		if v, err := l.Inspect(t.Context(), "a", breaker.DefaultPolicy()); err != nil || v.Successes != 1 {
			t.Fatalf("%d recorded, %v", v.Successes, err)
		}
		if u := m.Backlog(); u.Agents != 1 || u.Oldest < waited || u.Oldest > waited+10*time.Millisecond {
			t.Errorf("after %v: %+v", waited, u)
		}
	})
}

// The outcome must wait for the flush, and its caller's context ends before: it is sent after that.
func TestCached_OutcomeWaitsIfTheFlushBeforeItTakesTooLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, o := newRecordingStore(), &outcomeCounter{}
		m := newCachedManager(t, l, o, nil)
		p := acquire(t, m, "a")
		l.setLatency(time.Second)
		_, _ = p.Success(t.Context())
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if _, err := m.Record(ctx, "a", breaker.Outcome{Kind: breaker.Failure, ReportID: "1"}); err != nil {
			t.Fatal(err)
		}
		_ = m.Close(t.Context())
		if o.final["counted"] != 2 {
			t.Errorf("observed %v", o.final)
		}
	})
}
