package breaker_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// eachMode runs a test on a Manager of each mode, and on one whose breaker is known to be closed.
func eachMode(t *testing.T, test func(t *testing.T, m *breaker.Manager, store *recordingStore)) {
	t.Helper()
	for name, consistency := range map[string]breaker.Consistency{"strict": breaker.Strict, "cold": breaker.Cached, "cached": breaker.Cached} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := newRecordingStore()
			m := newManagerOn(t, store, func(p *breaker.Policy) { p.Consistency = consistency })
			t.Cleanup(func() { _ = m.Close(context.Background()) })
			if name == "cached" {
				_ = m.Do(t.Context(), "a", succeed)
			}
			test(t, m, store)
		})
	}
}

// go-service PR 3173, go-zero PR 4091: a context that has ended before the call says nothing about the agent.
func TestContext_OneThatHasEndedAsksAndCountsNothing(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, m *breaker.Manager, store *recordingStore) {
		past, endPast := context.WithDeadline(t.Context(), time.Now().Add(-time.Hour))
		defer endPast()
		cancelled, cancel := context.WithCancel(t.Context())
		cancel()
		withCause, cancelWithCause := context.WithCancelCause(t.Context())
		cancelWithCause(errAgent)
		child, endChild := context.WithTimeout(cancelled, time.Hour)
		defer endChild()
		withValue := context.WithValue(past, contextKey{}, 1)
		a, err := m.Agent("a")
		if err != nil {
			t.Fatal(err)
		}
		before, _, _ := m.Inspect(t.Context(), "a")
		_, _, asked := store.count()
		for name, ctx := range map[string]context.Context{
			"past": past, "cancelled": cancelled, "cause": withCause, "child": child, "value": withValue,
		} {
			called := false
			fn := func(context.Context) error { called = true; return errAgent }
			for verb, call := range map[string]func() error{
				"Acquire":       func() error { _, err := m.Acquire(ctx, "a"); return err },
				"Do":            func() error { return m.Do(ctx, "a", fn) },
				"Agent.Acquire": func() error { _, err := a.Acquire(ctx); return err },
				"Agent.Do":      func() error { return a.Do(ctx, fn) },
				"Inspect":       func() error { _, _, err := m.Inspect(ctx, "a"); return err },
				"Force": func() error {
					_, err := m.Force(ctx, "a", breaker.Force{Target: breaker.HoldOpen, Actor: "test"})
					return err
				},
			} {
				for range 6 {
					if err := call(); err != ctx.Err() { //nolint:errorlint // the plain error is what is promised
						t.Errorf("%s, %s: %v", verb, name, err)
					}
				}
			}
			if called {
				t.Errorf("%s: fn was called", name)
			}
		}
		if _, _, after := store.count(); after != asked {
			t.Errorf("the store was asked %d times", after-asked)
		}
		if after, _, err := m.Inspect(t.Context(), "a"); err != nil || !reflect.DeepEqual(after.Snapshot, before.Snapshot) {
			t.Errorf("%v, breaker %+v, was %+v", err, after.Snapshot, before.Snapshot)
		}
	})
}

type contextKey struct{}

// A context that ends while the store is asked: nothing was sent to the agent, so nothing counts.
func TestDo_ContextThatEndsDuringAcquireIsIgnored(t *testing.T) {
	t.Parallel()
	for _, consistency := range []breaker.Consistency{breaker.Strict, breaker.Cached} {
		ctx, end := context.WithCancel(t.Context())
		seen := &settledOutcomes{}
		m, err := breaker.NewManager(breaker.Options{
			Store: breaker.NewMemory(nil, 0), Observer: seen,
			PerAgent: func(context.Context, string) breaker.Policy { end(); return breaker.Policy{Consistency: consistency} },
		})
		if err != nil {
			t.Fatal(err)
		}
		err = m.Do(ctx, "a", func(context.Context) error { t.Error("fn was called"); return nil })
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if got := seen.take(); len(got) != 1 || got[0].Kind != breaker.Ignored || got[0].Class != "cancelled" {
			t.Errorf("settled %+v", got)
		}
		_ = m.Close(t.Context())
	}
}

