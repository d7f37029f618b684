package breaker

import (
	"context"

	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// Wait returns nil once a call of agent may be tried. It is for loops: the caller follows with [Manager.Do] or
// [Manager.Acquire], and calls Wait again if that refuses, for Wait takes no permit, and another caller may be faster.
//
// A call may be tried if an acquire would admit it: the breaker is closed, disabled, held closed or in mode observe, or
// it is half-open and its round has a free place; and the fleet's gate admits calls [B24]. While the breaker ramps
// [B16], or the gate admits a share, Wait draws whether the call belongs to that. If it does not, Wait returns about a
// second later, without a second draw. If the store is down, the answers of a [Fallback] decide.
//
// Waiters do not stampede. Those of one agent share one question to the store, at most 20 times a second. When a
// breaker becomes half-open, each leaves at a moment drawn at random from a tenth of the time that it has waited (100
// ms to 5 s), and no more of them than the round has free places. When a breaker closes, they leave at random within
// 1 ms a waiter (100 ms to 1 s). A caller that nothing keeps waiting leaves at once.
//
// What this process hears of the breaker ([Manager.Invalidate]) wakes its waiters. If nothing is heard, the store is
// asked again within five seconds, or one second while all places are taken or the store is down.
//
// In a loop, compare [OpenError].Agent: what the function of Do returns may be the refusal of another agent's breaker,
// for which Wait does not wait.
//
// The error is ErrBadName, ErrUnset, the context's error, as it is, ErrManagerClosed, or a [*StoreError] if the store
// is down and there is no [Fallback]. Wait is safe for concurrent use.
func (m *Manager) Wait(ctx context.Context, agent string) error {
	if !m.ready(ctx) {
		return m.notReady(ctx)
	}
	if m.gate.Load() == nil && m.activeBuffer(agent) != nil {
		return nil
	}
	if !ValidName(agent) {
		return ErrBadName
	}
	around, _ := ctx.Value(rideKey{}).(*ride)
	if m.o.Disabled || m.gate.Load() == nil && around.carries(m, agent) {
		return nil
	}
	w := m.waits.join(m, agent)
	if w == nil {
		return ErrManagerClosed
	}
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
		m.waits.leave(w)
		return ctx.Err()
	}
}

// Wait is [Manager.Wait].
func (a *Agent) Wait(ctx context.Context) error { return a.manager().Wait(ctx, a.Name()) }

// prospect is what an acquire would meet.
type prospect struct {
	view   View
	params machine.Params
	// unasked is the answer if the breaker is not asked; without a Code it is.
	unasked machine.Result
	gate    *Gate // nil: none
}

// prospect looks at an agent's breaker as acquireFromStore would, and changes nothing.
func (m *Manager) prospect(ctx context.Context, agent string) (p prospect, err error) {
	p.gate = m.gate.Load()
	p.view.NowMs = m.clock.nowMs()
	if !m.tracker.tracks(ctx, agent) {
		p.unasked.Code = CodeUntracked
		if m.tracker.o.Refuse {
			p.unasked = machine.Result{Code: machine.CodeRefused, Reason: ReasonTooManyAgents, RetryAfterMs: 1000}
		}
		return p, nil
	}
	view, policy, err := m.Inspect(ctx, agent)
	if err == nil && m.fallback != nil && m.fallback.untilAsked(agent) > 0 {
		defer m.fallback.forgetLocal(agent)
		view, err = m.fallback.inspectLocal(ctx, agent, policy)
	}
	if view.Degraded && policy.OnStoreError != OnStoreErrorLocal {
		p.unasked = withoutStore(policy)
	}
	p.view, p.params = view, policy.Params(memoryTTL, 1)
	return p, err
}

// acquire returns what an acquire would be answered. It is the machine's answer, of a copy of the breaker.
func (p *prospect) acquire(rampPPM int64) machine.Result {
	r := p.acquireOfBreaker(rampPPM)
	if g := p.gate; g != nil && (r.Code != machine.CodeRefused || g.Stops()) &&
		rampPPM >= int64(g.Share(p.view.NowMs)*machine.Million) {
		return *g.refusal(p.view.NowMs)
	}
	return r
}

// acquireOfBreaker is acquire without the gate.
func (p *prospect) acquireOfBreaker(rampPPM int64) machine.Result {
	if p.unasked.Code != "" {
		return p.unasked
	}
	op := machine.Op{
		Verb: machine.VerbAcquire, Draw: machine.ZeroEpoch[1:], Token: machine.ZeroEpoch, RampPPM: rampPPM,
	}
	_, r := machine.Step(p.params, machine.Loaded{Snapshot: p.view.Snapshot}, op, p.view.NowMs)
	return r
}
