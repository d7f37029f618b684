package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/breakerd/breakerd/internal/policy"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// Profiles keeps the documents of agents that were registered through the API, JSON texts, "" where there is none. A Put writes one ("" deletes
// it) if it still holds expected ("": none yet, "*": whatever it holds), else it fails. Lists are in the order of the agents. A store that is
// away is an error that is breaker.ErrStoreUnavailable. Implementations are safe for concurrent use.
type Profiles interface {
	Agents(ctx context.Context) ([]string, error)
	Profile(ctx context.Context, agent string) (string, error)
	ProfilesOf(ctx context.Context, agents []string) ([]string, error)
	PutProfile(ctx context.Context, agent, expected, text, actor string) error
	Override(ctx context.Context, agent string) (string, error)
	Overrides(ctx context.Context, agents []string) ([]string, error)
	PutOverride(ctx context.Context, agent, expected, text, actor string) error
}

// anyVersion as the expected text lets a Put happen whatever stands there.
const anyVersion = "*"

// attempts is how often a Put meets another hand's change before it gives up.
const attempts = 5

// List lists the agents of the file and, of those registered through the API, the ones that have a URL, by name. With an error come the
// agents of the file alone.
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
	names = slices.DeleteFunc(slices.Clone(names), func(n string) bool { _, ok := f.agents[n]; return ok || !breaker.ValidName(n) })
	texts, err := r.o.Profiles.ProfilesOf(ctx, names)
	if err != nil {
		return out, fmt.Errorf("list agents: %w", err)
	}
	var found []Agent
	var with []string
	for i, text := range texts {
		if text == "" {
			continue
		}
		if a, bad := parseProfile(names[i], text); bad == nil && a.URL != nil {
			found, with = append(found, a), append(with, a.Name)
		}
	}
	configs, err := r.o.Profiles.Overrides(ctx, with)
	if err != nil {
		return out, fmt.Errorf("list agents: %w", err)
	}
	for i, text := range configs {
		out = append(out, found[i].configured(text))
	}
	slices.SortFunc(out, byName)
	return out, nil
}

// Put registers an agent, or replaces its registration as a whole: what a does not give falls back to its default. One thing stays: where a is
// not Configured, a policy override that the agent has is left alone, for an operator may have set it. What a newer version wrote beside
// our fields is kept. This replica answers the new registration at once. created: it had none. The error is ErrInFile, a *Faults (Put takes
// what ParseAgent takes), ErrConflict, or the store's: then the profile may have been written and the override not. Put may be called again.
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

// change waits until nobody else changes a registration here: who meets other replicas alone is soon done.
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

// checked is the agent as ParseAgent gives it.
func (r *Registry) checked(a Agent) (Agent, error) {
	if a.Timeout == 0 {
		a.Timeout = DefaultTimeout
	}
	if a.Classify == "" {
		a.Classify = ByStatus
	}
	a.Origin = FromAPI
	body, err := json.Marshal(a.Form())
	if err != nil {
		return Agent{}, fmt.Errorf("register agent %q: %w", a.Name, err)
	}
	return r.ParseAgent("", body)
}

func (r *Registry) putProfile(ctx context.Context, a Agent, actor string) (created bool, err error) {
	held, unread := r.o.Profiles.Profile(ctx, a.Name)
	for range attempts {
		if unread != nil {
			return false, unread
		}
		text, err := profileText(held, a)
		if err != nil || text == held {
			return false, err
		}
		put := r.o.Profiles.PutProfile(ctx, a.Name, held, text, actor)
		if put == nil || errors.Is(put, breaker.ErrStoreUnavailable) {
			return held == "", put
		}
		before := held
		if held, unread = r.o.Profiles.Profile(ctx, a.Name); unread == nil && held == before {
			unread = put // it was not another hand
		}
	}
	return false, ErrConflict
}

// putConfig writes the override and returns the agent as it stands then.
func (r *Registry) putConfig(ctx context.Context, a Agent, actor string) (Agent, error) {
	held, err := r.o.Profiles.Override(ctx, a.Name)
	if err != nil || !a.Configured {
		return a.configured(held), err
	}
	text := ""
	if a.Config != (policy.Override{}) {
		written, err := json.Marshal(a.Config)
		if err != nil {
			return a, err
		}
		text = string(written)
	}
	if text != held {
		err = r.o.Profiles.PutOverride(ctx, a.Name, anyVersion, text, actor)
	}
	return a, err
}

// Delete removes an agent's registration and its policy override; its breaker stays. An override without a registration is an
// operator's own, and stays too. The error is ErrUnknown, ErrInFile, or the store's: then Delete may be called again.
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

// remove deletes the override first: as long as the profile stands, a half-done Delete can be repeated.
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
