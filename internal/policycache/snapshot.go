package policycache

import (
	"context"
	"maps"
	"time"

	"github.com/breakerd/breakerd/internal/policy"
	"github.com/breakerd/breakerd/internal/registry"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// OverrideOrigin is the origin of a field that an override in Redis sets. [registry.RegistryOrigin] is that of a field
// that the agent registry sets.
const OverrideOrigin = "override"

// snapshot is an agent's policy and what it was resolved from. It never changes.
type snapshot struct {
	text     string           // of the override, as it was read last
	unread   error            // why the source has not told the override since; nil: it has
	base     breaker.Policy   // below all layers
	registry *policy.Override // the registry's layer
	override policy.Override  // the last one that applied, with enabled of the last one that could be parsed
	policy   breaker.Policy
	origins  map[string]string
	problem  error // why the override does not apply

	until time.Time // the override counts until then; zero: it has no end
	ended bool      // it no longer does
}

// without returns s with the reason why the source has not told its override. A refusal is shown, and logged by poll.
func (s *snapshot) without(unread error) *snapshot {
	s.unread = unread
	if refused(unread) {
		s.problem = unread
	}
	return s
}

// told reports whether s was made of this override, read or not read alike.
func (s *snapshot) told(text string, unread error) bool {
	read := (s.unread == nil) == (unread == nil) && refused(s.unread) == refused(unread)
	return read && s.text == text
}

// resolve lays the registry's layer and an override over base. If the override does not apply, the last good
// one holds, or, if that does not fit the registry's layer, the last good policy; but its enabled counts if it can be
// parsed at all [B21].
func (c *Cache) resolve(agent string, base breaker.Policy, text string, last *snapshot) *snapshot {
	s := &snapshot{text: text, registry: c.o.Registry(agent), base: base, policy: base, origins: c.o.Origins}
	if text == "" && s.registry == nil {
		return s
	}
	if last == nil {
		last = s
	}
	o, malformed := policy.Override{}, error(nil)
	if text != "" {
		var r policy.Record
		r, malformed = policy.ParseRecord([]byte(text))
		if s.until, s.ended = r.Until, r.Ended(time.Now()); !s.ended {
			o = r.Override
		}
	}
	if s.problem = malformed; malformed == nil {
		s.problem = c.lay(s, o)
	}
	if s.problem == nil {
		return s
	}
	good := last.override
	if malformed == nil {
		good = good.With(policy.Enabled, o)
	}
	if c.lay(s, good) != nil {
		c.keep(s, last, good)
	}
	return s
}

// lay resolves the policy of s from its layers. With an error it leaves s as it was.
func (c *Cache) lay(s *snapshot, o policy.Override) error {
	layers := []policy.Layer{{Origin: OverrideOrigin, Override: o}}
	if s.registry != nil {
		layers = []policy.Layer{{Origin: registry.RegistryOrigin, Override: *s.registry}, layers[0]}
	}
	resolved, origins, err := policy.Resolve(s.base, c.o.Origins, layers...)
	if err == nil {
		s.override, s.policy, s.origins = o, resolved, origins
	}
	return err
}

// keep takes over the last good policy but for enabled, which stays the AND of all layers [B21].
func (c *Cache) keep(s, last *snapshot, o policy.Override) {
	s.override, s.policy, s.origins = o, last.policy, map[string]string{}
	maps.Copy(s.origins, last.origins)
	enabled := &snapshot{base: s.base}
	if s.registry != nil {
		enabled.registry = new(s.registry.Only(policy.Enabled))
	}
	if c.lay(enabled, o.Only(policy.Enabled)) == nil {
		s.policy.Disabled, s.origins[policy.Enabled] = enabled.policy.Disabled, enabled.origins[policy.Enabled]
	}
}

// Check returns why the agent's policy would not be valid with this override in place of the one it has.
func (c *Cache) Check(_ context.Context, agent string, o policy.Override) error {
	_, err := c.Resolve(agent, o)
	return err
}

// Resolve returns the agent's policy with this override in place of the one it has. It reads nothing.
func (c *Cache) Resolve(agent string, o policy.Override) (breaker.Policy, error) {
	s := &snapshot{base: c.base(agent), registry: c.o.Registry(agent)}
	err := c.lay(s, o)
	return s.policy, err
}
