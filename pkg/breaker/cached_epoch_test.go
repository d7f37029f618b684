package breaker_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

func TestCached_OutcomesOfAnEndedEpochAreLate(t *testing.T) {
	t.Parallel()
	for name, observer := range map[string]breaker.Observer{"observed": &outcomeCounter{}, "fast path": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newRecordingStore()
				m := newCachedManager(t, l, observer, nil)
				old := acquireAll(t, m, "a", 3)
				err := m.Do(t.Context(), "a", func(ctx context.Context) error {
					settleAll(t, acquireAll(t, m, "a", 5), breaker.Outcome{Kind: breaker.Failure})
					if n := admittedBeforeRefusal(t, m, "a"); n != 0 {
						t.Errorf("%d calls admitted", n)
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
					t.Errorf("Success: %v, %v", counted, err)
				}
				if u := m.Backlog(); u != (breaker.Backlog{}) {
					t.Errorf("backlog %+v", u)
				}
			})
		})
	}
}

// Neither of outcomes that it had, nor of later ones.
func TestCached_EvictedAgentSendsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, o := newRecordingStore(), &outcomeCounter{}
		m := newCachedManager(t, l, o, nil)
		all := acquireAll(t, m, "a", 4)
		other := acquire(t, m, "b")
		settleAll(t, all[:2], breaker.Outcome{Kind: breaker.Success})
		_, _ = other.Success(t.Context())
		m.Evict("a")
		late := breaker.Report{Why: machine.CodeLate}
		for i, kind := range []breaker.OutcomeKind{breaker.Success, breaker.Failure} {
			if r, err := all[2+i].Report(t.Context(), breaker.Outcome{Kind: kind}); r != late || err != nil {
				t.Errorf("%s after Evict: %+v, %v", kind, r, err)
			}
		}
		_ = m.Close(t.Context())
		if _, n := l.last("a"); n != 0 {
			t.Errorf("%d records of the evicted agent", n)
		}
		if want := map[machine.Code]int64{"counted": 1, machine.CodeLate: 4}; fmt.Sprint(o.final) != fmt.Sprint(want) || o.pending != 3 {
			t.Errorf("observed %d pending, then %v, want %v", o.pending, o.final, want)
		}
		if v, _, err := m.Inspect(t.Context(), "a"); err != nil || v.Present {
			t.Errorf("present: %v, %v", v.Present, err)
		}
	})
}

// The answer to a record in flight says that the breaker is closed, but must not undo Evict.
func TestCached_EvictDuringARecordStands(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newRecordingStore()
		m := newCachedManager(t, l, nil, nil)
		p, q := acquire(t, m, "a"), acquire(t, m, "a")
		l.setLatency(10 * time.Millisecond)
		_, _ = p.Failure(t.Context(), "boom")
		<-time.After(5 * time.Millisecond)
		m.Evict("a")
		<-time.After(20 * time.Millisecond)
		r, err := q.Report(t.Context(), breaker.Outcome{Kind: breaker.Success})
		if want := (breaker.Report{Why: machine.CodeLate}); r != want || err != nil {
			t.Errorf("%+v, %v; want %+v", r, err, want)
		}
	})
}

// The new breaker is in the same epoch as the old one, the zero epoch.
func TestCached_AgentIsCachedAgainAfterEvict(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newRecordingStore()
		m := newCachedManager(t, l, nil, nil)
		acquire(t, m, "a")
		m.Evict("a")
		for range 100 {
			_ = m.Do(t.Context(), "a", succeed)
		}
		if _, _, asked := l.count(); asked > 3 {
			t.Errorf("%d requests for 101 calls", asked)
		}
	})
}

// The zero epoch ended in a trip, and then the store lost the keys, or they expired [B25]: the zero epoch is back.
func TestCached_AgentIsCachedAgainAfterLossOfItsKeys(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newRecordingStore()
		m := newCachedManager(t, l, nil, tripOnRunOnly)
		for range 5 {
			_ = m.Do(t.Context(), "a", fail)
		}
		admittedBeforeRefusal(t, m, "a")
		_, _, before := l.count()
		l.Store = breaker.NewMemory(nil, 0)
		for range 100 {
			_ = m.Do(t.Context(), "a", succeed)
			<-time.After(time.Millisecond)
		}
		if _, _, after := l.count(); after-before > 3 {
			t.Errorf("%d requests for 100 calls", after-before)
		}
	})
}
