package machine

import "fmt"

// enter is what every transition does: a new epoch, and no leases, round, ramp, hold or cached sums of the old one.
func (m *machine) enter(to State) {
	if m.State != to {
		m.Transitions++
	}
	m.epochs++
	m.Present, m.State, m.Epoch = true, to, fmt.Sprintf("%s%x", m.op.Draw, m.epochs)
	m.Round, m.Ramp, m.Hold = Round{}, Ramp{}, Hold{}
	m.Leases, m.cleared.probes, m.cache = nil, true, cache{}
}

// open opens the breaker at that time. The window stays for the operator to see until the breaker closes [B10].
func (m *machine) open(at int64, cause string, ev Evidence) {
	m.enter(Open)
	m.setCause(cause)
	m.OpenedMs, m.WaitMs, m.Evidence = at, m.wait(at), ev
}

// setCause gives an opening its cause, and keeps the cause that began the episode.
func (m *machine) setCause(cause string) {
	if m.FirstCause == "" && m.Cause != cause {
		m.FirstCause = m.Cause
	}
	m.Cause = cause
}

// wait is the length of an opening at that time, and keeps its parts [B10]. It multiplies again and again, in integers,
// because Lua and Go must agree to the last digit.
func (m *machine) wait(at int64) int64 {
	length := min(m.p.TimeoutMs, m.p.TimeoutMaxMs)
	for i := int64(0); i < m.Reopens && length < m.p.TimeoutMaxMs && m.p.MultiplierMilli > 1000; i++ {
		length = min(length*m.p.MultiplierMilli/1000, m.p.TimeoutMaxMs)
	}
	m.Wait = Wait{
		BaseMs: length, JitterMs: length * (m.p.JitterPPM * m.op.JitterPPM / Million) / Million,
		UpstreamMs: max(0, min(m.UpstreamMs+m.UpstreamLengthMs-at, m.p.TimeoutMaxMs)),
	}
	return max(m.Wait.BaseMs+m.Wait.JitterMs, m.Wait.UpstreamMs)
}

// halfOpen begins a round, whose size and need stay as they are until it ends [B12].
func (m *machine) halfOpen(at int64) {
	m.enter(HalfOpen)
	m.Round = Round{StartMs: at, Max: m.p.MaxCalls, Need: m.p.Need}
	m.WaitMs, m.Wait = 0, Wait{}
	if m.OpenedMs == 0 {
		m.OpenedMs = at
	}
}

// verdict ends the round as soon as its outcome is certain [B13].
func (m *machine) verdict(at int64) {
	r := m.Round
	switch {
	case r.OK >= r.Need && m.p.SlowRatePPM > 0 && r.Slow*Million >= m.p.SlowRatePPM*(r.OK+r.Failed):
		m.reopen(at, causeSlowRate)
	case r.OK >= r.Need:
		m.close(at, m.p.RampMs)
		m.event(at, EventClosed, HalfOpen, "-", "probes succeeded")
	case r.Failed >= r.Max-r.Need+1:
		m.reopen(at, causeProbeFailed)
	}
}

func (m *machine) reopen(at int64, cause string) {
	r := m.Round
	m.Reopens = min(m.Reopens+1, maxReopens)
	m.open(at, cause, Evidence{Failures: r.Failed, Calls: r.OK + r.Failed, Slow: r.Slow, Run: m.Run})
	m.event(at, EventOpened, HalfOpen, "-", cause)
}

// endHold makes a breaker that was held open half-open, and one that was held closed fresh [B17].
func (m *machine) endHold(at int64) {
	if m.Hold.Kind == Open {
		m.halfOpen(at)
	} else {
		m.close(at, 0)
	}
}

// close clears everything that could open the breaker again [B16].
func (m *machine) close(at, rampMs int64) {
	m.enter(Closed)
	m.Run, m.Reopens, m.OpenedMs, m.WaitMs, m.Wait, m.Evidence = 0, 0, 0, 0, Wait{}, Evidence{}
	m.Cause, m.FirstCause = "", ""
	m.UpstreamMs, m.UpstreamLengthMs = 0, 0
	for start := range m.Buckets {
		m.prune(start)
	}
	m.Reporters, m.cleared.calls = nil, true
	if rampMs > 0 {
		m.Ramp = Ramp{StartMs: at, LengthMs: rampMs, FloorPPM: m.p.RampFloorPPM}
	}
}
