package registry

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// fresh is how long an answer of the store is believed before it is asked again.
const fresh = time.Second

// cache are what the store said of agents, "there is none" included.
type cache struct {
	most int
	mu   sync.Mutex // guards of, and what is in the answers
	of   map[string]*cacheEntry
}

// cacheEntry is what is known of one agent.
type cacheEntry struct {
	agent  Agent
	known  bool          // the agent is registered
	good   bool          // known and agent hold; false: the store has not answered yet
	err    error         // of the last reading
	asked  time.Time     // when the last reading began
	used   time.Time     // by a caller
	under  chan struct{} // closed when the reading under way has ended; nil: none is
	logged string        // the fault of its profile that was logged
}

func newCache(most int) *cache { return &cache{most: most, of: map[string]*cacheEntry{}} }

// entry finds or makes the answer for an agent. The lock is held.
func (s *cache) entry(name string) *cacheEntry {
	e := s.of[name]
	if e == nil {
		if len(s.of) >= s.most {
			s.evict()
		}
		e = &cacheEntry{}
		s.of[name] = e
	}
	e.used = time.Now()
	return e
}

// evict makes room: of a few, an unknown agent goes first, then the one that was not used for longest.
func (s *cache) evict() {
	var worst string
	var of *cacheEntry
	looked := 0
	for name, e := range s.of {
		if of == nil || of.known && !e.known || of.known == e.known && e.used.Before(of.used) {
			worst, of = name, e
		}
		if looked++; looked == 8 {
			break
		}
	}
	delete(s.of, worst)
}

// store sets what was just written; a reading that is under way may be older, and does not count.
func (s *cache) store(name string, a Agent, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entry(name)
	e.agent, e.known, e.good, e.err, e.asked, e.under = a, known, true, nil, time.Now(), nil
}

// expire has the next caller ask again.
func (s *cache) expire(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.of[name]; e != nil {
		e.asked, e.under = time.Time{}, nil
	}
}

// errAgain: a change came between, whose outcome is not known.
var errAgain = errors.New("ask again")

// say is the answer as it stands; none is the error where there is none yet.
func (r *Registry) say(e *cacheEntry, name string, none error) (Agent, error) {
	r.api.mu.Lock()
	defer r.api.mu.Unlock()
	switch {
	case e.good && e.known:
		return e.agent, nil
	case e.good:
		return Agent{}, unknown(name)
	case e.err != nil:
		return Agent{}, e.err
	}
	return Agent{}, none
}

func unknown(name string) error { return fmt.Errorf("agent %q: %w", name, ErrUnknown) }

// Agent finds an agent: in the file, else among those registered through the API, whose documents are read at most once a second; a
// change by another replica counts after that. While Redis is away the last answer holds. ErrUnknown: neither has it; an error that is
// breaker.ErrStoreUnavailable: Redis is away, and this replica has not met the agent before.
func (r *Registry) Agent(ctx context.Context, name string) (Agent, error) {
	if a, ok := r.file.Load().agents[name]; ok {
		return a, nil
	}
	if r.o.Profiles == nil || !breaker.ValidName(name) {
		return Agent{}, unknown(name)
	}
	for {
		e, under := r.ask(ctx, name)
		if under != nil {
			select {
			case <-under:
			case <-ctx.Done():
				return r.say(e, name, fmt.Errorf("look up agent %q: %w", name, ctx.Err()))
			}
		}
		if a, err := r.say(e, name, errAgain); !errors.Is(err, errAgain) {
			return a, err
		}
	}
}

// ask has the store asked if the answer is not fresh, once for all who ask at the same time. under is what to wait for, nil: nothing.
func (r *Registry) ask(ctx context.Context, name string) (e *cacheEntry, under <-chan struct{}) {
	r.api.mu.Lock()
	defer r.api.mu.Unlock()
	e = r.api.entry(name)
	switch {
	case e.under != nil || time.Since(e.asked) < fresh:
	case r.o.StoreDown():
		if e.err == nil {
			e.err = knownAway(name)
		}
	default:
		e.asked, e.under = time.Now(), make(chan struct{})
		go r.read(context.WithoutCancel(ctx), name, e, e.under) // others wait for it too
	}
	if e.good && e.err != nil { // Redis is away: nobody waits for it again
		return e, nil
	}
	return e, e.under
}

// read asks the store.
func (r *Registry) read(ctx context.Context, name string, e *cacheEntry, under chan struct{}) {
	defer close(under)
	ctx, cancel := context.WithTimeout(ctx, r.o.Timeout)
	defer cancel()
	a, known, bad, err := r.fetch(ctx, name)
	if err != nil {
		r.o.OnError(err)
	}
	r.api.mu.Lock()
	defer r.api.mu.Unlock()
	if e.under != under {
		return // a change came between
	}
	e.under, e.err = nil, err
	if err != nil {
		return
	}
	e.agent, e.known, e.good = a, known, true
	if bad == nil {
		e.logged = ""
	} else if e.logged != bad.Error() {
		e.logged = bad.Error()
		r.o.Logger.Warn("profile not taken, the agent counts as unknown", "event", "circuit_breaker.bad_profile", "agent", name, "error", bad)
	}
}

// fetch reads both documents of an agent. bad is what is wrong with its profile: such an agent is not known.
func (r *Registry) fetch(ctx context.Context, name string) (a Agent, known bool, bad, err error) {
	text, err := r.o.Profiles.Profile(ctx, name)
	if err != nil || text == "" {
		return a, false, nil, away(name, err)
	}
	if a, bad = parseProfile(name, text); bad != nil {
		return Agent{}, false, bad, nil
	}
	text, err = r.o.Profiles.Override(ctx, name)
	return a.configured(text), true, nil, away(name, err)
}

// away makes any error of the store one that is breaker.ErrStoreUnavailable.
func away(name string, err error) error {
	if err == nil || errors.Is(err, breaker.ErrStoreUnavailable) {
		return err
	}
	return &breaker.StoreError{Verb: "look up", Agent: name, Err: err}
}
