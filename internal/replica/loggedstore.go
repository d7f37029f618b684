package replica

import (
	"context"
	"log/slog"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// loggedStore logs each failed call of a store at level debug. It stands below the fallback, which answers in the
// store's place: nobody above sees the error.
type loggedStore struct {
	store breaker.Store
	log   *slog.Logger
}

// Apply implements [breaker.Store].
func (s loggedStore) Apply(
	ctx context.Context, agent string, p breaker.Policy, op machine.Op,
) (machine.Result, error) {
	r, err := s.store.Apply(ctx, agent, p, op)
	s.failed(string(op.Verb), agent, err)
	return r, err
}

// Inspect implements [breaker.Store].
func (s loggedStore) Inspect(ctx context.Context, agent string, p breaker.Policy) (breaker.View, error) {
	v, err := s.store.Inspect(ctx, agent, p)
	s.failed("inspect", agent, err)
	return v, err
}

func (s loggedStore) failed(verb, agent string, err error) {
	if err != nil {
		s.log.Debug("store call failed", "verb", verb, "agent", agent, "error", err)
	}
}
