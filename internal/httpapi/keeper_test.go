package httpapi

import (
	"context"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/breakerd/breakerd/internal/policy"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// keeper is store, directory and policies in memory. With away set it answers like a Redis that is away.
type keeper struct {
	*breaker.Memory
	now func() int64

	mu       sync.Mutex
	away     error
	seen     map[string]bool
	configs  map[string]string
	profiles map[string]string
	items    map[string][]string
	texts    map[string]string // of workflows
	entries  map[string]string // of workflows, for lists
	records  map[string]string // of executions
	lenient  bool              // Apply and Inspect answer, degraded, even while away
	lastOp   machine.Op
	panics   bool
}

func (k *keeper) Apply(ctx context.Context, agent string, p breaker.Policy, op machine.Op) (machine.Result, error) {
	k.mu.Lock()
	away, lenient, panics := k.away, k.lenient, k.panics
	k.lastOp = op
	k.mu.Unlock()
	if panics {
		panic("the store panics")
	}
	if away != nil && (!lenient || op.Verb == machine.VerbForce) {
		return machine.Result{}, away
	}
	r, err := k.Memory.Apply(ctx, agent, p, op)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.seen[agent] = true
	r.Degraded = away != nil
	return r, err
}

func (k *keeper) Inspect(ctx context.Context, agent string, p breaker.Policy) (breaker.View, error) {
	k.mu.Lock()
	away, lenient := k.away, k.lenient
	k.mu.Unlock()
	if away != nil && !lenient {
		return breaker.View{}, away
	}
	v, err := k.Memory.Inspect(ctx, agent, p)
	v.Degraded = away != nil
	return v, err
}

func (k *keeper) policy(ctx context.Context, agent string) breaker.Policy {
	p, _, _ := k.Describe(ctx, agent)
	return p
}

func (k *keeper) setAway(lenient bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.away, k.lenient = &breaker.StoreError{Verb: "test", Err: io.ErrUnexpectedEOF}, lenient
}

// keys are the names that anything was written under.
func (k *keeper) keys() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	all := maps.Clone(k.seen)
	for _, m := range []map[string]string{k.configs, k.profiles} {
		for name := range m {
			all[name] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

func (k *keeper) Agents(context.Context) ([]string, error) {
	k.mu.Lock()
	away := k.away
	k.mu.Unlock()
	return k.keys(), away
}

func (k *keeper) States(ctx context.Context, agents []string) ([]breaker.State, error) {
	out := make([]breaker.State, len(agents))
	for i, a := range agents {
		v, _ := k.Memory.Inspect(ctx, a, breaker.DefaultPolicy())
		out[i] = v.State
	}
	return out, nil
}

func (k *keeper) Known(_ context.Context, agent string) (bool, error) {
	k.mu.Lock()
	away := k.away
	k.mu.Unlock()
	return slices.Contains(k.keys(), agent), away
}

func (k *keeper) MarkSeen(_ context.Context, agents []string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, a := range agents {
		k.seen[a] = true
	}
	return k.away
}

func (k *keeper) Seen(context.Context, string) (time.Time, error) {
	return time.UnixMilli(k.now()), nil
}

func (k *keeper) get(m map[string]string, agent string) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return m[agent], k.away
}

func (k *keeper) put(m map[string]string, agent, expected, text string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.away != nil {
		return k.away
	}
	if expected != "*" && m[agent] != expected {
		return ErrConflict
	}
	if m[agent] = text; text == "" {
		delete(m, agent)
	}
	k.seen[agent] = true
	return nil
}

func (k *keeper) Override(_ context.Context, agent string) (string, error) {
	return k.get(k.configs, agent)
}

func (k *keeper) Profile(_ context.Context, agent string) (string, error) {
	return k.get(k.profiles, agent)
}

// all reads the documents of several agents.
func (k *keeper) all(m map[string]string, agents []string) ([]string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := make([]string, len(agents))
	for i, agent := range agents {
		out[i] = m[agent]
	}
	return out, k.away
}

func (k *keeper) ProfilesOf(_ context.Context, agents []string) ([]string, error) {
	return k.all(k.profiles, agents)
}

func (k *keeper) Overrides(_ context.Context, agents []string) ([]string, error) {
	return k.all(k.configs, agents)
}

func (k *keeper) PutOverride(_ context.Context, agent, expected, text, _ string) error {
	return k.put(k.configs, agent, expected, text)
}

func (k *keeper) PutProfile(_ context.Context, agent, expected, text, _ string) error {
	return k.put(k.profiles, agent, expected, text)
}

func (k *keeper) Quarantine(_ context.Context, agent string) ([]string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.items[agent], k.away
}

func (k *keeper) Forget(ctx context.Context, agent, _ string, force bool) error {
	v, _ := k.Memory.Inspect(ctx, agent, breaker.DefaultPolicy())
	if v.Hold.Protected == 1 && !force {
		return breaker.ErrHoldProtected
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.seen, agent)
	delete(k.configs, agent)
	delete(k.profiles, agent)
	return k.away
}

func (k *keeper) resolve(layers ...policy.Layer) (breaker.Policy, map[string]string, error) {
	return policy.Resolve(breaker.DefaultPolicy(), nil, layers...)
}

func (k *keeper) Describe(_ context.Context, agent string) (breaker.Policy, map[string]string, error) {
	k.mu.Lock()
	text := k.configs[agent]
	k.mu.Unlock()
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
