package breaker

import "context"

// Source is what a process can be asked about its breakers, for an Observer that shows it, as package breakerprom's
// Collector. A nil function: not known here. All are safe for concurrent use, and quick but for States.
type Source struct {
	// States returns the state of every known agent, advanced to now.
	States    func(ctx context.Context) (map[string]State, error)
	Degraded  func() bool // this process answers from its own memory, because the store is down
	Outcomes  func() Outcomes
	Refusals  func() Refusals
	Share     func() float64 // of all calls, admitted by the fleet's gate now [B24]
	Untracked func() int64   // calls of agents that were not tracked, since the start

	LeasesReturned func() int64 // leases that this process gave back, because nobody held them, since the start
	StoreResets    func() int64 // times that this process found that the store had lost its data, since the start
}

// SourceObserver is an [Observer] that also reads. Who makes a Manager with it binds it: a fleet does by itself, and
// with a Manager of one's own it is
//
//	observer.Bind(m.Source())
type SourceObserver interface {
	Observer
	// Bind gives the Observer its Source, once, at any time.
	Bind(s Source)
}

// Source returns what m knows: all but States, LeasesReturned and StoreResets, and without a [Fallback] neither
// Degraded nor Refusals.
func (m *Manager) Source() Source {
	if m.made() != nil {
		return Source{}
	}
	s := Source{Outcomes: m.Outcomes, Untracked: m.Untracked, Share: m.Share}
	if m.fallback != nil {
		s.Degraded, s.Refusals = m.fallback.Degraded, m.fallback.Refusals
	}
	return s
}
