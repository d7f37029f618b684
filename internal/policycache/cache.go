// Package policycache caches the policy of each agent in use: the default, over it the agent registry's layer, over it
// an override from Redis. An override that any replica sets counts on all replicas within a second, because they poll a
// version that each such change increments. One that redis-cli sets counts when its turn comes: some agents in use are
// read with each poll.
package policycache

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/breakerd/breakerd/internal/lastgood"
	"github.com/breakerd/breakerd/internal/policy"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// Source reads overrides.
type Source interface {
	// EachOverride reads overrides, JSON, in the order of the agents; "" where there is none. refused has the errors that
	// concern one agent alone, whose text is "". With err nothing was read.
	EachOverride(ctx context.Context, agents []string) (texts []string, refused map[string]error, err error)
	// OverridesVersion is another text after each change that was not made by hand.
	OverridesVersion(ctx context.Context) (string, error)
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

	// Base returns an agent's policy in place of Default. It is asked at each poll, and may use the Cache. nil: Default.
	Base func(agent string) breaker.Policy
	// Registry returns the agent registry's layer for an agent, nil: none. It must be quick. What it points to never
	// changes: a new layer has a new pointer. nil: there is no registry.
	Registry func(agent string) *policy.Override
}

// Cache answers which policy an agent follows. It is safe for concurrent use.
type Cache struct {
	o       Options
	entries *lastgood.Cache[*snapshot]

	bad      sync.Map // invalid policies of Options.Base that were met
	badCount atomic.Int64

	// Run's.
	version string                        // of the overrides that were read, or are in queue
	queue   []*lastgood.Answer[*snapshot] // whose turn it is next
	changed bool                          // the overrides in queue may have changed
	refused map[string]bool               // agents whose override the source refuses, and was logged
	mute    bool                          // the source refuses the version, which was logged
}

// turn is how many agents are read with each poll, although no change is known.
const turn = 1000

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
	c.entries = lastgood.New(lastgood.Options[*snapshot]{
		Read: c.first, Max: o.MaxAgents, Expendable: func(s *snapshot) bool { return s.text == "" && s.registry == nil },
	})
	return c
}

// Policy returns the agent's policy. The first call of an agent reads its override. While the source is down, the
// policy holds without it; the first poll that the source answers reads it.
func (c *Cache) Policy(ctx context.Context, agent string) breaker.Policy {
	if c.o.Base != nil && c.entries.Peek(agent) == nil {
		ctx = context.WithValue(ctx, baseKey{}, c.base(agent))
	}
	a, err := c.entries.Get(ctx, agent)
	if err != nil { // ctx ended during the first read
		return c.resolve(agent, c.base(agent), "", nil).policy
	}
	return a.Value.policy
}

// baseKey is the key of a context that has the result of Options.Base for a first read. All who come meanwhile wait for
// that read, so that Options.Base, if it used the Cache inside it, would wait for itself.
type baseKey struct{}

// base returns the policy below all layers.
func (c *Cache) base(agent string) breaker.Policy {
	if c.o.Base == nil {
		return c.o.Default
	}
	p := c.o.Base(agent).WithDefaults()
	p.Disabled = p.Disabled || c.o.Default.Disabled // the AND of all layers [B21]
	if err := p.Validate(); err != nil {
		return c.lastBase(agent, p, err)
	}
	return p
}

// badBases bounds the invalid policies of Options.Base that are logged.
const badBases = 100

// firstBad reports whether p was not met before, and is to be logged.
func (c *Cache) firstBad(p breaker.Policy) bool {
	if c.badCount.Load() >= badBases {
		return false
	}
	_, met := c.bad.LoadOrStore(p, true)
	if !met {
		c.badCount.Add(1)
	}
	return !met
}

// lastBase is the agent's last valid policy of Options.Base, in place of p; the first one is Default.
func (c *Cache) lastBase(agent string, p breaker.Policy, err error) breaker.Policy {
	if c.firstBad(p) {
		c.o.Logger.Warn("policy not taken", "event", "circuit_breaker.bad_policy", "agent", agent, "error", err)
	}
	if a := c.entries.Peek(agent); a != nil {
		return a.Value.base
	}
	return c.o.Default
}

// first is the snapshot of an agent that comes into use. If it has just been evicted, its base is the next poll's.
func (c *Cache) first(ctx context.Context, agent string, _ *snapshot) (*snapshot, error) {
	c.o.OnNew(agent)
	base, ok := ctx.Value(baseKey{}).(breaker.Policy)
	if !ok {
		base = c.o.Default
	}
	s := c.lookUp(ctx, agent, base)
	c.warn(agent, s)
	return s, nil
}

// warn logs an override that does not apply. One that the source refuses is logged by poll: there may be many.
func (c *Cache) warn(agent string, s *snapshot) {
	if s.problem != nil && s.unread == nil {
		c.o.Logger.Warn("policy override not taken",
			"event", "circuit_breaker.bad_override", "agent", agent, "error", s.problem)
	}
}

var errDown = errors.New("the source of overrides is down")

// lookUp reads an agent's override once, and does without if the source does not answer.
func (c *Cache) lookUp(ctx context.Context, agent string, base breaker.Policy) *snapshot {
	text, err := "", errDown
	if !c.o.StoreDown() {
		text, err = c.override(ctx, agent)
	}
	return c.resolve(agent, base, text, nil).without(err)
}

