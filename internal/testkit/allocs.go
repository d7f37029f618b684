package testkit

import "testing"

// FewestAllocs returns the allocations of f. [testing.AllocsPerRun] counts those of the whole process, so that the
// goroutines of earlier tests add to it: the fewest of several counts are f's own.
func FewestAllocs(f func()) float64 {
	fewest := testing.AllocsPerRun(100, f)
	for range 9 {
		fewest = min(fewest, testing.AllocsPerRun(100, f))
	}
	return fewest
}
