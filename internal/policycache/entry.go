package policycache

import (
	"context"
	"maps"

	"github.com/breakerd/breakerd/internal/policy"
	"github.com/breakerd/breakerd/internal/registry"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// OverrideOrigin is the origin of a field that an override in Redis set; of one that the agent registry set it is
// registry.RegistryOrigin.
const OverrideOrigin = "override"

// snapshot is an agent's policy, and what it was made of. Nobody changes one.
type snapshot struct {
	text     string           // the override as it was read
	registry *policy.Override // the layer below it
	override policy.Override  // the last one that could be taken, but for enabled: that of the last one that could be read
	policy   breaker.Policy
	origins  map[string]string
	problem  error // the override that could not be taken
}

// read lays the registry's layer and an override over the default. Where the override cannot be taken, the last good one stays in force,
// or, if that does not suit the registry's layer, the last good policy; but its enabled counts if it can be read at all [B21].
func (b *Cache) read(agent, text string, last *snapshot) *snapshot {
	p := &snapshot{text: text, registry: b.o.Registry(agent), policy: b.o.Default, origins: b.o.Origins}
	if text == "" && p.registry == nil {
		return p
	}
	if last == nil {
		last = p
	}
	o, unread := policy.Override{}, error(nil)
	if text != "" {
		o, unread = policy.Parse([]byte(text))
	}
	if p.problem = unread; unread == nil {
		p.problem = b.lay(p, o)
	}
	if p.problem == nil {
		return p
	}
	good := last.override
	if unread == nil {
		good = good.With(policy.Enabled, o)
	}
	if b.lay(p, good) != nil {
		b.keep(p, last, good)
	}
	return p
}

// lay makes the page's policy out of its layers, or leaves it as it was.
func (b *Cache) lay(p *snapshot, o policy.Override) error {
	layers := []policy.Layer{{Origin: OverrideOrigin, Override: o}}
	if p.registry != nil {
		layers = []policy.Layer{{Origin: registry.RegistryOrigin, Override: *p.registry}, layers[0]}
	}
	resolved, origins, err := policy.Resolve(b.o.Default, b.o.Origins, layers...)
	if err == nil {
		p.override, p.policy, p.origins = o, resolved, origins
	}
	return err
}

// keep takes the last good policy, but for enabled, in which all layers have their say at any time [B21].
func (b *Cache) keep(p, last *snapshot, o policy.Override) {
	p.override, p.policy, p.origins = o, last.policy, map[string]string{}
	maps.Copy(p.origins, last.origins)
	say := &snapshot{}
	if p.registry != nil {
		say.registry = new(p.registry.Only(policy.Enabled))
	}
	if b.lay(say, o.Only(policy.Enabled)) == nil {
		p.policy.Disabled, p.origins[policy.Enabled] = say.policy.Disabled, say.origins[policy.Enabled]
	}
}

// Check says whether the agent's policy would be valid with this override in place of the one it has.
func (b *Cache) Check(_ context.Context, agent string, o policy.Override) error {
	return b.lay(&snapshot{registry: b.o.Registry(agent)}, o)
}