// A Kind that is none counted as ignored, silently.
func TestOutcome_BadOneIsRefusedAndThePermitKeepsOwing(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, m *breaker.Manager, _ *recordingStore) {
		p := acquire(t, m, "a")
		for _, o := range []breaker.Outcome{
			{},
			{Kind: "failed"},
			{Kind: "SUCCESS"},
			{Kind: "success "},
			{Class: "timeout"},
			{Kind: breaker.Failure, Reporter: "host 1"},
			{Kind: breaker.Success, Reporter: strings.Repeat("r", 65)},
			{Kind: breaker.Ignored, Reporter: "a\nb"},
			{Kind: breaker.Failure, Reporter: "é"},
		} {
			if err := o.Validate(); !errors.Is(err, breaker.ErrBadOutcome) {
				t.Errorf("Validate of %+v: %v", o, err)
			}
			if _, err := p.Settle(t.Context(), o); !errors.Is(err, breaker.ErrBadOutcome) {
				t.Errorf("Settle of %+v: %v", o, err)
			}
			if _, err := p.Report(t.Context(), o); !errors.Is(err, breaker.ErrBadOutcome) {
				t.Errorf("Report of %+v: %v", o, err)
			}
			if _, err := m.Record(t.Context(), "a", o); !errors.Is(err, breaker.ErrBadOutcome) {
				t.Errorf("Record of %+v: %v", o, err)
			}
		}
		before, _, _ := totals(t, m)
		if counted, err := p.Success(t.Context()); !counted || err != nil {
			t.Errorf("the permit's outcome after that: %v, %v", counted, err)
		}
		if after, failures, _ := totals(t, m); after != before+1 || failures != 0 {
			t.Errorf("%d successes, %d failures", after-before, failures)
		}
	})
}

// What else an Outcome holds is taken: an outcome is not lost for it.
func TestOutcome_ExtremeValuesCount(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, m *breaker.Manager, _ *recordingStore) {
		before, _, _ := totals(t, m)
		for _, o := range []breaker.Outcome{
			{Duration: -time.Hour},
			{Duration: math.MaxInt64},
			{Duration: math.MinInt64},
			{RetryAfter: -time.Hour},
			{RetryAfter: math.MaxInt64},
			{RetryAfter: math.MinInt64},
			{Class: strings.Repeat("x\n", 1<<16)},
			{ReportID: strings.Repeat("{}\x00", 1000)},
		} {
			o.Kind = breaker.Success
			if r, err := m.Record(t.Context(), "a", o); err != nil || !r.Counted {
				t.Errorf("%.200v: %+v, %v", o, r, err)
			}
		}
		if after, failures, state := totals(t, m); after != before+8 || failures != 0 || state != breaker.Closed {
			t.Errorf("%d successes, %d failures, %s", after-before, failures, state)
		}
		if _, err := m.Record(t.Context(), "a", breaker.Outcome{Kind: breaker.Failure, RetryAfter: math.MaxInt64}); err != nil {
			t.Error(err)
		}
		for range 5 {
			_, _ = m.Record(t.Context(), "a", breaker.Outcome{Kind: breaker.Failure})
		}
		v, p, err := m.Inspect(t.Context(), "a")
		if wait := time.Duration(v.WaitMs) * time.Millisecond; err != nil || v.State != breaker.Open || wait > p.RetryAfterMax || wait < p.RetryAfterMax-5*time.Minute {
			t.Errorf("%v, %s for %v", err, v.State, wait)
		}
	})
}

