package machine

import (
	"cmp"
	"slices"
)

// Minute is what was called of an agent in one minute. A call counts in the minute in which its bucket began.
type Minute struct {
	StartMs               int64
	Calls, Failures, Slow int64
}

// Minutes is what :history keeps, and what the buckets hold that have not left :calls yet, the oldest minute first.
func Minutes(raw Raw) []Minute {
	sums := map[int64]Minute{}
	add := func(minute, calls, failures, slow int64) {
		m := sums[minute]
		sums[minute] = Minute{minute * minuteMs, m.Calls + calls, m.Failures + failures, m.Slow + slow}
	}
	for name, text := range raw.History {
		if minute, ok := parseWhole(name, maxTimeMs/minuteMs); ok {
			calls, failures, slow := parseMinute(text)
			add(minute, calls, failures, slow)
		}
	}
	for start, c := range Load(raw).Buckets {
		add(start/minuteMs, c.Successes+c.Failures, c.Failures, c.Slow)
	}
	out := make([]Minute, 0, len(sums))
	for _, m := range sums {
		if m.Calls+m.Slow > 0 {
			out = append(out, m)
		}
	}
	slices.SortFunc(out, func(a, b Minute) int { return cmp.Compare(a.StartMs, b.StartMs) })
	return out
}

// parseMinute reads "calls failures slow"; any other text counts as zeros.
func parseMinute(text string) (calls, failures, slow int64) {
	n, ok := parseNumbers(text)
	if !ok || len(n) != 3 {
		return 0, 0, 0
	}
	return n[0], n[1], n[2]
}
