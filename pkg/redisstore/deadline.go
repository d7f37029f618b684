package redisstore

import (
	"context"
	"sync/atomic"
	"time"
)

// limit makes contexts that end when no operation may wait longer.
type limit struct {
	timeout time.Duration
	last    atomic.Pointer[deadline]
}

type deadline struct {
	context.Context //nolint:containedctx // shared by all who begin to wait at about the same time
	at              time.Time
	_               context.CancelFunc // never called
}

// context ends after the time-out, or up to a thirty-second part of it earlier: whoever asks within that shares one, for a timer
// costs more than the rest of a queued call.
func (l *limit) context() context.Context {
	at := time.Now().Add(l.timeout)
	if last := l.last.Load(); last != nil && at.Sub(last.at) < l.timeout/32 {
		return last.Context
	}
	ctx, cancel := context.WithDeadline(context.Background(), at) //nolint:gosec // others wait for its end, and that comes
	l.last.Store(&deadline{ctx, at, cancel})
	return ctx
}

// earlier ends with the first of the two, and has ctx's values. Only a caller that can be cancelled, and not by an earlier deadline,
// costs a timer.
func earlier(ctx, until context.Context) (context.Context, context.CancelFunc) {
	end, _ := until.Deadline()
	if at, ok := ctx.Deadline(); ok && !at.After(end) {
		return ctx, func() {}
	}
	if ctx.Done() == nil {
		return valued{until, ctx}, func() {}
	}
	return context.WithDeadline(ctx, end)
}

// valued is a context with another one's values.
type valued struct {
	context.Context //nolint:containedctx // it is one

	values context.Context //nolint:containedctx // likewise
}

func (v valued) Value(key any) any { return v.values.Value(key) }
