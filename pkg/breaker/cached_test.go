package breaker_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

func TestCached_ManySuccessesTakeOneRequestAndOneRecord(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newRecordingStore()
		m := newCachedManager(t, l, nil, nil)
		for range 1000 {
			p := acquire(t, m, "a")
			if ok, err := p.Success(t.Context()); !ok || err != nil {
				t.Fatal(ok, err)
			}
			if _, err := p.Success(t.Context()); !errors.Is(err, breaker.ErrSettled) {
				t.Fatalf("a second outcome gave %v", err)
			}
		}
		start := time.Now()
		if u := m.Backlog(); u.Agents != 1 {
			t.Errorf("backlog %+v", u)
		}
		<-time.After(9 * time.Millisecond)
		synctest.Wait()
		if n, _, asked := l.count(); n != 0 || asked != 1 {
			t.Errorf("%d records, %d requests before the interval is over", n, asked)
		}
		<-time.After(time.Millisecond)
		synctest.Wait()
		if n, sum, _ := l.count(); n != 1 || sum != (machine.Summary{Successes: 1000}) || l.records[0].at != start.Add(10*time.Millisecond) {
			t.Errorf("%d records, %+v after %v", n, sum, l.records[0].at.Sub(start))
		}
		if u := m.Backlog(); u != (breaker.Backlog{}) {
			t.Errorf("backlog %+v", u)
		}
	})
}

func TestCached_FirstFailureIsSentAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newRecordingStore()
		m := newCachedManager(t, l, nil, func(p *breaker.Policy) { p.FailureRateThreshold = breaker.Off; p.FailureThreshold = 4 })
		start := time.Now()
		fails := func() {
			p := acquire(t, m, "a")
			if _, err := p.Failure(t.Context(), "boom"); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		for range 3 {
			fails()
		}
		if n, sum, _ := l.count(); n != 1 || sum.Failures != 1 || !l.records[0].at.Equal(start) {
			t.Fatalf("three failures: %d records, %+v", n, sum)
		}
		p := acquire(t, m, "a")
		if _, err := p.Failure(t.Context(), "boom"); err != nil { // the fourth in a row trips
			t.Fatal(err)
		}
		if _, err := m.Acquire(t.Context(), "a"); !errors.As(err, new(*breaker.OpenError)) {
			t.Fatalf("the call after the failure that trips: %v", err)
		}
		if n, sum, _ := l.count(); n != 2 || sum.Failures != 4 || sum.MaxRun != 4 || !l.records[1].at.Equal(start) {
			t.Fatalf("four failures: %d records, %+v", n, sum)
		}
		if _, err := m.Acquire(t.Context(), "a"); !errors.As(err, new(*breaker.OpenError)) {
			t.Fatalf("the fifth call: %v", err)
		}
	})
}

// The failure that trips comes while those before it are in flight. The next call waits for all of them.
func TestCached_FailuresInFlightCountForTheTrip(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newRecordingStore()
		l.latency = 50 * time.Millisecond
		m := newCachedManager(t, l, nil, func(p *breaker.Policy) { p.FailureRateThreshold = breaker.Off })
		_ = m.Do(t.Context(), "a", succeed)
		<-time.After(time.Second / 10)
		for range 5 {
			if err := m.Do(t.Context(), "a", fail); !errors.Is(err, errAgent) {
				t.Fatal(err)
			}
			<-time.After(time.Millisecond)
		}
		if _, err := m.Acquire(t.Context(), "a"); !errors.As(err, new(*breaker.OpenError)) {
			t.Errorf("the sixth call: %v", err)
		}
	})
}

func TestCached_FailuresCostTwoRecordsAnInterval(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newRecordingStore()
		m := newCachedManager(t, l, nil, func(p *breaker.Policy) { p.FailureRateThreshold = breaker.Off })
		for i := range 1000 { // one second
			p := acquire(t, m, "a")
			_, _ = p.Settle(t.Context(), breaker.Outcome{Kind: []breaker.OutcomeKind{breaker.Failure, breaker.Success}[i%2]})
			<-time.After(time.Millisecond)
		}
		synctest.Wait()
		if n, sum, _ := l.count(); n > 201 || sum.Calls() < 990 {
			t.Errorf("%d records of %d calls in a second", n, sum.Calls())
		}
	})
}

func TestCached_OneRecordOfAnAgentIsInFlight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newRecordingStore()
		l.latency = 35 * time.Millisecond
		m := newCachedManager(t, l, nil, func(p *breaker.Policy) { p.FailureRateThreshold = breaker.Off })
		for i := range 300 {
			p := acquire(t, m, "a")
			_, _ = p.Settle(t.Context(), breaker.Outcome{Kind: []breaker.OutcomeKind{breaker.Failure, breaker.Success}[i%2]})
			<-time.After(time.Millisecond)
		}
		if err := m.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n, sum, _ := l.count(); l.most != 1 || sum.Calls() != 300 || n > 12 {
			t.Errorf("%d records at once; %d records of %d calls", l.most, n, sum.Calls())
		}
	})
}

