package breakerhttp

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// Transport is an http.RoundTripper with a breaker for each agent that is called. Manager is required; every other
// field has a default. A Transport is safe for concurrent use as long as its fields do not change, and must not be
// copied. Agents that differ in their settings may have a Transport each, even for each call, on one Base and one
// Activity.
type Transport struct {
	// Base makes the admitted calls. It must end them when their context ends. nil: http.DefaultTransport.
	Base    http.RoundTripper
	Manager *breaker.Manager
	// Agent names whom a request calls. nil: the host of its URL in lower case and ASCII (IDNA), and its port unless that
	// is the scheme's default: example.com, xn--bcher-kva.example:8443, 127.0.0.1:80. [2001:db8::1] is ip6-2001-db8--1. A
	// call to a host that gives no valid name, such as _service.example, is made without a breaker, and logged once. If
	// Agent is set, a name that is not valid makes the call fail with breaker.ErrBadName: nothing is sent.
	Agent func(*http.Request) string
	// Classify makes an outcome of a response's header, or of the error in its place. It is not asked about a call that
	// its caller has cancelled, and must not read the body. nil: [Outcome].
	Classify func(*http.Response, error) breaker.Outcome
	// Statuses says what the statuses of responses count as. Zero: as [Statuses] says.
	Statuses Statuses
	// Body looks for failures in the bodies of successful responses too. Zero: [StatusOnly].
	Body BodyClassifier
	// Shadow is a classifier whose verdict only Observe receives: what it would have made of the call. Zero: none.
	Shadow BodyClassifier
	// Counts says which calls the breaker is for. The others are made without asking it, and their outcomes are not
	// reported to it. nil: all but OPTIONS and HEAD, which say little about an agent.
	Counts func(*http.Request) bool
	// Activity is shared by Transports that call the same agents. nil: this Transport's own.
	Activity *Activity
	// Timeout bounds the wait for the response's header, and then each wait for more data of its body, so a stream may
	// last as long as it keeps coming; comments and blank lines of an event stream are no data. The clock stops while the
	// request's body waits for the caller, also after the header, and while the caller reads nothing. A longer wait is a
	// failure, and its error a context.DeadlineExceeded. 0: only the request's context bounds the call.
	Timeout time.Duration
	// FirstData bounds the wait for the first data of the response's body, by the same clock. 0: only Timeout does.
	FirstData time.Duration
	// Observe receives every call that was made, once, when its body has ended or was closed. It must return quickly.
	// nil: nobody does.
	Observe func(Timing)
	Logger  *slog.Logger // nil: silent

	unnamed  unnamed
	activity Activity // unless Activity is set
}

// Timing is one call that was made, for metrics.
type Timing struct {
	Agent     string        // "": the host gives no name
	Status    int           // 0: no response, or an unusable one
	Header    time.Duration // until the response's header, or the error in its place
	FirstByte time.Duration // until the first data of the body; Header, if there is none
	Total     time.Duration // until the end of the body
	Outcome   breaker.Outcome
	Shadow    *breaker.Outcome // what Transport.Shadow makes of the call: Kind and Class; nil: nothing
	Late      string           // the class of a failure that came after a probe was settled; "": none
}

// RoundTrip implements http.RoundTripper. Without a permit, Base is not called; a refusal is a *breaker.OpenError, and
// the error of a context that has ended is returned as it is. A call inside a probe may ride on it; see
// [breaker.Manager.Enter].
//
// Otherwise response and error are those of Base, except that an impossible status (below 100 or above 999) and a
// switch to a protocol that the request did not ask for are errors.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	c, err := t.begin(req)
	if err != nil {
		if req != nil && req.Body != nil {
			_ = req.Body.Close() // as every RoundTripper must, also when it fails
		}
		return nil, err
	}
	return c.roundTrip()
}

// begin acquires a permit for a call.
func (t *Transport) begin(req *http.Request) (*call, error) {
	switch {
	case t == nil || t.Manager == nil:
		return nil, fmt.Errorf("breakerhttp: Transport.Manager: %w", breaker.ErrUnset)
	case req == nil || req.URL == nil:
		return nil, fmt.Errorf("breakerhttp: the request's URL: %w", breaker.ErrUnset)
	}
	c := &call{t: t, req: req, ctx: req.Context(), keep: func() {}, activity: cmp.Or(t.Activity, &t.activity)}
	if err := c.enter(); err != nil {
		return nil, err
	}
	c.start = time.Now()
	c.heard = c.activity.begin(c.agent)
	c.before = c.heard.times.Load()
	return c, nil
}

// enter asks the agent's breaker, if it is for this call.
func (c *call) enter() error {
	if !c.name() || !c.counts() {
		return nil
	}
	ctx, permit, err := c.t.Manager.Enter(c.ctx, c.agent)
	switch open, refused := errors.AsType[*breaker.OpenError](err); {
	case refused: // it names the agent itself
		return open
	case err != nil && c.ctx.Err() != nil:
		return err
	case err != nil:
		return fmt.Errorf("ask the breaker of agent %q: %w", c.agent, err)
	}
	if over := c.ctx.Err(); over != nil { // while the store was asked: the agent has no part in it
		settle(c.ctx, permit, ignored("cancelled"), c.t.Logger)
		return over
	}
	c.guarded, c.permit, c.ctx, c.keep = true, permit, ctx, permit.Keep(ctx)
	return nil
}

// name finds out whom the request calls; ok: there is a name.
func (c *call) name() (ok bool) {
	if c.t.Agent != nil {
		c.agent = c.t.Agent(c.req)
		return true
	}
	name, ok := HostName(c.req.URL)
	switch {
	case ok:
		c.agent = name
	case c.t.Logger != nil && c.t.unnamed.first(name):
		c.t.Logger.WarnContext(c.ctx, "called without a breaker: the host gives no valid name for an agent",
			"host", fmt.Sprintf("%.128q", name))
	}
	return ok
}

func (c *call) counts() bool {
	if c.t.Counts != nil {
		return c.t.Counts(c.req)
	}
	return c.req.Method != http.MethodOptions && c.req.Method != http.MethodHead
}

// CloseIdleConnections closes those of Base, if it can. http.Client.CloseIdleConnections calls it.
func (t *Transport) CloseIdleConnections() {
	if b, ok := t.base().(interface{ CloseIdleConnections() }); ok {
		b.CloseIdleConnections()
	}
}

func (t *Transport) base() http.RoundTripper {
	if t != nil && t.Base != nil {
		return t.Base
	}
	return http.DefaultTransport
}
