package breaker

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/puzpuzpuz/xsync/v4"
)

// Agent is a handle on one agent's breaker: it saves the look-up by name, which matters in cached mode only. It is safe for
// concurrent use, and lives as long as its Manager.
type Agent struct {
	m    *Manager
	name string
	cell atomic.Pointer[cell] // calls are admitted in it; nil: the store is asked

	mu      sync.Mutex
	last    *cell // the newest
	told    int64 // how often the cell was put aside: an answer that was asked for before does not count
	touched bool  // asked for since the last sweep
	pinned  bool  // somebody holds the handle
	removed bool  // from the table
}

// Name is the agent's.
func (a *Agent) Name() string { return a.name }

// Acquire is Manager.Acquire. Where the breaker is known to be closed (cached mode), it neither waits nor looks at ctx.
func (a *Agent) Acquire(ctx context.Context) (Permit, error) {
	if c := a.cell.Load(); c != nil {
		p := Permit{permitBody: &c.permitBody}
		if !c.bare && a.m.watched {
			a.m.o.Observer.Admitted(a.name, p)
		}
		return p, nil
	}
	return a.m.ask(ctx, a.name)
}

// Do is Manager.Do.
func (a *Agent) Do(ctx context.Context, fn func(context.Context) error) error {
	if c := a.cell.Load(); c != nil {
		return c.do(ctx, fn)
	}
	return a.m.doAsking(ctx, a.name, fn)
}

// question is one that the store was asked for an Agent: a plain answer to it lets calls be admitted from memory.
type question struct {
	a    *Agent // nil: the answer is for one call
	at   time.Duration
	told int64
}

// question marks that the store is asked now for leave to call agent.
func (m *Manager) question(agent string, p Policy) question {
	a := m.entry(agent, p)
	if a == nil {
		return question{}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.touched = true
	return question{a: a, at: m.sinceBegan(), told: a.told}
}

// adopt lets calls be admitted in the epoch of a plain answer from now on, unless the cell was put aside since it was asked for.
// nil: the answer is for one call.
func (q question) adopt(r Result, p Policy) *permitBody {
	a := q.a
	if a == nil || !r.Plain || r.Degraded {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.told != q.told || a.removed {
		return nil
	}
	c := a.last
	if c == nil || c.epoch != r.Epoch || c.over.Load() || c.slow != p.SlowCallDuration {
		c = newCell(a, r.Epoch, p)
	}
	c.tripsAt.Store(int64(p.FailureThreshold))
	c.confirmed.Store(int64(q.at))
	if !a.m.keepFresh(func() { a.cell.Store(c) }) {
		return nil
	}
	a.last = c
	return &c.permitBody
}

// home is the cell in which what c holds is to be sent: c, unless its Agent was idle for so long that another has taken its place, and
// has a cell of that epoch: the order of outcomes is that of one cell.
func (a *Agent) home(c *cell) *cell {
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
		a.removed, a.touched = false, true
		return c
	}
	other.mu.Lock() // never the other way about: other is in the table, a is not
	to := other.last
	other.mu.Unlock()
	if to == nil || to.epoch != c.epoch {
		return c
	}
	for s := c.take(); s.Calls() > 0; s = c.take() {
		to.spill(s)
	}
	return to
}

// standing is the cell in which the outcome of a permit that came from elsewhere, or of none, counts; nil: the store is told.
func (m *Manager) standing(p *permitBody, o *Outcome) *cell {
	a, ok := m.agents.Load(p.agent)
	if !ok || p.token != "" || p.kind != "" && p.kind != permitClosed {
		return nil
	}
	c := a.cell.Load()
	if c == nil || p.epoch != "" && p.epoch != c.epoch || !c.takes(o) {
		return nil
	}
	return c
}

// putAside makes the next call ask the store; only names the cell that is meant, nil means any. What it holds is still sent:
// the store knows whether it counts [B14].
func (a *Agent) putAside(only *cell) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if only != nil && a.cell.Load() != only {
		return
	}
	a.told++
	a.cell.Store(nil)
}

// sweep puts aside a cell that the store has not confirmed since before, and takes an Agent that is of no more use out of the table.
// It says whether to look again.
func (a *Agent) sweep(before time.Duration) (again bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c := a.cell.Load(); c != nil {
		if time.Duration(c.confirmed.Load()) >= before {
			return true
		}
		a.told++
		a.cell.Store(nil)
	}
	if a.touched || a.pinned || a.last != nil && a.last.holds() != (Summary{}) {
		a.touched = false
		return !a.pinned
	}
	a.removed = true
	a.m.agents.Delete(a.name)
	return false
}

func newCell(a *Agent, epoch string, p Policy) *cell {
	c := &cell{at: a, slow: p.SlowCallDuration, bare: a.m.bare}
	c.m, c.agent, c.kind, c.epoch, c.cell = a.m, a.name, permitClosed, epoch, c
	return c
}

// cached is the part of a Manager that answers from memory.
type cached struct {
	agents    *xsync.Map[string, *Agent]
	flusher   *flusher
	staleness time.Duration
	began     time.Time
	most      int

	mu       sync.Mutex
	sweeping bool
	work     int64 // given to the sweeper so far
	closed   bool
	stop     chan struct{} // ends the sweeper
	swept    sync.WaitGroup
	lost     atomic.Bool // outcomes were not recorded, and that was logged
}

// begin gives the part what it needs; no goroutine runs before the first answer from memory.
func (c *cached) begin(m *Manager) {
	interval := m.o.FlushInterval
	if interval <= 0 {
		interval = 10 * time.Millisecond
	}
	c.staleness, c.most = m.o.MaxStaleness, m.o.MaxAgents
	if c.staleness <= 0 {
		c.staleness = time.Second
	}
	if c.most <= 0 {
		c.most = 100_000
	}
	c.agents, c.stop, c.began = xsync.NewMap[string, *Agent](), make(chan struct{}), time.Now()
	c.flusher = newFlusher(m, interval)
}