func TestForce_BadValueIsATypedErrorThatNamesItsField(t *testing.T) {
	t.Parallel()
	good := breaker.Force{Target: breaker.HoldOpen, Actor: "test", Reason: "flooding – 3 × 500", LengthMs: breaker.MaxDuration.Milliseconds()}
	for field, bad := range map[string][]func(*breaker.Force){
		"target": {
			func(f *breaker.Force) { f.Target = "" },
			func(f *breaker.Force) { f.Target = "open" },
			func(f *breaker.Force) { f.Target = "HOLD_OPEN" },
			func(f *breaker.Force) { f.Target = "half_open" },
			func(f *breaker.Force) { f.Target = breaker.Target(strings.Repeat("hold_open", 1000)) },
		},
		"length_ms": {
			func(f *breaker.Force) { f.LengthMs = -1 },
			func(f *breaker.Force) { f.LengthMs = math.MinInt64 },
			func(f *breaker.Force) { f.LengthMs = breaker.MaxDuration.Milliseconds() + 1 },
			func(f *breaker.Force) { f.LengthMs = math.MaxInt64 },
			func(f *breaker.Force) { f.LengthMs = int64(time.Hour) }, // nanoseconds
		},
		"ramp_ms": {
			func(f *breaker.Force) { f.RampMs = -1 },
			func(f *breaker.Force) { f.RampMs = math.MinInt64 },
			func(f *breaker.Force) { f.RampMs = breaker.MaxDuration.Milliseconds() + 1 },
			func(f *breaker.Force) { f.RampMs = math.MaxInt64 },
			func(f *breaker.Force) { f.RampMs = int64(time.Hour) },
		},
		"reason": {
			func(f *breaker.Force) { f.Reason = "two\nlines" },
			func(f *breaker.Force) { f.Reason = "a\x00b" },
			func(f *breaker.Force) { f.Reason = "\x1b[31m" },
			func(f *breaker.Force) { f.Reason = "left\u2028right" },
			func(f *breaker.Force) { f.Reason = "bad \xff bytes" },
			func(f *breaker.Force) { f.Reason = "\u202eabc" },
			func(f *breaker.Force) { f.Reason = strings.Repeat("r", 501) },
		},
		"actor": {
			func(f *breaker.Force) { f.Actor = "" },
			func(f *breaker.Force) { f.Actor = "two words" },
			func(f *breaker.Force) { f.Actor = "a\nb" },
			func(f *breaker.Force) { f.Actor = strings.Repeat("a", 65) },
			func(f *breaker.Force) { f.Actor = "José" },
		},
	} {
		eachMode(t, func(t *testing.T, m *breaker.Manager, _ *recordingStore) {
			before, _, _ := m.Inspect(t.Context(), "a")
			for i, edit := range bad {
				f := good
				edit(&f)
				_, err := m.Force(t.Context(), "a", f)
				if got, ok := errors.AsType[*breaker.ForceError](err); !ok || got.Field != field || len(err.Error()) > 400 || strings.ContainsAny(err.Error(), "\n\x00\x1b") {
					t.Errorf("%s %d: %v", field, i, err)
				}
			}
			if after, _, err := m.Inspect(t.Context(), "a"); err != nil || !reflect.DeepEqual(after.Snapshot, before.Snapshot) {
				t.Errorf("%s: %v, %+v, was %+v", field, err, after.Snapshot, before.Snapshot)
			}
			if state, err := m.Force(t.Context(), "a", good); err != nil || state != breaker.Open {
				t.Errorf("a good one: %s, %v", state, err)
			}
		})
	}
}

func TestReporter_PolicyThatNeedsSeveralNeedsOne(t *testing.T) {
	t.Parallel()
	for k := 2; k <= 8; k++ {
		_, err := breaker.NewManager(breaker.Options{Store: breaker.NewMemory(nil, 0), Policy: breaker.Policy{MinimumReporters: k}})
		if bad, ok := errors.AsType[*breaker.PolicyError](err); !ok || bad.Field != "minimum_reporters" || !strings.Contains(err.Error(), "Options.Reporter") {
			t.Errorf("%d: %v", k, err)
		}
	}
	for _, word := range []string{"host 1", "a/b", "é", "a\n", strings.Repeat("r", 65)} {
		if _, err := breaker.NewManager(breaker.Options{Store: breaker.NewMemory(nil, 0), Reporter: word}); err == nil || !strings.Contains(err.Error(), "Options.Reporter") {
			t.Errorf("reporter %q: %v", word, err)
		}
	}
	rejected := &rejections{}
	several := breaker.Policy{MinimumReporters: 2, FailureThreshold: 2}
	m, err := breaker.NewManager(breaker.Options{
		Store: breaker.NewMemory(nil, 0), Observer: rejected, Policy: breaker.Policy{FailureThreshold: 3},
		PerAgent: func(context.Context, string) breaker.Policy { return several },
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		_ = m.Do(t.Context(), "a", fail)
	}
	if _, _, state := totals(t, m); state != breaker.Open {
		t.Errorf("%s: the static policy trips at 3", state)
	}
	if want := "[a minimum_reporters: 2 is not allowed: want 1, or set Options.Reporter]"; fmt.Sprint(rejected.all) != want {
		t.Errorf("rejected %s", rejected.all)
	}
}

func TestParams_UnknownNumberOfReplicasCountsAsOne(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ minimum, replicas, want int }{
		{1, 0, 1}, {2, 0, 1}, {8, 0, 1}, {8, -1, 1}, {3, 1, 1}, {3, 2, 2}, {3, 3, 3}, {3, 9, 3}, {8, 8, 8},
	} {
		p := breaker.Policy{MinimumReporters: c.minimum}.WithDefaults()
		if got := p.Params(time.Hour, c.replicas); got.Reporters != int64(c.want) || got.TrackReporters != (c.minimum > 1) {
			t.Errorf("%+v: %d, tracked %v", c, got.Reporters, got.TrackReporters)
		}
	}
}

// settledOutcomes notes the outcomes that an Observer is notified of.
type settledOutcomes struct {
	breaker.NopObserver

	mu  sync.Mutex
	all []breaker.Outcome
}

func (s *settledOutcomes) Settled(_ string, o breaker.Outcome, _ breaker.Report) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, o)
}

func (s *settledOutcomes) take() (all []breaker.Outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all, s.all = s.all, nil
	return all
}
