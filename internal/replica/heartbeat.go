package replica

import (
	"context"
	"time"

	"github.com/breakerd/breakerd/internal/redisdocs"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

// unsentEvery is how often the log says what waits while Redis is down.
const unsentEvery = 10 * time.Second

// heartbeat marks this replica as alive, and counts those that are: a trip never needs more reporters than there are
// replicas [B23]. It also notices when Redis has lost its data.
func (r *Replica) heartbeat(ctx context.Context) {
	t := time.NewTicker(redisdocs.BeatEvery)
	defer t.Stop()
	said, joined := time.Now(), false
	for {
		_ = r.identify(ctx) // the store reports its own health
		r.watch.beaten(func() (ms int64, err error) {
			n, ms, err := r.Docs.Heartbeat(ctx, r.ID, redisdocs.BeatAlive, r.report())
			if err == nil {
				r.Store.SetReplicas(n)
				if !joined {
					r.log.Info("joined the fleet", "event", "circuit_breaker.joined", "replica", r.ID, "replicas", n,
						"prefix", r.o.KeyPrefix)
					r.announce(ctx, redisstore.EventReplicaJoined)
				}
				joined = true
			}
			return ms, err
		})
		r.countAgents(ctx)
		if r.Fallback.Degraded() && time.Since(said) >= unsentEvery {
			r.logUnsent()
			said = time.Now()
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// logUnsent logs what waits for Redis.
func (r *Replica) logUnsent() {
	if u := r.Manager.Backlog(); u.Outcomes > 0 {
		r.log.Warn("outcomes wait for Redis", "event", "circuit_breaker.unsent", "outcomes", u.Outcomes, "agents", u.Agents,
			"oldest_seconds", u.Oldest.Round(time.Millisecond).Seconds())
	}
}

// OnHeard has f called when an event of any replica is heard. f must not block. Call it before Start.
func (r *Replica) OnHeard(f func()) { r.heard = f }

// listen applies what other replicas do at once. The poll of the policies, and the staleness bound of cached mode, make
// up for events that are lost.
func (r *Replica) listen(ctx context.Context) {
	r.Store.Events(ctx, func(agent string, e breaker.Event) {
		if r.heard != nil {
			r.heard()
		}
		switch {
		case e.Kind == redisstore.EventStoreReset:
			_ = r.identify(ctx) // the heartbeat does so again
			return
		case e.Kind == redisstore.EventGate:
			signal(r.gate.wake)
			return
		case !breaker.ValidName(agent), e.Kind == redisstore.EventEvidence: // no agent's, or of no consequence
			return
		}
		r.evidence.hear(agent, e)
		r.Manager.Invalidate(agent)
		r.holds.tell(agent, e.Manual())
		switch e.Kind {
		case machine.EventConfigured:
			r.Manager.Track(agent, breaker.View{}) // it has, or had, an override or a profile
			r.Policies.Refresh(ctx, agent)
			r.Manager.Invalidate(agent) // an answer requested meanwhile used the old policy
		case machine.EventForgotten:
			r.evict(agent)
		}
	})
}
