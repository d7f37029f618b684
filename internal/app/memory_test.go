package app

import (
	"math"
	"runtime/debug"
	"testing"
)

// Not parallel: the limit is the process's.
func TestWorkflowMemory_IsAQuarterOfGOMEMLIMIT(t *testing.T) { //nolint:paralleltest // see above
	before := debug.SetMemoryLimit(-1)
	t.Cleanup(func() { debug.SetMemoryLimit(before) })
	for limit, want := range map[int64]int64{math.MaxInt64: 64 << 20, 200 << 20: 50 << 20} {
		debug.SetMemoryLimit(limit)
		if got := workflowMemory(0); got != want {
			t.Errorf("of %d: %d, want %d", limit, got, want)
		}
		if got := workflowMemory(1000); got != 1000 {
			t.Errorf("set to 1000: %d", got)
		}
	}
}
