package machine

// acquire admits or refuses one call [B3]. Precedence: holds, then enabled, then the machine [B21].
func (m *machine) acquire() {
	m.res.Code = CodeOK
	switch {
	case m.Hold.Kind == Open:
		left := m.p.TimeoutMaxMs
		if m.Hold.LengthMs > 0 {
			left = m.Hold.deadlineMs() - m.now
		}
		m.res.Code, m.res.Reason, m.res.RetryAfterMs = CodeRefused, ReasonForcedOpen, left
	case m.Hold.Kind == Closed:
	case !m.p.Enabled:
		m.res.Code = CodeDisabled
	case m.State == Open:
		m.refuse(ReasonOpen, m.OpenedMs+m.WaitMs-m.now)
	case m.State == HalfOpen:
		m.probe()
	case m.Ramp.LengthMs > 0 && m.op.RampPPM >= m.share():
		m.refuse(ReasonRamping, 1000)
	}
}

// refuse refuses, unless the policy only observes [B21].
func (m *machine) refuse(why Reason, retryMs int64) {
	m.res.Reason, m.res.RetryAfterMs, m.res.Code = why, retryMs, CodeRefused
	if m.p.Observe {
		m.res.RetryAfterMs, m.res.Code = 0, CodeObserved
	}
}

// share is the part of all calls that a ramp admits now, in millionths [B16].
func (m *machine) share() int64 {
	return m.Ramp.FloorPPM + (Million-m.Ramp.FloorPPM)*(m.now-m.Ramp.StartMs)/m.Ramp.LengthMs
}

// probe gives a lease while the round has a place and somebody waits for it [B12]. A token that holds a lease gets the same one again.
func (m *machine) probe() {
	if l, ok := m.Leases[m.op.Token]; ok {
		m.res.LeaseMs = l.deadlineMs() - m.now
		return
	}
	if m.Round.OK+m.Round.Failed+int64(len(m.Leases)) >= m.Round.Max {
		m.refuse(ReasonProbesBusy, m.place())
		return
	}
	if m.op.UselessAfterMs > 0 && m.now >= m.op.UselessAfterMs {
		m.res.Code = CodeExpired
		return
	}
	if m.Leases == nil {
		m.Leases = map[string]Lease{}
	}
	length := m.leaseLength()
	m.Leases[m.op.Token] = Lease{IssuedMs: m.now, StartMs: m.now, LengthMs: length}
	m.res.LeaseMs = length
}

func (m *machine) leaseLength() int64 { return min(m.p.ProbeTimeoutMs, m.p.TimeoutMaxMs) }

// place is how long until a place becomes free: until the first lease ends that nobody renews. If all are renewed, nothing in the
// keys says when, and it is one lease's length [B3].
func (m *machine) place() int64 {
	left := m.leaseLength()
	for _, l := range m.Leases {
		if !l.renewed() {
			left = min(left, l.deadlineMs()-m.now)
		}
	}
	return left
}

// renew lengthens a lease, until timeout_max after its issue; it never shortens one [B12].
func (m *machine) renew() {
	l, ok := m.Leases[m.op.Token]
	if !ok || m.op.Epoch != m.Epoch {
		m.res.Code = CodeLeaseLost
		return
	}
	end := max(l.deadlineMs(), min(m.now+m.p.ProbeTimeoutMs, l.IssuedMs+m.p.TimeoutMaxMs))
	m.Leases[m.op.Token] = Lease{IssuedMs: l.IssuedMs, StartMs: m.now, LengthMs: end - m.now}
	m.res.Code, m.res.LeaseMs = CodeOK, end-m.now
}

// record counts a summary [B5], in the epoch of its permit only [B14].
func (m *machine) record() {
	m.res.Code = CodeOK
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

// settle counts a probe's outcome once, while its lease stands [B12]–[B15].
func (m *machine) settle() {
	s, token := m.op.Summary, m.op.Token
	if m.op.Epoch == "" && token == "" {
		token, _ = m.firstLease(func(a, b Lease) bool { return a.IssuedMs < b.IssuedMs })
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
		m.reopen(m.now, CauseUpstream)
		return
	}
	m.verdict(m.now)
}

// count adds a summary to the window of a closed breaker, and trips it if it must [B6]–[B9].
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
	if cause := m.trip(peak, w); cause != "" {
		if m.Ramp.LengthMs > 0 {
			m.Reopens++
		}
		m.open(m.now, cause, Evidence{Failures: w.Failures, Calls: w.Failures + w.Successes, Slow: w.Slow, Run: peak})
		m.event(m.now, EventOpened, Closed, "-", cause)
		return
	}
	switch {
	case m.UpstreamLengthMs > 0: // it is looked at with every record
		m.Cache = Cache{}
	case !cached:
		m.cache(start, others)
	}
}

