package breaker

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// Agent is a handle on one agent's breaker: it saves the look-up by name, which matters in cached mode only. It is safe for
// concurrent use, and lives as long as its Manager.
type Agent struct {
	m      *Manager
	name   string
	buffer atomic.Pointer[epochBuffer] // calls are admitted in it; nil: the store is asked

	mu          sync.Mutex
	last        *epochBuffer  // the newest
	generation  int64         // how often the cell was put aside: an answer that was asked for before does not count
	asked       time.Duration // when the store was last asked, since the Manager began
	pinned      bool          // somebody holds the handle
	removed     bool          // from the table
	pendingTrip *epochBuffer  // will have opened the breaker, unless somebody else knows better: who asks waits for its record
}

// Name is the agent's.
func (a *Agent) Name() string { return a.name }

// Acquire is Manager.Acquire. Where the breaker is known to be closed (cached mode), it neither waits nor looks at ctx.
func (a *Agent) Acquire(ctx context.Context) (Permit, error) {
	if c := a.buffer.Load(); c != nil {
		c.admitted()
		return Permit{permitBody: &c.permitBody}, nil
	}
	return a.m.ask(ctx, a.name)
}

// Do is Manager.Do.
func (a *Agent) Do(ctx context.Context, fn func(context.Context) error) error {
	if c := a.buffer.Load(); c != nil {
		return c.do(ctx, fn)
	}
	return a.m.doAsking(ctx, a.name, fn)
}

// suspect says that what c holds will open the breaker, as far as this process knows.
func (a *Agent) suspect(c *epochBuffer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.last == c {
		a.pendingTrip = c
	}
	a.invalidateLocked(c)
}

// question is one that the store was asked for an Agent: a plain answer to it lets calls be admitted from memory.
type question struct {
	a          *Agent // nil: the answer is for one call
	at         time.Duration
	generation int64
}

// question marks that the store is asked now for leave to call agent. The error is the context's.
func (m *Manager) question(ctx context.Context, agent string, p Policy) (question, error) {
	a := m.entry(agent, p)
	if a == nil {
		return question{}, nil
	}
	a.mu.Lock()
	c := a.pendingTrip
	a.mu.Unlock()
	if c != nil { // its record goes first, or the answer would be that of before
		if err := m.flusher.Push(ctx, c); err != nil {
			return question{}, err
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = m.sinceBegan()
	if a.pendingTrip == c {
		a.pendingTrip = nil
	}
	return question{a: a, at: a.asked, generation: a.generation}, nil
}

// adopt lets calls be admitted in the epoch of a plain answer from now on, unless the cell was put aside since it was asked for.
// nil: the answer is for one call.
func (q question) adopt(r machine.Result, p Policy) *permitBody {
	a := q.a
	if a == nil || !r.Plain || r.Degraded {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.generation != q.generation || a.removed {
		return nil
	}
	c := a.last
	if c == nil || c.epoch != r.Epoch || c.over.Load() { // over: the epoch has come back, as that of no keys at all does
		c = newEpochBuffer(a, r.Epoch)
	}
	c.follow(p)
	c.confirmed.Store(int64(q.at))
	if !a.m.keepFresh(func() { a.buffer.Store(c) }) {
		return nil
	}
	a.last = c
	return &c.permitBody
}

// home is the cell in which what c holds is to be sent: c, unless its Agent was idle for so long that another has taken its place, and
// has a cell of that epoch: the order of outcomes is that of one cell.
func (a *Agent) home(c *epochBuffer) *epochBuffer {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.removed {
		return c
	}
	other := a
	if !a.m.keepFresh(func() { other, _ = a.m.agents.LoadOrStore(a.name, a) }) {
		return c
	}
	if other == a {
		a.removed, a.asked = false, a.m.sinceBegan()
		return c
	}
	other.mu.Lock() // never the other way about: other is in the table, a is not
	to := other.last
	other.mu.Unlock()
	if to == nil || to.epoch != c.epoch {
		return c
	}
	for s := c.buffer.Take(); s.Calls() > 0; s = c.buffer.Take() {
		to.buffer.Add(s, 0)
	}
	return to
}

// bufferFor is the cell in which the outcome of a permit that came from elsewhere, or of none, counts; nil: the store is told.
func (m *Manager) bufferFor(p *permitBody, o *Outcome) *epochBuffer {
	if p.token != "" || p.kind != "" && p.kind != permitClosed {
		return nil
	}
	c := m.bufferOf(p.agent)
	if c == nil || p.epoch != "" && p.epoch != c.epoch || !c.takes(o) {
		return nil
	}
	return c
}

// invalidate makes the next call ask the store; only names the cell that is meant, nil means any. What it holds is still sent:
// the store knows whether it counts [B14].
func (a *Agent) invalidate(only *epochBuffer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.invalidateLocked(only)
}

func (a *Agent) invalidateLocked(only *epochBuffer) {
	a.generation++
	if only == nil || a.buffer.Load() == only {
		a.buffer.Store(nil)
	}
}

// end says that c's epoch is over; what c holds, and whatever permits of it will bring, is late. nil: the newest cell's.
func (a *Agent) end(c *epochBuffer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c == nil {
		c = a.last
	}
	if c != nil {
		c.over.Store(true)
	}
	a.invalidateLocked(c)
}

// sweep puts aside a cell that the store has not confirmed since before, and takes an Agent for which it was not asked since idle, and that
// holds nothing, out of the table. It says whether to look again.
func (a *Agent) sweep(before, idle time.Duration) (again bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c := a.buffer.Load(); c != nil {
		if time.Duration(c.confirmed.Load()) >= before {
			return true
		}
		a.invalidateLocked(c)
	}
	if a.asked >= idle || a.pinned || a.last != nil && a.last.buffer.Sum() != (machine.Summary{}) {
		return !a.pinned
	}
	a.removed = true
	a.m.agents.Delete(a.name)
	return false
}

func newEpochBuffer(a *Agent, epoch string) *epochBuffer {
	c := &epochBuffer{at: a, bare: a.m.bare, watched: a.m.watched}
	c.m, c.agent, c.kind, c.epoch, c.owner = a.m, a.name, permitClosed, epoch, c
	return c
}
