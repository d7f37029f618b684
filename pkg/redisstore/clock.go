package redisstore

import (
	"context"
	"sync/atomic"
	"time"
)

// clock is a lower bound of a Redis server's clock [B1]. It continues the time of a reply monotonically from the moment
// at which the reply was here. It is empty until the first reply that names a time.
type clock struct {
	zero time.Time
	lead atomic.Int64 // by how many microseconds the server's clock is ahead of the time since zero; 0: empty
}

func newClock() *clock { return &clock{zero: time.Now()} }

// at is the server's time at the moment t, in ms: that or more. 0: not known.
func (c *clock) at(t time.Time) int64 {
	lead := c.lead.Load()
	if lead == 0 {
		return 0
	}
	return (lead + t.Sub(c.zero).Microseconds()) / 1000
}

// observe takes the time that a reply names, to a command that was sent and answered at these moments. If the clock was
// ahead of that when the command was sent, it is no lower bound any more: the server's clock was set back, or another
// server answers after a failover.
func (c *clock) observe(ms int64, sent, answered time.Time) {
	lead := ms*1000 - answered.Sub(c.zero).Microseconds() - 1
	if lead > c.lead.Load() || c.at(sent) > ms {
		c.lead.Store(lead)
	}
}

// givesUp is when a caller no longer waits, if it has not been cancelled until then.
func givesUp(ctx, until context.Context) time.Time {
	end, _ := until.Deadline()
	if at, ok := ctx.Deadline(); ok && at.Before(end) {
		return at
	}
	return end
}
