package machine

import "fmt"

// Step is the machine [B3]–[B26]: it advances l to nowMs, carries out op, and answers. It is pure: the same arguments give the same
// result, and l is not changed. The Redis scripts compute exactly this, and are compared with it operation by operation.
func Step(p Params, l Loaded, op Op, nowMs int64) (Snapshot, Result) {
	m := machine{Snapshot: l.clone(), p: p, op: op, now: nowMs, edited: l.Edit != Edit{}}
	if m.State == "" { // the zero Snapshot [B2]
		m.State, m.Epoch = Closed, ZeroEpoch
	}
	m.Wiped, m.Folded = Wiped{Calls: !l.Present && l.Edit.To == ""}, nil // without a breaker, buckets belong to none
	m.forgetFuture()
	m.repair(l.Repairs)
	m.applyEdit(l.Edit)
	m.advance()
	switch op.Verb {
	case VerbAcquire:
		m.acquire()
	case VerbRecord:
		m.record()
	case VerbReplay:
		m.replay()
	case VerbRenew:
		m.renew()
	case VerbForce:
		m.force()
	case VerbLook:
		m.res.Code = CodeOK
	}
	m.renewExpiry()
	m.answer()
	return m.Snapshot, m.res
}

// machine is one Step under way.
type machine struct {
	Snapshot
	p      Params
	op     Op
	now    int64
	res    Result
	drawn  int // epochs drawn so far
	edited bool
}

func (m *machine) answer() {
	r := &m.res
	r.State, r.Epoch, r.NowMs, r.Run, r.Hold = m.State, m.Epoch, m.now, m.Run, m.Hold.Kind
	if d := m.DeadlineMs(); d > 0 {
		r.LeftMs = d - m.now
	}
}

// ---- transitions -------------------------------------------------------------------------------------------------

func (m *machine) nextEpoch() string {
	m.drawn++
	return fmt.Sprintf("%s%x", m.op.Draw, m.drawn)
}

func (m *machine) event(at int64, kind string, from State, actor, text string) {
	m.res.Events = append(m.res.Events, Event{
		AtMs: at, Kind: kind, From: from, To: m.State, Epoch: m.Epoch, Actor: actor,
		Failures: m.Evidence.Failures, Calls: m.Evidence.Calls, Run: m.Evidence.Run, Slow: m.Evidence.Slow, Text: text,
	})
}

// enter is what every transition does: a new epoch, no leases, no round, no ramp, no hold.
func (m *machine) enter(to State) {
	if m.State != to {
		m.Transitions++
	}
	m.Present, m.State, m.Epoch = true, to, m.nextEpoch()
	m.Round, m.Ramp, m.Hold = Round{}, Ramp{}, Hold{}
	m.Leases, m.Wiped.Probes, m.Cache = nil, true, Cache{}
}

// open stores start, length, epoch, cause and evidence [B10].
func (m *machine) open(at int64, cause string, ev Evidence) {
	m.enter(Open)
	m.blame(cause)
	m.OpenedMs, m.WaitMs, m.Evidence = at, m.wait(at), ev
}

// blame gives an opening its cause, and keeps the one that began the episode.
func (m *machine) blame(cause string) {
	if m.FirstCause == "" && m.Cause != cause {
		m.FirstCause = m.Cause
	}
	m.Cause = cause
}

// wait is the length of an opening at that time, in integers, by repeated multiplication, and keeps its parts [B10].
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

// halfOpen starts a round; its size and need stand until it ends [B12].
func (m *machine) halfOpen(at int64) {
	m.enter(HalfOpen)
	m.Round = Round{StartMs: at, Max: m.p.MaxCalls, Need: m.p.Need}
	m.WaitMs, m.Wait = 0, Wait{}
	if m.OpenedMs == 0 {
		m.OpenedMs = at
	}
}

// close clears everything that could open it again [B16].
func (m *machine) close(at, rampMs int64) {
	m.enter(Closed)
	m.Run, m.Reopens, m.OpenedMs, m.WaitMs, m.Wait, m.Evidence = 0, 0, 0, 0, Wait{}, Evidence{}
	m.Cause, m.FirstCause = "", ""
	m.UpstreamMs, m.UpstreamLengthMs = 0, 0
	for start := range m.Buckets {
		m.fold(start)
	}
	m.Reporters, m.Wiped.Calls = nil, true
	if rampMs > 0 {
		m.Ramp = Ramp{StartMs: at, LengthMs: rampMs, FloorPPM: m.p.RampFloorPPM}
	}
}

// ---- edits and repairs ---------------------------------------------------------------------------------------------

// forgetFuture counts a start that lies in the future as now, and drops the buckets that do: the clock went back [B1].
func (m *machine) forgetFuture() {
	for _, start := range []*int64{&m.OpenedMs, &m.UpstreamMs, &m.Round.StartMs, &m.Ramp.StartMs, &m.Hold.StartMs} {
		*start = min(*start, m.now)
	}
	for start, b := range m.Buckets {
		if start > m.now {
			delete(m.Buckets, start)
			m.Successes, m.Failures, m.Cache.Past = m.Successes-b.Successes, m.Failures-b.Failures, ""
		}
	}
	for name, at := range m.Reporters {
		m.Reporters[name] = min(at, m.now)
	}
	for token, l := range m.Leases {
		l.IssuedMs, l.StartMs = min(l.IssuedMs, m.now), min(l.StartMs, m.now)
		m.Leases[token] = l
	}
}

