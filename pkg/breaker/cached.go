package breaker

import (
	"context"
	"sync"
	"time"
)

// Cached mode
//
// Manager.agents has an Agent for every agent in use. An Agent is in one of two states:
//
//	Agent.active is nil:     fill.activate: the breaker is closed     Agent.active admits calls
//	calls ask the store  ------------------------------------------>  and takes their outcomes
//	                     <------------------------------------------
//	                       invalidate, expectTrip, endEpoch, expire
//
// The active buffer is invalidated, so that the next call asks the store again, by
//   - an event of the breaker from the store's channel, or of this process (Manager.Invalidate);
//   - its own failures, when they reach the failure threshold (expectTrip);
//   - the answer to a flush: another state or epoch (endEpoch), an error, or a policy that is no longer Cached
//     (invalidate);
//   - an outage of the store, or its end (invalidateAll);
//   - its age: the store has not confirmed it for Options.MaxStaleness (expire).
//
// Every invalidation increments Agent.generation. A fill notes the generation before it asks the store, and its answer
// is cached only if the generation is still the same: an answer from before an invalidation may be from before the
// transition that caused it.
//
// A buffer that is no longer active still takes the outcomes of the permits that it gave, and flushes them. If the
// store then answers with the same epoch, the buffer becomes active again. So the outcomes of one epoch go through one
// buffer, of which the flush.Scheduler sends one record at a time: that keeps their order.
//
// Locks are taken in this order, from top to bottom:
//
//  1. Agent.mu. Under a removed Agent's mu, that of the Agent in its place is taken (flushTarget).
//  2. ledger.mu.
//  3. flush.Scheduler's lock, or sweeper.mu.
//  4. A lock inside Manager.agents, or buffer.Buffer's lock.
//
// waits.mu is taken while none of these is held, and under it none is.
//
// No lock is held while the Store, an Observer or a caller's function runs.

// uptime is the time since the Manager was made. It is monotonic, and costs half of time.Now.
func (m *Manager) uptime() time.Duration { return time.Since(m.started) }

// Agent returns a handle on an agent, which saves the lookup by name. The error is ErrBadName. The Manager never
// forgets a handle: take handles for agents whose number is bounded.
func (m *Manager) Agent(name string) (*Agent, error) {
	if err := m.made(); err != nil {
		return nil, err
	}
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

// Invalidate makes the next call of an agent ask the store, and wakes its waiters. Call it for each event of a [Feed],
// as a fleet does by itself. It does not block.
func (m *Manager) Invalidate(agent string) {
	if m.made() != nil {
		return
	}
	if a, ok := m.agents.Load(agent); ok {
		a.invalidate(nil)
	}
	m.waits.tell(agent)
}

func (m *Manager) invalidateAll() {
	m.waits.tellAll()
	m.agents.Range(func(_ string, a *Agent) bool {
		a.invalidate(nil)
		return true
	})
}

// Evict is [Manager.Invalidate] for an agent that was deleted: outcomes that were not sent yet do not count. It is for
// authors of replicas.
func (m *Manager) Evict(agent string) {
	if m.made() != nil {
		return
	}
	m.tracker.names.Delete(agent)
	if a, ok := m.agents.Load(agent); ok {
		a.endEpoch(nil)
	}
	m.waits.tell(agent)
	if f, ok := m.o.Observer.(forgetter); ok {
		f.Forget(agent)
	}
}

// Flush sends the outcomes of an agent that were not sent yet, and waits until they are. The error is the context's.
func (m *Manager) Flush(ctx context.Context, agent string) error {
	if err := m.usable(ctx); err != nil {
		return err
	}
	a, ok := m.agents.Load(agent)
	if !ok {
		return nil
	}
	a.mu.Lock()
	b := a.latest
	a.mu.Unlock()
	if b == nil {
		return nil
	}
	return m.flusher.Push(ctx, b)
}

// Close sends all outcomes that were not sent yet, and waits until they are. The error is the context's, or wraps
// ErrStoreUnavailable if outcomes wait for a store that is down. After Close every call asks the store, and Wait is
// ErrManagerClosed.
func (m *Manager) Close(ctx context.Context) error {
	if err := m.usable(ctx); err != nil {
		return err
	}
	m.waits.close()
	m.sweeper.close()
	m.invalidateAll()
	if err := m.flusher.Drain(ctx); err != nil {
		return err
	}
	return m.sendRest(ctx)
}

// sweeper runs Manager.sweep on a goroutine of its own while there is something to expire, and Manager.replay.
type sweeper struct {
	stop    chan struct{} // ends the goroutines
	done    sync.WaitGroup
	mu      sync.Mutex
	closed  bool
	running bool
	added   bool // something to expire was added since the last sweep began
}

func (s *sweeper) close() {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.stop)
	}
	s.mu.Unlock()
	s.done.Wait()
}

// goes runs f on a goroutine that close waits for. Once the sweeper is closed it does nothing and returns false.
func (s *sweeper) goes(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.done.Go(f)
	}
	return !s.closed
}

// sweepAfter calls add, which adds something to expire, and starts the sweeper unless it runs. Once the Manager is
// closed it does nothing and returns false.
func (m *Manager) sweepAfter(add func()) bool {
	s := &m.sweeper
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	add()
	s.added = true
	if !s.running {
		s.running = true
		s.done.Go(m.sweep)
	}
	return true
}

const (
	// sweepsPerStaleness is how often the sweeper looks at each Agent within Options.MaxStaleness.
	sweepsPerStaleness = 5
	// minIdle is how long an Agent is kept, at least, after it last asked the store. An answer that takes longer is not
	// cached.
	minIdle = time.Second
)

// sweep expires Agents until there are none to look after.
func (m *Manager) sweep() {
	s := &m.sweeper
	period := max(m.o.MaxStaleness/sweepsPerStaleness, time.Millisecond)
	tick := time.NewTicker(period)
	defer tick.Stop()
	for running := true; running; {
		select {
		case <-s.stop:
			return
		case <-tick.C:
		}
		s.mu.Lock()
		s.added = false
		s.mu.Unlock()
		now := m.uptime()
		more := false
		m.agents.Range(func(_ string, a *Agent) bool {
			// What would be too old by the next sweep expires now.
			more = a.expire(now-m.o.MaxStaleness+period, now-max(m.o.MaxStaleness, minIdle)) || more
			return true
		})
		s.mu.Lock()
		s.running = more || s.added
		running = s.running
		s.mu.Unlock()
	}
}
