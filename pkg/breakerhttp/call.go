package breakerhttp

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// call is one call out, from its permit to the end of its response's body.
type call struct {
	t       *Transport
	req     *http.Request   // the caller's, which must not be changed
	ctx     context.Context //nolint:containedctx // the request's; of a probe, with its permit
	agent   string          // "": it has no name
	guarded bool            // there is a permit
	permit  breaker.Permit
	keep    func() // ends the renewal of a probe's lease
	start   time.Time

	activity *Activity
	heard    *heard             // of the agent
	before   uint64             // how often it was heard before the call
	conn     *connection        // nil: Base was not called
	clocks   *clocks            // nil: none
	upload   *upload            // nil: the request has no body
	cancel   context.CancelFunc // ends the call; nil: only the caller's context does
	unlink   func() bool        // the cancel of a probe from its caller's context; nil: it is not linked
	goesOn   bool               // without its caller
	status   int
	header   time.Duration // from start to the header, or to the error in its place
	body     *body         // nil: the response has none

	settled   sync.Once
	isSettled atomic.Bool
	outcome   breaker.Outcome // once settled
	observed  sync.Once
}

// roundTrip calls Base. It settles failures; a success is settled at the end of its body.
func (c *call) roundTrip() (*http.Response, error) {
	out := c.outgoing()
	returned := false
	defer func() {
		if !returned { // Base has panicked, or ended its goroutine
			c.header = time.Since(c.start)
			c.end(breaker.Outcome{Kind: breaker.Failure, Class: "panic"})
			c.release()
		}
	}()
	resp, err := c.send(out)
	returned = true
	if errors.Is(err, errGoesOn) {
		return nil, cmp.Or(c.ctx.Err(), context.Canceled) // the other: by Request.Cancel
	}
	return c.answered(resp, err)
}

