package breaker

import (
	"strconv"
	"testing"
)

// Not parallel: what other tests allocate would count.
func TestJudgingIsBoundedAndFreeOfAllocations(t *testing.T) { //nolint:paralleltest // see above
	told := 0
	j := newJudge(DefaultPolicy(), 100, func(string, error) { told++ })
	p, bad := Policy{FailureThreshold: 3}, Policy{FailureThreshold: -3}
	for _, given := range []Policy{p, DefaultPolicy(), bad} {
		if n := testing.AllocsPerRun(100, func() { _ = j.of("a", given) }); n != 0 {
			t.Errorf("%+v: %v allocations", given, n)
		}
		if n := testing.AllocsPerRun(100, func() { _ = j.look("a", given) }); n != 0 {
			t.Errorf("%+v: %v allocations to look", given, n)
		}
	}
	for i := range 3 * maxVerdicts {
		j.look("b", Policy{MinimumCalls: i + 1})
		j.of(strconv.Itoa(i), p)
	}
	if len(j.verdicts.of) > maxVerdicts || j.agents.Size() > 100 {
		t.Errorf("%d verdicts, %d agents", len(j.verdicts.of), j.agents.Size())
	}
	if told != 1 {
		t.Errorf("told %d times", told)
	}
}

func BenchmarkJudge(b *testing.B) {
	j := newJudge(DefaultPolicy(), 100, func(string, error) {})
	for b.Loop() {
		_ = j.of("a", j.static)
	}
}
