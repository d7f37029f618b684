package httpapi

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/breakerd/breakerd/internal/events"
	"github.com/breakerd/breakerd/internal/policy"
	"github.com/breakerd/breakerd/internal/redisdocs"
	"github.com/breakerd/breakerd/internal/route/routetest"
	"github.com/breakerd/breakerd/internal/webhook"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// records are breakers, documents and policies in memory. They are the store, the Directory and the Policies of an API.
type records struct {
	*routetest.Store

	items map[string][]string // of the quarantine
	off   bool                // the global switch
	kept  int                 // HISTORY_MINUTES

	planted, faults []redisdocs.Fault   // what verify finds
	unlisted        []string            // agents that have keys and are not in the index
	calls           map[string][]string // between agents

	mu      sync.Mutex
	streams [2][]events.Entry
}

// Entries implements events.Reader.
func (r *records) Entries(_ context.Context, s events.Stream, from, to events.ID, n int) ([]events.Entry, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	all, reverse := slices.Clone(r.streams[s]), from.Compare(to) > 0
	if reverse {
		slices.Reverse(all)
		from, to = to, from
	}
	all = slices.DeleteFunc(all, func(e events.Entry) bool { return e.ID.Compare(from) < 0 || e.ID.Compare(to) > 0 })
	return all[:min(len(all), n)], r.Down()
}

// Calls is Options.Calls.
func (r *records) Calls(context.Context) (map[string][]string, error) { return r.calls, r.Down() }

// webhooks is Options.Webhooks.
func (r *records) webhooks(context.Context) ([]webhook.View, error) {
	return []webhook.View{{Name: "pager", Format: "json", Dead: []webhook.DeadLetter{{ID: "1-1", Event: "opened", Agent: "a"}}, Kinds: []string{"opened"}, Agents: []string{}}}, r.Down()
}

