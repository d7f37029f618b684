// Package policies keeps the policy of each agent in use: defaults from the environment, over them what the agent registry says, over
// that an override from Redis. Overrides are polled, so that one set through any replica, or by hand in redis-cli, counts on all
// within a second.
package policycache

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/breakerd/breakerd/internal/policy"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// Source reads overrides, JSON, in the order of the agents; "" where there is none.
type Source interface {
	Overrides(ctx context.Context, agents []string) ([]string, error)
}

// Options configures a Book.
type Options struct {
	Default   breaker.Policy
	Origins   map[string]string // field -> where the default came from
	Source    Source
	Logger    *slog.Logger
	Every     time.Duration      // between polls; 0: 500 ms
	Idle      time.Duration      // an agent unused for so long is forgotten here; 0: 15 minutes
	MaxAgents int                // agents kept; 0: 100,000
	Timeout   time.Duration      // of a read from the source; 0: 250 ms
	StoreDown func() bool        // whether the source is known to be away, so that nobody waits for it; nil: never
	OnError   func(err error)    // told when the source did not answer a caller in time; nil: nobody
	OnNew     func(agent string) // told of each agent that comes into use; nil: nobody. It must be quick.

	// Registry is what the agent registry says of an agent, nil: nothing; the pointer changes when what it says does. It must be
	// quick, and what it points to never changes. nil: there is no registry.
	Registry func(agent string) *policy.Override
}

// Cache answers which policy an agent follows. It is safe for concurrent use.
type Cache struct {
	o  Options
	mu sync.RWMutex
	of map[string]*entry
}

// entry is one agent's policy; now is replaced whole.
type entry struct {
	now   atomic.Pointer[snapshot]
	used  atomic.Int64  // Unix ms
	ready chan struct{} // closed when the first reading has ended, well or not
}

// New makes a Book.
func New(o Options) *Cache {
	if o.Every <= 0 {
		o.Every = 500 * time.Millisecond
	}
	if o.Idle <= 0 {
		o.Idle = 15 * time.Minute
	}
	if o.MaxAgents <= 0 {
		o.MaxAgents = 100_000
	}
	if o.Timeout <= 0 {
		o.Timeout = 250 * time.Millisecond
	}
	if o.StoreDown == nil {
		o.StoreDown = func() bool { return false }
	}
	if o.OnError == nil {
		o.OnError = func(error) {}
	}
	if o.Registry == nil {
		o.Registry = func(string) *policy.Override { return nil }
	}
	o.Default = o.Default.WithDefaults()
	return &Cache{o: o, of: map[string]*entry{}}
}

// Policy is the agent's policy. An agent not in use here is read from the source, once; while that is away the default holds,
// and the next poll mends it.
func (b *Cache) Policy(ctx context.Context, agent string) breaker.Policy {
	return b.snapshot(ctx, agent).policy
}

// Look is Policy for one who only looks: the agent does not count as used.
func (b *Cache) Look(ctx context.Context, agent string) breaker.Policy {
	return b.look(ctx, agent).policy
}

func (b *Cache) look(ctx context.Context, agent string) *snapshot {
	if p := b.current(agent); p != nil {
		return p
	}
	ctx, cancel := context.WithTimeout(ctx, b.o.Timeout)
	defer cancel()
	if !b.o.StoreDown() {
		if texts, err := b.o.Source.Overrides(ctx, []string{agent}); err == nil {
			return b.read(agent, texts[0], nil)
		}
	}
	return b.read(agent, "", nil)
}

// Evict forgets an agent that was deleted; its next call meets it anew.
func (b *Cache) Evict(agent string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.of, agent)
}

// Describe is Look with the origin of every field, and the error of an override that could not be taken.
func (b *Cache) Describe(ctx context.Context, agent string) (breaker.Policy, map[string]string, error) {
	p := b.look(ctx, agent)
	return p.policy, p.origins, p.problem
}

func (b *Cache) snapshot(ctx context.Context, agent string) *snapshot {
	e := b.entry(agent)
	if e == nil {
		var first bool
		if e, first = b.add(agent); first {
			if !b.o.StoreDown() {
				b.Refresh(context.WithoutCancel(ctx), agent) // others wait for it, whether or not this caller stays
			}
			if e.now.Load() == nil { // the source did not answer
				e.now.CompareAndSwap(nil, b.read(agent, "", nil))
			}
			close(e.ready)
		}
	}
	if e.now.Load() == nil { // the first reading is under way; it bounds its own time
		select {
		case <-e.ready:
		case <-ctx.Done():
		}
	}
	e.used.Store(time.Now().UnixMilli())
	if p := e.now.Load(); p != nil {
		return p
	}
	return b.read(agent, "", nil)
}

