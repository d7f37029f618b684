package breaker

import (
	"context"
	"sync"

	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// ride is a probe whose call is under way, as the context of that call carries it. Calls of the same Manager and agent
// inside it ride on its permit: a permit of their own they would not get while the probe itself holds the last place of
// the round, and no round would ever end [B12].
type ride struct {
	host  *permitBody // the probe's, or a rider's
	outer *ride       // the next one around it, of whatever agent

	mu    sync.Mutex
	taken bool     // by a rider that is not settled
	over  bool     // the host is settled
	last  *Outcome // of the last rider that was settled
}

type rideKey struct{} // without size, so that a look-up does not allocate

// Enter is [Manager.Acquire] for code that settles the permit itself, like Do and package breakerhttp. The call is to
// run under the context that Enter returns: if the permit is a probe, that context carries it, and the Do and Enter of
// this Manager and agent inside the call ride on it, one at a time and until it is settled.
//
// A ride is part of the probe: it takes no place in the round, and no Observer is notified of it. Its Report is
// Pending, or late once the probe is settled. If the probe is settled with a success, the outcome of its last ride
// takes its place.
func (m *Manager) Enter(ctx context.Context, agent string) (context.Context, Permit, error) {
	if !m.ready(ctx) {
		return ctx, Permit{}, m.notReady(ctx)
	}
	if refusal := m.pass(agent); refusal != nil {
		return ctx, Permit{}, refusal
	}
	if b := m.activeBuffer(agent); b != nil {
		return ctx, b.admit(), nil
	}
	return m.enter(ctx, agent)
}

func (m *Manager) enter(ctx context.Context, agent string) (context.Context, Permit, error) {
	around, _ := ctx.Value(rideKey{}).(*ride)
	p, rides := around.join(m, agent)
	if !rides {
		var err error
		if p, err = m.acquireFromStore(ctx, agent); err != nil {
			return ctx, Permit{}, err
		}
	}
	if p.token != "" {
		p.carries = &ride{host: p.permitBody, outer: around}
		ctx = context.WithValue(ctx, rideKey{}, p.carries)
	}
	return m.within(ctx, &p), p, nil
}

// join returns a permit that rides on a probe of this agent and Manager: on r, or on one around it. ok is false if
// there is none, or another call rides on it now.
func (r *ride) join(m *Manager, agent string) (p Permit, ok bool) {
	for ; r != nil; r = r.outer {
		if h := r.host; h.m == m && h.agent == agent && r.take() {
			return Permit{permitBody: &permitBody{
				m: m, agent: agent, kind: h.kind, epoch: h.epoch, token: h.token, degraded: h.degraded, rides: r,
			}}, true
		}
	}
	return Permit{}, false
}

// carries reports whether a call would ride now.
func (r *ride) carries(m *Manager, agent string) bool {
	for ; r != nil; r = r.outer {
		if h := r.host; h.m == m && h.agent == agent && r.free() {
			return true
		}
	}
	return false
}

func (r *ride) free() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.taken && !r.over
}

func (r *ride) take() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.taken || r.over {
		return false
	}
	r.taken = true
	return true
}

// leave takes the outcome of a rider.
func (r *ride) leave(o *Outcome) Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return Report{Why: machine.CodeLate}
	}
	last := *o
	r.taken, r.last = false, &last
	return Report{State: HalfOpen, Pending: true}
}

// end ends r, and returns the outcome that its host is settled with in place of o.
func (r *ride) end(o *Outcome) *Outcome {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = true
	if o.Kind == Success && r.last != nil {
		return r.last
	}
	return o
}

// InProbe reports whether the call that runs under ctx is a probe of agent, or rides on one. It is for code inside the
// call, such as a tracer, which has no permit to ask.
func (m *Manager) InProbe(ctx context.Context, agent string) bool {
	if ctx == nil {
		return false
	}
	r, ok := ctx.Value(rideKey{}).(*ride)
	return ok && r.host.m == m && r.host.agent == agent
}
