package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/breakerd/breakerd/internal/lastgood"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// fresh is how long an answer of Redis is served before it is asked again.
const fresh = time.Second

// registration is what Redis holds of an agent. The zero value is "there is none".
type registration struct {
	agent   Agent
	known   bool
	problem string // why the profile does not count, as it was logged
}

func (r *Registry) newCache() *lastgood.Cache[registration] {
	return lastgood.New(lastgood.Options[registration]{
		Read: r.read, Fresh: fresh, Down: r.down, Max: r.o.MaxAgents,
		Expendable: func(e registration) bool { return !e.known },
	})
}

func (r *Registry) down(name string) error {
	if r.o.StoreDown() {
		return unavailable(name, errors.New("known to be down"))
	}
	return nil
}

// unavailable makes any error of the store a [breaker.ErrStoreUnavailable].
func unavailable(name string, err error) error {
	if err == nil || errors.Is(err, breaker.ErrStoreUnavailable) {
		return err
	}
	return &breaker.StoreError{Verb: "look up", Agent: name, Err: err}
}

func unknown(name string) error { return fmt.Errorf("agent %q: %w", name, ErrUnknown) }

// Agent finds an agent: in the file, else among those registered through the API, whose documents are read at most once
// a second, so that a change by another replica counts after that. While Redis is down the last answer holds.
// [ErrUnknown]: neither has it. [breaker.ErrStoreUnavailable]: Redis is down, and this replica never read the agent.
func (r *Registry) Agent(ctx context.Context, name string) (Agent, error) {
	if a, ok := r.file.Load().agents[name]; ok {
		return a, nil
	}
	if r.o.Profiles == nil || !breaker.ValidName(name) {
		return Agent{}, unknown(name)
	}
	e, err := r.api.Get(ctx, name)
	switch {
	case e == nil:
		return Agent{}, err
	case !e.Value.known:
		return Agent{}, unknown(name)
	}
	return e.Value.agent, nil
}

// read asks Redis for both documents of an agent. An agent whose profile is damaged is not known.
func (r *Registry) read(ctx context.Context, name string, last registration) (registration, error) {
	ctx, cancel := context.WithTimeout(ctx, r.o.Timeout)
	defer cancel()
	profile, err := r.o.Profiles.Profile(ctx, name)
	if err == nil && profile == "" {
		return registration{}, nil
	}
	config := ""
	if err == nil {
		config, err = r.o.Profiles.Override(ctx, name)
	}
	if err = unavailable(name, err); err != nil {
		r.o.OnError(err)
		return registration{}, err
	}
	a, damaged := parseProfile(name, profile)
	if damaged == nil {
		return registration{agent: a.configured(config), known: true}, nil
	}
	if problem := damaged.Error(); problem != last.problem {
		r.o.Logger.Warn("profile not taken, the agent counts as unknown",
			"event", "circuit_breaker.bad_profile", "agent", name, "error", damaged)
	}
	return registration{problem: damaged.Error()}, nil
}

// Known returns which of these agents are registered neither in the file nor through the API, each once, in the order
// of names. Those that are neither in the file nor fresh in the cache are read together, for Options.Timeout at most.
// The error is a [breaker.ErrStoreUnavailable].
func (r *Registry) Known(ctx context.Context, names []string) (unknown []string, err error) {
	known := map[string]bool{}
	var ask []string
	for _, name := range names {
		if _, met := known[name]; met {
			continue
		}
		is, certain := r.recall(name)
		if known[name] = is; !certain {
			ask = append(ask, name)
		}
	}
	profiles, err := r.profiles(ctx, ask)
	if err != nil {
		return nil, fmt.Errorf("look up %d agents: %w", len(ask), err)
	}
	for i, name := range ask {
		_, damaged := parseProfile(name, profiles[i]) // so is ""
		known[name] = damaged == nil
	}
	for _, name := range names {
		if !known[name] {
			unknown = append(unknown, name)
		}
		known[name] = true // each once
	}
	return unknown, nil
}

// recall answers from the file and the cache, and says whether Redis cannot know better. While Redis is down the last
// answer is as certain as any.
func (r *Registry) recall(name string) (known, certain bool) {
	if _, ok := r.file.Load().agents[name]; ok {
		return true, true
	}
	if r.o.Profiles == nil || !breaker.ValidName(name) {
		return false, true
	}
	e := r.api.Peek(name)
	if e == nil {
		return false, false
	}
	return e.Value.known, r.api.Fresh(e) || r.o.StoreDown()
}

// Registered reports whether an agent is in the file, or was among those registered through the API when this registry
// last read it. It is quick.
func (r *Registry) Registered(name string) bool {
	known, _ := r.recall(name)
	return known
}

// InFile returns what the file says of an agent. It is quick.
func (r *Registry) InFile(name string) (a Agent, ok bool) {
	a, ok = r.file.Load().agents[name]
	return a, ok
}

// Filed lists the agents of the file, by name.
func (r *Registry) Filed() []Agent { return r.file.Load().list() }

func (r *Registry) profiles(ctx context.Context, names []string) ([]string, error) {
	if len(names) == 0 {
		return nil, nil
	}
	if err := r.down(names[0]); err != nil {
		return nil, err
	}
	own, cancel := context.WithTimeout(ctx, r.o.Timeout)
	defer cancel()
	texts, err := r.o.Profiles.ProfilesOf(own, names)
	if err = unavailable(names[0], err); err != nil && !breaker.TimeIsUp(ctx) {
		r.o.OnError(err)
	}
	return texts, err
}
