package breaker

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Do calls fn if agent's breaker admits the call, and reports the outcome. If the breaker refuses, Do returns an
// [*OpenError] and does not call fn; for other errors without a call see [Manager.Acquire]. Otherwise it returns fn's
// error, even if the outcome could not be recorded, which is logged. A panic in fn counts as a failure and continues.
// While fn runs, Do renews a probe's lease.
func (m *Manager) Do(ctx context.Context, agent string, fn func(context.Context) error) error {
	if b := m.activeBuffer(agent); b != nil {
		return b.do(ctx, fn)
	}
	return m.doWithStore(ctx, agent, fn)
}

func (m *Manager) doWithStore(ctx context.Context, agent string, fn func(context.Context) error) error {
	p, err := m.acquireFromStore(ctx, agent)
	if err != nil {
		return err
	}
	stop := p.Keep(ctx)
	start := time.Now()
	outcome := Outcome{Kind: Failure, Class: "panic"} // if fn or Classify panics, or ends the goroutine
	defer func() {
		stop()
		outcome.Duration = time.Since(start)
		m.settleDetached(ctx, &p, outcome)
	}()
	err = fn(ctx)
	outcome = m.o.Classify(ctx, err)
	return err
}

// settleDetached settles a permit although ctx may have ended, and logs an error that nobody waits for.
func (m *Manager) settleDetached(ctx context.Context, p *Permit, o Outcome) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	if _, err := p.Settle(ctx, o); err != nil {
		m.o.Logger.WarnContext(ctx, "outcome not recorded", "agent", p.agent, "outcome", o.Kind, "error", err)
	}
}

// Classify is the default of [Options].Classify [B4]. No error is a success. A call that its own caller cancelled is
// ignored, as is an error with a method IgnoredByBreaker() bool that returns true. Every other error is a failure, an
// exceeded deadline included; with a method RetryAfter() time.Duration it also says how long the agent asks its callers
// to wait [B22].
func Classify(ctx context.Context, err error) Outcome {
	if err == nil {
		return Outcome{Kind: Success}
	}
	var ignored interface{ IgnoredByBreaker() bool }
	if errors.Is(ctx.Err(), context.Canceled) || errors.As(err, &ignored) && ignored.IgnoredByBreaker() {
		return Outcome{Kind: Ignored, Class: "cancelled"}
	}
	o := Outcome{Kind: Failure, Class: fmt.Sprintf("%T", err)}
	if errors.Is(err, context.DeadlineExceeded) {
		o.Class = "timeout"
	}
	var wait interface{ RetryAfter() time.Duration }
	if errors.As(err, &wait) {
		o.RetryAfter = wait.RetryAfter()
	}
	return o
}
