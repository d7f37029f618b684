package breaker

import (
	"math/rand/v2"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// Gate is the share of all calls that a fleet admits, whatever their agents' breakers say [B24]: From at StartMs, To
// from LengthMs later on, in a line between. All replicas have the same one. Times are those of the store's clock.
type Gate struct {
	From, To          float64 // from 0 to 1
	StartMs, LengthMs int64
	UntilMs           int64 // when it ends by itself; 0: it does not
}

// Share returns the share at a time, from 0 to 1.
func (g Gate) Share(nowMs int64) float64 {
	since := nowMs - g.StartMs
	switch {
	case g.UntilMs > 0 && nowMs >= g.UntilMs:
		return 1
	case since >= g.LengthMs:
		return g.To
	default:
		return g.From + (g.To-g.From)*float64(max(since, 0))/float64(g.LengthMs)
	}
}

// Stops reports whether g is an emergency stop: it admits nothing, and that does not change before it ends.
func (g Gate) Stops() bool { return g.From == 0 && g.To == 0 }

// Over reports whether g admits every call from nowMs on.
func (g Gate) Over(nowMs int64) bool {
	return g.UntilMs > 0 && nowMs >= g.UntilMs || g.To >= 1 && nowMs-g.StartMs >= g.LengthMs
}

const (
	stopWait = 30 * time.Second // what a refusal by a stop without an end says
	shedWait = time.Second      // and one of a share
)

// SetGate puts a gate into force, from the next call on; nil: none. With Options.Disabled there is none. It is for
// authors of replicas: package fleet calls it.
func (m *Manager) SetGate(g *Gate) {
	if m.made() != nil || m.o.Disabled {
		return
	}
	if g != nil {
		g = new(*g)
	}
	m.gate.Store(g)
	m.waits.tellAll()
}

// Share returns the share of calls that the gate in force admits now; 1: there is none.
func (m *Manager) Share() float64 {
	if m.made() != nil {
		return 1
	}
	g := m.gate.Load()
	if g == nil {
		return 1
	}
	return g.Share(m.clock.nowMs())
}

// pass returns the refusal of a call by the gate; nil: it admits the call.
func (m *Manager) pass(agent string) *OpenError {
	g := m.gate.Load()
	if g == nil {
		return nil
	}
	return m.draw(g, agent)
}

// draw draws whether a call belongs to the share that the gate admits.
func (m *Manager) draw(g *Gate, agent string) *OpenError {
	if !ValidName(agent) {
		return nil // ErrBadName is the caller's
	}
	now := m.clock.nowMs()
	if rand.Float64() < g.Share(now) {
		return nil
	}
	return m.refused(agent, g.refusal(now))
}

// refusal is the answer to a call that does not belong to the share.
func (g *Gate) refusal(nowMs int64) *machine.Result {
	r := &machine.Result{Code: machine.CodeRefused, Reason: ReasonShedding, RetryAfterMs: shedWait.Milliseconds()}
	if g.Stops() {
		r.State, r.Reason, r.RetryAfterMs = Open, ReasonEmergencyStop, stopWait.Milliseconds()
		if g.UntilMs > 0 {
			r.RetryAfterMs = g.UntilMs - nowMs
		}
	}
	return r
}
