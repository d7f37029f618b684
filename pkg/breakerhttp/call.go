package breakerhttp

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// call is one admitted call out, from its permit to the end of its response's body.
type call struct {
	t          *Transport
	req        *http.Request // the caller's, which must not be changed
	permit     breaker.Permit
	endRenewal func() // of a probe's lease
	start      time.Time

	timeout *timeout // nil: none
	upload  *upload  // nil: the request has no body
	status  int
	header  time.Duration // from start to the header, or to the error in its place

	settled  sync.Once
	outcome  breaker.Outcome // once settled
	observed sync.Once
}

// roundTrip calls Base. It settles failures; a success is settled at the end of its body.
func (c *call) roundTrip() (*http.Response, error) {
	out := c.outgoing()
	returned := false
	defer func() {
		if !returned { // Base has panicked, or ended its goroutine
			c.header = time.Since(c.start)
			c.end(breaker.Outcome{Kind: breaker.Failure, Class: "panic"})
			c.timeout.release()
		}
	}()
	resp, err := c.t.base().RoundTrip(out)
	returned = true
	c.timeout.stop()
	c.header = time.Since(c.start)
	if err == nil {
		err = checkResponse(c.req, resp)
	}
	if err != nil {
		err = c.timeout.explain(err)
		c.end(c.headerOutcome(nil, err))
		c.timeout.release()
		if resp != nil && resp.Body != nil {
			_ = resp.Body.Close() // last, because it may wait for the caller
		}
		return nil, err
	}
	resp.Request = c.req
	c.status = resp.StatusCode
	c.followBody(resp)
	return resp, nil
}

// outgoing is the request as Base gets it: the caller's own if nothing has to differ, else a copy.
func (c *call) outgoing() *http.Request {
	ctx := c.req.Context()
	sends := c.req.Body != nil && c.req.Body != http.NoBody
	if c.t.Timeout <= 0 && !sends && !c.t.Body.readsBodies() {
		return c.req
	}
	if c.t.Timeout > 0 {
		ctx, c.timeout = startTimeout(ctx, c.permit.Agent(), c.t.Timeout)
	}
	out := c.req.WithContext(ctx)
	if c.t.Body.readsBodies() { // a compressed body cannot be read as it passes
		out.Header = out.Header.Clone()
		if out.Header == nil {
			out.Header = http.Header{}
		}
		out.Header.Set("Accept-Encoding", "identity")
	}
	if sends {
		c.upload = &upload{timeout: c.timeout}
		out.Body = c.upload.watch(c.req.Body)
		if getBody := c.req.GetBody; getBody != nil { // Base may send the body again
			out.GetBody = func() (io.ReadCloser, error) {
				body, err := getBody()
				if err != nil {
					return nil, err
				}
				return c.upload.watch(body), nil
			}
		}
	}
	return out
}

// followBody settles what the header decides, and has the end of the body settle the rest.
func (c *call) followBody(resp *http.Response) {
	o := c.headerOutcome(resp, nil)
	switch {
	case resp.StatusCode == http.StatusSwitchingProtocols:
		c.end(o) // the context is not released: the connection, which is no longer HTTP, may depend on it
		return
	case resp.Body == nil, resp.Body == http.NoBody: // after any other body trailers may come
		c.end(o)
		c.timeout.release()
		return
	}
	b := &body{ReadCloser: resp.Body, c: c, outcome: o, unwatch: func() bool { return true }}
	resp.Body = b
	if o.Kind != breaker.Success {
		c.settle(o)
		return
	}
	b.inspector = c.t.Body.inspector(resp)
	b.unwatch = context.AfterFunc(c.req.Context(), func() { // a caller may leave without reading or closing the body
		if c.cancelled() {
			c.settle(ignored("cancelled"))
		}
	})
}

// headerOutcome is the outcome of a header, or of the error in its place.
func (c *call) headerOutcome(resp *http.Response, err error) breaker.Outcome {
	switch {
	case err != nil && c.cancelled():
		return ignored("cancelled")
	case c.upload.broke(): // whatever the agent answered to half a request
		return ignored("request_body")
	case c.t.Classify != nil:
		return c.t.Classify(resp, err)
	case err != nil && c.deadlinePassed(): // http.Client.Timeout makes it look like a cancellation
		return breaker.Outcome{Kind: breaker.Failure, Class: "timeout"}
	case err != nil: // the caller has not cancelled, even if the error says so
		return errorOutcome(context.WithoutCancel(c.req.Context()), err)
	}
	return Outcome(resp, nil)
}

// brokenOutcome is the outcome of a successful response whose body ends with an error.
func (c *call) brokenOutcome(err error) breaker.Outcome {
	switch {
	case c.cancelled():
		return ignored("cancelled")
	case c.upload.broke():
		return ignored("request_body")
	case c.deadlinePassed(), isTimeout(err):
		return breaker.Outcome{Kind: breaker.Failure, Class: "timeout"}
	}
	return breaker.Outcome{Kind: breaker.Failure, Class: "broken_stream"}
}

func ignored(class string) breaker.Outcome {
	return breaker.Outcome{Kind: breaker.Ignored, Class: class}
}

// cancelled says that the caller has given up the call other than by a deadline.
func (c *call) cancelled() bool {
	ctx := c.req.Context()
	if err := ctx.Err(); err != nil {
		return errors.Is(err, context.Canceled)
	}
	select {
	case <-c.req.Cancel: //nolint:staticcheck // old callers close it; http.Client does so at its Timeout
		return !c.deadlinePassed()
	default:
		return false
	}
}

func (c *call) deadlinePassed() bool {
	deadline, ok := c.req.Context().Deadline()
	return ok && !time.Now().Before(deadline)
}

// settle settles the call, once. When it returns, the call is settled.
func (c *call) settle(o breaker.Outcome) {
	c.settled.Do(func() {
		c.endRenewal()
		if o.Duration == 0 {
			o.Duration = c.header
		}
		c.outcome = o
		settle(c.req.Context(), c.permit, o, c.t.Logger)
	})
}

// end settles the call if nothing has, and reports it to Transport.Observe.
func (c *call) end(o breaker.Outcome) {
	c.settle(o)
	c.observed.Do(func() {
		if c.t.Observe != nil {
			c.t.Observe(Timing{
				Agent: c.permit.Agent(), Status: c.status, FirstByte: c.header, Total: time.Since(c.start),
				Outcome: c.outcome,
			})
		}
	})
}

// settleTimeout bounds settling.
const settleTimeout = time.Second

// settle reports an outcome, even if ctx has ended: a cancelled call is settled too. Trouble with the store is logged.
func settle(ctx context.Context, permit breaker.Permit, o breaker.Outcome, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	if _, err := permit.Settle(ctx, o); err != nil && log != nil {
		log.WarnContext(ctx, "outcome not recorded", "agent", permit.Agent(), "outcome", o.Kind, "error", err)
	}
}
