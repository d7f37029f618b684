package app

import (
	"context"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

const (
	beatEvery = 2 * time.Second
	beatAlive = 10 * time.Second // a replica without a heartbeat for so long does not count
)

// heartbeat marks this replica as alive, and counts those that are: a trip never needs more reporters than there are
// replicas [B23].
func (r *replica) heartbeat(ctx context.Context) {
	t := time.NewTicker(beatEvery)
	defer t.Stop()
	for {
		if n, err := r.docs.Heartbeat(ctx, r.id, beatAlive); err == nil {
			r.store.SetReplicas(n)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// listen applies what other replicas do at once. The poll of the policies, and the staleness bound of cached mode, make
// up for events that are lost.
func (r *replica) listen(ctx context.Context) {
	r.store.Events(ctx, func(agent string, e breaker.Event) {
		r.manager.Invalidate(agent)
		switch e.Kind {
		case machine.EventConfigured:
			r.policies.Refresh(ctx, agent)
			r.manager.Invalidate(agent) // an answer requested meanwhile used the old policy
		case machine.EventForgotten:
			r.evict(agent)
		}
	})
}

// evict drops what this replica holds of an agent that was deleted.
func (r *replica) evict(agent string) {
	r.manager.Evict(agent)
	r.policies.Evict(agent)
	r.index.drop(agent)
	r.metrics.Forget(agent)
}
