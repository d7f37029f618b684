package breaker

import (
	"strconv"
	"testing"
)

// Not parallel: it counts allocations.
func TestPolicies_AreBoundedAndDoNotAllocate(t *testing.T) { //nolint:paralleltest // see above
	rejected := 0
	p := newPolicies(DefaultPolicy(), 100, nil, func(string, error) { rejected++ })
	good, bad := Policy{FailureThreshold: 3}, Policy{FailureThreshold: -3}
	for _, given := range []Policy{good, DefaultPolicy(), bad} {
		if n := testing.AllocsPerRun(100, func() { _ = p.use("a", given) }); n != 0 {
			t.Errorf("%+v: %v allocations", given, n)
		}
		if n := testing.AllocsPerRun(100, func() { _ = p.peek("a", given) }); n != 0 {
			t.Errorf("%+v: %v allocations of peek", given, n)
		}
	}
	for i := range 3 * maxValidations {
		p.peek("b", Policy{MinimumCalls: i + 1})
		p.use(strconv.Itoa(i), good)
	}
	if len(p.validations.byPolicy) > maxValidations || p.agents.Len() > 100 {
		t.Errorf("%d validations, %d agents", len(p.validations.byPolicy), p.agents.Len())
	}
	if rejected != 1 {
		t.Errorf("rejected %d times", rejected)
	}
}

func BenchmarkPolicies(b *testing.B) {
	p := newPolicies(DefaultPolicy(), 100, nil, func(string, error) {})
	for b.Loop() {
		_ = p.use("a", p.static)
	}
}
