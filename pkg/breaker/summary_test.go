package breaker_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// summaries draws the joined summary of up to 12 calls, and the calls.
func summaries(t *rapid.T, label string) (breaker.Summary, []bool) {
	calls := rapid.SliceOfN(rapid.Bool(), 0, 12).Draw(t, label)
	var s breaker.Summary
	for _, ok := range calls {
		kind := breaker.Failure
		if ok {
			kind = breaker.Success
		}
		s = s.Join(breaker.One(breaker.Outcome{Kind: kind}))
	}
	return s, calls
}

// TestJoinIsAssociative is [B5].
func TestJoinIsAssociative(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, _ := summaries(t, "a")
		b, _ := summaries(t, "b")
		c, _ := summaries(t, "c")
		if l, r := a.Join(b).Join(c), a.Join(b.Join(c)); l != r {
			t.Fatalf("(ab)c = %+v, a(bc) = %+v", l, r)
		}
		if a.Join(breaker.Summary{}) != a || (breaker.Summary{}).Join(a) != a {
			t.Fatalf("the empty summary is not neutral to %+v", a)
		}
	})
}

// TestAJoinedRecordOpensOnRunsAsItsCallsWould is [B5], [B6]: against each call recorded by itself.
func TestAJoinedRecordOpensOnRunsAsItsCallsWould(t *testing.T) {
	t.Parallel()
	p := breaker.DefaultPolicy()
	p.FailureRateThreshold = 0
	rapid.Check(t, func(t *rapid.T) {
		p.FailureThreshold = rapid.IntRange(1, 8).Draw(t, "threshold")
		before, first := summaries(t, "before")
		joined, second := summaries(t, "joined")
		step := func(s breaker.Snapshot, sum breaker.Summary) breaker.Snapshot {
			s, _ = breaker.Step(p.Params(0, 0), s, breaker.Op{Verb: breaker.VerbRecord, Draw: "000000000000001", Summary: sum}, 1_000_000)
			return s
		}
		one := breaker.Snapshot{State: breaker.Closed, Epoch: breaker.ZeroEpoch}
		for _, ok := range append(append([]bool(nil), first...), second...) {
			kind := breaker.Failure
			if ok {
				kind = breaker.Success
			}
			one = step(one, breaker.One(breaker.Outcome{Kind: kind}))
		}
		both := step(step(breaker.Snapshot{State: breaker.Closed, Epoch: breaker.ZeroEpoch}, before), joined)
		if one.State != both.State || one.State == breaker.Closed && one.Run != both.Run {
			t.Fatalf("one by one: %s run %d; joined: %s run %d", one.State, one.Run, both.State, both.Run)
		}
	})
}
