package breaker_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// ledger is a Store that remembers what records it was sent, and can keep them waiting or fail them.
type ledger struct {
	breaker.Store

	mu      sync.Mutex
	records []entry
	asked   int // acquires
	flying  map[string]int
	most    int // records of one agent at once
	latency time.Duration
	err     error
}

type entry struct {
	agent string
	at    time.Time
	sum   breaker.Summary
}

func newLedger() *ledger {
	return &ledger{Store: breaker.NewMemory(nil, 0), flying: map[string]int{}}
}

func (l *ledger) Apply(ctx context.Context, agent string, p breaker.Policy, op breaker.Op) (breaker.Result, error) {
	l.mu.Lock()
	err := l.err
	switch op.Verb {
	case breaker.VerbAcquire:
		l.asked++
	case breaker.VerbRecord:
		l.records = append(l.records, entry{agent, time.Now(), op.Summary})
		l.flying[agent]++
		l.most = max(l.most, l.flying[agent])
		defer func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.flying[agent]--
		}()
	}
	latency := l.latency
	l.mu.Unlock()
	if err != nil {
		return breaker.Result{}, err
	}
	if latency > 0 {
		<-time.After(latency)
	}
	return l.Store.Apply(ctx, agent, p, op)
}

// count gives how many records came, what they hold in all, and how often leave was asked for.
func (l *ledger) count() (records int, sum breaker.Summary, asked int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.records {
		sum = sum.Join(e.sum)
	}
	return len(l.records), sum, l.asked
}

// cachedOn makes a Manager whose policy is cached, and closes it at the end.
func cachedOn(t *testing.T, s breaker.Store, observer breaker.Observer, edit func(*breaker.Policy)) *breaker.Manager {
	t.Helper()
	m, err := breaker.NewManager(breaker.Options{
		Store: s, Reporter: "test", Observer: observer,
		Policy: func(context.Context, string) breaker.Policy {
			p := breaker.DefaultPolicy()
			p.Consistency = breaker.Cached
			if edit != nil {
				edit(&p)
			}
			return p
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close(context.Background()) })
	return m
}

func acquire(t *testing.T, m *breaker.Manager, agent string) breaker.Permit {
	t.Helper()
	p, err := m.Acquire(t.Context(), agent)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestOnlyTheFirstCallAsksAndSuccessesShareARecord(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLedger()
		m := cachedOn(t, l, nil, nil)
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
		if u := m.Unsent(); u.Agents != 1 {
			t.Errorf("unsent: %+v", u)
		}
		<-time.After(9 * time.Millisecond)
		synctest.Wait()
		if n, _, asked := l.count(); n != 0 || asked != 1 {
			t.Errorf("%d records, %d questions before the interval is over", n, asked)
		}
		<-time.After(time.Millisecond)
		synctest.Wait()
		if n, sum, _ := l.count(); n != 1 || sum != (breaker.Summary{Successes: 1000}) || l.records[0].at != start.Add(10*time.Millisecond) {
			t.Errorf("%d records, %+v after %v", n, sum, l.records[0].at.Sub(start))
		}
		if u := m.Unsent(); u != (breaker.Unsent{}) {
			t.Errorf("unsent: %+v", u)
		}
	})
}

func TestFailuresGoAtOnceAndThenShare(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLedger()
		m := cachedOn(t, l, nil, func(p *breaker.Policy) { p.FailureRateThreshold = 0; p.FailureThreshold = 4 })
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
		if _, err := p.Failure(t.Context(), "boom"); err != nil { // the fourth in a row
			t.Fatal(err)
		}
		if _, err := m.Acquire(t.Context(), "a"); !errors.As(err, new(*breaker.OpenError)) {
			t.Fatalf("a call right behind the failure that trips: %v", err)
		}
		if n, sum, _ := l.count(); n != 2 || sum.Failures != 4 || sum.MaxRun != 4 || !l.records[1].at.Equal(start) {
			t.Fatalf("four failures: %d records, %+v", n, sum)
		}
		if _, err := m.Acquire(t.Context(), "a"); !errors.As(err, new(*breaker.OpenError)) {
			t.Fatalf("the fifth call: %v", err)
		}
	})
}

// TestFailuresOnTheirWayAreCounted: the one that trips comes while those before it are sent, and the call behind it waits for all.
func TestFailuresOnTheirWayAreCounted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLedger()
		l.latency = 50 * time.Millisecond
		m := cachedOn(t, l, nil, func(p *breaker.Policy) { p.FailureRateThreshold = 0 })
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

