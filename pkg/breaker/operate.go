package breaker

import (
	"cmp"
	"context"
	"time"
)

// libraryActor did what an operator's program did without saying who asks.
const libraryActor = "library"

// Open holds an agent's breaker open for the whole fleet [B17]. It replaces another hold. The error is as for
// [Manager.Force].
func (m *Manager) Open(ctx context.Context, agent string, h Hold) error {
	return m.operate(ctx, agent, Force{
		Target: HoldOpen, LengthMs: ceilMs(h.For), Reason: h.Reason, Actor: h.Actor,
		Protected: h.Protected, Override: h.Force,
	})
}

// Reset lets an agent's breaker begin anew for the whole fleet [B18]. The error is as for [Manager.Force].
func (m *Manager) Reset(ctx context.Context, agent string, r Reset) error {
	f := Force{
		Target: ResetClosed, RampMs: ceilMs(r.Gradual), Reason: r.Reason, Actor: r.Actor, Override: r.Force,
	}
	if r.HalfOpen {
		if r.Gradual != 0 {
			return &ForceError{"ramp_ms", r.Gradual.String(), "none with a reset to half-open"}
		}
		f.Target = ResetHalfOpen
	}
	return m.operate(ctx, agent, f)
}

// Release ends the hold of an agent's breaker for the whole fleet, as the hold's own end would [B17]: a breaker that
// was held open becomes half-open, one that was held closed becomes closed and forgets its failures. The error is as
// for [Manager.Force]: ErrNotHeld if there is no hold.
func (m *Manager) Release(ctx context.Context, agent string, r Release) error {
	return m.operate(ctx, agent, Force{Target: ReleaseHold, Reason: r.Reason, Actor: r.Actor, Override: r.Force})
}

func (m *Manager) operate(ctx context.Context, agent string, f Force) error {
	if !m.ready(ctx) {
		return m.notReady(ctx)
	}
	f.Actor = cmp.Or(f.Actor, m.o.Reporter, libraryActor)
	_, err := m.Force(ctx, agent, f)
	return err
}

// ceilMs is d in milliseconds, rounded away from zero, so that none is taken for 0.
func ceilMs(d time.Duration) int64 {
	ms := d.Milliseconds()
	switch rest := d % time.Millisecond; {
	case rest > 0:
		ms++
	case rest < 0:
		ms--
	}
	return ms
}
