package machine_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// summaries draws the joined summary of up to 12 calls, and the calls.
func summaries(t *rapid.T, label string) (machine.Summary, []bool) {
	calls := rapid.SliceOfN(rapid.Bool(), 0, 12).Draw(t, label)
	var s machine.Summary
	for _, ok := range calls {
		s = s.Join(machine.One(!ok, false, 0))
	}
	return s, calls
}

// [B5]
func TestSummary_JoinIsAssociative(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, _ := summaries(t, "a")
		b, _ := summaries(t, "b")
		c, _ := summaries(t, "c")
		if l, r := a.Join(b).Join(c), a.Join(b.Join(c)); l != r {
			t.Fatalf("(ab)c = %+v, a(bc) = %+v", l, r)
		}
		if a.Join(machine.Summary{}) != a || (machine.Summary{}).Join(a) != a {
			t.Fatalf("the empty summary is not neutral to %+v", a)
		}
	})
}

// [B5], [B6]: a joined record against each of its calls recorded by itself.
func TestSummary_JoinedRecordOpensAsItsCallsWould(t *testing.T) {
	t.Parallel()
	p := machine.Params{Enabled: true, MinimumCalls: 10, WindowMs: 120_000, TimeoutMs: 60_000, TimeoutMaxMs: 3_600_000, MaxCalls: 3, Need: 3, TTLMs: 3_600_000}
	rapid.Check(t, func(t *rapid.T) {
		p.FailureThreshold = rapid.Int64Range(1, 8).Draw(t, "threshold")
		before, first := summaries(t, "before")
		joined, second := summaries(t, "joined")
		step := func(s machine.Snapshot, sum machine.Summary) machine.Snapshot {
			s, _ = machine.Step(p, machine.Loaded{Snapshot: s}, machine.Op{Verb: machine.VerbRecord, Draw: "000000000000001", Summary: sum}, 1_000_000)
			return s
		}
		one := machine.Snapshot{State: machine.Closed, Epoch: machine.ZeroEpoch}
		for _, ok := range append(append([]bool(nil), first...), second...) {
			one = step(one, machine.One(!ok, false, 0))
		}
		both := step(step(machine.Snapshot{State: machine.Closed, Epoch: machine.ZeroEpoch}, before), joined)
		if one.State != both.State || one.State == machine.Closed && one.Run != both.Run {
			t.Fatalf("one by one: %s run %d; joined: %s run %d", one.State, one.Run, both.State, both.Run)
		}
	})
}