func (b *Cache) add(agent string) (e *entry, first bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.of[agent]; e != nil {
		return e, false
	}
	if len(b.of) >= b.o.MaxAgents {
		for other := range b.of {
			delete(b.of, other)
			break
		}
	}
	e = &entry{ready: make(chan struct{})}
	e.used.Store(time.Now().UnixMilli())
	b.of[agent] = e
	if b.o.OnNew != nil {
		b.o.OnNew(agent)
	}
	return e, true
}

// Refresh reads the agent's override now, and again when another reading has come between: that may be older or newer than this one.
// It does not fail: trouble leaves the policy as it was.
func (b *Cache) Refresh(ctx context.Context, agent string) {
	own, cancel := context.WithTimeout(ctx, b.o.Timeout)
	defer cancel()
	for settled := false; !settled; {
		seen := b.current(agent)
		texts, err := b.o.Source.Overrides(own, []string{agent})
		if err != nil {
			if !breaker.TimeIsUp(ctx) {
				b.o.OnError(err)
			}
			return
		}
		settled = b.take(agent, texts[0], seen)
	}
}

// current is the page in force; nil when there is none.
func (b *Cache) current(agent string) *snapshot {
	if e := b.entry(agent); e != nil {
		return e.now.Load()
	}
	return nil
}

func (b *Cache) entry(agent string) *entry {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.of[agent]
}

// take puts an override into force, unless the page in force is not the one that was seen before it was read: settled is false then.
func (b *Cache) take(agent, text string, seen *snapshot) (settled bool) {
	e := b.entry(agent)
	if e == nil || seen != nil && e.now.Load() == seen && seen.text == text && seen.registry == b.o.Registry(agent) {
		return true
	}
	return b.swap(agent, e, seen, text)
}

// swap replaces the agent's page by one with this text, if it is still the old one.
func (b *Cache) swap(agent string, e *entry, old *snapshot, text string) (turned bool) {
	p := b.read(agent, text, old)
	if turned = e.now.CompareAndSwap(old, p); turned && p.problem != nil {
		b.o.Logger.Warn("policy override not taken", "event", "circuit_breaker.bad_override", "agent", agent, "error", p.problem)
	}
	return turned
}

// Rebase lays the override that each agent in use had last over what the registry says now. It does not ask the source.
func (b *Cache) Rebase() {
	outdated := map[string]*entry{}
	b.mu.RLock()
	for agent, e := range b.of {
		if p := e.now.Load(); p != nil && p.registry != b.o.Registry(agent) {
			outdated[agent] = e
		}
	}
	b.mu.RUnlock()
	for agent, e := range outdated {
		for turned := false; !turned; { // not when a poll came between
			p := e.now.Load()
			turned = b.swap(agent, e, p, p.text)
		}
	}
}

// Run polls until ctx ends, forgetting agents that went idle.
func (b *Cache) Run(ctx context.Context) {
	t := time.NewTicker(b.o.Every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			b.poll(ctx)
		}
	}
}

func (b *Cache) poll(ctx context.Context) {
	b.Rebase() // also while the source is away
	agents := b.InUse(b.o.Idle)
	if len(agents) == 0 {
		return
	}
	seen := make([]*snapshot, len(agents)) // a Refresh that comes between is newer than what this poll reads
	for i, a := range agents {
		seen[i] = b.current(a)
	}
	ctx, cancel := context.WithTimeout(ctx, max(b.o.Timeout, b.o.Every))
	defer cancel()
	texts, err := b.o.Source.Overrides(ctx, agents)
	if err != nil {
		return // the store's own health says so; the next poll tries again
	}
	for i, a := range agents {
		b.take(a, texts[i], seen[i])
	}
}

// InUse lists the agents used within the time given, and forgets those idle for longer than Options.Idle.
func (b *Cache) InUse(within time.Duration) []string {
	now := time.Now().UnixMilli()
	var out []string
	b.mu.Lock()
	defer b.mu.Unlock()
	for a, e := range b.of {
		idle := now - e.used.Load()
		if idle > b.o.Idle.Milliseconds() {
			delete(b.of, a)
		} else if idle <= within.Milliseconds() {
			out = append(out, a)
		}
	}
	return out
}