// TestAnAgentThatFailsOftenCostsTwoRecordsAnInterval at most.
func TestAnAgentThatFailsOftenCostsTwoRecordsAnInterval(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLedger()
		m := cachedOn(t, l, nil, func(p *breaker.Policy) { p.FailureRateThreshold = 0 })
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

func TestOneRecordOfAnAgentAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLedger()
		l.latency = 35 * time.Millisecond
		m := cachedOn(t, l, nil, func(p *breaker.Policy) { p.FailureRateThreshold = 0 })
		for i := range 300 {
			p := acquire(t, m, "a")
			_, _ = p.Settle(t.Context(), breaker.Outcome{Kind: []breaker.OutcomeKind{breaker.Failure, breaker.Success}[i%2]})
			<-time.After(time.Millisecond)
		}
		if err := m.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n, sum, _ := l.count(); l.most != 1 || sum.Calls() != 300 || n > 12 {
			t.Errorf("%d at once; %d records of %d calls", l.most, n, sum.Calls())
		}
	})
}

func TestWhoCountsSeesWhatHeCounted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLedger()
		l.latency = time.Millisecond
		m := cachedOn(t, l, nil, nil)
		start := time.Now()
		for range 3 {
			p := acquire(t, m, "a")
			_, _ = p.Success(t.Context())
		}
		began := time.Now()
		if v, _, err := m.Inspect(t.Context(), "a"); err != nil || v.Successes != 3 || time.Since(began) != time.Millisecond {
			t.Errorf("%d counted after %v, %v", v.Successes, time.Since(start), err)
		}
		busy, stop := context.WithCancel(t.Context()) // somebody never ceases to call
		go func() {
			for busy.Err() == nil {
				_ = m.Do(busy, "a", succeed)
				<-time.After(100 * time.Microsecond)
			}
		}()
		<-time.After(10*time.Millisecond + 300*time.Microsecond) // a record is under way
		began = time.Now()
		if _, _, err := m.Inspect(t.Context(), "a"); err != nil || time.Since(began) > 2*time.Millisecond {
			t.Errorf("while others call: after %v, %v", time.Since(began), err)
		}
		stop()
		l.mu.Lock()
		l.latency = time.Minute
		l.mu.Unlock()
		p := acquire(t, m, "a")
		_, _ = p.Success(t.Context())
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, _, err := m.Inspect(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}

func TestHandlesAndNamesAreOneBreaker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLedger()
		m := cachedOn(t, l, nil, nil)
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
			t.Errorf("%d records of %d calls, %d questions", n, sum.Calls(), asked)
		}
	})
}

func TestEveryWayOutOfDoIsJoined(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLedger()
		m := cachedOn(t, l, nil, func(p *breaker.Policy) { p.SlowCallDuration = time.Second; p.FailureThreshold = 0 })
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
		want := breaker.Summary{Successes: 3, Failures: 3, Slow: 1, MaxRun: 3}
		if _, sum, _ := l.count(); sum != want {
			t.Errorf("got %+v, want %+v", sum, want)
		}
	})
}

// told counts what an observer is told of outcomes.
type told struct {
	breaker.NopObserver

	mu      sync.Mutex
	pending int
	flushed map[string]int64 // why, or "counted" -> calls
}

func (o *told) Settled(_ string, _ breaker.Outcome, r breaker.Report) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if r.Pending {
		o.pending++
	} else {
		o.add(r, 1)
	}
}

func (o *told) Flushed(_ string, s breaker.Summary, r breaker.Report) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.add(r, s.Calls())
}

func (o *told) add(r breaker.Report, n int64) {
	if o.flushed == nil {
		o.flushed = map[string]int64{}
	}
	why := r.Why
	if r.Counted {
		why = "counted"
	}
	o.flushed[why] += n
}

func TestEveryOutcomeIsToldOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, o := newLedger(), &told{}
		m := cachedOn(t, l, o, nil)
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
		l.mu.Lock()
		l.err = &breaker.StoreError{Verb: breaker.VerbRecord, Unknown: true, Err: errAgent}
		l.mu.Unlock()
		if _, err := m.Acquire(t.Context(), "a"); err == nil {
			t.Fatal("admitted without an answer")
		}
		<-time.After(time.Minute)
		_ = m.Close(t.Context())
		if want := map[string]int64{"counted": 5, "late": 2}; fmt.Sprint(o.flushed) != fmt.Sprint(want) || o.pending != 5 {
			t.Errorf("told of %d, then %v, want %v", o.pending, o.flushed, want)
		}
	})
}

