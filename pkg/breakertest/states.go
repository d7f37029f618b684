package breakertest

import (
	"context"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// maxFailures bounds the failures of Trip.
const maxFailures = 100_000

// Trip opens an agent's breaker as failures do: it reports failures until the breaker is open, those of a closed
// breaker without a permit, those of a half-open one as probes. An open breaker it leaves as it is. It ends the test if
// failures cannot open the breaker: it is disabled or held closed, or the policy has no threshold that they reach.
func (f *Fleet) Trip(agent string) {
	f.t.Helper()
	for range maxFailures {
		v, p := f.look(agent)
		switch {
		case v.State == breaker.Open:
			return
		case p.Disabled || v.Hold.Kind == breaker.Closed || v.State == breaker.Closed && !trips(v, p):
			f.t.Fatalf("breakertest: Trip(%q): failures cannot open this breaker.\n%s", agent, f.describe(agent, v, p))
		case v.State == breaker.HalfOpen:
			f.failProbe(agent, v, p)
		default:
			f.fail(agent, p)
		}
	}
	v, p := f.look(agent)
	f.t.Fatalf("breakertest: Trip(%q): %d failures did not open the breaker.\n%s",
		agent, maxFailures, f.describe(agent, v, p))
}

// trips reports whether failures open a closed breaker.
func trips(v breaker.View, p breaker.Policy) bool {
	if p.FailureThreshold > 0 || p.SlowCallRateThreshold > 0 && p.SlowCallRateThreshold < 1 {
		return true
	}
	w := v.Window(v.NowMs, p.WindowSize.Milliseconds())
	switch {
	case p.FailureRateThreshold > 0:
		return p.FailureRateThreshold < 1 || w.Successes == 0
	case p.SlowCallRateThreshold > 0:
		return w.Slow == w.Successes+w.Failures
	}
	return false
}

// fail reports one failure. It is slow if nothing but slow calls opens the breaker.
func (f *Fleet) fail(agent string, p breaker.Policy) {
	f.t.Helper()
	o := breaker.Outcome{
		Kind: breaker.Failure, Class: "breakertest", Slow: p.FailureThreshold <= 0 && p.FailureRateThreshold <= 0,
	}
	if _, err := f.Record(context.Background(), agent, o); err != nil {
		f.t.Fatalf("breakertest: Trip(%q): %v", agent, err)
	}
}

// failProbe takes one place of a half-open round, and fails.
func (f *Fleet) failProbe(agent string, v breaker.View, p breaker.Policy) {
	f.t.Helper()
	permit, err := f.Acquire(context.Background(), agent)
	if err != nil {
		f.t.Fatalf("breakertest: Trip(%q): no probe can fail: %v.\n%s", agent, err, f.describe(agent, v, p))
	}
	if _, err := permit.Failure(context.Background(), "breakertest"); err != nil {
		f.t.Fatalf("breakertest: Trip(%q): %v", agent, err)
	}
}

// HalfOpen makes an agent's breaker half-open as time does: a closed one it opens with [Fleet.Trip], and then it moves
// the clock with [Fleet.Advance] to the end of the wait, and no further. A half-open one it leaves as it is. It ends
// the test if the breaker is held open without end.
func (f *Fleet) HalfOpen(agent string) {
	f.t.Helper()
	v, p := f.look(agent)
	if v.State == breaker.HalfOpen {
		return
	}
	if v.State == breaker.Closed {
		f.Trip(agent)
		v, p = f.look(agent)
	}
	if v.DeadlineMs() == 0 {
		f.t.Fatalf("breakertest: HalfOpen(%q): no time makes this breaker half-open.\n%s", agent, f.describe(agent, v, p))
	}
	f.Advance(time.Duration(v.DeadlineMs()-v.NowMs) * time.Millisecond)
	f.must(agent, breaker.HalfOpen)
}

// MustBeOpen ends the test unless an agent's breaker is open, by failures or by an operator, and says in which state it
// is, what has counted and what would open it.
func (f *Fleet) MustBeOpen(agent string) {
	f.t.Helper()
	f.must(agent, breaker.Open)
}

// MustBeHalfOpen ends the test unless an agent's breaker is half-open, as [Fleet.MustBeOpen] does.
func (f *Fleet) MustBeHalfOpen(agent string) {
	f.t.Helper()
	f.must(agent, breaker.HalfOpen)
}

// MustBeClosed ends the test unless an agent's breaker is closed, as [Fleet.MustBeOpen] does. That of an agent that was
// never called is closed.
func (f *Fleet) MustBeClosed(agent string) {
	f.t.Helper()
	f.must(agent, breaker.Closed)
}

func (f *Fleet) must(agent string, want breaker.State) {
	f.t.Helper()
	v, p := f.look(agent)
	if v.State != want {
		f.t.Fatalf("breakertest: the breaker of agent %q is %s, want %s.\n%s%s",
			agent, v.State, want, f.describe(agent, v, p), advise(agent, v, p, want))
	}
}

// look returns an agent's breaker now, with what all replicas have counted.
func (f *Fleet) look(agent string) (breaker.View, breaker.Policy) {
	f.t.Helper()
	if err := f.shared.flush(agent); err != nil {
		f.t.Fatalf("breakertest: agent %q: %v", agent, err)
	}
	v, p, err := f.Inspect(context.Background(), agent)
	if err != nil {
		f.t.Fatalf("breakertest: agent %q: %v", agent, err)
	}
	return v, p
}
