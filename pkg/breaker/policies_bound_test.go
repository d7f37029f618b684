package breaker

import (
	"strconv"
	"testing"
)

// Not parallel: what other tests allocate would count.
func TestJudgingIsBoundedAndFreeOfAllocations(t *testing.T) { //nolint:paralleltest // see above
	told := 0
	j := newPolicies(DefaultPolicy(), 100, func(string, error) { told++ })
	p, bad := Policy{FailureThreshold: 3}, Policy{FailureThreshold: -3}
	for _, given := range []Policy{p, DefaultPolicy(), bad} {
		if n := testing.AllocsPerRun(100, func() { _ = j.use("a", given) }); n != 0 {
			t.Errorf("%+v: %v allocations", given, n)
		}
		if n := testing.AllocsPerRun(100, func() { _ = j.peek("a", given) }); n != 0 {
			t.Errorf("%+v: %v allocations to look", given, n)
		}
	}
	for i := range 3 * maxValidations {
		j.peek("b", Policy{MinimumCalls: i + 1})
		j.use(strconv.Itoa(i), p)
	}
	if len(j.validations.byPolicy) > maxValidations || j.agents.Size() > 100 {
		t.Errorf("%d verdicts, %d agents", len(j.validations.byPolicy), j.agents.Size())
	}
	if told != 1 {
		t.Errorf("told %d times", told)
	}
}

func BenchmarkJudge(b *testing.B) {
	j := newPolicies(DefaultPolicy(), 100, func(string, error) {})
	for b.Loop() {
		_ = j.use("a", j.static)
	}
}
