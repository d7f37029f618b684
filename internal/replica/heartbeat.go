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
	var steady time.Time // since when each heartbeat was taken; zero: the last one was not
	told := map[string]int64{}
	for {
		_ = r.identify(ctx) // the store reports its own health
		now, taken := int64(0), false
		r.watch.beaten(func() (ms int64, err error) {
			r.saying.Lock()
			n, ms, err := r.Docs.Heartbeat(ctx, r.ID, redisdocs.BeatAlive, r.report())
			r.saying.Unlock()
			if err == nil {
				r.Store.SetReplicas(n)
				if !joined {
					r.log.Info("joined the fleet", "event", "circuit_breaker.joined", "replica", r.ID, "replicas", n,
						"prefix", r.o.KeyPrefix)
					r.announce(ctx, redisstore.EventReplicaJoined)
				}
				joined = true
			}
			now, taken = ms, err == nil
			return ms, err
		})
		switch {
		case !taken:
			steady = time.Time{}
		case steady.IsZero():
			steady = time.Now()
		case time.Since(steady) > redisdocs.BeatAlive: // all could have been heard
			told = r.tellGone(ctx, now, told)
		}
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

// tellGone tells the fleet, once, of each replica that is silent. told are those that this replica knows it was told
// of, by their last heartbeats; so is what it returns.
func (r *Replica) tellGone(ctx context.Context, nowMs int64, told map[string]int64) map[string]int64 {
	silent, err := r.Docs.Silent(ctx, nowMs)
	if err != nil {
		return told
	}
	for id, beat := range silent {
		if told[id] == beat {
			continue
		}
		known := time.Hour + reminderTurn // Silent has it no longer by then
		done, err := newReminders(r).once(ctx, "replica "+id, beat, known, func() (said bool, err error) {
			since := time.UnixMilli(beat).UTC().Format(time.RFC3339)
			err = r.Store.Announce(ctx, redisstore.EventReplicaGone, "-", id+" is silent since "+since, false)
			if err == nil {
				r.log.Warn("a replica is silent", "event", "circuit_breaker.replica_gone", "gone", id, "since", since)
			}
			return err == nil, err
		})
		if !done || err != nil {
			delete(silent, id)
		}
	}
	return silent
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
		case e.Kind == redisstore.EventAction:
			signal(r.actions.wake)
			return
		case !breaker.ValidName(agent), e.Kind == redisstore.EventEvidence,
			e.Kind == redisstore.EventHoldEndsSoon: // no agent's, or of no consequence
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
