package replica

import (
	"context"
	"time"

	"github.com/breakerd/breakerd/internal/redisdocs"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// Important reports whether an agent is registered or overridden, as far as this replica has met that.
func (r *Replica) Important(agent string) bool {
	return r.Registry.Registered(agent) || r.Policies.Overridden(agent)
}

// agentLife is how long the keys of an agent may live after its last call [B25].
func (r *Replica) agentLife() time.Duration { return 2 * r.o.RedisTTL }

// tracking bounds the agents of the fleet by those that the index saw while their keys live.
func (r *Replica) tracking() breaker.Tracking {
	t := breaker.Tracking{
		NewPerSecond: r.o.NewAgents, Life: r.agentLife(), Important: r.Important, Refuse: r.o.UnknownAgents == "refuse",
	}
	if r.Docs == nil {
		return t
	}
	t.StoreFull = r.fleetFull.Load
	t.Known = func(ctx context.Context, agent string) bool {
		if r.Fallback.Degraded() {
			return false
		}
		ctx, cancel := context.WithTimeout(ctx, r.o.RedisTimeout)
		defer cancel()
		known, err := r.Docs.Known(ctx, agent)
		return known && err == nil
	}
	return t
}

// countAgents notes whether the fleet has room for new agents.
func (r *Replica) countAgents(ctx context.Context) {
	if n, err := r.Docs.SeenWithin(ctx, r.agentLife()); err == nil {
		r.fleetFull.Store(n >= r.o.MaxAgents)
	}
}

// trackIndexed tracks, once Redis is up, the agents that the index saw while their keys live: this replica knows them
// from before, or from others.
func (r *Replica) trackIndexed(ctx context.Context) {
	for {
		agents, err := r.Docs.AgentsWithin(ctx, r.agentLife())
		for _, a := range agents {
			r.Manager.Track(a, breaker.View{})
		}
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(redisdocs.BeatEvery):
		}
	}
}

// learn takes over another replica's breaker, for the time when Redis is down.
func (r *Replica) learn(agent string, v breaker.View) {
	r.Fallback.Learn(agent, v)
	r.Manager.Track(agent, v)
}
