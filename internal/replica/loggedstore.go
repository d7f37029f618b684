package replica

import (
	"context"
	"log/slog"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// loggedStore logs each failed call of a store at level debug, and measures all. It stands below the fallback, which
// answers in the store's place: nobody above sees the error.
type loggedStore struct {
	store breaker.Store
	calls *storeCalls
	log   *slog.Logger
}

// Apply implements [breaker.Store].
func (s loggedStore) Apply(
	ctx context.Context, agent string, p breaker.Policy, op machine.Op,
) (machine.Result, error) {
	begin := time.Now()
	r, err := s.store.Apply(ctx, agent, p, op)
	s.done(string(op.Verb), agent, time.Since(begin), err)
	return r, err
}

// Inspect implements [breaker.Store].
func (s loggedStore) Inspect(ctx context.Context, agent string, p breaker.Policy) (breaker.View, error) {
	begin := time.Now()
	v, err := s.store.Inspect(ctx, agent, p)
	s.done("inspect", agent, time.Since(begin), err)
	return v, err
}

func (s loggedStore) done(verb, agent string, took time.Duration, err error) {
	s.calls.note(took, err)
	if err != nil {
		s.log.Debug("store call failed", "verb", verb, "agent", agent, "error", err)
	}
}
