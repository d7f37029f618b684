package breaker

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// Agent is a handle on one agent's breaker, from [Manager.Agent]. It saves the lookup by name, which matters in cached
// mode only. It is safe for concurrent use, and valid as long as its Manager.
type Agent struct {
	m    *Manager
	name string

	// active admits calls from memory; nil: each call asks the store. Writes hold mu, reads hold nothing.
	active atomic.Pointer[epochBuffer]

	mu          sync.Mutex
	latest      *epochBuffer  // the buffer activated last; it may have outcomes to flush when it is no longer active
	pendingTrip *epochBuffer  // its unsent failures reach the threshold: a call flushes it before it asks the store
	generation  int64         // counts invalidations: an answer requested under an older generation is not cached
	askedAt     time.Duration // the uptime at which the store was last asked for a permit
	pinned      bool          // there is a handle, so that the Agent stays in Manager.agents
	removed     bool          // from Manager.agents
}

// Name returns the agent's name.
func (a *Agent) Name() string { return a.name }

// Acquire is [Manager.Acquire]. If the breaker is known to be closed (cached mode), it neither waits nor looks at ctx.
func (a *Agent) Acquire(ctx context.Context) (Permit, error) {
	if b := a.active.Load(); b != nil {
		return b.admit(), nil
	}
	return a.m.acquireFromStore(ctx, a.name)
}

// Do is [Manager.Do].
func (a *Agent) Do(ctx context.Context, fn func(context.Context) error) error {
	if b := a.active.Load(); b != nil {
		return b.do(ctx, fn)
	}
	return a.m.doWithStore(ctx, a.name, fn)
}

// fill is a request to the store whose answer may be cached.
type fill struct {
	agent      *Agent // nil: the answer is not cached
	askedAt    time.Duration
	generation int64
}

// beginFill must be called before the store is asked for a permit. It flushes failures that will trip the breaker, so
// that the answer is from after the trip. The error is the context's.
func (m *Manager) beginFill(ctx context.Context, name string, p Policy) (fill, error) {
	if p.Consistency != Cached || p.Disabled {
		return fill{}, nil
	}
	a, ok := m.agents.Load(name)
	if !ok {
		insert := func() { a, _ = m.agents.LoadOrStore(name, &Agent{m: m, name: name}) }
		if m.agents.Size() >= m.o.MaxAgents || !m.sweepAfter(insert) {
			return fill{}, nil
		}
	}
	a.mu.Lock()
	b := a.pendingTrip
	a.mu.Unlock()
	if b != nil {
		if err := m.flusher.Push(ctx, b); err != nil {
			return fill{}, err
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.askedAt = m.uptime()
	if a.pendingTrip == b {
		a.pendingTrip = nil
	}
	return fill{agent: a, askedAt: a.askedAt, generation: a.generation}, nil
}

// activate caches the store's answer: the buffer that it returns admits this call, and further ones from memory. It
// returns nil if the answer is for this call only, because the breaker is not plainly closed, or because the Agent was
// invalidated after the request.
func (f fill) activate(r machine.Result, p Policy) *epochBuffer {
	a := f.agent
	if a == nil || !r.Plain || r.Degraded {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.generation != f.generation || a.removed {
		return nil
	}
	b := a.latest
	// An epoch can come back after it ended: a breaker whose keys are gone is in the zero epoch again [B2].
	if b == nil || b.epoch != r.Epoch || b.epochEnded.Load() {
		b = newEpochBuffer(a, r.Epoch)
	}
	b.setPolicy(p)
	b.confirmed.Store(int64(f.askedAt))
	if !a.m.sweepAfter(func() { a.active.Store(b) }) {
		return nil
	}
	a.latest = b
	return b
}

// bufferFor returns the buffer to which the outcome of a permit from the store, or of none, may be added; nil: the
// store is asked.
func (m *Manager) bufferFor(p *permitBody, o *Outcome) *epochBuffer {
	if p.token != "" || p.kind != "" && p.kind != permitClosed {
		return nil
	}
	b := m.activeBuffer(p.agent)
	if b == nil || p.epoch != "" && p.epoch != b.epoch || !b.joinable(o) {
		return nil
	}
	return b
}

// flushTarget returns the buffer with which b's outcomes are flushed: b itself, unless its Agent was removed and
// another Agent has a buffer of the same epoch. Then b's outcomes move there, for outcomes of one epoch keep their
// order only within one buffer.
func (a *Agent) flushTarget(b *epochBuffer) *epochBuffer {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.removed {
		return b
	}
	other := a
	if !a.m.sweepAfter(func() { other, _ = a.m.agents.LoadOrStore(a.name, a) }) {
		return b
	}
	if other == a {
		a.removed, a.askedAt = false, a.m.uptime()
		return b
	}
	other.mu.Lock()
	target := other.latest
	other.mu.Unlock()
	if target == nil || target.epoch != b.epoch {
		return b
	}
	for s := b.outcomes.Take(); s.Calls() > 0; s = b.outcomes.Take() {
		target.outcomes.Add(s, 0)
	}
	return target
}

// expectTrip notes that b's outcomes trip the breaker, as far as this process knows: the next call flushes them and
// asks the store.
func (a *Agent) expectTrip(b *epochBuffer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.latest == b {
		a.pendingTrip = b
	}
	a.invalidateLocked(b)
}

// invalidate makes the next call ask the store: no buffer is active any more, or if only is not nil, not that one.
// Outcomes are flushed all the same, and the store decides whether they count [B14].
func (a *Agent) invalidate(only *epochBuffer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.invalidateLocked(only)
}

func (a *Agent) invalidateLocked(only *epochBuffer) {
	a.generation++
	if only == nil || a.active.Load() == only {
		a.active.Store(nil)
	}
}

// endEpoch makes late the outcomes of b that were not flushed yet, and those still to come; nil means the latest
// buffer.
func (a *Agent) endEpoch(b *epochBuffer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if b == nil {
		b = a.latest
	}
	if b != nil {
		b.epochEnded.Store(true)
	}
	a.invalidateLocked(b)
}

// expire invalidates an active buffer that the store has not confirmed since confirmedSince. It removes the Agent if it
// has no handle, has not asked the store since askedSince, and has nothing to flush. It reports whether there may be
// more to expire later.
func (a *Agent) expire(confirmedSince, askedSince time.Duration) (more bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if b := a.active.Load(); b != nil {
		if time.Duration(b.confirmed.Load()) >= confirmedSince {
			return true
		}
		a.invalidateLocked(b)
	}
	if a.pinned {
		return false
	}
	if a.askedAt >= askedSince || a.latest != nil && a.latest.outcomes.Sum() != (machine.Summary{}) {
		return true
	}
	a.removed = true
	a.m.agents.Delete(a.name)
	return false
}
