package machine

import (
	"fmt"
	"strings"
)

const (
	buckets  = 12 // of a window [B9]
	minuteMs = 60_000
)

// currentBucket is the start of the bucket that counts now [B9].
func (m *machine) currentBucket() int64 { return m.p.bucketAt(m.now, m.op.ShiftMs) }

// add counts in the bucket that starts at start.
func (m *machine) add(start int64, c Counts) {
	if m.Buckets == nil {
		m.Buckets = map[int64]Counts{}
	}
	m.Buckets[start] = m.Buckets[start].plus(c)
}

// prune takes a bucket out of the window; save adds it to its minute of the history.
func (m *machine) prune(start int64) {
	c := m.Buckets[start]
	delete(m.Buckets, start)
	if m.p.HistoryMinutes == 0 {
		return
	}
	if m.pruned == nil {
		m.pruned = map[int64]Counts{}
	}
	m.pruned[start/minuteMs] = m.pruned[start/minuteMs].plus(c)
}

// sums finds the bucket that counts now, and the sums of the others. Where they are not cached, it looks at every
// bucket and prunes those that have left the window [B9].
func (m *machine) sums() (start int64, others Counts, cached bool) {
	c, ok := parseCachedSums(m.cache.past)
	if ok && m.cache.rule == m.p.Rule() && c.startMs <= m.now && m.now < c.untilMs {
		return c.startMs, c.sums, true
	}
	start = m.currentBucket()
	for at, c := range m.Buckets {
		switch {
		case at <= m.now-m.p.WindowMs:
			m.prune(at)
		case at != start:
			others = others.plus(c)
		}
	}
	return start, others, false
}

// cacheSums caches the sums of the buckets other than the one at start. They hold until that bucket ends, the oldest of
// the others leaves the window, or the keys are due for renewal [B9], [B25].
func (m *machine) cacheSums(start int64, others Counts) {
	m.renewExpiry()
	until := min(start+m.p.bucketMs(), m.ExpiresMs-m.p.TTLMs+1)
	for at := range m.Buckets {
		until = min(until, at+m.p.WindowMs)
	}
	enough := others.Successes+others.Failures >= m.p.MinimumCalls
	m.cache = cache{rule: m.p.Rule(), past: cachedSums{enough, start, until, others}.text()}
	if !isText(m.cache.past) {
		m.cache = cache{}
	}
}

// cachedSums are the sums of the buckets other than the one at startMs, which hold until untilMs.
type cachedSums struct {
	enough           bool // the sums alone reach minimum_calls; else one more success may trip a rate [B7]
	startMs, untilMs int64
	sums             Counts
}

// text is "+start length successes failures slow", or the same with "-" if there are not enough calls.
func (c cachedSums) text() string {
	mark := "-"
	if c.enough {
		mark = "+"
	}
	return fmt.Sprintf("%s%d %d %d %d %d",
		mark, c.startMs, c.untilMs-c.startMs, c.sums.Successes, c.sums.Failures, c.sums.Slow)
}

func parseCachedSums(text string) (c cachedSums, ok bool) {
	if text == "" || text[0] != '+' && text[0] != '-' {
		return c, false
	}
	n, ok := parseNumbers(text[1:])
	if !ok || len(n) != 5 || strings.HasPrefix(text[1:], "0") {
		return c, false
	}
	return cachedSums{text[0] == '+', n[0], n[0] + n[1], Counts{n[2], n[3], n[4]}}, true
}
