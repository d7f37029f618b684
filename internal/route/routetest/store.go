package routetest

import (
	"context"
	"io"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// StartMs is 2026-02-11T09:00:00Z, the runbook's moment.
const StartMs = 1770800400000

// Store is a breaker.Store in memory, under a clock that the test sets. Beside breakers it has texts by kind and name.
type Store struct {
	*breaker.Memory

	NowMs atomic.Int64

	mu      sync.Mutex
	texts   map[string]map[string]string
	seen    map[string]bool
	down    error
	lenient bool
	panics  bool
}

// NewStore makes an empty store at StartMs.
func NewStore() *Store {
	s := &Store{texts: map[string]map[string]string{}, seen: map[string]bool{}}
	s.NowMs.Store(StartMs)
	s.Memory = breaker.NewMemory(s.NowMs.Load, 0)
	return s
}

// TakeDown makes the store fail as it does while Redis is down. If lenient, breakers answer degraded, as a fallback
// does.
func (s *Store) TakeDown(lenient bool) {
	s.Break(&breaker.StoreError{Verb: "test", Err: io.ErrUnexpectedEOF})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lenient = lenient
}

// Break makes the store answer with an error.
func (s *Store) Break(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = err
}

// Panic makes Apply panic.
func (s *Store) Panic() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.panics = true
}

// Down is the error that the store answers with; nil: it works.
func (s *Store) Down() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.down
}

// See marks agents as seen.
func (s *Store) See(agents ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range agents {
		s.seen[a] = true
	}
}

// Apply implements breaker.Store.
func (s *Store) Apply(ctx context.Context, agent string, p breaker.Policy, op machine.Op) (machine.Result, error) {
	s.mu.Lock()
	down, lenient, panics := s.down, s.lenient, s.panics
	s.mu.Unlock()
	if panics {
		panic("the store panics")
	}
	if down != nil && (!lenient || op.Verb == machine.VerbForce) {
		return machine.Result{}, down
	}
	r, err := s.Memory.Apply(ctx, agent, p, op)
	s.See(agent)
	r.Degraded = down != nil
	return r, err
}

// Inspect implements breaker.Store.
func (s *Store) Inspect(ctx context.Context, agent string, p breaker.Policy) (breaker.View, error) {
	s.mu.Lock()
	down, lenient := s.down, s.lenient
	s.mu.Unlock()
	if down != nil && !lenient {
		return breaker.View{}, down
	}
	v, err := s.Memory.Inspect(ctx, agent, p)
	v.Degraded = down != nil
	return v, err
}

// Text reads one text of a kind; "": there is none.
func (s *Store) Text(kind, name string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.texts[kind][name], s.down
}

// Texts reads all texts of a kind.
func (s *Store) Texts(kind string) (map[string]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.texts[kind]), s.down
}

// Put writes a text, "" deletes it, unless the store is down.
func (s *Store) Put(kind, name, text string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down != nil {
		return s.down
	}
	if s.texts[kind] == nil {
		s.texts[kind] = map[string]string{}
	}
	if s.texts[kind][name] = text; text == "" {
		delete(s.texts[kind], name)
	}
	return nil
}

// Forget deletes everything of an agent, but its breaker.
func (s *Store) Forget(agent string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.seen, agent)
	for _, texts := range s.texts {
		delete(texts, agent)
	}
	return s.down
}

// Keys are the names that anything was written under, and the agents that were seen.
func (s *Store) Keys() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := maps.Clone(s.seen)
	for _, texts := range s.texts {
		for name := range texts {
			all[name] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}
