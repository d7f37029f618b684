package breakerhttp

import (
	"context"
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

// trace makes Base tell c of the connection.
func (c *connection) trace(ctx context.Context) context.Context {
	c.hooks.GotConn = func(i httptrace.GotConnInfo) { c.reused.Store(i.Reused) }
	c.hooks.GotFirstResponseByte = func() { c.answered.Store(true) }
	return httptrace.WithClientTrace(ctx, &c.hooks)
}

// staleWithin bounds the time from the request to the error of a connection that the agent has closed while nobody used
// it. An agent that took longer has begun to work on the request.
const staleWithin = time.Second

// stale reports whether the call met the end of a connection that was kept from an earlier call: the agent closes idle
// connections, which says nothing about its health.
func (c *call) stale(err error) bool {
	sent, whole := c.upload.whole(c.start)
	return c.conn.reused.Load() && !c.conn.answered.Load() && timeoutClass(err) == "" &&
		(!whole || time.Since(sent) < staleWithin)
}

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
