package policy

import (
	"errors"
	"fmt"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// DefaultOrigin is the origin of a value that no layer gave.
const DefaultOrigin = "default"

// Layer is an override and where it came from, for people: "environment", "registry", "redis".
type Layer struct {
	Origin   string
	Override Override
}

// Resolve lays the layers over def, the last one on top, and returns the origin of every field. defOrigins has those of
// def; for a field that it lacks (nil: all) it is DefaultOrigin. The origin of an enabled that is false is the first
// layer that turned it off. An error wraps a [*breaker.PolicyError] and names the layers of the bad values.
func Resolve(def breaker.Policy, defOrigins map[string]string, layers ...Layer) (
	p breaker.Policy, origins map[string]string, err error,
) {
	knobs := breaker.Knobs()
	p, origins = def.WithDefaults(), map[string]string{}
	for _, k := range knobs {
		origins[k.Name] = DefaultOrigin
		if origin := defOrigins[k.Name]; origin != "" {
			origins[k.Name] = origin
		}
	}
	for _, l := range layers {
		for i, k := range knobs {
			if l.Override.has(i) && (k.Name != Enabled || k.Value(p) == true) {
				origins[k.Name] = l.Origin
			}
		}
		p = l.Override.Apply(p)
	}
	err = p.Validate()
	if bad, is := errors.AsType[*breaker.PolicyError](err); is {
		from := bad.Field + " from " + origins[bad.Field]
		if bad.Field == "timeout_seconds" { // the one rule between fields
			from += ", timeout_max_seconds from " + origins["timeout_max_seconds"]
		}
		return breaker.Policy{}, nil, fmt.Errorf("policy (%s): %w", from, err)
	}
	return p, origins, err
}
