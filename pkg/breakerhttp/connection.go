package breakerhttp

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"
)

// connection is the one that a call was sent on, as far as Base says.
type connection struct {
	reused   atomic.Bool
	answered atomic.Bool // a byte of the answer has come
	hooks    httptrace.ClientTrace
}

// trace makes Base tell c of the connection, and h of the first byte that comes, even of an answer of status 1xx.
func (c *connection) trace(ctx context.Context, h *heard) context.Context {
	c.hooks.GotConn = func(i httptrace.GotConnInfo) {
		c.reused.Store(i.Reused)
		c.answered.Store(false) // Base may send the request again
	}
	c.hooks.GotFirstResponseByte = func() {
		c.answered.Store(true)
		h.note()
	}
	return httptrace.WithClientTrace(ctx, &c.hooks)
}

// staleWithin bounds the time from the request to the error of a connection that the agent has closed while nobody used
// it. An agent that took longer has begun to work on the request.
const staleWithin = time.Second

// stale reports whether the call met the end of a connection that was kept from an earlier call: the agent closes idle
// connections, which says nothing about its health.
func (c *call) stale(err error) bool {
	if _, reset := errors.AsType[streamError](err); reset { // the agent refuses a call on a connection that lives
		return false
	}
	since, owes := c.upload.agentOwes()
	return c.conn.reused.Load() && !c.conn.answered.Load() && timeoutClass(err) == "" &&
		(!owes || time.Since(c.start)-since < staleWithin)
}

// streamError is how net/http shows an RST_STREAM of HTTP/2 to errors.As: a struct of the same shape.
type streamError struct {
	StreamID uint32
	Code     uint32
	Cause    error
}

func (e streamError) Error() string { return fmt.Sprintf("stream error: code %d", e.Code) }

// allowResend lets net/http send the request once more on another connection if the first was stale, where that cannot
// be done twice: RFC 9110 calls PUT and DELETE idempotent, net/http does not. It resends other idempotent methods, and
// requests with an Idempotency-Key, by itself, if it can get the body again.
func allowResend(out *http.Request) {
	const key = "X-Idempotency-Key"
	switch {
	case out.Method != http.MethodPut && out.Method != http.MethodDelete:
	case out.Body != nil && out.Body != http.NoBody && out.GetBody == nil:
	case out.Header["Idempotency-Key"] != nil, out.Header[key] != nil:
	default:
		if out.Header = out.Header.Clone(); out.Header == nil {
			out.Header = http.Header{}
		}
		out.Header[key] = []string{} // net/http looks whether it is there, and sends no line for it
	}
}
