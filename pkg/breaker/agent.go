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

	observer atomic.Pointer[Observer] // of its calls; nil until the store is asked for the first time
	quiet    atomic.Bool              // the observer does without successes

	// active admits calls from memory; nil: each call asks the store. Writes hold mu, reads hold nothing.
	active atomic.Pointer[epochBuffer]

	mu          sync.Mutex
	latest      *epochBuffer  // the buffer activated last; it may have outcomes to flush when it is no longer active
	pendingTrip *epochBuffer  // its unsent failures reach the threshold: a call flushes it before it asks the store
	generation  int64         // counts invalidations: an answer requested under an older generation is not cached
	askedAt     time.Duration // the uptime at which the store was last asked for a permit
	pinned      bool          // there is a handle, so that the Agent stays in Manager.agents
	removed     bool          // from Manager.agents
	asking      *question     // in progress
	exclusive   bool          // the last answer admitted one caller only: nobody waits for the next one
	runEpoch    string        // the epoch of run
	run         int64         // of failures, in the last answer to a record that did not go through a buffer
}

// Name returns the agent's name.
func (a *Agent) Name() string {
	if a == nil {
		return ""
	}
	return a.name
}

// Acquire is [Manager.Acquire].
func (a *Agent) Acquire(ctx context.Context) (Permit, error) {
	if !a.manager().ready(ctx) {
		return Permit{}, a.manager().notReady(ctx)
	}
	if refusal := a.m.pass(a.name); refusal != nil {
		return Permit{}, refusal
	}
	if b := a.active.Load(); b != nil {
		return b.admit(), nil
	}
	return a.m.acquireFromStore(ctx, a.name)
}

// Do is [Manager.Do].
func (a *Agent) Do(ctx context.Context, fn func(context.Context) error) error {
	if fn == nil {
		return unset("function")
	}
	if !a.manager().ready(ctx) {
		return a.manager().notReady(ctx)
	}
	_, err := call(ctx, a.m, a.active.Load(), a.name, withoutResult(fn))
	return err
}

// cachedAgent returns the Agent of a name; nil: there is no room for it, or the Manager is closed.
func (m *Manager) cachedAgent(name string) *Agent {
	a, ok := m.agents.Load(name)
	if !ok {
		insert := func() { a, _ = m.agents.LoadOrStore(name, &Agent{m: m, name: name}) }
		if m.agents.Size() >= m.o.MaxAgents || !m.sweepAfter(insert) {
			return nil
		}
	}
	return a
}

// question is a request to the store for a permit, whose answer other callers wait for: a crowd that meets an agent
// which nobody has asked for asks once.
type question struct {
	done   chan struct{}
	answer answer // read after done
}

// acquire asks the store for a permit, unless another caller does so now: then it waits for that answer, which admits
// all callers or refuses them. If it does neither, as a half-open breaker's, the caller asks for itself.
func (a *Agent) acquire(ctx context.Context, p Policy) (Permit, error) {
	a.mu.Lock()
	q := a.asking
	lead := q == nil
	if lead {
		q = &question{done: make(chan struct{})}
		a.asking = q
	}
	wait := !lead && !a.exclusive
	a.mu.Unlock()
	if wait {
		select {
		case <-q.done:
		case <-ctx.Done():
			return Permit{}, ctx.Err()
		}
		if b := a.active.Load(); b != nil {
			return b.admit(), nil
		}
		if r := &q.answer.result; q.answer.err == nil && r.Code == machine.CodeRefused && r.Reason != ReasonRamping {
			return Permit{}, a.m.refused(a.name, r)
		}
	}
	f := fill{agent: a}
	if a.m.observed && a.observer.Load() == nil {
		o := forAgent(a.m.o.Observer, a.name) // no lock is held: it is the user's code
		a.quiet.Store(isQuiet(o))
		a.observer.CompareAndSwap(nil, &o)
	}
	if lead {
		f.question = q
		defer a.abandon(q)
	}
	if err := f.begin(ctx); err != nil {
		f.end(&answer{err: err}, p)
		return Permit{}, err
	}
	return a.m.acquire(ctx, a.name, p, f)
}

// abandon ends a question without an answer, after a panic: callers that wait ask for themselves.
func (a *Agent) abandon(q *question) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.asking == q {
		a.asking, q.answer.err = nil, errPanicked
		close(q.done)
	}
}

// fill is a request to the store whose answer may be cached.
type fill struct {
	agent      *Agent    // nil: the answer is not cached
	question   *question // nil: nobody waits for the answer
	askedAt    time.Duration
	generation int64
}

// begin must be called before the store is asked for a permit. It flushes failures that will trip the breaker, so that
// the answer is from after the trip. The error is the context's.
func (f *fill) begin(ctx context.Context) error {
	a := f.agent
	a.mu.Lock()
	b := a.pendingTrip
	a.mu.Unlock()
	if b != nil {
		if err := a.m.flusher.Push(ctx, b); err != nil {
			return err
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.askedAt = a.m.uptime()
	if a.pendingTrip == b {
		a.pendingTrip = nil
	}
	f.askedAt, f.generation = a.askedAt, a.generation
	return nil
}

// end caches the store's answer: the buffer that it returns admits this call, and further ones from memory. It returns
// nil if the answer is for this call only. Callers that wait for the answer go on.
func (f fill) end(r *answer, p Policy) (b *epochBuffer) {
	if f.agent == nil {
		return nil
	}
	if r.err == nil {
		b = f.activate(r.result, p)
	}
	if f.question != nil {
		f.question.answer = *r
		a := f.agent
		a.mu.Lock()
		a.asking = nil
		a.exclusive = r.err == nil && r.result.Code != machine.CodeRefused && b == nil
		a.mu.Unlock()
		close(f.question.done)
	}
	return b
}

// activate returns nil if the answer is for one call only, because the breaker is not plainly closed, or because the
// Agent was invalidated after the request.
func (f fill) activate(r machine.Result, p Policy) *epochBuffer {
	a := f.agent
	if !r.Plain || r.Degraded {
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
		if a.runEpoch == r.Epoch {
			b.outcomes.SetRun(a.run)
		}
	}
	b.setPolicy(p)
	b.confirmed.Store(int64(f.askedAt))
	if !a.m.sweepAfter(func() { a.active.Store(b) }) {
		return nil
	}
	a.latest = b
	return b
}

// noteRun keeps the run of failures of a record's answer, for the buffer that is activated next.
func (m *Manager) noteRun(agent string, r *machine.Result) {
	if r.Degraded || r.State != Closed {
		return
	}
	a := m.cachedAgent(agent)
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.runEpoch, a.run = r.Epoch, r.Run
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
	a.m.ledger.mu.Lock() // Outcomes sees what moves in one of the two
	defer a.m.ledger.mu.Unlock()
	for s := b.outcomes.Take(); s.Calls() > 0; s = b.outcomes.Take() {
		target.outcomes.Add(s, 0)
		a.m.flusher.Enqueue(target, true)
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
