package redisstore

import (
	"context"
	"sync/atomic"
	"time"
)

// limit makes contexts that end when an operation that begins now has taken too long.
type limit struct {
	timeout time.Duration
	last    atomic.Pointer[deadline]
}

type deadline struct {
	context.Context //nolint:containedctx // shared by all operations that begin at about the same time
	at              time.Time
	_               context.CancelFunc // never called
}

// context ends after the time-out, or up to a thirty-second part of it earlier. Operations that begin within that time
// share one context, because a timer costs more than the rest of a queued call.
func (l *limit) context() context.Context {
	at := time.Now().Add(l.timeout)
	if last := l.last.Load(); last != nil && at.Sub(last.at) < l.timeout/32 {
		return last.Context
	}
	ctx, cancel := context.WithDeadline(context.Background(), at) //nolint:gosec // it ends by itself
	l.last.Store(&deadline{ctx, at, cancel})
	return ctx
}

// earlier ends with the first of the two contexts, and has ctx's values. It needs a timer only if ctx can be cancelled
// and has no earlier deadline.
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

// valued is a context with the values of another.
type valued struct {
	context.Context //nolint:containedctx // it is one

	values context.Context //nolint:containedctx // likewise
}

func (v valued) Value(key any) any { return v.values.Value(key) }
