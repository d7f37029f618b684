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

// settleTimeout bounds settling.
const settleTimeout = time.Second

// call is one admitted call, from its permit to the end of its response's body.
type call struct {
	t      *Transport
	req    *http.Request // the caller's, which nobody may change
	permit breaker.Permit
	unkeep func()
	start  time.Time

	patience *patience // nil: no time-out
	upload   *upload   // nil: nothing to send
	status   int
	header   time.Duration // from start to the header, or to the error in its place

	settled  sync.Once
	outcome  breaker.Outcome // once settled
	observed sync.Once
}

func newCall(t *Transport, req *http.Request, permit breaker.Permit) *call {
	return &call{t: t, req: req, permit: permit, unkeep: permit.Keep(req.Context()), start: time.Now()}
}

// roundTrip calls Base. What fails is settled here; a success when its body has come to its end.
func (c *call) roundTrip() (*http.Response, error) {
	out := c.outgoing()
	returned := false
	defer func() {
		if !returned { // Base panics, or has ended its goroutine
			c.header = time.Since(c.start)
			c.end(breaker.Outcome{Kind: breaker.Failure, Class: "panic"})
			c.patience.release()
		}
	}()
	resp, err := c.t.base().RoundTrip(out)
	returned = true
	c.patience.rest()
	c.header = time.Since(c.start)
	if err == nil {
		err = unusable(c.req, resp)
	}
	if err != nil {
		err = c.patience.explain(err)
		c.end(c.classify(nil, err))
		c.patience.release()
		if resp != nil && resp.Body != nil {
			_ = resp.Body.Close() // last, for it may wait for the caller
		}
		return nil, err
	}
	resp.Request = c.req
	c.status = resp.StatusCode
	c.take(resp)
	return resp, nil
}

// outgoing is the request as Base gets it: the caller's own where nothing has to be different, else a copy.
func (c *call) outgoing() *http.Request {
	ctx := c.req.Context()
	sends := c.req.Body != nil && c.req.Body != http.NoBody
	if c.t.Timeout <= 0 && !sends && !c.t.Body.reads() {
		return c.req
	}
	if c.t.Timeout > 0 {
		ctx, c.patience = newPatience(ctx, c.permit.Agent(), c.t.Timeout)
	}
	out := c.req.WithContext(ctx)
	if c.t.Body.reads() { // for what is compressed cannot be read as it passes
		out.Header = out.Header.Clone()
		if out.Header == nil {
			out.Header = http.Header{}
		}
		out.Header.Set("Accept-Encoding", "identity")
	}
	if sends {
		c.upload = &upload{patience: c.patience}
		out.Body = c.upload.part(c.req.Body)
		if again := c.req.GetBody; again != nil { // Base may send it a second time
			out.GetBody = func() (io.ReadCloser, error) {
				body, err := again()
				if err != nil {
					return nil, err
				}
				return c.upload.part(body), nil
			}
		}
	}
	return out
}

// take settles what the header decides, and sees to it that the end of the body settles the rest.
func (c *call) take(resp *http.Response) {
	o := c.classify(resp, nil)
	switch {
	case resp.StatusCode == http.StatusSwitchingProtocols:
		c.end(o) // from here on it is not HTTP; nor is the context released, on which the connection may still hang
		return
	case resp.Body == nil, resp.Body == http.NoBody: // any other may have trailers to come
		c.end(o)
		c.patience.release()
		return
	}
	b := &body{ReadCloser: resp.Body, c: c, outcome: o, unwatch: func() bool { return true }}
	resp.Body = b
	if o.Kind != breaker.Success {
		c.settle(o)
		return
	}
	b.inspector = c.t.Body.inspector(resp)
	b.unwatch = context.AfterFunc(c.req.Context(), func() { // so that a caller who leaves without a word gives a probe's place back
		if c.cancelled() {
			c.settle(ignored("cancelled"))
		}
	})
}

// classify is the outcome of a header or of the error in its place.
func (c *call) classify(resp *http.Response, err error) breaker.Outcome {
	switch {
	case err != nil && c.cancelled():
		return ignored("cancelled")
	case c.upload.broke(): // whatever the agent made of half a request
		return ignored("request_body")
	case c.t.Classify != nil:
		return c.t.Classify(resp, err)
	case err != nil && c.overdue():
		return breaker.Outcome{Kind: breaker.Failure, Class: "timeout"} // http.Client's Timeout makes it look like a cancellation
	case err != nil: // not cancelled by the caller, whatever its text says
		return errorOutcome(context.WithoutCancel(c.req.Context()), err)
	}
	return Outcome(resp, nil)
}

// broken is the outcome of a successful response whose body ends with an error.
func (c *call) broken(err error) breaker.Outcome {
	switch {
	case c.cancelled():
		return ignored("cancelled")
	case c.upload.broke():
		return ignored("request_body")
	case c.overdue(), isTimeout(err):
		return breaker.Outcome{Kind: breaker.Failure, Class: "timeout"}
	}
	return breaker.Outcome{Kind: breaker.Failure, Class: "broken_stream"}
}

func ignored(class string) breaker.Outcome {
	return breaker.Outcome{Kind: breaker.Ignored, Class: class}
}

// cancelled says that the caller has given the call up, other than by a deadline.
func (c *call) cancelled() bool {
	ctx := c.req.Context()
	if err := ctx.Err(); err != nil {
		return errors.Is(err, context.Canceled)
	}
	select {
	case <-c.req.Cancel: //nolint:staticcheck // old callers close it, and so does http.Client at its Timeout, before the context ends or after
		return !c.overdue()
	default:
		return false
	}
}

// overdue says that the caller's deadline is over.
func (c *call) overdue() bool {
	deadline, ok := c.req.Context().Deadline()
	return ok && !time.Now().Before(deadline)
}

// settle gives the call's outcome, once; it returns when that is done.
func (c *call) settle(o breaker.Outcome) {
	c.settled.Do(func() {
		c.unkeep()
		if o.Duration == 0 {
			o.Duration = c.header
		}
		c.outcome = o
		settle(c.req.Context(), c.permit, o, c.t.Logger)
	})
}

// end settles, if that has not been done, and tells who observes.
func (c *call) end(o breaker.Outcome) {
	c.settle(o)
	c.observed.Do(func() {
		if c.t.Observe != nil {
			c.t.Observe(Timing{
				Agent: c.permit.Agent(), Status: c.status, FirstByte: c.header, Total: time.Since(c.start), Outcome: c.outcome,
			})
		}
	})
}

// settle outlives ctx: a caller that has been cancelled still settles. Trouble with the store is for the log alone.
func settle(ctx context.Context, permit breaker.Permit, o breaker.Outcome, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	if _, err := permit.Settle(ctx, o); err != nil && log != nil {
		log.WarnContext(ctx, "outcome not recorded", "agent", permit.Agent(), "outcome", o.Kind, "error", err)
	}
}
