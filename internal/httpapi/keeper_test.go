package httpapi

import (
	"context"
	"slices"
	"time"

	"github.com/breakerd/breakerd/internal/policy"
	"github.com/breakerd/breakerd/internal/route/routetest"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// keeper is store, directory and policies in memory.
type keeper struct {
	*routetest.Store

	items map[string][]string // of the quarantine
}

// The kinds of texts.
const (
	overrides = "override"
	profiles  = "profile"
)

func (k *keeper) policy(ctx context.Context, agent string) breaker.Policy {
	p, _, _ := k.Describe(ctx, agent)
	return p
}

func (k *keeper) Agents(context.Context) ([]string, error) { return k.Keys(), k.Down() }

func (k *keeper) States(ctx context.Context, agents []string) ([]breaker.State, error) {
	out := make([]breaker.State, len(agents))
	for i, a := range agents {
		v, _ := k.Memory.Inspect(ctx, a, breaker.DefaultPolicy())
		out[i] = v.State
	}
	return out, nil
}

func (k *keeper) Known(_ context.Context, agent string) (bool, error) {
	return slices.Contains(k.Keys(), agent), k.Down()
}

func (k *keeper) MarkSeen(_ context.Context, agents []string) error {
	k.See(agents...)
	return k.Down()
}

func (k *keeper) Seen(context.Context, string) (time.Time, error) {
	return time.UnixMilli(k.NowMs.Load()), nil
}

func (k *keeper) put(kind, agent, expected, text string) error {
	if current, err := k.Text(kind, agent); err == nil && current != expected {
		return ErrConflict
	}
	err := k.Put(kind, agent, text)
	if err == nil {
		k.See(agent)
	}
	return err
}

func (k *keeper) Override(_ context.Context, agent string) (string, error) {
	return k.Text(overrides, agent)
}

func (k *keeper) Profile(_ context.Context, agent string) (string, error) {
	return k.Text(profiles, agent)
}

func (k *keeper) PutOverride(_ context.Context, agent, expected, text, _ string) error {
	return k.put(overrides, agent, expected, text)
}

func (k *keeper) PutProfile(_ context.Context, agent, expected, text, _ string) error {
	return k.put(profiles, agent, expected, text)
}

func (k *keeper) Quarantine(_ context.Context, agent string) ([]string, error) {
	return k.items[agent], k.Down()
}

func (k *keeper) Forget(ctx context.Context, agent, _ string, force bool) error {
	v, _ := k.Memory.Inspect(ctx, agent, breaker.DefaultPolicy())
	if v.Hold.Protected == 1 && !force {
		return breaker.ErrHoldProtected
	}
	return k.Store.Forget(agent)
}

func (k *keeper) resolve(layers ...policy.Layer) (breaker.Policy, map[string]string, error) {
	return policy.Resolve(breaker.DefaultPolicy(), nil, layers...)
}

func (k *keeper) Describe(_ context.Context, agent string) (breaker.Policy, map[string]string, error) {
	text, _ := k.Text(overrides, agent)
	if text == "" {
		return k.resolve()
	}
	o, err := policy.Parse([]byte(text))
	if err != nil {
		return k.resolve()
	}
	return k.resolve(policy.Layer{Origin: "redis", Override: o})
}

func (k *keeper) Check(_ context.Context, _ string, o policy.Override) error {
	_, _, err := k.resolve(policy.Layer{Origin: "redis", Override: o})
	return err
}

func (k *keeper) Refresh(context.Context, string) {}
