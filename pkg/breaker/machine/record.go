package machine

// record counts a summary [B5], in the epoch of its permit only [B14].
func (m *machine) record() {
	switch {
	case !m.p.Enabled && m.Hold.Kind == "":
		m.res.Code = CodeDisabled
	case m.op.Epoch != "" && m.op.Epoch != m.Epoch, m.op.Epoch == "" && m.op.Token != "" && m.State != HalfOpen:
		m.res.Code = CodeLate
	case m.State == Open:
		m.res.Code = CodeIgnored
		if m.op.Epoch != "" {
			m.res.Code = CodeForeign
		}
	case m.State == HalfOpen:
		m.settle()
	case m.op.Token != "":
		m.res.Code = CodeForeign
	case m.op.Summary.Calls() == 0:
		m.res.Code = CodeIgnored
	default:
		m.count()
	}
}

// settle counts a probe's outcome once, while its lease lasts [B12]–[B15].
func (m *machine) settle() {
	s, token := m.op.Summary, m.op.Token
	if m.op.Epoch == "" && token == "" {
		token, _ = m.firstLease(func(l Lease) int64 { return l.IssuedMs })
		if token == "" {
			m.res.Code = CodeIgnored
			return
		}
	}
	if _, ok := m.Leases[token]; !ok {
		m.res.Code = CodeLate
		if token == "" {
			m.res.Code = CodeForeign
		}
		return
	}
	delete(m.Leases, token)
	m.res.Probe = true
	if s.Calls() == 0 {
		m.res.Code = CodeIgnored
		return
	}
	m.tally(s)
	if s.Failures == 0 {
		m.Round.OK++
	} else {
		m.Round.Failed++
	}
	if s.Slow > 0 {
		m.Round.Slow++
	}
	if s.Failures > 0 && m.p.RetryOpens && s.WaitMs > 0 {
		m.reopen(m.now, causeUpstream)
		return
	}
	m.verdict(m.now)
}

// count adds a summary to the window of a closed breaker, and opens the breaker if it must [B6]–[B9].
func (m *machine) count() {
	s := m.op.Summary
	m.Present = true
	peak := m.tally(s)
	start, others, cached := m.sums()
	m.add(start, Counts{s.Successes, s.Failures, s.Slow})
	if m.Hold.Kind == Closed {
		return
	}
	w := others.plus(m.Buckets[start])
	if cause := m.tripCause(peak, w); cause != "" {
		if m.Ramp.LengthMs > 0 {
			m.Reopens++
		}
		m.open(m.now, cause, Evidence{Failures: w.Failures, Calls: w.Failures + w.Successes, Slow: w.Slow, Run: peak})
		m.event(m.now, EventOpened, Closed, "-", cause)
		return
	}
	switch {
	case m.UpstreamLengthMs > 0: // every record must look at the wait, which the fast path does not
		m.cache = cache{}
	case !cached:
		m.cacheSums(start, others)
	}
}

// tally adds a summary to the totals, the run, the upstream wait and the reporters. It returns the longest run that a
// failure of this summary has made longer; 0 without a failure, whatever the run was before [B6].
func (m *machine) tally(s Summary) (peak int64) {
	m.Successes += s.Successes
	m.Failures += s.Failures
	run := m.Run
	switch {
	case s.Successes == 0:
		run += s.Failures
		peak = run
	case s.Lead > 0:
		peak = max(run+s.Lead, s.MaxRun)
		run = s.Trail
	default:
		peak, run = s.MaxRun, s.Trail
	}
	m.Run, peak = min(run, MaxRun), min(peak, MaxRun)
	m.keepUpstreamWait(s)
	m.keepReporter(s.Failures+s.Slow > 0)
	return peak
}

