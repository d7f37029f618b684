package breaker

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/breakerd/breakerd/internal/bounded"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// Tracking bounds the agents whose breakers a Manager uses. Callers name the agents, and each name costs keys in the
// store and memory in every process. A call of an agent that is not tracked goes on, and its outcome counts nowhere:
// the store and the Observer do not hear of it. Only an outcome whose permit shows that the store has the agent is sent
// in any case, while the store is up.
//
// At most Options.MaxAgents are tracked at once. When there is no room, an agent that the store knows replaces one that
// it does not know, and one whose breaker is open or half-open replaces either. One that is held is always tracked. The
// zero Tracking has no other bound.
//
// A panic in one of its functions is recovered and logged: the agent is not important, not known, and the store not
// full.
type Tracking struct {
	// NewPerSecond bounds the names that become tracked within a second. 0: no bound.
	NewPerSecond int
	// Life is how long an agent keeps its place after its last call: as long as the store keeps its keys. One that is
	// open or half-open keeps it for a day more. 0: two hours.
	Life time.Duration
	// Important reports whether an agent is tracked in any case, beyond every bound, such as a registered one. It must be
	// quick, and must not use the Manager, which has a lock meanwhile. nil: none is.
	Important func(agent string) bool
	// Known asks the store whether it knows an agent for which there is no room here. With NewPerSecond it is asked once
	// a second of each agent, and of so many. nil: it knows none.
	Known func(ctx context.Context, agent string) bool
	// StoreFull reports whether the store has so many agents that it takes only those it knows. It must be quick. nil:
	// it never has.
	StoreFull func() bool
	// Refuse makes Acquire refuse the calls of agents that are not tracked: ErrTooManyAgents.
	Refuse bool
}

// ErrTooManyAgents means that the agent is not tracked, because there are too many; see [Tracking]. It is matched by an
// [*OpenError] of ReasonTooManyAgents.
var ErrTooManyAgents = errors.New("too many agents: this one is not tracked")

// ReasonTooManyAgents is the reason of a refusal of an agent that is not tracked.
const ReasonTooManyAgents Reason = "too_many_agents"

// CodeUntracked says that an outcome did not count because its agent is not tracked.
const CodeUntracked machine.Code = "untracked"

const (
	defaultAgentLife = 2 * time.Hour
	// openLonger is how much longer the store keeps the keys of a breaker that is not closed [B25].
	openLonger = 24 * time.Hour
)

// tracker decides which agents are tracked. It is safe for concurrent use.
type tracker struct {
	o         Tracking
	panics    *panics
	started   time.Time
	names     *bounded.Map[*tracked]
	untracked atomic.Int64 // calls

	mu     sync.Mutex
	second int64 // that the rest is of
	fresh  int   // how many names became tracked: at most Tracking.NewPerSecond
	// turnedAway are names without room, at most as many. Each channel is closed once the store has said whether it
	// knows the name.
	turnedAway map[string]chan struct{}
}

// tracked is what the tracker knows of an agent.
type tracked struct {
	used  atomic.Int64 // when, in seconds since tracker.started
	known atomic.Bool  // the store knew it, or this process was told of it
	worth atomic.Uint32
}

// What the store last said of an agent.
const (
	worthClosed uint32 = iota
	worthNotClosed
	worthHeld
)

func newTracker(o Tracking, maxAgents int, p *panics) *tracker {
	o.NewPerSecond = max(o.NewPerSecond, 0)
	o.Life = cmp.Or(max(o.Life, 0), defaultAgentLife)
	if o.Important == nil {
		o.Important = func(string) bool { return false }
	}
	if o.Known == nil {
		o.Known = func(context.Context, string) bool { return false }
	}
	if o.StoreFull == nil {
		o.StoreFull = func() bool { return false }
	}
	t := &tracker{o: o, panics: p, started: time.Now(), turnedAway: map[string]chan struct{}{}}
	t.names = bounded.New(bounded.Options[*tracked]{Max: maxAgents, Stable: true, Class: t.class})
	return t
}

// Tracked is how many agents m tracks; see [Tracking].
func (m *Manager) Tracked() int {
	if m.made() != nil {
		return 0
	}
	return m.tracker.names.Len()
}

func (t *tracker) now() int64 { return int64(time.Since(t.started) / time.Second) }

func (t *tracker) important(agent string) bool {
	defer t.panics.recover("Tracking.Important")
	return t.o.Important(agent)
}

func (t *tracker) known(ctx context.Context, agent string) bool {
	defer t.panics.recover("Tracking.Known")
	return t.o.Known(ctx, agent)
}

func (t *tracker) storeFull() bool {
	defer t.panics.recover("Tracking.StoreFull")
	return t.o.StoreFull()
}

func (t *tracker) class(agent string, a *tracked) bounded.Class {
	worth := a.worth.Load()
	unused := time.Duration(t.now()-a.used.Load()) * time.Second
	switch {
	case worth == worthHeld || t.important(agent):
		return bounded.Kept
	case worth == worthNotClosed && unused-openLonger <= t.o.Life:
		return bounded.NotClosed
	case unused > t.o.Life:
		return bounded.Idle
	case a.known.Load():
		return bounded.Failing // above those that nobody knows
	}
	return bounded.Harmless
}