func (c *Cache) override(ctx context.Context, agent string) (string, error) {
	own, cancel := context.WithTimeout(ctx, c.o.Timeout)
	defer cancel()
	texts, refused, err := c.o.Source.EachOverride(own, []string{agent})
	if err != nil {
		if !breaker.TimeIsUp(ctx) {
			c.o.OnError(err)
		}
		return "", err
	}
	return texts[0], refused[agent]
}

// refused reports whether an error concerns what was asked for alone.
func refused(err error) bool {
	e, ok := errors.AsType[*breaker.StoreError](err)
	return ok && e.Refused
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
	return c.lookUp(ctx, agent, c.base(agent))
}

// Overridden reports whether an agent in use has an override in Redis, good or bad. It is quick.
func (c *Cache) Overridden(agent string) bool {
	a := c.entries.Peek(agent)
	return a != nil && a.Value.text != ""
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
		if text, err := c.override(ctx, agent); err != nil || c.apply(a, text, nil) {
			return
		}
	}
}

// apply puts an override into force, and notes why it was not read now, if so. It returns false if a is no longer what
// the cache holds.
func (c *Cache) apply(a *lastgood.Answer[*snapshot], text string, unread error) bool {
	if a.Value.told(text, unread) && !c.moved(a) {
		return c.entries.Peek(a.Name) == a
	}
	s := c.resolve(a.Name, c.base(a.Name), text, a.Value).without(unread)
	if !c.entries.Replace(a, s) {
		return false
	}
	c.warn(a.Name, s)
	return true
}

// moved reports whether a layer below the override has changed, or the override has ended.
func (c *Cache) moved(a *lastgood.Answer[*snapshot]) bool {
	if s := a.Value; !s.until.IsZero() && !s.ended && !time.Now().Before(s.until) {
		return true
	}
	return a.Value.registry != c.o.Registry(a.Name) || a.Value.base != c.base(a.Name)
}

// Rebase resolves the last override of each agent whose layers below it have changed. It does not read the source.
func (c *Cache) Rebase() {
	for _, a := range c.entries.Entries() {
		for a != nil && c.moved(a) && !c.apply(a, a.Value.text, a.Value.unread) {
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
	c.Rebase() // also while the source is down
	version, err := c.readVersion(ctx)
	if err != nil {
		return // the store reports its own health; the next poll tries again
	}
	unread := c.unread()
	switch {
	case version != c.version:
		c.version, c.queue, c.changed = version, c.inUse(c.o.Idle), true
	case len(c.queue) == 0:
		c.queue, c.changed = c.inUse(c.o.Idle), false
	}
	for len(unread) > 0 {
		if unread, err = c.readTurn(ctx, unread); err != nil {
			return
		}
	}
	for more := true; more && len(c.queue) > 0; more = c.changed {
		if c.queue, err = c.readTurn(ctx, c.queue); err != nil {
			return
		}
	}
}

// readVersion reads the version. If the source refuses it, changes are noticed in turn.
func (c *Cache) readVersion(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, max(c.o.Timeout, c.o.Every))
	defer cancel()
	version, err := c.o.Source.OverridesVersion(ctx)
	was := c.mute
	if c.mute = refused(err); !c.mute {
		return version, err
	}
	if !was {
		c.o.Logger.Warn("version of the policy overrides not read: changes count later",
			"event", "circuit_breaker.override_refused", "error", err)
	}
	return c.version, nil
}

// refusedNamed bounds the agents that one line of the log names.
const refusedNamed = 10

// unread returns the entries that were made while the source did not answer. It logs the agents whose override the
// source has refused since the last call: these are read in turn, as others are.
func (c *Cache) unread() (down []*lastgood.Answer[*snapshot]) {
	var (
		all   map[string]bool
		fresh []string
		last  error
	)
	for _, a := range c.entries.Entries() {
		switch err := a.Value.unread; {
		case err == nil:
		case !refused(err):
			down = append(down, a)
		default:
			if all == nil {
				all = map[string]bool{}
			}
			all[a.Name] = true
			if !c.refused[a.Name] {
				fresh, last = append(fresh, a.Name), err
			}
		}
	}
	c.refused = all
	if len(fresh) > 0 {
		slices.Sort(fresh)
		c.o.Logger.Warn("policy overrides not read: the last good ones hold", "event", "circuit_breaker.override_refused",
			"agents", strings.Join(fresh[:min(len(fresh), refusedNamed)], " "), "count", len(fresh), "error", last)
	}
	return down
}

// readTurn reads the overrides of the first agents of a queue, and returns what is left of it: with an error all. An
// entry that has changed since it was queued is read again: nobody knows whether the answer or the change is newer.
func (c *Cache) readTurn(
	ctx context.Context, queue []*lastgood.Answer[*snapshot],
) ([]*lastgood.Answer[*snapshot], error) {
	ctx, cancel := context.WithTimeout(ctx, max(c.o.Timeout, c.o.Every))
	defer cancel()
	entries := queue[:min(len(queue), turn)]
	texts, refused, err := c.o.Source.EachOverride(ctx, names(entries))
	if err != nil {
		return queue, err
	}
	queue = queue[len(entries):]
	for i, a := range entries {
		text, why := texts[i], refused[a.Name]
		if why != nil {
			text = a.Value.text
		}
		same := a.Value.told(text, why) && c.entries.Peek(a.Name) == a // each poll begins with Rebase
		if same || c.apply(a, text, why) {
			continue
		}
		if now := c.entries.Peek(a.Name); now != nil {
			queue = append(queue, now)
		}
	}
	return queue, nil
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