// replay adds what a replica counted while the store was away. Run, upstream wait and state are untouched: what was replayed is
// evidence for the next record, which may trip [B26].
func (m *machine) replay() {
	m.res.Code = CodeLost
	switch {
	case !m.p.Enabled && m.Hold.Kind == "":
		m.res.Reason = LostDisabled
		return
	case m.State != Closed:
		m.res.Reason = LostOpen
		return
	case m.op.Epoch != m.Epoch:
		m.res.Reason = LostEpoch
		return
	}
	failed := false
	for _, b := range m.op.Batch {
		if b.StartMs <= m.now-m.p.WindowMs {
			continue
		}
		if b.StartMs > m.now {
			b.StartMs = m.bucketNow()
		}
		m.add(b.StartMs, b.Counts)
		m.Successes, m.Failures = m.Successes+b.Successes, m.Failures+b.Failures
		m.res.Counted += b.Successes + b.Failures
		failed = failed || b.Failures+b.Slow > 0
	}
	if m.res.Counted == 0 {
		m.res.Reason = LostExpired
		return
	}
	m.res.Code, m.Present, m.Cache = CodeOK, true, Cache{}
	if m.p.TrackReporters && failed && m.op.Reporter != "" {
		m.remember(m.op.Reporter)
	}
}

// tally keeps what every counted record keeps: totals, run, upstream wait, reporter. It returns the longest run that a failure of
// this record has made longer; none without a failure, whatever run stood before [B6].
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
	m.upstream(s)
	if m.p.TrackReporters && s.Failures+s.Slow > 0 && m.op.Reporter != "" {
		m.remember(m.op.Reporter)
	}
	return peak
}

// upstream keeps the longer of two waits; a success clears it [B22].
func (m *machine) upstream(s Summary) {
	left := m.UpstreamMs + m.UpstreamLengthMs - m.now
	wait := s.WaitMs
	if !m.p.RetryOpens && (!m.p.RetryExtends || s.Trail == 0) { // a success came after it
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

// remember keeps the eight newest reporters [B23].
func (m *machine) remember(name string) {
	if m.Reporters == nil {
		m.Reporters = map[string]int64{}
	}
	m.Reporters[name] = m.now
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

// trip names the reason to open, or "" [B6]–[B8], [B22], [B23]. Rates are compared as products of integers.
func (m *machine) trip(peak int64, w Counts) string {
	if m.p.Reporters > 1 && m.reporters() < m.p.Reporters {
		return ""
	}
	if m.p.RetryOpens && m.op.Summary.WaitMs > 0 {
		return CauseUpstream
	}
	return m.over(peak, w)
}

// over names the threshold that a run, or the sums of the window, have reached.
func (m *machine) over(peak int64, w Counts) string {
	calls := min(w.Successes+w.Failures, maxExact)
	failures, slow := min(w.Failures, maxExact), min(w.Slow, maxExact)
	enough := calls >= m.p.MinimumCalls
	switch {
	case m.p.FailureThreshold > 0 && peak >= m.p.FailureThreshold:
		return CauseConsecutive
	case m.p.FailureRatePPM > 0 && enough && failures*Million >= m.p.FailureRatePPM*calls:
		return CauseFailureRate
	case m.p.SlowRatePPM > 0 && enough && slow*Million >= m.p.SlowRatePPM*calls:
		return CauseSlowRate
	}
	return ""
}

// reporters counts who failed within the window.
func (m *machine) reporters() (n int64) {
	for _, at := range m.Reporters {
		if m.now-m.p.WindowMs < at {
			n++
		}
	}
	return n
}

// force is an operator's hold or reset [B17], [B18].
func (m *machine) force() {
	f, from := m.op.Force, m.State
	if m.Hold.Protected == 1 && !f.Override {
		m.res.Code = CodeHoldProtected
		return
	}
	m.res.Code = CodeOK
	kind := EventManualReset
	switch f.Target {
	case HoldOpen:
		m.enter(Open)
		m.blame(Clip(f.Reason))
		m.OpenedMs, m.WaitMs, m.Wait, m.Evidence = m.now, f.LengthMs, Wait{}, Evidence{}
		m.hold(Open)
		kind = EventManualOpen
	case HoldClosed:
		m.close(m.now, 0)
		m.Cause = Clip(f.Reason)
		m.hold(Closed)
		kind = EventManualClose
	case ResetClosed:
		m.close(m.now, f.RampMs)
	case ResetHalfOpen:
		m.halfOpen(m.now)
		m.blame(Clip(f.Reason))
	}
	m.event(m.now, kind, from, f.Actor, f.Reason)
}

func (m *machine) hold(kind State) {
	f := m.op.Force
	m.Hold = Hold{Kind: kind, StartMs: m.now, LengthMs: f.LengthMs, Actor: f.Actor}
	if f.Protected {
		m.Hold.Protected = 1
	}
}

// Clip cuts a text to what :control may hold, at a whole character; the log keeps all of it.
func Clip(s string) string {
	if len(s) <= maxText {
		return s
	}
	n := maxText
	for n > 0 && s[n]&0xC0 == 0x80 {
		n--
	}
	return s[:n]
}
