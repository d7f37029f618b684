package machine

import "fmt"

// Step is the machine [B3]–[B26]: it advances l to nowMs, carries out op, and answers. It is pure: the same arguments
// give the same result, and l is not changed. The Redis scripts compute the same, and are compared with it operation by
// operation.
func Step(p Params, l Loaded, op Op, nowMs int64) (Snapshot, Result) {
	m := machine{Snapshot: l.clone(), p: p, op: op, now: nowMs, edited: l.Edit != Edit{}}
	if m.State == "" { // the zero Snapshot [B2]
		m.State, m.Epoch = Closed, ZeroEpoch
	}
	m.pruned = nil
	m.cleared.calls, m.cleared.probes = !l.Present && l.Edit.To == "", false // buckets without a breaker are nobody's
	m.clampFuture()
	m.repair(l.repairs)
	m.applyEdit(l.Edit)
	m.advance()
	m.res.Code = CodeOK
	switch op.Verb {
	case VerbAcquire:
		m.acquire()
	case VerbRenew:
		m.renew()
	case VerbRecord:
		m.record()
	case VerbReplay:
		m.replay()
	case VerbForce:
		m.force()
	case VerbInspect:
	}
	m.renewExpiry()
	m.answer()
	return m.Snapshot, m.res
}

// machine is one Step under way: the snapshot as it changes, the arguments, and the answer as it grows.
type machine struct {
	Snapshot
	p      Params
	op     Op
	now    int64
	edited bool // somebody edited the keys
	epochs int  // drawn so far
	res    Result
}

// clampFuture treats a start in the future as now, and drops buckets that start there: the clock was set back [B1].
func (m *machine) clampFuture() {
	for _, start := range []*int64{&m.OpenedMs, &m.UpstreamMs, &m.Round.StartMs, &m.Ramp.StartMs, &m.Hold.StartMs} {
		*start = min(*start, m.now)
	}
	for start, b := range m.Buckets {
		if start > m.now {
			delete(m.Buckets, start)
			m.Successes, m.Failures, m.cache.past = m.Successes-b.Successes, m.Failures-b.Failures, ""
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

// repair logs what Load dropped. If the wait of an open breaker or the size of a round is among it, the policy's value
// takes its place [B20].
func (m *machine) repair(r repairs) {
	if m.State == HalfOpen && m.Round.Max == 0 {
		m.Round = Round{StartMs: m.now, Max: m.p.MaxCalls, Need: m.p.Need}
	}
	if m.State == Open && m.Hold.Kind == "" && m.WaitMs == 0 {
		m.WaitMs = m.wait(m.OpenedMs)
	}
	if r.calls > 0 { // cached sums may count what is no longer there
		m.cache.past = ""
	}
	if r != (repairs{}) {
		m.event(m.now, EventRepaired, m.State, "-", fmt.Sprintf("state %d timestamp %d control %d calls %d probes %d",
			r.state, r.timestamp, r.control, r.calls, r.probes))
	}
}

// applyEdit makes the transition that an edit of the keys asks for [B19], or undoes the edit of a protected hold.
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
		m.open(opened, causeExternalEdit, Evidence{})
	case HalfOpen:
		m.halfOpen(m.now)
		m.setCause(causeExternalEdit)
	}
	m.event(m.now, EventExternalEdit, from, "-", e.Text)
}

// advance brings the breaker to now: each step is dated when it fell due, until nothing more is due [B11].
func (m *machine) advance() {
	for m.advanceOnce() {
	}
	if m.Ramp.LengthMs > 0 && m.Ramp.StartMs+m.Ramp.LengthMs <= m.now {
		m.Ramp = Ramp{}
	}
}

// advanceOnce carries out the step that fell due first. A deadline that is now has passed.
func (m *machine) advanceOnce() (advanced bool) {
	from := m.State
	switch {
	case m.Hold.Kind != "":
		end := m.Hold.deadlineMs()
		if m.Hold.LengthMs == 0 || end > m.now {
			return false
		}
		m.endHold(end)
		m.event(end, EventHoldExpired, from, "-", "hold expired")
	case m.State == Open:
		due := m.OpenedMs + m.WaitMs
		if m.OpenedMs == 0 { // somebody deleted the timestamp, which ends the wait [B19]
			due = m.now
		}
		if due > m.now {
			return false
		}
		m.halfOpen(due)
		m.event(due, EventHalfOpened, from, "-", m.Cause)
	case m.State == HalfOpen:
		return m.expireLease()
	default:
		return false
	}
	return true
}

// expireLease ends the lease that expired first, if one has [B12].
func (m *machine) expireLease() (expired bool) {
	token, ok := m.firstLease(Lease.deadlineMs)
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

// firstLease finds the lease of the least value. Of equal ones the lesser token is first, so that Go and Lua agree.
func (m *machine) firstLease(value func(Lease) int64) (token string, ok bool) {
	for t, l := range m.Leases {
		a, b := value(l), value(m.Leases[token])
		if !ok || a < b || a == b && t < token {
			token, ok = t, true
		}
	}
	return token, ok
}

// renewExpiry keeps the one instant at which all keys of the agent expire [B25]: at least one TTL from now, and a day
// after the last deadline. When it is nearer, it moves one TTL beyond that bound, so that it moves rarely. It is also
// set after every edit, for the edit may have left a key without an expiry.
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

// lastDeadline is the latest moment at which a hold, a wait or a lease ends; 0 for a closed breaker.
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

// event logs what has happened to the breaker, which is in its new state.
func (m *machine) event(at int64, kind string, from State, actor, text string) {
	m.res.Events = append(m.res.Events, Event{
		AtMs: at, Kind: kind, From: from, To: m.State, Epoch: m.Epoch, Actor: actor, Text: text,
		Failures: m.Evidence.Failures, Calls: m.Evidence.Calls, Run: m.Evidence.Run, Slow: m.Evidence.Slow,
	})
}

// answer fills in what every Result says.
func (m *machine) answer() {
	r := &m.res
	r.State, r.Epoch, r.NowMs, r.Run, r.Hold = m.State, m.Epoch, m.now, m.Run, m.Hold.Kind
	if d := m.DeadlineMs(); d > 0 {
		r.LeftMs = d - m.now
	}
}
