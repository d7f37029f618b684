package machine

// force carries out an operator's hold or release [B17], or reset [B18].
func (m *machine) force() {
	f, from := m.op.Force, m.State
	if m.Hold.Protected == 1 && !f.Override {
		m.res.Code = CodeHoldProtected
		return
	}
	if m.Hold.Kind != "" && !f.Override && (f.Yield == YieldAny || f.Yield == YieldOthers && m.Hold.Actor != f.Actor) {
		m.res.Code = CodeHoldExists
		return
	}
	if f.Target == Release && m.Hold.Kind == "" {
		m.res.Code = CodeNotHeld
		return
	}
	kind := EventManualReset
	switch f.Target {
	case HoldOpen:
		m.enter(Open)
		m.setCause(Clip(f.Reason))
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
		m.setCause(Clip(f.Reason))
	case Release:
		m.endHold(m.now)
		kind = EventManualRelease
	}
	m.event(m.now, kind, from, f.Actor, f.Reason)
	m.res.Events[len(m.res.Events)-1].Address = f.Address
}

func (m *machine) hold(kind State) {
	f := m.op.Force
	m.Hold = Hold{Kind: kind, StartMs: m.now, LengthMs: f.LengthMs, Actor: f.Actor}
	if f.Protected {
		m.Hold.Protected = 1
	}
}
