// Package peer carries who asks for a change from the request to the record of the change.
package peer

import "context"

type key struct{}

// As returns a context of a request of an actor.
func As(ctx context.Context, actor string) context.Context {
	return context.WithValue(ctx, key{}, actor)
}

// Actor is who asks; "-": unknown.
func Actor(ctx context.Context) string {
	if actor, ok := ctx.Value(key{}).(string); ok {
		return actor
	}
	return "-"
}
