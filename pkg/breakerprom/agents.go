package breakerprom

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/breakerd/breakerd/internal/bounded"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// other is the label of the agents that have no series of their own. No agent can have this name.
const other = "_other"

// failingFor is how long an agent counts as failing after a failure.
const failingFor = 10 * time.Minute

// agents is the table of the agents that have series of their own.
type agents struct {
	most      int
	important func(agent string) bool
	drop      func(agent string)

	mu    sync.RWMutex // held while a series is looked up or made, so that none outlives its agent
	table *bounded.Map[*place]
}

// place is an agent's place in the table.
type place struct {
	notClosed atomic.Bool  // when it was last seen
	failed    atomic.Int64 // when it was last seen to fail, in nanoseconds since 1970; 0: never
	gone      atomic.Bool  // from the table: its series are dropped. Written under agents.mu

	// counters are the series that a handle counts in, made at their first use. One that was dropped may still be
	// counted in by who found its place just before: nobody sees that count, as if it had come before the drop.
	counters [settlements]atomic.Pointer[prometheus.Counter]
}

// sight is what a use of an agent's series shows of it.
type sight struct {
	state  breaker.State // "": it does not show
	failed bool
}

func newAgents(most int, important func(agent string) bool, drop func(agent string)) *agents {
	if important == nil {
		important = func(string) bool { return false }
	}
	a := &agents{most: most, important: important, drop: drop}
	a.table = bounded.New(bounded.Options[*place]{
		Max: most, Stable: true, Hard: true, Class: a.class,
		OnEvict: func(agent string, p *place) { p.gone.Store(true); drop(agent) },
	})
	return a
}

func (a *agents) class(agent string, p *place) bounded.Class {
	switch {
	case a.important(agent):
		return bounded.Kept
	case p.notClosed.Load():
		return bounded.NotClosed
	case time.Since(time.Unix(0, p.failed.Load())) < failingFor:
		return bounded.Failing
	}
	return bounded.Harmless
}

// see notes a sight, and reports whether the breaker has closed.
func (p *place) see(s sight) (closed bool) {
	if s.failed {
		p.failed.Store(time.Now().UnixNano())
	}
	switch s.state {
	case "":
		return false
	case breaker.Closed:
		return p.notClosed.Load() && p.notClosed.Swap(false)
	default:
		if !p.notClosed.Load() {
			p.notClosed.Store(true)
		}
		return false
	}
}

// with calls use with the agent's label, and with its place; nil: it has none.
func (a *agents) with(agent string, s sight, use func(label string, p *place)) {
	if !a.existing(agent, s, use) {
		a.added(agent, s, use)
	}
}

func (a *agents) existing(agent string, s sight, use func(label string, p *place)) bool {
	a.mu.RLock()
	defer a.mu.RUnlock()
	p, ok := a.table.Load(agent)
	if !ok {
		return false
	}
	a.see(agent, p, s)
	use(agent, p)
	return true
}

// see notes a sight of an agent that has a place.
func (a *agents) see(agent string, p *place, s sight) {
	if p.see(s) {
		a.table.Reclassify(agent)
	}
}

// added gives a new agent a place: a free one, or that of an agent of a lower class, whose series are dropped. Without
// one the new agent is "_other".
func (a *agents) added(agent string, s sight, use func(label string, p *place)) {
	p := &place{}
	p.see(s)
	if a.table.Len() >= a.most && a.class(agent, p) == bounded.Harmless { // most of those that find no place
		use(other, nil)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	p, taken := a.table.LoadOrStore(agent, p)
	if !taken {
		use(other, nil)
		return
	}
	use(agent, p)
}

func (a *agents) forget(agent string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if p, ok := a.table.Load(agent); ok {
		p.gone.Store(true)
	}
	a.table.Delete(agent)
	a.drop(agent)
}