func TestOutcomesThatTheStoreDoesNotTakeAreTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, o := newLedger(), &told{}
		m := cachedOn(t, l, o, nil)
		for why, err := range map[string]error{
			"unknown": &breaker.StoreError{Unknown: true, Err: errAgent}, "lost": &breaker.StoreError{Err: errAgent},
		} {
			p := acquire(t, m, "a")
			l.mu.Lock()
			l.err = err
			l.mu.Unlock()
			_, _ = p.Success(t.Context())
			<-time.After(10 * time.Millisecond)
			synctest.Wait()
			if o.flushed[why] != 1 {
				t.Errorf("%s: told %v", why, o.flushed)
			}
			if _, err := m.Acquire(t.Context(), "a"); err == nil {
				t.Error("still admitted from memory")
			}
			l.mu.Lock()
			l.err = nil
			l.mu.Unlock()
		}
	})
}

// TestStalenessIsBounded: another replica opens the breaker, and nobody is told. A replica that only asks refuses within the
// bound, one that reports within an interval, one that is told at once.
func TestStalenessIsBounded(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		reports, push bool
		within        time.Duration
	}{
		"silent": {within: time.Second}, "reporting": {reports: true, within: 11 * time.Millisecond}, "told": {push: true, within: 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for offset := range 7 { // of the opening, against the sweeps
				synctest.Test(t, func(t *testing.T) {
					l := newLedger()
					m, other := cachedOn(t, l, nil, nil), cachedOn(t, l, nil, nil)
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

// TestAnAnswerFromBeforeATransitionDoesNotCount: the store said closed, the breaker opened and that was told, and only then does
// the answer arrive.
func TestAnAnswerFromBeforeATransitionDoesNotCount(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLedger()
		m := cachedOn(t, &slowAnswers{l}, nil, nil)
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
			t.Error("admitted by an old answer")
		}
	})
}

// slowAnswers gives answers to acquires a second late.
type slowAnswers struct{ *ledger }

func (s *slowAnswers) Apply(ctx context.Context, agent string, p breaker.Policy, op breaker.Op) (breaker.Result, error) {
	r, err := s.ledger.Apply(ctx, agent, p, op)
	if op.Verb == breaker.VerbAcquire {
		<-time.After(time.Second)
	}
	return r, err
}

func TestAPolicyThatChangesIsFollowed(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*breaker.Policy){
		"strict":   func(p *breaker.Policy) { p.Consistency = breaker.Strict },
		"disabled": func(p *breaker.Policy) { p.Enabled = false },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newLedger()
				changed := false
				m := cachedOn(t, l, nil, func(p *breaker.Policy) {
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
					t.Errorf("three calls asked %d times", after-before)
				}
			})
		})
	}
}

func TestOutcomesFromElsewhereJoinWhereTheyMay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLedger()
		m := cachedOn(t, l, nil, nil)
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
			t.Error("an outcome that may wait does not")
		}
		if joined("", breaker.Outcome{Kind: breaker.Success, Reporter: "other"}) || joined("", breaker.Outcome{Kind: breaker.Success, ReportID: "1"}) {
			t.Error("an outcome that names its reporter, or must count once, waits")
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

// TestIdleAgentsLeave: memory is bounded by the agents of the last moments, whatever their number before.
func TestIdleAgentsLeave(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := cachedOn(t, newLedger(), nil, nil)
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

func TestBeyondMaxAgentsTheStoreIsAsked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLedger()
		p := breaker.DefaultPolicy()
		p.Consistency = breaker.Cached
		m, err := breaker.NewManager(breaker.Options{Store: l, MaxAgents: 2, Policy: func(context.Context, string) breaker.Policy { return p }})
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
		if _, _, asked := l.count(); asked != 12 {
			t.Errorf("asked %d times", asked)
		}
	})
}

func TestCloseSendsWhatWaitsAndGivesUpInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLedger()
		m := cachedOn(t, l, nil, nil)
		for i := range 500 {
			p := acquire(t, m, fmt.Sprint("agent-", i))
			_, _ = p.Success(t.Context())
		}
		late := acquire(t, m, "agent-1")
		l.mu.Lock()
		l.latency = 300 * time.Millisecond
		l.mu.Unlock()
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if err := m.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a store that is slow: %v", err)
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

// TestNothingIsLostBetweenGoroutines runs on the real scheduler, for the race detector.
func TestNothingIsLostBetweenGoroutines(t *testing.T) {
	t.Parallel()
	l := newLedger()
	m := cachedOn(t, l, nil, func(p *breaker.Policy) { p.FailureThreshold, p.FailureRateThreshold = 0, 0 })
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
