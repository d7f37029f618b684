// Package policycache caches the policy of each agent in use: the default, over it the agent registry's layer, over it
// an override from Redis. Overrides are polled, so that one that any replica or redis-cli sets counts on all replicas
// within a second.
package policycache

import (
	"cmp"
	"context"
	"log/slog"
	"time"

	"github.com/breakerd/breakerd/internal/lastgood"
	"github.com/breakerd/breakerd/internal/policy"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// Source reads overrides, JSON, in the order of the agents; "" where there is none.
type Source interface {
	Overrides(ctx context.Context, agents []string) ([]string, error)
}

// Options configures a Cache.
type Options struct {
	Default   breaker.Policy
	Origins   map[string]string // field -> where the default came from
	Source    Source
	Logger    *slog.Logger
	Every     time.Duration      // between polls; 0: 500 ms
	Idle      time.Duration      // an agent unused for so long is evicted; 0: 15 minutes
	MaxAgents int                // agents cached; 0: 100,000
	Timeout   time.Duration      // of a read from the source; 0: 250 ms
	StoreDown func() bool        // whether the source is known to be down, so that nobody waits for it; nil: never
	OnError   func(err error)    // receives the error of a source that did not answer a caller in time; nil: nobody
	OnNew     func(agent string) // receives each agent that comes into use; nil: nobody. It must be quick.

	// Registry returns the agent registry's layer for an agent, nil: none. It must be quick. What it points to never
	// changes: a new layer has a new pointer. nil: there is no registry.
	Registry func(agent string) *policy.Override
}

// Cache answers which policy an agent follows. It is safe for concurrent use.
type Cache struct {
	o       Options
	entries *lastgood.Cache[*snapshot]
}

// New makes a Cache.
func New(o Options) *Cache {
	o.Every = cmp.Or(o.Every, 500*time.Millisecond)
	o.Idle = cmp.Or(o.Idle, 15*time.Minute)
	o.MaxAgents = cmp.Or(o.MaxAgents, 100_000)
	o.Timeout = cmp.Or(o.Timeout, 250*time.Millisecond)
	if o.StoreDown == nil {
		o.StoreDown = func() bool { return false }
	}
	if o.OnError == nil {
		o.OnError = func(error) {}
	}
	if o.OnNew == nil {
		o.OnNew = func(string) {}
	}
	if o.Registry == nil {
		o.Registry = func(string) *policy.Override { return nil }
	}
	o.Default = o.Default.WithDefaults()
	c := &Cache{o: o}
	c.entries = lastgood.New(lastgood.Options[*snapshot]{Read: c.first, Max: o.MaxAgents})
	return c
}

// Policy returns the agent's policy. The first call of an agent reads its override; while the source is down, the
// policy holds without it, and the next poll corrects that.
func (c *Cache) Policy(ctx context.Context, agent string) breaker.Policy {
	a, err := c.entries.Get(ctx, agent)
	if err != nil { // ctx ended during the first read
		return c.resolve(agent, "", nil).policy
	}
	return a.Value.policy
}

// first is the snapshot of an agent that comes into use.
func (c *Cache) first(ctx context.Context, agent string, _ *snapshot) (*snapshot, error) {
	c.o.OnNew(agent)
	s := c.lookUp(ctx, agent)
	c.warn(agent, s)
	return s, nil
}

func (c *Cache) warn(agent string, s *snapshot) {
	if s.problem != nil {
		c.o.Logger.Warn("policy override not taken",
			"event", "circuit_breaker.bad_override", "agent", agent, "error", s.problem)
	}
}

// lookUp reads an agent's override once, and does without if the source does not answer.
func (c *Cache) lookUp(ctx context.Context, agent string) *snapshot {
	if !c.o.StoreDown() {
		if text, err := c.override(ctx, agent); err == nil {
			return c.resolve(agent, text, nil)
		}
	}
	return c.resolve(agent, "", nil)
}

func (c *Cache) override(ctx context.Context, agent string) (string, error) {
	own, cancel := context.WithTimeout(ctx, c.o.Timeout)
	defer cancel()
	texts, err := c.o.Source.Overrides(own, []string{agent})
	if err != nil {
		if !breaker.TimeIsUp(ctx) {
			c.o.OnError(err)
		}
		return "", err
	}
	return texts[0], nil
}

// Look returns what [Cache.Policy] returns, but the agent does not count as used.
func (c *Cache) Look(ctx context.Context, agent string) breaker.Policy {
	return c.look(ctx, agent).policy
}

// Describe is Look with the origin of every field, and the error of an override that does not apply.
func (c *Cache) Describe(ctx context.Context, agent string) (breaker.Policy, map[string]string, error) {
	s := c.look(ctx, agent)
	return s.policy, s.origins, s.problem
}

func (c *Cache) look(ctx context.Context, agent string) *snapshot {
	if a := c.entries.Peek(agent); a != nil {
		return a.Value
	}
	return c.lookUp(ctx, agent)
}

// Evict removes an agent that was deleted.
func (c *Cache) Evict(agent string) { c.entries.Delete(agent) }

// Refresh reads the override of an agent in use now. An error leaves the policy as it was.
func (c *Cache) Refresh(ctx context.Context, agent string) {
	for {
		a := c.entries.Peek(agent)
		if a == nil {
			c.entries.Invalidate(agent) // a first read in progress starts again
			return
		}
		// A read that another one overtakes is repeated: it may be older or newer than that.
		if text, err := c.override(ctx, agent); err != nil || c.apply(a, text) {
			return
		}
	}
}

// apply puts an override into force. It returns false if a is no longer what the cache holds.
func (c *Cache) apply(a *lastgood.Answer[*snapshot], text string) bool {
	if old := a.Value; old.text == text && old.registry == c.o.Registry(a.Name) {
		return c.entries.Peek(a.Name) == a
	}
	s := c.resolve(a.Name, text, a.Value)
	if !c.entries.Replace(a, s) {
		return false
	}
	c.warn(a.Name, s)
	return true
}

// Rebase resolves the last override of each agent whose registry layer has changed. It does not read the source.
func (c *Cache) Rebase() {
	for _, a := range c.entries.Entries() {
		for a != nil && a.Value.registry != c.o.Registry(a.Name) && !c.apply(a, a.Value.text) {
			a = c.entries.Peek(a.Name) // a poll or a Refresh came between
		}
	}
}

// Run polls until ctx ends, and evicts idle agents.
func (c *Cache) Run(ctx context.Context) {
	t := time.NewTicker(c.o.Every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			c.poll(ctx)
		}
	}
}

func (c *Cache) poll(ctx context.Context) {
	c.Rebase()                   // also while the source is down
	entries := c.inUse(c.o.Idle) // before the read: a Refresh that comes between is newer
	if len(entries) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, max(c.o.Timeout, c.o.Every))
	defer cancel()
	texts, err := c.o.Source.Overrides(ctx, names(entries))
	if err != nil {
		return // the store reports its own health; the next poll tries again
	}
	for i, a := range entries {
		c.apply(a, texts[i])
	}
}

// InUse lists the agents used within the time given, and evicts those idle for longer than Options.Idle.
func (c *Cache) InUse(within time.Duration) []string { return names(c.inUse(within)) }

func (c *Cache) inUse(within time.Duration) (used []*lastgood.Answer[*snapshot]) {
	for _, a := range c.entries.Entries() {
		if idle := time.Since(a.Used()); idle > c.o.Idle {
			c.Evict(a.Name)
		} else if idle <= within {
			used = append(used, a)
		}
	}
	return used
}

func names(entries []*lastgood.Answer[*snapshot]) []string {
	out := make([]string, len(entries))
	for i, a := range entries {
		out[i] = a.Name
	}
	return out
}