// touch notes that an agent is in use, and reports whether it is tracked. It takes no lock and does not allocate.
func (t *tracker) touch(agent string) bool {
	a, ok := t.names.Load(agent)
	if !ok {
		return false
	}
	if now := t.now(); a.used.Load() != now {
		a.used.Store(now)
	}
	return true
}

// tracks reports whether an agent is tracked, from now on if need be.
func (t *tracker) tracks(ctx context.Context, agent string) bool {
	switch {
	case t.touch(agent):
		return true
	case t.important(agent):
		return t.add(agent, true, worthClosed)
	case !t.storeFull() && t.addFresh(agent, false):
		return true
	}
	answered, first := t.turnAway(agent)
	switch {
	case answered == nil:
		return false
	case first:
		defer close(answered)
		return t.known(ctx, agent) && t.addFresh(agent, true)
	}
	select {
	case <-answered:
		return t.touch(agent)
	case <-ctx.Done():
		return false
	}
}

func (t *tracker) add(agent string, known bool, worth uint32) bool {
	a := &tracked{}
	a.used.Store(t.now())
	a.known.Store(known)
	a.worth.Store(worth)
	a, taken := t.names.LoadOrStore(agent, a)
	if taken && known {
		a.known.Store(true)
	}
	return taken
}

// addFresh is add within the names of this second.
func (t *tracker) addFresh(agent string, known bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.touch(agent) { // another call added it
		return true
	}
	if t.usedUp() || !t.add(agent, known, worthClosed) {
		return false
	}
	t.fresh++
	return true
}

// turnAway notes that there is no room for an agent unless the store knows it. first: the caller has to ask the store,
// and to close answered. nil: the store is not to be asked.
func (t *tracker) turnAway(agent string) (answered chan struct{}, first bool) {
	if t.o.NewPerSecond == 0 {
		return make(chan struct{}), true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	used := t.usedUp()
	answered, again := t.turnedAway[agent]
	if again || used || len(t.turnedAway) >= t.o.NewPerSecond {
		return answered, false
	}
	answered = make(chan struct{})
	t.turnedAway[agent] = answered
	return answered, true
}

// usedUp reports whether no more names may become tracked in this second. The lock is held.
func (t *tracker) usedUp() bool {
	if now := t.now(); t.second != now {
		t.second, t.fresh = now, 0
		clear(t.turnedAway)
	}
	return t.o.NewPerSecond > 0 && t.fresh >= t.o.NewPerSecond
}

// see notes what the store says of an agent.
func (t *tracker) see(agent string, state, hold State) {
	if state == "" {
		return
	}
	worth := worthOf(state, hold)
	if a, ok := t.names.Load(agent); ok && a.worth.Load() != worth {
		a.worth.Store(worth)
		t.names.Reclassify(agent)
	}
}

func worthOf(state, hold State) uint32 {
	switch {
	case hold != "":
		return worthHeld
	case state == Open, state == HalfOpen:
		return worthNotClosed
	}
	return worthClosed
}

// Track makes an agent tracked, if there is room for one that the store knows. v is its breaker, as far as it is known.
// It is for authors of replicas.
func (m *Manager) Track(agent string, v View) {
	if m.made() == nil && ValidName(agent) && m.tracker.add(agent, true, worthOf(v.State, v.Hold.Kind)) {
		m.tracker.see(agent, v.State, v.Hold.Kind)
	}
}

// Untracked returns how many calls were made of agents that were not tracked.
func (m *Manager) Untracked() int64 {
	if m.made() != nil {
		return 0
	}
	return m.tracker.untracked.Load()
}

// acquireUntracked is the answer to an acquire of an agent that is not tracked.
func (m *Manager) acquireUntracked(agent string) (Permit, error) {
	m.tracker.untracked.Add(1)
	if m.tracker.o.Refuse {
		return Permit{}, &OpenError{Agent: agent, Reason: ReasonTooManyAgents, Wait: time.Second}
	}
	return Permit{permitBody: &permitBody{m: m, agent: agent, kind: permitUntracked, epoch: machine.ZeroEpoch}}, nil
}

// isUntracked reports whether an outcome belongs to an agent that is not tracked.
func (m *Manager) isUntracked(ctx context.Context, p *permitBody) bool {
	switch {
	case p.kind == permitUntracked: // counted by its acquire
		return true
	case p.showsAgent() && !m.storeDown(): // of a store that is down, a forged one would wait for its return
		m.tracker.touch(p.agent)
		return false
	case m.tracker.tracks(ctx, p.agent):
		return false
	}
	m.tracker.untracked.Add(1)
	return true
}

// showsAgent reports whether a permit shows that the store has the agent: it has a lease there, or an epoch that began
// there. The store finds a forged one late or foreign, and writes nothing of the agent.
func (p *permitBody) showsAgent() bool {
	return p.kind == permitHalfOpen || p.kind == permitClosed && p.epoch != machine.ZeroEpoch
}
