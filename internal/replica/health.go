package replica

import (
	"context"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// Health is how Redis, and the way to it, are.
type Health struct {
	Err      error // why Redis does not answer, or what it refuses; nil: it answers
	Latency  time.Duration
	Degraded bool            // this replica answers from its own memory
	Warnings []string        // what works, but should be set otherwise
	Unsent   breaker.Backlog // outcomes that wait for Redis
}

// CheckRedis asks Redis. It takes twice the time-out of a call at most.
func (r *Replica) CheckRedis(ctx context.Context) Health {
	ctx, cancel := context.WithTimeout(ctx, 2*r.o.RedisTimeout)
	defer cancel()
	begin := time.Now()
	h := Health{Err: r.Store.Ping(ctx), Degraded: r.Fallback.Degraded(), Unsent: r.Manager.Backlog()}
	h.Latency = time.Since(begin)
	if h.Err == nil {
		h.Warnings, h.Err = r.Conn.Check(ctx)
	}
	if r.Conn.Embedded {
		h.Warnings = append(h.Warnings, "embedded Redis: for this process only, and nothing is kept")
	}
	return h
}

// DataLoss says, for a while after Redis has lost its data, what becomes of that; "": nothing is to be said. pending:
// holds are still to be put back.
func (r *Replica) DataLoss() (text string, pending bool) { return r.resets.status() }