// sinceBegan is a clock that costs half of time.Now.
func (c *cached) sinceBegan() time.Duration { return time.Since(c.began) }

// Agent gives the handle on an agent. ErrBadName for a bad name. Handles are never forgotten: take them for names that are few.
func (m *Manager) Agent(name string) (*Agent, error) {
	if !ValidName(name) {
		return nil, ErrBadName
	}
	for {
		a, _ := m.agents.LoadOrStore(name, &Agent{m: m, name: name})
		a.mu.Lock()
		a.pinned = !a.removed
		ok := a.pinned
		a.mu.Unlock()
		if ok {
			return a, nil
		}
	}
}

// entry is the Agent of a name under a policy that is cached, if there is room for it.
func (m *Manager) entry(name string, p Policy) *Agent {
	if p.Consistency != Cached || !p.Enabled {
		return nil
	}
	a, ok := m.agents.Load(name)
	if !ok {
		if m.agents.Size() >= m.most {
			return nil
		}
		if !m.keepFresh(func() { a, _ = m.agents.LoadOrStore(name, &Agent{m: m, name: name}) }) {
			return nil
		}
	}
	return a
}

// Invalidate says that an agent's breaker has changed somewhere: its next call asks the store. It is for what the store's events
// tell, and quick.
func (m *Manager) Invalidate(agent string) {
	if a, ok := m.agents.Load(agent); ok {
		a.putAside(nil)
	}
}

// sendOf sends what is kept of an agent now.
func (m *Manager) sendOf(ctx context.Context, agent string) error {
	a, ok := m.agents.Load(agent)
	if !ok {
		return nil
	}
	a.mu.Lock()
	c := a.last
	a.mu.Unlock()
	if c == nil {
		return nil
	}
	return m.flusher.push(ctx, c)
}

// Unsent says what cached mode has not yet sent to the store.
func (m *Manager) Unsent() Unsent { return m.flusher.unsent() }

// Close sends what cached mode has not sent yet, until ctx ends; from then on every call asks the store. A Manager that never was
// in cached mode need not be closed.
func (m *Manager) Close(ctx context.Context) error {
	m.mu.Lock()
	if !m.closed {
		m.closed = true
		close(m.stop)
	}
	m.mu.Unlock()
	m.swept.Wait()
	m.agents.Range(func(_ string, a *Agent) bool {
		a.putAside(nil)
		return true
	})
	return m.flusher.drain(ctx)
}

// keepFresh does what makes work for the sweeper, which runs while there is some; false: the Manager is closed.
func (m *Manager) keepFresh(do func()) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false
	}
	do()
	m.work++
	if !m.sweeping {
		m.sweeping = true
		m.swept.Go(m.sweep)
	}
	return true
}

// sweep keeps cached answers from growing older than the staleness: every half of it, what was not confirmed in that half is put
// aside. What has been idle for longer leaves.
func (m *Manager) sweep() {
	tick := time.NewTicker(m.staleness / 2)
	defer tick.Stop()
	for {
		select {
		case <-m.stop:
			return
		case <-tick.C:
		}
		m.mu.Lock()
		work := m.work
		m.mu.Unlock()
		left := m.sweepOnce(m.sinceBegan() - m.staleness/2)
		m.mu.Lock()
		m.sweeping = left || work != m.work
		on := m.sweeping
		m.mu.Unlock()
		if !on {
			return
		}
	}
}

// sweepOnce says whether anything is left to look after: a cell, or an Agent whose handle nobody has.
func (m *Manager) sweepOnce(before time.Duration) (left bool) {
	m.agents.Range(func(_ string, a *Agent) bool {
		left = a.sweep(before) || left
		return true
	})
	return left
}

// flush sends what a cell holds as one record, and learns from the answer whether the epoch goes on.
func (m *Manager) flush(c *cell) {
	s := c.take()
	if s.Calls() == 0 {
		return
	}
	if c.over.Load() {
		m.o.Observer.Flushed(c.agent, s, Report{Why: string(CodeLate)})
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), m.o.SettleTimeout)
	defer cancel()
	p := m.policy(ctx, c.agent)
	asked := m.sinceBegan()
	res, err := m.apply(ctx, c.agent, p, Op{Verb: VerbRecord, Epoch: c.epoch, Summary: s, Reporter: m.o.Reporter})
	r := res.report(err)
	if err == nil && !res.Degraded {
		c.over.Store(res.State != Closed || res.Epoch != c.epoch)
	}
	if err != nil || res.Degraded || c.over.Load() || p.Consistency != Cached || !p.Enabled || p.SlowCallDuration != c.slow {
		c.at.putAside(c)
	} else {
		c.run.Store(res.Run)
		c.tripsAt.Store(int64(p.FailureThreshold))
		c.confirmed.Store(int64(asked))
	}
	m.o.Observer.Flushed(c.agent, s, r)
	switch {
	case err == nil:
		m.lost.Store(false)
	case !m.lost.Swap(true):
		m.o.Logger.WarnContext(ctx, "outcomes not recorded", "agent", c.agent, "calls", s.Calls(), "error", err)
	}
}

// report says what became of a record.
func (r Result) report(err error) Report {
	out := Report{State: r.State, Counted: r.Code == CodeOK, Degraded: r.Degraded}
	var away *StoreError
	switch {
	case errors.As(err, &away) && away.Unknown, r.Unknown:
		out.Counted, out.Why = false, "unknown"
	case err != nil:
		out.Counted, out.Why = false, "lost"
	case !out.Counted:
		out.Why = string(r.Code)
	}
	return out
}
