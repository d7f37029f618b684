package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/breakerd/breakerd/internal/policy"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breakerhttp"
)

// Profiles keeps the documents of agents that were registered through the API: JSON, "" where there is none. A Put
// writes one ("" deletes it) if it still holds expected ("": none, "*": anything), else it fails. Lists are in the
// order of the agents. A store that is down is a [breaker.ErrStoreUnavailable]. Implementations are safe for
// concurrent use.
type Profiles interface {
	Agents(ctx context.Context) ([]string, error)
	Profile(ctx context.Context, agent string) (string, error)
	ProfilesOf(ctx context.Context, agents []string) ([]string, error)
	PutProfile(ctx context.Context, agent, expected, text, actor string) error
	Override(ctx context.Context, agent string) (string, error)
	Overrides(ctx context.Context, agents []string) ([]string, error)
	PutOverride(ctx context.Context, agent, expected, text, actor string) error
}

// anyVersion as the expected text lets a Put replace anything.
const anyVersion = "*"

// attempts is how often Put starts again after somebody else's change.
const attempts = 5

// List lists, by name, the agents of the file and those registered through the API that have a URL. With an error it
// returns the agents of the file.
func (r *Registry) List(ctx context.Context) ([]Agent, error) {
	f := r.file.Load()
	out := f.list()
	if r.o.Profiles == nil {
		return out, nil
	}
	names, err := r.o.Profiles.Agents(ctx)
	if err != nil {
		return out, fmt.Errorf("list agents: %w", err)
	}
	names = slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		_, inFile := f.agents[name]
		return inFile || !breaker.ValidName(name)
	})
	profiles, err := r.o.Profiles.ProfilesOf(ctx, names)
	if err != nil {
		return out, fmt.Errorf("list agents: %w", err)
	}
	var found []Agent
	var with []string
	for i, profile := range profiles {
		if a, damaged := parseProfile(names[i], profile); damaged == nil && a.URL != nil { // so is ""
			found, with = append(found, a), append(with, a.Name)
		}
	}
	configs, err := r.o.Profiles.Overrides(ctx, with)
	if err != nil {
		return out, fmt.Errorf("list agents: %w", err)
	}
	for i, config := range configs {
		out = append(out, found[i].configured(config))
	}
	slices.SortFunc(out, byName)
	return out, nil
}

// Put registers an agent, or replaces its whole registration: what a lacks falls back to its default. Two things stay:
// a policy override, if a has no Config, for an operator may have set it; and fields of the profile that a newer
// version wrote. created is true if the agent had no registration. This replica serves the new one at once.
//
// The error is [ErrInFile], [*Faults] (as of [ParseAgent]), [ErrConflict], or the store's: then the profile may have
// been written and the override not. Put may be repeated.
func (r *Registry) Put(ctx context.Context, a Agent, actor string) (created bool, err error) {
	if err := r.changeable(a.Name); err != nil {
		return false, err
	}
	if a, err = r.checked(a); err != nil {
		return false, err
	}
	done, err := r.change(ctx)
	if err != nil {
		return false, fmt.Errorf("register agent %q: %w", a.Name, err)
	}
	defer done()
	if created, err = r.putProfile(ctx, a, actor); err == nil {
		a, err = r.putConfig(ctx, a, actor)
	}
	if err != nil {
		r.api.Invalidate(a.Name)
		return false, fmt.Errorf("register agent %q: %w", a.Name, err)
	}
	r.api.Put(a.Name, registration{agent: a, known: true})
	return created, nil
}

// change waits until no other change of a registration is under way on this replica. Changes would make each other
// start again; those of other replicas are few.
func (r *Registry) change(ctx context.Context) (done func(), err error) {
	select {
	case r.changing <- struct{}{}:
		return func() { <-r.changing }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (r *Registry) changeable(name string) error {
	if _, ok := r.file.Load().agents[name]; ok {
		return fmt.Errorf("agent %q: %w", name, ErrInFile)
	}
	if r.o.Profiles == nil {
		return errors.New("agents cannot be registered: nothing keeps them")
	}
	return nil
}

// checked returns the agent as [ParseAgent] does.
func (r *Registry) checked(a Agent) (Agent, error) {
	if a.Timeout == 0 {
		a.Timeout = DefaultTimeout
	}
	if a.Classify == "" {
		a.Classify = breakerhttp.StatusOnly
	}
	a.Origin = FromAPI
	body, err := json.Marshal(a.Form())
	if err != nil {
		return Agent{}, fmt.Errorf("register agent %q: %w", a.Name, err)
	}
	return r.ParseAgent("", body)
}

func (r *Registry) putProfile(ctx context.Context, a Agent, actor string) (created bool, err error) {
	before, lost := "", error(nil)
	for range attempts {
		held, err := r.o.Profiles.Profile(ctx, a.Name)
		switch {
		case err != nil:
			return false, err
		case lost != nil && held == before: // nobody changed it: the Put failed for another reason
			return false, lost
		}
		profile, err := profileText(held, a)
		if err != nil || profile == held {
			return false, err
		}
		lost = r.o.Profiles.PutProfile(ctx, a.Name, held, profile, actor)
		if lost == nil || errors.Is(lost, breaker.ErrStoreUnavailable) {
			return held == "", lost
		}
		before = held
	}
	return false, ErrConflict
}

// putConfig writes the override and returns the agent with the one that is in force.
func (r *Registry) putConfig(ctx context.Context, a Agent, actor string) (Agent, error) {
	held, err := r.o.Profiles.Override(ctx, a.Name)
	if err != nil || a.Config == nil {
		return a.configured(held), err
	}
	config := ""
	if *a.Config != (policy.Override{}) {
		raw, err := json.Marshal(a.Config)
		if err != nil {
			return a, err
		}
		config = string(raw)
	}
	if config != held {
		err = r.o.Profiles.PutOverride(ctx, a.Name, anyVersion, config, actor)
	}
	return a, err
}

// Delete removes an agent's registration and its policy override. Its breaker stays, and so does an override without a
// registration, which is an operator's. The error is [ErrUnknown], [ErrInFile], or the store's: then Delete may be
// repeated.
func (r *Registry) Delete(ctx context.Context, name, actor string) error {
	if err := r.changeable(name); err != nil {
		return err
	}
	if !breaker.ValidName(name) {
		return unknown(name)
	}
	done, err := r.change(ctx)
	if err != nil {
		return fmt.Errorf("delete agent %q: %w", name, err)
	}
	defer done()
	err = r.remove(ctx, name, actor)
	if err != nil && !errors.Is(err, ErrUnknown) {
		r.api.Invalidate(name)
		return fmt.Errorf("delete agent %q: %w", name, err)
	}
	r.api.Put(name, registration{})
	return err
}

// remove deletes the override first, so that a Delete that fails half-way can be repeated: the profile is still there.
func (r *Registry) remove(ctx context.Context, name, actor string) error {
	profile, err := r.o.Profiles.Profile(ctx, name)
	if err != nil {
		return err
	}
	if profile == "" {
		return unknown(name)
	}
	config, err := r.o.Profiles.Override(ctx, name)
	if err == nil && config != "" {
		err = r.o.Profiles.PutOverride(ctx, name, anyVersion, "", actor)
	}
	if err != nil {
		return err
	}
	return r.o.Profiles.PutProfile(ctx, name, anyVersion, "", actor)
}