func TestCached_InspectFlushesFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newRecordingStore()
		l.latency = time.Millisecond
		m := newCachedManager(t, l, nil, nil)
		start := time.Now()
		for range 3 {
			p := acquire(t, m, "a")
			_, _ = p.Success(t.Context())
		}
		began := time.Now()
		if v, _, err := m.Inspect(t.Context(), "a"); err != nil || v.Successes != 3 || time.Since(began) != time.Millisecond {
			t.Errorf("%d counted after %v, %v", v.Successes, time.Since(start), err)
		}
		busy, stop := context.WithCancel(t.Context()) // calls that go on
		go func() {
			for busy.Err() == nil {
				_ = m.Do(busy, "a", succeed)
				<-time.After(100 * time.Microsecond)
			}
		}()
		<-time.After(10*time.Millisecond + 300*time.Microsecond) // a record is in flight
		began = time.Now()
		if _, _, err := m.Inspect(t.Context(), "a"); err != nil || time.Since(began) > 2*time.Millisecond {
			t.Errorf("Inspect while others call: after %v, %v", time.Since(began), err)
		}
		stop()
		l.setLatency(time.Minute)
		p := acquire(t, m, "a")
		_, _ = p.Success(t.Context())
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, _, err := m.Inspect(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}

func TestCached_HandlesAndNamesShareABuffer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newRecordingStore()
		m := newCachedManager(t, l, nil, nil)
		a, err := m.Agent("a")
		if err != nil || a.Name() != "a" {
			t.Fatal(a, err)
		}
		if _, err := m.Agent("no/name"); !errors.Is(err, breaker.ErrBadName) {
			t.Fatal(err)
		}
		if _, err := m.Acquire(t.Context(), "no/name"); !errors.Is(err, breaker.ErrBadName) {
			t.Fatal(err)
		}
		for range 2 {
			p, err := a.Acquire(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			_, _ = p.Success(t.Context())
			if err := a.Do(t.Context(), succeed); err != nil {
				t.Fatal(err)
			}
			if err := m.Do(t.Context(), "a", succeed); err != nil {
				t.Fatal(err)
			}
		}
		_ = m.Close(t.Context())
		if n, sum, asked := l.count(); n != 1 || sum.Successes != 6 || asked != 1 {
			t.Errorf("%d records of %d calls, %d requests", n, sum.Calls(), asked)
		}
	})
}

func TestCached_DoJoinsEveryOutcome(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newRecordingStore()
		m := newCachedManager(t, l, nil, func(p *breaker.Policy) { p.SlowCallDuration = time.Second; p.FailureThreshold = breaker.Off })
		cancelled, cancel := context.WithCancel(t.Context())
		cancel()
		_ = m.Do(t.Context(), "a", succeed)
		_ = m.Do(t.Context(), "a", fail)
		_ = m.Do(cancelled, "a", fail) // ignored
		func() {
			defer func() { _ = recover() }()
			_ = m.Do(t.Context(), "a", func(context.Context) error { panic("boom") })
		}()
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = m.Do(t.Context(), "a", func(context.Context) error { runtime.Goexit(); return nil })
		}()
		<-done
		slow := func(context.Context) error { <-time.After(1100 * time.Millisecond); return nil }
		_ = m.Do(t.Context(), "a", succeed)
		_ = m.Do(t.Context(), "a", slow)
		_ = m.Close(t.Context())
		want := machine.Summary{Successes: 3, Failures: 3, Slow: 1, MaxRun: 3}
		if _, sum, _ := l.count(); sum != want {
			t.Errorf("got %+v, want %+v", sum, want)
		}
	})
}

func TestCached_EveryOutcomeIsObservedOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, o := newRecordingStore(), &outcomeCounter{}
		m := newCachedManager(t, l, o, nil)
		old := []breaker.Permit{acquire(t, m, "a"), acquire(t, m, "a")}
		for range 5 {
			p := acquire(t, m, "a")
			_, _ = p.Failure(t.Context(), "boom") // the fifth in a row trips
		}
		synctest.Wait()
		for i := range old {
			if counted, err := old[i].Success(t.Context()); counted || err != nil {
				t.Errorf("of an epoch that is known to be over: %v, %v", counted, err)
			}
		}
		<-time.After(time.Second)
		l.setError(&breaker.StoreError{Verb: machine.VerbRecord, Unknown: true, Err: errAgent})
		if _, err := m.Acquire(t.Context(), "a"); err == nil {
			t.Fatal("admitted without an answer")
		}
		<-time.After(time.Minute)
		_ = m.Close(t.Context())
		if want := map[machine.Code]int64{"counted": 5, machine.CodeLate: 2}; fmt.Sprint(o.final) != fmt.Sprint(want) || o.pending != 5 {
			t.Errorf("observed %d pending, then %v, want %v", o.pending, o.final, want)
		}
	})
}

// What the store may have counted is unknown; what it did not get is sent again.
func TestCached_FailedFlushIsUnknownOrSentAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, o := newRecordingStore(), &outcomeCounter{}
		m := newCachedManager(t, l, o, nil)
		for why, err := range map[machine.Code]error{
			breaker.CodeUnknown: &breaker.StoreError{Unknown: true, Err: errAgent}, "counted": &breaker.StoreError{Err: errAgent},
		} {
			p := acquire(t, m, "a")
			l.setError(err)
			_, _ = p.Success(t.Context())
			<-time.After(10 * time.Millisecond)
			synctest.Wait()
			if _, err := m.Acquire(t.Context(), "a"); err == nil {
				t.Error("still admitted from memory")
			}
			l.setError(nil)
			<-time.After(time.Second)
			synctest.Wait()
			if o.final[why] != 1 {
				t.Errorf("%s: observed %v", why, o.final)
			}
		}
	})
}
