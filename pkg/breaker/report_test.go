package breaker_test

import (
	"context"
	"testing"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// A failure's Report says how far the run is. In strict mode that is the store's answer; in cached mode what this process
// knows, until the next answer.
func TestReport_CountsTheRunOfFailures(t *testing.T) {
	t.Parallel()
	failure := breaker.Outcome{Kind: breaker.Failure}
	type step struct {
		o            breaker.Outcome
		strict, mine int64 // the run; that of cached mode, without the failures of another process
	}
	steps := []step{
		{failure, 1, 1},
		{breaker.Outcome{Kind: breaker.Failure, Slow: true}, 3, 2},
		{breaker.Outcome{Kind: breaker.Failure, RetryAfter: time.Second}, 5, 3},
		{breaker.Outcome{Kind: breaker.Success}, 0, 0},
		{breaker.Outcome{Kind: breaker.Success, Slow: true}, 0, 0},
		{breaker.Outcome{Kind: breaker.Ignored}, 0, 0},
	}
	for _, mode := range []breaker.Consistency{breaker.Strict, breaker.Cached} {
		for threshold, want := range map[int]int{9: 9, breaker.Off: 0} {
			store := breaker.NewMemory(nil, 0)
			manager := func(p breaker.Policy) *breaker.Manager {
				p.FailureThreshold, p.FailureRateThreshold = threshold, breaker.Off
				m, err := breaker.NewManager(breaker.Options{Store: store, Policy: p, FlushInterval: time.Hour})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = m.Close(context.Background()) })
				return m
			}
			m := manager(breaker.Policy{Consistency: mode, SlowCallDuration: time.Second})
			other := manager(breaker.Policy{})
			for i, s := range steps {
				p, err := m.Acquire(t.Context(), "a")
				if err != nil {
					t.Fatalf("%s, threshold %d, outcome %d: %v", mode, threshold, i, err)
				}
				run, most := s.strict, want
				if mode == breaker.Cached {
					run = s.mine
				}
				if s.o.Kind != breaker.Failure {
					most = 0
				}
				if r, err := p.Report(t.Context(), s.o); err != nil || r.Run != run || r.Threshold != most && run > 0 || run == 0 && r.Threshold != 0 {
					t.Errorf("%s, threshold %d, outcome %d: %+v, %v; want %d/%d", mode, threshold, i, r, err, run, most)
				}
				if s.strict > 0 && s.strict < 5 && mode == breaker.Strict {
					_, _ = other.Record(t.Context(), "a", failure)
				}
			}
		}
	}
}

// After a flush the run is the store's: the failures of others are in it.
func TestReport_RunOfCachedModeLearnsFromTheStore(t *testing.T) {
	t.Parallel()
	store := breaker.NewMemory(nil, 0)
	var ms []*breaker.Manager
	for _, mode := range []breaker.Consistency{breaker.Cached, breaker.Strict} {
		m, err := breaker.NewManager(breaker.Options{Store: store, Policy: breaker.Policy{Consistency: mode, FailureThreshold: 9}, FlushInterval: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = m.Close(context.Background()) })
		ms = append(ms, m)
	}
	want := []int64{1, 3, 4}
	for i, run := range want {
		p, err := ms[0].Acquire(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		r, err := p.Report(t.Context(), breaker.Outcome{Kind: breaker.Failure})
		if err != nil || r.Run != run {
			t.Errorf("%+v, %v; want a run of %d", r, err, run)
		}
		if i == 0 {
			_, _ = ms[1].Record(t.Context(), "a", breaker.Outcome{Kind: breaker.Failure})
			_ = ms[0].Flush(t.Context(), "a")
		}
	}
}
