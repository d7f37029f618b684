package machine

// acquire admits or refuses one call [B3]. Holds come before enabled, and enabled before the machine [B21].
func (m *machine) acquire() {
	switch {
	case m.Hold.Kind == Open:
		m.res.Code, m.res.Reason, m.res.RetryAfterMs = CodeRefused, ReasonForcedOpen, m.p.TimeoutMaxMs
		if m.Hold.LengthMs > 0 {
			m.res.RetryAfterMs = m.Hold.deadlineMs() - m.now
		}
	case m.Hold.Kind == Closed:
	case !m.p.Enabled:
		m.res.Code = CodeDisabled
	case m.State == Open:
		m.refuse(ReasonOpen, m.OpenedMs+m.WaitMs-m.now)
	case m.State == HalfOpen:
		m.probe()
	case m.Ramp.LengthMs > 0 && m.op.RampPPM >= m.rampPPM():
		m.refuse(ReasonRamping, 1000)
	}
}

// refuse refuses the call, or says what it would have said if the policy only observes [B21].
func (m *machine) refuse(why Reason, retryMs int64) {
	m.res.Code, m.res.Reason, m.res.RetryAfterMs = CodeRefused, why, retryMs
	if m.p.Observe {
		m.res.Code, m.res.RetryAfterMs = CodeObserved, 0
	}
}

// rampPPM is the share of calls that the ramp admits now [B16].
func (m *machine) rampPPM() int64 {
	return m.Ramp.FloorPPM + (Million-m.Ramp.FloorPPM)*(m.now-m.Ramp.StartMs)/m.Ramp.LengthMs
}

// probe gives the call a lease, if the round has a free place and the caller still waits. A token that holds a lease is
// given the same lease again, so that an acquire may be sent twice [B12].
func (m *machine) probe() {
	if l, ok := m.Leases[m.op.Token]; ok {
		m.res.LeaseMs = l.deadlineMs() - m.now
		return
	}
	if m.Free() <= 0 {
		m.refuse(ReasonProbesBusy, m.untilFree())
		return
	}
	if m.op.UselessAfterMs > 0 && m.now >= m.op.UselessAfterMs {
		m.res.Code = CodeExpired
		return
	}
	if m.Leases == nil {
		m.Leases = map[string]Lease{}
	}
	length := m.leaseMs()
	m.Leases[m.op.Token] = Lease{IssuedMs: m.now, StartMs: m.now, LengthMs: length}
	m.res.LeaseMs = length
}

// Free is how many further probes the round admits: what is settled and what is leased keep their places [B12].
func (s Snapshot) Free() int64 {
	return s.Round.Max - s.Round.OK - s.Round.Failed - int64(len(s.Leases))
}

func (m *machine) leaseMs() int64 { return min(m.p.ProbeTimeoutMs, m.p.TimeoutMaxMs) }

// untilFree is how long until a place becomes free: until the first lease ends that nobody renews. If all are renewed,
// nothing tells, and it is the length of one lease [B3].
func (m *machine) untilFree() int64 {
	left := m.leaseMs()
	for _, l := range m.Leases {
		if !l.renewed() {
			left = min(left, l.deadlineMs()-m.now)
		}
	}
	return left
}

// renew lengthens a lease, up to timeout_max after its issue, and never shortens it [B12].
func (m *machine) renew() {
	l, ok := m.Leases[m.op.Token]
	if !ok || m.op.Epoch != m.Epoch {
		m.res.Code = CodeLeaseLost
		return
	}
	end := max(l.deadlineMs(), min(m.now+m.p.ProbeTimeoutMs, l.IssuedMs+m.p.TimeoutMaxMs))
	m.Leases[m.op.Token] = Lease{IssuedMs: l.IssuedMs, StartMs: m.now, LengthMs: end - m.now}
	m.res.LeaseMs = end - m.now
}
