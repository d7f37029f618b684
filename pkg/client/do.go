package client

import (
	"context"
	"errors"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// reportWithin bounds the report that Do sends after a call.
const reportWithin = 5 * time.Second

// Do calls fn if the agent's breaker admits the call, and reports the outcome, as [breaker.Classify] judges it. If the
// breaker refuses, Do returns a [breaker.ErrOpen] and does not call fn; nor does it if no server answers: what to do
// then is the caller's to say. Otherwise Do returns fn's error, even if the outcome could not be reported, which is
// logged. A panic in fn counts as a failure and continues. While fn runs, Do renews a probe's lease.
//
// It takes two round trips to a server. A report without an answer is not sent again, unless nothing of it was sent:
// the outcome of one call may be missing.
func (c *Client) Do(ctx context.Context, agent string, fn func(context.Context) error) error {
	permit, err := c.Acquire(ctx, agent, AcquireRequest{})
	if err != nil {
		return err
	}
	outcome := breaker.Outcome{Kind: breaker.Ignored, Class: "cancelled"} // if ctx has ended: fn is not called
	start := time.Now()
	stop := c.keep(ctx, agent, permit)
	defer func() {
		stop()
		c.settle(ctx, agent, permit.Permit, outcome, time.Since(start))
	}()
	if err := ctx.Err(); err != nil {
		return err
	}
	outcome = breaker.Outcome{Kind: breaker.Failure, Class: "panic"} // if fn panics, or ends the goroutine
	err = fn(ctx)
	outcome = breaker.Classify(ctx, err)
	return err
}

func (c *Client) settle(ctx context.Context, agent, permit string, o breaker.Outcome, took time.Duration) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), reportWithin)
	defer cancel()
	in := ReportRequest{
		Permit: permit, Outcome: string(o.Kind), Error: o.Class, DurationMs: float64(took) / float64(time.Millisecond),
		RetryAfterSeconds: o.RetryAfter.Seconds(),
	}
	if _, err := c.Report(ctx, agent, in, ""); err != nil {
		c.log.WarnContext(ctx, "outcome not reported", "agent", agent, "outcome", o.Kind, "error", err)
	}
}

// keep renews the lease of a probe in the background, each time a third of it has passed, until stop is called or the
// lease is lost. It does not end with ctx: the probe has its place for as long as fn runs.
func (c *Client) keep(ctx context.Context, agent string, permit AcquireReply) (stop func()) {
	third := func(seconds float64) time.Duration {
		return max(time.Duration(seconds*float64(time.Second))/3, time.Millisecond)
	}
	if permit.LeaseSeconds <= 0 {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for wait := third(permit.LeaseSeconds); ; {
			select {
			case <-ctx.Done():
				return
			case <-time.After(wait):
			}
			renewed, err := c.Renew(ctx, agent, RenewRequest{Permit: permit.Permit})
			switch {
			case err == nil:
				wait = third(renewed.LeaseSeconds)
			case ctx.Err() != nil:
				return
			default:
				c.log.WarnContext(ctx, "probe lease not renewed", "agent", agent, "error", err)
				if errors.Is(err, breaker.ErrLeaseLost) {
					return
				}
			}
		}
	}()
	return func() { cancel(); <-done }
}
