package machine

// add counts in the bucket that begins at start.
func (m *machine) add(start int64, c Counts) {
	if m.Buckets == nil {
		m.Buckets = map[int64]Counts{}
	}
	m.Buckets[start] = m.Buckets[start].plus(c)
}

// sums finds the bucket that counts now, and sums the others: as cached, or by looking at all, which drops those that no longer
// count [B9].
func (m *machine) sums() (start int64, others Counts, cached bool) {
	if p, ok := parsePast(m.Cache.Past); ok && m.Cache.Rule == m.p.Rule() && p.startMs <= m.now && m.now < p.tillMs {
		return p.startMs, p.sums, true
	}
	start = m.bucketNow()
	for at, c := range m.Buckets {
		switch {
		case at <= m.now-m.p.WindowMs:
			m.fold(at)
		case at != start:
			others = others.plus(c)
		}
	}
	return start, others, false
}

// bucketNow is the start of the bucket that counts now [B9].
func (m *machine) bucketNow() int64 {
	width := m.p.width()
	return m.now - ((m.now-m.op.ShiftMs)%width+width)%width
}

// fold takes a bucket out of the window; its minute goes to the history.
func (m *machine) fold(start int64) {
	c := m.Buckets[start]
	delete(m.Buckets, start)
	if m.p.HistoryMinutes == 0 {
		return
	}
	if m.Folded == nil {
		m.Folded = map[int64]Counts{}
	}
	m.Folded[start/minuteMs] = m.Folded[start/minuteMs].plus(c)
}

// cache keeps the sums of the buckets other than the one at start, and the rule under which no threshold was reached: until that
// bucket ends, the first of the others leaves the window, or the keys are due for renewal [B9], [B25].
func (m *machine) cache(start int64, others Counts) {
	m.renewExpiry()
	till := min(start+m.p.width(), m.ExpiresMs-m.p.TTLMs+1)
	for at := range m.Buckets {
		till = min(till, at+m.p.WindowMs)
	}
	enough := others.Successes+others.Failures >= m.p.MinimumCalls
	m.Cache = Cache{Rule: m.p.Rule(), Past: pastText(enough, start, till, others)}
	if !isText(m.Cache.Past) {
		m.Cache = Cache{}
	}
}
