package app

import (
	"context"
	"time"

	"github.com/breakerd/breakerd/internal/redisdocs"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

const (
	beatEvery = 2 * time.Second
	beatAlive = 10 * time.Second // a replica that has not been heard of for so long is not alive
)

// heartbeat says that this replica lives, and learns how many do: a trip never waits for more reporters than there are [B23].
func heartbeat(ctx context.Context, docs *redisdocs.Docs, store *redisstore.Store, replica string) {
	t := time.NewTicker(beatEvery)
	defer t.Stop()
	for {
		if n, err := docs.Heartbeat(ctx, replica, beatAlive); err == nil {
			store.SetReplicas(n)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// hear takes an event of the fleet: what another replica did counts here at once. The poll of the policies, and the staleness of
// cached mode, make up for events that are lost.
func (s *core) hear(ctx context.Context, agent string, e breaker.Event) {
	s.manager.Invalidate(agent)
	switch e.Kind {
	case machine.EventConfigured:
		s.book.Refresh(ctx, agent)
		s.manager.Invalidate(agent) // who asked meanwhile went by the old policy
	case machine.EventForgotten:
		s.forget(agent)
	}
}

// forget drops what this replica keeps of an agent that is gone.
func (s *core) forget(agent string) {
	s.manager.Evict(agent)
	s.book.Evict(agent)
	s.index.drop(agent)
	s.metrics.Forget(agent)
}