// repair logs what Load dropped, and fills with the policy what a breaker cannot be without [B20].
func (m *machine) repair(r Repairs) {
	if m.State == HalfOpen && m.Round.Max == 0 {
		m.Round = Round{StartMs: m.now, Max: m.p.MaxCalls, Need: m.p.Need}
	}
	if m.State == Open && m.Hold.Kind == "" && m.WaitMs == 0 {
		m.WaitMs = m.wait(m.OpenedMs)
	}
	if r.Calls > 0 { // what was summed may not be there any more
		m.Cache.Past = ""
	}
	if r != (Repairs{}) {
		m.event(m.now, EventRepaired, m.State, "-", fmt.Sprintf("state %d timestamp %d control %d calls %d probes %d",
			r.State, r.Timestamp, r.Control, r.Calls, r.Probes))
	}
}

// applyEdit does what an edit of the keys asked for [B19]. A protected hold is put back instead.
func (m *machine) applyEdit(e Edit) {
	from := m.State
	if e.To == "" {
		return
	}
	if m.Hold.Protected == 1 {
		m.Present = true
		m.event(m.now, EventEditUndone, from, "-", e.Text)
		return
	}
	opened := m.OpenedMs
	switch e.To {
	case Closed:
		m.close(m.now, 0)
	case Open:
		if opened == 0 || e.Manual && from == HalfOpen && !e.Timestamp {
			opened = m.now
		}
		m.open(opened, CauseExternalEdit, Evidence{})
	case HalfOpen:
		m.halfOpen(m.now)
		m.blame(CauseExternalEdit)
	}
	m.event(m.now, EventExternalEdit, from, "-", e.Text)
}

// ---- advancing ---------------------------------------------------------------------------------------------------

// advance brings the breaker to now, each step dated when it fell due, until nothing more is due [B11].
// At the deadline counts as past.
func (m *machine) advance() {
	for m.advanceOnce() {
	}
	if m.Ramp.LengthMs > 0 && m.Ramp.StartMs+m.Ramp.LengthMs <= m.now {
		m.Ramp = Ramp{}
	}
}

func (m *machine) advanceOnce() bool {
	from := m.State
	switch {
	case m.Hold.Kind != "":
		end := m.Hold.deadlineMs()
		if m.Hold.LengthMs == 0 || end > m.now {
			return false
		}
		if m.Hold.Kind == Open {
			m.halfOpen(end)
		} else {
			m.close(end, 0)
		}
		m.event(end, EventHoldExpired, from, "-", "hold expired")
	case m.State == Open:
		due := m.OpenedMs + m.WaitMs
		if m.OpenedMs == 0 { // a hand deleted the timestamp: the wait is over [B19]
			due = m.now
		}
		if due > m.now {
			return false
		}
		m.halfOpen(due)
		m.event(due, EventHalfOpened, from, "-", m.Cause)
	case m.State == HalfOpen:
		return m.lapse()
	default:
		return false
	}
	return true
}

// lapse ends the lease that ran out first, if one did [B12].
func (m *machine) lapse() bool {
	token, ok := m.firstLease(func(a, b Lease) bool { return a.deadlineMs() < b.deadlineMs() })
	if !ok || m.Leases[token].deadlineMs() > m.now {
		return false
	}
	at := m.Leases[token].deadlineMs()
	delete(m.Leases, token)
	if m.p.AbandonedFails {
		m.Failures++
		m.Round.Failed++
		m.verdict(at)
	}
	return true
}

// firstLease finds the least lease; ties go to the lesser token, so that Go and Lua agree.
func (m *machine) firstLease(less func(a, b Lease) bool) (token string, ok bool) {
	for t, l := range m.Leases {
		if !ok || less(l, m.Leases[token]) || !less(m.Leases[token], l) && t < token {
			token, ok = t, true
		}
	}
	return token, ok
}

// verdict ends the round as soon as its outcome is certain [B13].
func (m *machine) verdict(at int64) {
	r := m.Round
	switch {
	case r.OK >= r.Need && m.p.SlowRatePPM > 0 && r.Slow*Million >= m.p.SlowRatePPM*(r.OK+r.Failed):
		m.reopen(at, CauseSlowRate)
	case r.OK >= r.Need:
		m.close(at, m.p.RampMs)
		m.event(at, EventClosed, HalfOpen, "-", "probes succeeded")
	case r.Failed >= r.Max-r.Need+1:
		m.reopen(at, CauseProbeFailed)
	}
}

func (m *machine) reopen(at int64, cause string) {
	r := m.Round
	m.Reopens = min(m.Reopens+1, maxReopens)
	m.open(at, cause, Evidence{Failures: r.Failed, Calls: r.OK + r.Failed, Slow: r.Slow, Run: m.Run})
	m.event(at, EventOpened, HalfOpen, "-", cause)
}

// ---- keeping -----------------------------------------------------------------------------------------------------

const dayMs = 24 * 60 * 60 * 1000

// renewExpiry keeps the one instant at which all keys expire; edited keys get a new one together [B25].
func (m *machine) renewExpiry() {
	if !m.Present {
		return
	}
	if m.Hold.Kind != "" && m.Hold.LengthMs == 0 {
		m.ExpiresMs = 0
		return
	}
	floor, goal := m.now+m.p.TTLMs, m.now+2*m.p.TTLMs
	if last := m.lastDeadline(); last > 0 {
		floor = max(floor, last+dayMs)
		goal = max(goal, last+dayMs+m.p.TTLMs)
	}
	if m.ExpiresMs < floor || m.edited {
		m.ExpiresMs = goal
	}
}

// lastDeadline is the latest moment at which an open or half-open breaker, or a hold, still changes by itself.
func (m *machine) lastDeadline() int64 {
	switch {
	case m.Hold.Kind != "" || m.State == Open:
		return m.DeadlineMs()
	case m.State == HalfOpen:
		last := m.Round.StartMs
		for _, l := range m.Leases {
			last = max(last, l.deadlineMs())
		}
		return last
	}
	return 0
}
