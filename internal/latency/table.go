package latency

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/breakerd/breakerd/internal/bounded"
)

const (
	// slices of the window: the one that is filled now, and those before it. A call is forgotten between 8 and 10
	// minutes after it ended.
	windowSlices = 5
	sliceLength  = 2 * time.Minute

	// mostAgents bounds the agents of a Table, at 0.6 KB each, or 1.2 KB with first bytes.
	mostAgents = 10_000
)

// Table keeps how long calls took, by agent. It is safe for concurrent use.
type Table struct {
	agents *bounded.Map[*series]
	filled atomic.Int64 // the slice that is filled now

	mu    sync.Mutex              // guards since, and keeps Turn from readers
	since [windowSlices]time.Time // when each slice began; zero: it never did
}

// series are the histograms of one agent, by slice.
type series struct {
	calls     [windowSlices]histogram
	firstByte atomic.Pointer[[windowSlices]histogram] // nil: nobody knows of any
}

// New makes a Table of so many agents at most. important says which ones never make room for others; it must be quick.
func New(most int, important func(agent string) bool, now time.Time) *Table {
	t := &Table{agents: bounded.New(bounded.Options[*series]{
		Max: min(most, mostAgents), Hard: true,
		Class: func(agent string, _ *series) bounded.Class {
			if important(agent) {
				return bounded.Kept
			}
			return bounded.Harmless
		},
	})}
	t.since[0] = now
	return t
}

// Add adds calls of an agent that each took so long.
func (t *Table) Add(agent string, took time.Duration, calls int) {
	if s := t.of(agent); s != nil {
		s.calls[t.filled.Load()].add(took, calls)
	}
}

// AddFirstByte adds a call of an agent, and the time until the first byte of its answer.
func (t *Table) AddFirstByte(agent string, took, firstByte time.Duration) {
	s := t.of(agent)
	if s == nil {
		return
	}
	slice := t.filled.Load()
	s.calls[slice].add(took, 1)
	first := s.firstByte.Load()
	for first == nil {
		s.firstByte.CompareAndSwap(nil, new([windowSlices]histogram))
		first = s.firstByte.Load()
	}
	first[slice].add(firstByte, 1)
}

// of returns the series of an agent; nil: there is no room for it.
func (t *Table) of(agent string) *series {
	if s, ok := t.agents.Load(agent); ok {
		return s
	}
	if s, taken := t.agents.LoadOrStore(agent, &series{}); taken {
		return s
	}
	return nil
}

// Forget drops an agent.
func (t *Table) Forget(agent string) { t.agents.Delete(agent) }

// Turn begins a new slice if the one that is filled is over, and forgets what the oldest one held, and agents that have
// nothing else. Somebody has to call it now and then.
func (t *Table) Turn(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	turns := min(now.Sub(t.since[t.filled.Load()])/sliceLength, windowSlices)
	if turns <= 0 {
		return
	}
	for range turns {
		next := (t.filled.Load() + 1) % windowSlices
		for _, s := range t.agents.All {
			s.calls[next].clear()
			if first := s.firstByte.Load(); first != nil {
				first[next].clear()
			}
		}
		t.since[next] = now
		t.filled.Store(next)
	}
	for agent, s := range t.agents.All {
		if f := t.figures(s); f.Calls.Calls() == 0 {
			t.agents.Delete(agent)
		}
	}
}

// Figures are how long the calls of one agent took.
type Figures struct {
	Calls     Counts
	FirstByte Counts    // of those calls of which it is known
	Since     time.Time // the oldest of them is not older
	Replicas  int       // how many have these figures
}

// Join adds those of another replica.
func (f *Figures) Join(other *Figures) {
	f.Calls.join(&other.Calls)
	f.FirstByte.join(&other.FirstByte)
	f.Replicas += other.Replicas
	if f.Since.IsZero() || other.Since.Before(f.Since) {
		f.Since = other.Since
	}
}

// figures reads a series. The lock is held.
func (t *Table) figures(s *series) Figures {
	f := Figures{Replicas: 1}
	first := s.firstByte.Load()
	for i := range windowSlices {
		var c Counts
		s.calls[i].addTo(&c)
		if c.Calls() == 0 {
			continue
		}
		f.Calls.join(&c)
		if first != nil {
			first[i].addTo(&f.FirstByte)
		}
		if f.Since.IsZero() || t.since[i].Before(f.Since) {
			f.Since = t.since[i]
		}
	}
	return f
}

// Read are the figures of each agent that was called within the window.
func (t *Table) Read() map[string]Figures {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make(map[string]Figures, t.agents.Len())
	for agent, s := range t.agents.All {
		if f := t.figures(s); f.Calls.Calls() > 0 {
			out[agent] = f
		}
	}
	return out
}

// most is how many of the slowest agents a replica publishes, and how many of the busiest.
const most = 200

// foremost keeps of figures those of the 200 slowest agents, by their 99th percentile and then their average, and of
// the 200 busiest, by their calls.
func foremost(all map[string]Figures) map[string]Figures {
	if len(all) <= most {
		return all
	}
	type rank struct {
		agent        string
		p99, average time.Duration
		calls        int64
	}
	ranks := make([]rank, 0, len(all))
	for agent, f := range all {
		ranks = append(ranks, rank{agent, f.Calls.Percentile(99), f.Calls.Average(), f.Calls.Calls()})
	}
	out := make(map[string]Figures, 2*most)
	keep := func(order func(a, b rank) int) {
		slices.SortFunc(ranks, func(a, b rank) int { return cmp.Or(order(a, b), cmp.Compare(a.agent, b.agent)) })
		for _, r := range ranks[:most] {
			out[r.agent] = all[r.agent]
		}
	}
	keep(func(a, b rank) int { return cmp.Or(cmp.Compare(b.p99, a.p99), cmp.Compare(b.average, a.average)) })
	keep(func(a, b rank) int { return cmp.Compare(b.calls, a.calls) })
	return out
}
