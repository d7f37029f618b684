package breaker

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/puzpuzpuz/xsync/v4"

	"github.com/breakerd/breakerd/pkg/breaker/internal/flush"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// cached is the part of a Manager that answers from memory.
type cached struct {
	agents    *xsync.Map[string, *Agent]
	recent    recent
	flusher   *flush.Scheduler[*epochBuffer]
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
	away     atomic.Bool // the last answer was given without the store
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
	c.flusher = flush.New(interval, m.flush)
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
	if p.Consistency != Cached || p.Disabled {
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
		a.invalidate(nil)
	}
}

// invalidateAll is Invalidate for every agent: the store is away, or back.
func (m *Manager) invalidateAll() {
	m.agents.Range(func(_ string, a *Agent) bool {
		a.invalidate(nil)
		return true
	})
}

// Evict is for an agent that is deleted: what this process has counted of it, and not sent, is not sent any more.
func (m *Manager) Evict(agent string) {
	if a, ok := m.agents.Load(agent); ok {
		a.end(nil)
	}
}

// Flush sends what this process has counted of an agent, and not sent yet, and waits for it until ctx ends.
func (m *Manager) Flush(ctx context.Context, agent string) error {
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
	return m.flusher.Push(ctx, c)
}

// Backlog is what a Manager in cached mode has not yet sent to the store.
type Backlog struct {
	Agents int           // with outcomes that wait or are on their way
	Oldest time.Duration // how long the longest of them has waited, give or take one record's time
}

// Backlog says what cached mode has not yet sent to the store.
func (m *Manager) Backlog() Backlog {
	b := m.flusher.Backlog()
	return Backlog{Agents: b.Items, Oldest: b.Oldest}
}

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
	m.invalidateAll()
	return m.flusher.Drain(ctx)
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

// sweeps is how many sweeps there are in one staleness.
const sweeps = 5

// minIdle is how long an Agent is kept at least after the store was last asked for it: longer than any answer takes.
const minIdle = time.Second

// sweep keeps cached answers from growing older than the staleness: what would, before the next sweep, is put aside. What has been idle
// for longer leaves.
func (m *Manager) sweep() {
	period := max(m.staleness/sweeps, time.Millisecond)
	tick := time.NewTicker(period)
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
		now := m.sinceBegan()
		left := m.sweepOnce(now-m.staleness+period, now-max(m.staleness, minIdle))
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
func (m *Manager) sweepOnce(before, idle time.Duration) (left bool) {
	m.agents.Range(func(_ string, a *Agent) bool {
		left = a.sweep(before, idle) || left
		return true
	})
	return left
}

// flush sends what a cell holds as one record, and learns from the answer whether the epoch goes on.
func (m *Manager) flush(c *epochBuffer) {
	s := c.buffer.Take()
	if s.Calls() == 0 {
		return
	}
	if c.over.Load() {
		m.o.Observer.Flushed(c.agent, s, Report{Why: machine.CodeLate})
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), settleTimeout)
	defer cancel()
	p := m.policy(ctx, c.agent)
	asked := m.sinceBegan()
	res, err := m.apply(ctx, c.agent, p, machine.Op{Verb: machine.VerbRecord, Epoch: c.epoch, Summary: s, Reporter: m.o.Reporter})
	r := reportOf(res, err)
	switch {
	case err == nil && !res.Degraded && (res.State != Closed || res.Epoch != c.epoch):
		c.at.end(c)
	case err != nil || res.Degraded || p.Consistency != Cached || p.Disabled:
		c.at.invalidate(c)
	default:
		c.buffer.SetRun(res.Run)
		c.follow(p)
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
func reportOf(r machine.Result, err error) Report {
	out := Report{State: r.State, Counted: r.Code == machine.CodeOK, Degraded: r.Degraded}
	away, ok := errors.AsType[*StoreError](err)
	switch {
	case ok && away.Unknown, r.Unknown:
		out.Counted, out.Why = false, CodeUnknown
	case err != nil:
		out.Counted, out.Why = false, machine.CodeLost
	case !out.Counted:
		out.Why = r.Code
	}
	return out
}
