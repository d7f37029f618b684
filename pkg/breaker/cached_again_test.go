package breaker_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// F1: a record was under way when the agent was deleted: its answer says closed, and undoes what Drop said.
func TestADropDuringARecordStands(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLedger()
		m := cachedOn(t, l, nil, nil)
		p, q := acquire(t, m, "a"), acquire(t, m, "a")
		l.slows(10 * time.Millisecond)
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

// F2a: the agent that comes again after its deletion has the same first epoch.
func TestAnAgentThatComesAgainIsCachedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLedger()
		m := cachedOn(t, l, nil, nil)
		acquire(t, m, "a")
		m.Evict("a")
		for range 100 {
			_ = m.Do(t.Context(), "a", succeed)
		}
		if _, _, asked := l.count(); asked > 3 {
			t.Errorf("asked %d times for 101 calls", asked)
		}
	})
}

// F2b: so has an agent whose first epoch ended in a trip, when the store has come back empty, or its keys have expired [B25].
func TestAnEmptyStoreIsCachedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLedger()
		m := cachedOn(t, l, nil, byRun)
		for range 5 {
			_ = m.Do(t.Context(), "a", fail)
		}
		passing(t, m, "a")
		_, _, before := l.count()
		l.Store = breaker.NewMemory(nil, 0)
		for range 100 {
			_ = m.Do(t.Context(), "a", succeed)
			<-time.After(time.Millisecond)
		}
		if _, _, after := l.count(); after-before > 3 {
			t.Errorf("asked %d times for 100 calls", after-before)
		}
	})
}

// F3: the wait for what came before ends with the caller's context: nobody is told of the outcome.
func TestAnOutcomeThatCouldNotWaitIsTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, o := newLedger(), &told{}
		m := cachedOn(t, l, o, nil)
		p := acquire(t, m, "a")
		l.slows(time.Second)
		_, _ = p.Success(t.Context())
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if _, err := m.Record(ctx, "a", breaker.Outcome{Kind: breaker.Failure, ReportID: "1"}); err == nil {
			t.Fatal("recorded in no time")
		}
		_ = m.Close(t.Context())
		if o.flushed[machine.CodeLost] != 1 {
			t.Errorf("told %v", o.flushed)
		}
	})
}
