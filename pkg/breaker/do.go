package breaker

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Do calls fn behind agent's breaker, and records how it ended. A refusal is an *OpenError and fn is not called. Otherwise
// fn's own error comes back as it is: trouble with the store never takes its place. A panic in fn counts as a failure and goes
// on. While fn runs, a probe's lease is renewed in the background.
func (m *Manager) Do(ctx context.Context, agent string, fn func(context.Context) error) error {
	if c := m.bufferOf(agent); c != nil {
		return c.do(ctx, fn)
	}
	return m.doAsking(ctx, agent, fn)
}

func (m *Manager) doAsking(ctx context.Context, agent string, fn func(context.Context) error) error {
	p, err := m.ask(ctx, agent)
	if err != nil {
		return err
	}
	stop := p.Keep(ctx)
	start := time.Now()
	outcome := Outcome{Kind: Failure, Class: "panic"} // stands if fn neither returns nor is recovered here
	defer func() {
		stop()
		outcome.Duration = time.Since(start)
		m.settleLate(ctx, &p, outcome)
	}()
	err = fn(ctx)
	outcome = m.classify(ctx, err)
	return err
}

// settleLate settles a call that Do made: its context may be over, and nobody waits for an error.
func (m *Manager) settleLate(ctx context.Context, p *Permit, o Outcome) {
	ctx, cancel := m.outlive(ctx)
	defer cancel()
	if _, err := p.Settle(ctx, o); err != nil {
		m.o.Logger.WarnContext(ctx, "outcome not recorded", "agent", p.agent, "outcome", o.Kind, "error", err)
	}
}

// Classify is the default reading of a call's result [B4]: no error is a success; a call that its own caller cancelled is
// ignored; everything else, a deadline that the callee overran included, is a failure. An error that has a method
// RetryAfter() time.Duration brings the upstream's wait along [B22], one with IgnoredByBreaker() bool can ask to be ignored.
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
