package breaker

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Do calls fn if agent's breaker admits the call, and reports the outcome. If the breaker refuses, Do returns an
// [*OpenError] and does not call fn; for other errors without a call see [Manager.Acquire]. A nil fn is ErrUnset.
// Otherwise Do returns fn's error, even if the outcome could not be recorded, which is logged. A panic in fn counts as
// a failure and continues. While fn runs, Do renews a probe's lease, and calls inside it may ride on it; see
// [Manager.Enter]. [Call] is Do for a function with a result.
func (m *Manager) Do(ctx context.Context, agent string, fn func(context.Context) error) error {
	if fn == nil {
		return unset("function")
	}
	if !m.ready(ctx) {
		return m.notReady(ctx)
	}
	_, err := call(ctx, m, m.activeBuffer(agent), agent, withoutResult(fn))
	return err
}

// Caller is what [Call] calls through: a [*Manager], or what has one, as *fleet.Fleet.
type Caller interface {
	// Manager returns the Manager. It is the same with every call.
	Manager() *Manager
}

// Manager returns m, which makes it a [Caller].
func (m *Manager) Manager() *Manager { return m }

// Call is [Manager.Do] for a function with a result, which is returned with fn's error, as fn returned both. Without a
// call the result is zero. A nil Caller is ErrUnset.
func Call[T any](
	ctx context.Context, c Caller, agent string, fn func(context.Context) (T, error),
) (result T, err error) {
	switch {
	case c == nil:
		return result, unset("Caller")
	case fn == nil:
		return result, unset("function")
	}
	m := c.Manager()
	if !m.ready(ctx) {
		return result, m.notReady(ctx)
	}
	return call(ctx, m, m.activeBuffer(agent), agent, fn)
}

// CallInfo is what Options.Classify is asked about: a call that has returned.
type CallInfo struct {
	Agent    string
	Err      error         // as the function returned it
	Duration time.Duration // of the function
	Result   any           // of [Call], as the function returned it; nil: of [Manager.Do]
}

// none is the result of a function that has none.
type none = struct{}

func withoutResult(fn func(context.Context) error) func(context.Context) (none, error) {
	return func(ctx context.Context) (none, error) { return none{}, fn(ctx) }
}

// call calls fn, if the gate admits the call, with a permit from memory, if b is the agent's active buffer, or with one
// of the store.
func call[T any](
	ctx context.Context, m *Manager, b *epochBuffer, agent string, fn func(context.Context) (T, error),
) (result T, err error) {
	if refusal := m.pass(agent); refusal != nil {
		return result, refusal
	}
	if b != nil {
		return callBuffered(ctx, b, fn)
	}
	return callWithStore(ctx, m, agent, fn)
}

func callWithStore[T any](
	ctx context.Context, m *Manager, agent string, fn func(context.Context) (T, error),
) (result T, err error) {
	ctx, p, err := m.enter(ctx, agent)
	if err != nil {
		return result, err
	}
	if err := ctx.Err(); err != nil { // it ended while the store was asked: nothing was sent to the agent
		m.settleDetached(ctx, &p, Outcome{Kind: Ignored, Class: "cancelled"})
		return result, err
	}
	stop := p.Keep(ctx)
	start := time.Now()
	outcome := Outcome{Kind: Failure, Class: "panic"} // if fn panics, or ends the goroutine
	defer func() {
		stop()
		outcome.Duration = time.Since(start)
		m.settleDetached(ctx, &p, outcome)
	}()
	result, err = fn(ctx)
	outcome = classify(ctx, m, agent, result, err, time.Since(start))
	return result, err
}

// callBuffered calls neither Classify nor the clock where the outcome does not depend on them, but for the calls that
// are sampled.
func callBuffered[T any](
	ctx context.Context, b *epochBuffer, fn func(context.Context) (T, error),
) (result T, err error) {
	p := b.admit()
	fastPath := b.fastPath.Load()
	w := b.watch(!fastPath || b.slowAfter.Load() > 0)
	returned := false
	defer func() {
		if !returned { // fn panicked, or ended the goroutine
			o := Outcome{Kind: Failure, Class: "panic"}
			w.finish(&o, w.took())
			b.settle(&o)
		}
	}()
	result, err = fn(ctx)
	d := w.took()
	if err == nil && fastPath && !b.isSlow(d) && !b.epochEnded.Load() {
		returned = true
		if b.outcomes.Success() {
			b.enqueue(false)
		}
		b.m.took.note(b.agent, d, w.standsFor)
		return result, nil
	}
	o := classify(ctx, b.m, b.agent, result, err, d)
	returned = true
	w.finish(&o, d)
	if b.joinable(&o) {
		b.settle(&o)
	} else {
		b.m.settleDetached(ctx, &p, o)
	}
	return result, err
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
// ignored, as is an error with a method IgnoredByBreaker() bool that returns true, and one that wraps an [*OpenError]:
// the refusal of a breaker is no evidence. Every other error is a failure, an exceeded deadline included; with a method
// RetryAfter() time.Duration it also says how long the agent asks its callers to wait [B22].
func Classify(ctx context.Context, err error) Outcome {
	if err == nil {
		return Outcome{Kind: Success}
	}
	if _, refused := errors.AsType[*OpenError](err); refused {
		return Outcome{Kind: Ignored, Class: "refused"}
	}
	var ignored interface{ IgnoredByBreaker() bool }
	if ctx != nil && errors.Is(ctx.Err(), context.Canceled) || errors.As(err, &ignored) && ignored.IgnoredByBreaker() {
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