// keepUpstreamWait keeps the longer of two waits, unless a success came after them [B22].
func (m *machine) keepUpstreamWait(s Summary) {
	left := m.UpstreamMs + m.UpstreamLengthMs - m.now
	wait := s.WaitMs
	if !m.p.RetryOpens && (!m.p.RetryExtends || s.Trail == 0) { // Trail 0: the last call succeeded
		wait = 0
	}
	wait = min(wait, m.p.RetryMaxMs, m.p.TimeoutMaxMs)
	switch {
	case wait > 0 && (s.Successes > 0 || wait > left):
		m.UpstreamMs, m.UpstreamLengthMs = m.now, wait
	case s.Successes > 0:
		m.UpstreamMs, m.UpstreamLengthMs = 0, 0
	}
}

// keepReporter notes who reports a failure or a slow call, and keeps the newest MaxReporters [B23].
func (m *machine) keepReporter(failed bool) {
	if !failed || !m.p.TrackReporters || m.op.Reporter == "" {
		return
	}
	m.setReporter(m.op.Reporter, m.now)
	for len(m.Reporters) > MaxReporters {
		oldest := ""
		for r, at := range m.Reporters {
			if oldest == "" || at < m.Reporters[oldest] || at == m.Reporters[oldest] && r < oldest {
				oldest = r
			}
		}
		delete(m.Reporters, oldest)
	}
}

// tripCause names the reason to open, or "" [B22], [B23]. w is the window with this record.
func (m *machine) tripCause(peak int64, w Counts) string {
	if m.p.Reporters > 1 && m.reporters() < m.p.Reporters {
		return ""
	}
	if m.p.RetryOpens && m.op.Summary.WaitMs > 0 {
		return causeUpstream
	}
	return m.thresholdReached(peak, w)
}

// reporters counts those who reported within the window.
func (m *machine) reporters() (n int64) {
	for _, at := range m.Reporters {
		if m.now-m.p.WindowMs < at {
			n++
		}
	}
	return n
}

// thresholdReached names the threshold that a run, or the window, has reached, or "" [B6]–[B8]. Rates are compared as
// products of integers.
func (m *machine) thresholdReached(peak int64, w Counts) string {
	calls := min(w.Successes+w.Failures, maxExact)
	failures, slow := min(w.Failures, maxExact), min(w.Slow, maxExact)
	enough := calls >= m.p.MinimumCalls
	switch {
	case m.p.FailureThreshold > 0 && peak >= m.p.FailureThreshold:
		return causeConsecutive
	case m.p.FailureRatePPM > 0 && enough && failures*Million >= m.p.FailureRatePPM*calls:
		return causeFailureRate
	case m.p.SlowRatePPM > 0 && enough && slow*Million >= m.p.SlowRatePPM*calls:
		return causeSlowRate
	}
	return ""
}

// replay adds what a replica counted while the store was unavailable. It leaves run, upstream wait and state alone:
// what was replayed is evidence for the next record, which may trip [B26].
func (m *machine) replay() {
	switch {
	case !m.p.Enabled && m.Hold.Kind == "":
		m.res.Code, m.res.Reason = CodeLost, lostDisabled
		return
	case m.State != Closed:
		m.res.Code, m.res.Reason = CodeLost, lostOpen
		return
	case m.op.Epoch != m.Epoch:
		m.res.Code, m.res.Reason = CodeLost, lostEpoch
		return
	}
	failed := false
	for _, b := range m.op.Batch {
		if b.StartMs <= m.now-m.p.WindowMs {
			continue
		}
		if b.StartMs > m.now {
			b.StartMs = m.currentBucket()
		}
		m.add(b.StartMs, b.Counts)
		m.Successes, m.Failures = m.Successes+b.Successes, m.Failures+b.Failures
		m.res.Counted += b.Successes + b.Failures
		failed = failed || b.Failures+b.Slow > 0
	}
	if m.res.Counted == 0 {
		m.res.Code, m.res.Reason = CodeLost, lostExpired
		return
	}
	m.Present, m.cache = true, cache{}
	m.keepReporter(failed)
}
