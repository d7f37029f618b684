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

// Profiles keeps the documents of agents that were registered through the API: JSON, "" where there is none. PutBoth
// writes both as one change ("" deletes one) if each still holds the first of its texts, else it fails; it leaves one
// alone whose texts are the same. Lists are in the order of the agents. A store that is down is a
// [breaker.ErrStoreUnavailable]. Implementations are safe for concurrent use.
type Profiles interface {
	Agents(ctx context.Context) ([]string, error)
	Profile(ctx context.Context, agent string) (string, error)
	ProfilesOf(ctx context.Context, agents []string) ([]string, error)
	Override(ctx context.Context, agent string) (string, error)
	Overrides(ctx context.Context, agents []string) ([]string, error)
	PutBoth(ctx context.Context, agent string, profile, override [2]string, actor string) error
}

// attempts is how often a change starts again after somebody else's change.
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
// The error is [ErrInFile], [*Faults] (as of [ParseAgent]), [ErrConflict], or the store's: then Put may be repeated.
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
	was, is, err := r.write(ctx, a.Name, actor, func(was documents) (is documents, err error) {
		if is.profile, err = profileText(was.profile, a); err != nil {
			return is, err
		}
		is.override, err = overrideText(was.override, a)
		return is, err
	})
	if err != nil {
		r.api.Invalidate(a.Name)
		return false, fmt.Errorf("register agent %q: %w", a.Name, err)
	}
	if a.Config == nil {
		a = a.configured(is.override)
	}
	r.api.Put(a.Name, registration{agent: a, known: true})
	return was.profile == "", nil
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

// documents are the texts of an agent's documents; "": none.
type documents struct{ profile, override string }

// write makes of an agent's documents what next says, as one change. next is asked again if others change them.
func (r *Registry) write(
	ctx context.Context, name, actor string, next func(was documents) (documents, error),
) (was, is documents, err error) {
	before, lost := documents{}, error(nil)
	for range attempts {
		if was.profile, err = r.o.Profiles.Profile(ctx, name); err == nil {
			was.override, err = r.o.Profiles.Override(ctx, name)
		}
		switch {
		case err != nil:
			return was, is, err
		case lost != nil && was == before: // nobody changed them: PutBoth failed for another reason
			return was, is, lost
		}
		if is, err = next(was); err != nil || is == was {
			return was, is, err
		}
		lost = r.o.Profiles.PutBoth(ctx, name,
			[2]string{was.profile, is.profile}, [2]string{was.override, is.override}, actor)
		if lost == nil || errors.Is(lost, breaker.ErrStoreUnavailable) {
			return was, is, lost
		}
		before = was
	}
	return was, is, ErrConflict
}

// overrideText returns the text of the agent's override in place of held, which stays if the agent says nothing.
func overrideText(held string, a Agent) (string, error) {
	switch {
	case a.Config == nil:
		return held, nil
	case *a.Config == policy.Override{}:
		return "", nil
	}
	raw, err := json.Marshal(a.Config)
	return string(raw), err
}

// Delete removes an agent's registration and its policy override. Its breaker stays, and so does an override without a
// registration, which is an operator's. The error is [ErrUnknown], [ErrInFile], [ErrConflict], or the store's: then
// Delete may be repeated.
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
	_, _, err = r.write(ctx, name, actor, func(was documents) (is documents, err error) {
		if was.profile == "" {
			return is, unknown(name)
		}
		return is, nil
	})
	if err != nil && !errors.Is(err, ErrUnknown) {
		r.api.Invalidate(name)
		return fmt.Errorf("delete agent %q: %w", name, err)
	}
	r.api.Put(name, registration{})
	return err
}
