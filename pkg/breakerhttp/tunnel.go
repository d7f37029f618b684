package breakerhttp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// tunnel is the connection after 101 Switching Protocols. It settles its call once it has stood for
// probe_settle_seconds; in closed also at the agent's first byte. An agent that drops it before, without a byte, has
// failed.
type tunnel struct {
	io.ReadWriteCloser

	c     *call
	timer *time.Timer
	heard atomic.Bool // a byte of the agent has come
}

func (c *call) followTunnel(resp *http.Response) {
	conn, ok := resp.Body.(io.ReadWriteCloser)
	if !ok { // Base has no connection to give, and its caller no tunnel
		c.end(breaker.Outcome{Kind: breaker.Success})
		resp.Body = &releasing{resp.Body, c}
		return
	}
	t := &tunnel{ReadWriteCloser: conn, c: c}
	t.timer = time.AfterFunc(c.policy().ProbeSettle, func() { c.settle(breaker.Outcome{Kind: breaker.Success}) })
	resp.Body = t
}

// releasing is a body whose call has ended before it.
type releasing struct {
	io.ReadCloser

	c *call
}

// Close implements io.Closer.
func (r *releasing) Close() error {
	defer r.c.release()
	return r.ReadCloser.Close()
}

// Read implements io.Reader.
func (t *tunnel) Read(p []byte) (int, error) {
	n, err := t.ReadWriteCloser.Read(p)
	if n > 0 {
		t.c.heard.note()
		if !t.heard.Swap(true) && !t.c.isProbe() {
			t.c.settle(breaker.Outcome{Kind: breaker.Success})
		}
	}
	if err != nil {
		t.end(breaker.Outcome{Kind: breaker.Failure, Class: "tunnel_dropped"})
	}
	return n, err
}

// Write implements io.Writer. An agent that has reset the connection may be noticed here first.
func (t *tunnel) Write(p []byte) (int, error) {
	n, err := t.ReadWriteCloser.Write(p)
	if err != nil {
		t.end(breaker.Outcome{Kind: breaker.Failure, Class: "tunnel_dropped"})
	}
	return n, err
}

// Close implements io.Closer.
func (t *tunnel) Close() error {
	t.end(ignored("cancelled"))
	err := t.ReadWriteCloser.Close()
	t.c.release()
	return err
}

// CloseWrite is for httputil.ReverseProxy, which ends one direction by it.
func (t *tunnel) CloseWrite() error {
	if half, ok := t.ReadWriteCloser.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return fmt.Errorf("breakerhttp: end one direction of a tunnel: %w", http.ErrNotSupported)
}

// end settles the call with silent, unless a byte of the agent has come.
func (t *tunnel) end(silent breaker.Outcome) {
	t.timer.Stop()
	if t.heard.Load() {
		silent = breaker.Outcome{Kind: breaker.Success}
	} else if silent.Kind == breaker.Failure && errors.Is(t.c.req.Context().Err(), context.Canceled) {
		silent = ignored("cancelled")
	}
	t.c.end(silent)
}