// answered takes Base's answer.
func (c *call) answered(resp *http.Response, err error) (*http.Response, error) {
	c.clocks.header()
	c.header = time.Since(c.start)
	if err == nil {
		c.heard.note()
		err = checkResponse(c.req, resp)
	}
	if err != nil {
		err = c.clocks.explain(err)
		c.end(c.headerOutcome(nil, err))
		c.release()
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

// isProbe reports whether the call holds a place of a half-open round. One that rides on a probe does not.
func (c *call) isProbe() bool {
	return c.guarded && c.permit.State() == breaker.HalfOpen && c.permit.Lease() > 0
}

// policy is the agent's; for the paths that few calls take.
func (c *call) policy() breaker.Policy {
	if !c.guarded {
		return breaker.DefaultPolicy()
	}
	return c.t.Manager.Policy(context.WithoutCancel(c.ctx), c.agent)
}

// outgoing is the request as Base gets it.
func (c *call) outgoing() *http.Request {
	ctx := c.ctx
	if c.isProbe() {
		ctx = c.detach(ctx)
	}
	sends := c.req.Body != nil && c.req.Body != http.NoBody
	if c.t.Timeout > 0 || c.t.FirstData > 0 || c.isProbe() && sends {
		ctx = c.startClocks(ctx)
	}
	c.conn = &connection{}
	out := c.req.WithContext(c.conn.trace(ctx, c.heard))
	if c.isProbe() {
		out.Cancel = nil //nolint:staticcheck // see goOn
	}
	if c.t.Body.readsBodies() || c.isProbe() { // Base may have a probe's when its caller has left
		if out.Header = out.Header.Clone(); out.Header == nil {
			out.Header = http.Header{}
		}
		c.t.Body.acceptEncoding(out.Header)
	}
	if sends {
		c.upload = &upload{start: c.start, clocks: c.clocks}
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
	allowResend(out)
	return out
}

// startClocks bounds the waits of the call.
func (c *call) startClocks(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	if outer := c.cancel; outer != nil {
		c.cancel = func() { cancel(); outer() }
	} else {
		c.cancel = cancel
	}
	c.clocks = &clocks{
		agent: c.agent,
		stall: countdown{limit: c.t.Timeout, class: classTimeout, expire: cancel},
		first: countdown{limit: c.t.FirstData, class: classFirstToken, expire: cancel},
	}
	if c.isProbe() {
		c.clocks.upload = countdown{limit: c.permit.Lease(), expire: func() {
			o := ignored("slow_request_body")
			o.Duration = time.Since(c.start) // that of the header is being found out
			c.settle(o)
		}}
	}
	c.clocks.start()
	return ctx
}

// release ends the call's context, and with it all that still depends on it.
func (c *call) release() {
	c.clocks.stop()
	if c.unlink != nil {
		c.unlink()
	}
	if c.cancel != nil {
		c.cancel()
	}
}

// followBody settles what the header decides, and has the end of the body settle the rest.
func (c *call) followBody(resp *http.Response) {
	o := c.headerOutcome(resp, nil)
	switch {
	case resp.StatusCode == http.StatusSwitchingProtocols:
		c.followTunnel(resp)
		return
	case resp.Body == nil, resp.Body == http.NoBody: // after any other body trailers may come
		resp.Body = http.NoBody
		c.body = newBody(c, resp, o)
		resp.Body = c.body     // for Verdict
		c.end(c.body.finish()) // the header may have a grpc-status, and a stream without an event is not complete
		c.release()
		return
	}
	c.body = newBody(c, resp, o)
	resp.Body = c.body
	if o.Kind != breaker.Success {
		c.settle(o)
		return
	}
	c.body.unwatch = context.AfterFunc(c.req.Context(), func() { // a caller may leave without reading or closing the body
		if c.cancelled() {
			c.settle(c.body.left())
		}
	})
}

// headerOutcome is the outcome of a header, or of the error in its place.
func (c *call) headerOutcome(resp *http.Response, err error) breaker.Outcome {
	switch {
	case err != nil && c.cancelled():
		return c.leftOutcome()
	case c.upload.broke(): // whatever the agent answered to half a request
		return ignored("request_body")
	case err != nil && c.stale(err):
		return ignored("stale_connection")
	}
	standard := func() breaker.Outcome { return c.standardOutcome(resp, err) }
	if c.t.Classify == nil {
		return standard()
	}
	return classified(c.t.Logger, c.agent, func() breaker.Outcome { return c.t.Classify(resp, err) }, standard)
}

// standardOutcome is headerOutcome where the user does not say.
func (c *call) standardOutcome(resp *http.Response, err error) breaker.Outcome {
	switch {
	case err != nil && c.deadlinePassed(): // http.Client.Timeout makes it look like a cancellation
		return breaker.Outcome{Kind: breaker.Failure, Class: classTimeout}
	case err != nil: // the caller has not cancelled, even if the error says so
		return errorOutcome(context.WithoutCancel(c.req.Context()), err)
	case resp.StatusCode == http.StatusSwitchingProtocols:
		return breaker.Outcome{Kind: breaker.Success}
	}
	return c.t.Statuses.outcome(resp)
}

// leftOutcome is the outcome of a call whose caller has given up before the header [B4].
func (c *call) leftOutcome() breaker.Outcome {
	since, owes := c.upload.agentOwes()
	if !owes || !c.guarded || c.heard.times.Load() != c.before {
		return ignored("cancelled")
	}
	if after := c.policy().Abandoned; after <= 0 || time.Since(c.start)-since < after {
		return ignored("cancelled")
	}
	return breaker.Outcome{Kind: breaker.Failure, Class: "abandoned"}
}

// brokenOutcome is the outcome of a successful response whose body ends with an error.
func (c *call) brokenOutcome(err error) breaker.Outcome {
	switch class := timeoutClass(err); {
	case c.cancelled(), c.goesOn && errors.Is(err, context.Canceled):
		return c.body.left()
	case c.upload.broke():
		return ignored("request_body")
	case class != "":
		return breaker.Outcome{Kind: breaker.Failure, Class: class}
	case c.deadlinePassed():
		return breaker.Outcome{Kind: breaker.Failure, Class: classTimeout}
	}
	return breaker.Outcome{Kind: breaker.Failure, Class: "broken_stream"}
}

func ignored(class string) breaker.Outcome {
	return breaker.Outcome{Kind: breaker.Ignored, Class: class}
}

// cancelled says that the caller has given up the call other than by a deadline, and the call with it.
func (c *call) cancelled() bool {
	ctx := c.req.Context()
	switch err := ctx.Err(); {
	case c.goesOn:
		return false
	case err != nil:
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
		c.keep()
		if o.Duration == 0 {
			o.Duration = c.responseTime()
		}
		c.outcome = o
		if c.guarded {
			settle(c.req.Context(), c.permit, o, c.t.Logger)
		}
		c.isSettled.Store(true)
	})
}

// responseTime is the time until the first data of the body, or the header if there is none [B8].
func (c *call) responseTime() time.Duration {
	if c.body != nil {
		if first := time.Duration(c.body.first.Load()); first > 0 {
			return first
		}
	}
	return c.header
}

// end settles the call if nothing has, and reports it to Transport.Observe.
func (c *call) end(o breaker.Outcome) {
	c.settle(o)
	c.observed.Do(func() {
		c.activity.end(c.agent, c.heard)
		if c.t.Observe == nil {
			return
		}
		x := Timing{
			Agent: c.agent, Status: c.status, Header: c.header, FirstByte: c.responseTime(), Total: time.Since(c.start),
			Outcome: c.outcome,
		}
		if c.body != nil {
			x.Shadow = c.body.shadowOutcome()
		}
		if o.Kind == breaker.Failure && c.outcome.Kind != breaker.Failure {
			x.Late = o.Class
		}
		defer recovered(c.t.Logger, c.agent, "Transport.Observe")
		c.t.Observe(x)
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
