package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// Known says which of these agents are registered neither in the file nor through the API, each once, in the order of names. Those
// that neither the file nor an answer of the last second tells of are asked for all at once, and no longer than Options.Timeout. The
// error is one that is breaker.ErrStoreUnavailable: then nobody can tell.
func (r *Registry) Known(ctx context.Context, names []string) (unknown []string, err error) {
	has := map[string]bool{} // of each name
	var ask []string
	for _, name := range names {
		if _, done := has[name]; done {
			continue
		}
		known, sure := r.recall(name)
		if has[name] = known; !sure {
			ask = append(ask, name)
		}
	}
	texts, err := r.profiles(ctx, ask)
	if err != nil {
		return nil, fmt.Errorf("look up %d agents: %w", len(ask), err)
	}
	for i, name := range ask {
		_, bad := parseProfile(name, texts[i])
		has[name] = texts[i] != "" && bad == nil
	}
	for _, name := range names {
		if known, first := has[name]; first && !known {
			unknown = append(unknown, name)
		}
		delete(has, name)
	}
	return unknown, nil
}

// recall says whether an agent is registered, as far as that is known here; while Redis is away the last answer holds.
func (r *Registry) recall(name string) (known, sure bool) {
	if _, ok := r.file.Load().agents[name]; ok {
		return true, true
	}
	if r.o.Profiles == nil || !breaker.ValidName(name) {
		return false, true
	}
	r.api.mu.Lock()
	defer r.api.mu.Unlock()
	e := r.api.of[name]
	if e == nil || !e.good || time.Since(e.asked) >= fresh && !r.o.StoreDown() {
		return false, false
	}
	return e.known, true
}

// profiles asks the store for all at once.
func (r *Registry) profiles(ctx context.Context, names []string) ([]string, error) {
	if len(names) == 0 {
		return nil, nil
	}
	if r.o.StoreDown() {
		return nil, knownAway(names[0])
	}
	own, cancel := context.WithTimeout(ctx, r.o.Timeout)
	defer cancel()
	texts, err := r.o.Profiles.ProfilesOf(own, names)
	if err = away(names[0], err); err != nil && !breaker.TimeIsUp(ctx) {
		r.o.OnError(err)
	}
	return texts, err
}

func knownAway(name string) error {
	return &breaker.StoreError{Verb: "look up", Agent: name, Err: errors.New("known to be away")}
}