// happen adds an entry to both streams.
func (r *records) happen(id, agent, line string) {
	at, ok := events.ParseID(id)
	e, ok2 := machine.ParseEvent(line)
	if !ok || !ok2 && line != "" {
		panic(id + line)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.streams {
		r.streams[i] = append(r.streams[i], events.Entry{ID: at, Agent: agent, Event: e})
	}
}

// The kinds of texts.
const (
	overrides = "override"
	profiles  = "profile"
)

func (r *records) policy(ctx context.Context, agent string) breaker.Policy {
	p, _, _ := r.Describe(ctx, agent)
	return p
}

func (r *records) Agents(context.Context) ([]string, error) { return r.Keys(), r.Down() }

func (r *records) ClockMs(context.Context) (int64, error) { return r.NowMs.Load(), r.Down() }

func (r *records) NotClosed(ctx context.Context) (map[string]float64, error) {
	out := map[string]float64{}
	for _, agent := range r.Keys() {
		v, _ := r.Memory.Inspect(ctx, agent, breaker.DefaultPolicy())
		if v.State != breaker.Closed || v.Hold.Kind != "" {
			out[agent] = 1
		}
	}
	return out, r.Down()
}

func (r *records) OverridesVersion(context.Context) (string, error) { return "", r.Down() }

func (r *records) EachProfile(_ context.Context, agents []string) ([]string, map[string]error, error) {
	texts, err := r.textsOf(profiles, agents)
	return texts, nil, err
}

func (r *records) EachOverride(_ context.Context, agents []string) ([]string, map[string]error, error) {
	texts, err := r.textsOf(overrides, agents)
	return texts, nil, err
}

func (r *records) textsOf(kind string, agents []string) (out []string, err error) {
	for _, agent := range agents {
		text, err := r.Text(kind, agent)
		if err != nil {
			return nil, err
		}
		out = append(out, text)
	}
	return out, nil
}

func (r *records) Idle(context.Context, int64, time.Duration, int) (int, []string, error) {
	return 0, nil, r.Down()
}

func (r *records) PlantedKeys(context.Context) ([]redisdocs.Fault, error) {
	return r.planted, r.Down()
}

func (r *records) Verify(_ context.Context, agents []string) (out []redisdocs.Fault, err error) {
	for _, f := range r.faults {
		if slices.Contains(agents, f.Agent) {
			out = append(out, f)
		}
	}
	return out, r.Down()
}

func (r *records) ScanAgents(_ context.Context, from string) ([]string, string, error) {
	if from == "" {
		return r.Keys(), "1", r.Down()
	}
	return r.unlisted, "", r.Down()
}

func (r *records) History(ctx context.Context, agent string) (redisdocs.History, error) {
	h := redisdocs.History{Kept: r.kept, NowMs: r.NowMs.Load()}
	v, _ := r.Memory.Inspect(ctx, agent, breaker.DefaultPolicy())
	for start, c := range v.Buckets {
		h.Minutes = append(h.Minutes, machine.Minute{StartMs: start / 60_000 * 60_000, Calls: c.Successes + c.Failures, Failures: c.Failures})
	}
	slices.SortFunc(h.Minutes, func(a, b machine.Minute) int { return int(a.StartMs - b.StartMs) })
	return h, r.Down()
}

func (r *records) Known(_ context.Context, agent string) (bool, error) {
	return slices.Contains(r.Keys(), agent), r.Down()
}

func (r *records) MarkSeen(_ context.Context, agents []string) error {
	r.See(agents...)
	return r.Down()
}

func (r *records) Seen(context.Context, string) (time.Time, error) {
	return time.UnixMilli(r.NowMs.Load()), nil
}

func (r *records) EachSeen(_ context.Context, agents []string) ([]time.Time, error) {
	return slices.Repeat([]time.Time{time.UnixMilli(r.NowMs.Load())}, len(agents)), nil
}

func (r *records) put(kind, agent, expected, text string) error {
	if current, err := r.Text(kind, agent); err == nil && current != expected {
		return ErrConflict
	}
	err := r.Put(kind, agent, text)
	if err == nil {
		r.See(agent)
	}
	return err
}

func (r *records) Override(_ context.Context, agent string) (string, error) {
	return r.Text(overrides, agent)
}

func (r *records) Profile(_ context.Context, agent string) (string, error) {
	return r.Text(profiles, agent)
}

func (r *records) PutOverride(_ context.Context, agent, expected, text, _ string) error {
	return r.put(overrides, agent, expected, text)
}

func (r *records) PutProfile(_ context.Context, agent, expected, text, _ string) error {
	return r.put(profiles, agent, expected, text)
}

func (r *records) Quarantine(_ context.Context, agent string) ([]string, error) {
	return r.items[agent], r.Down()
}

func (r *records) Forget(ctx context.Context, agent, _ string, force bool) error {
	v, _ := r.Memory.Inspect(ctx, agent, breaker.DefaultPolicy())
	if v.Hold.Protected == 1 && !force {
		return breaker.ErrHoldProtected
	}
	return r.Store.Forget(agent)
}

func (r *records) resolve(layers ...policy.Layer) (breaker.Policy, map[string]string, error) {
	p := breaker.DefaultPolicy()
	p.Disabled = r.off
	return policy.Resolve(p, nil, layers...)
}

func (r *records) Describe(_ context.Context, agent string) (breaker.Policy, map[string]string, error) {
	text, _ := r.Text(overrides, agent)
	if text == "" {
		return r.resolve()
	}
	o, err := policy.Parse([]byte(text))
	if err != nil {
		return r.resolve()
	}
	return r.resolve(policy.Layer{Origin: "redis", Override: o})
}

func (r *records) Check(_ context.Context, _ string, o policy.Override) error {
	_, _, err := r.resolve(policy.Layer{Origin: "redis", Override: o})
	return err
}

func (r *records) Resolve(_ string, o policy.Override) (breaker.Policy, error) {
	p, _, err := r.resolve(policy.Layer{Origin: "redis", Override: o})
	return p, err
}

func (r *records) Refresh(context.Context, string) {}
