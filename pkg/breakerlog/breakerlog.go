package breakerlog

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/breakerd/breakerd/internal/bounded"
	"github.com/breakerd/breakerd/internal/text"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// Options configures [New]. The zero value is usable.
type Options struct {
	// RefusalInterval is the least time between two lines on refused calls of one agent, for an open breaker may refuse
	// thousands a second. 0: one second. Negative: each refusal is logged.
	RefusalInterval time.Duration
}

const (
	maxClass  = 200 // bytes of an error's class
	maxReason = 500 // characters; a valid reason is not cut
	maxActor  = 128 // characters; likewise

	// maxPaced bounds the agents whose last line on a refusal is remembered. Of more, some may be logged more often.
	maxPaced = 10_000
)

// observer needs no breaker.AgentObserver: what is called for each call looks nothing up.
type observer struct {
	breaker.NopObserver // a bad policy is logged by the Manager

	log      *slog.Logger
	interval time.Duration
	started  time.Time                   // a clock that is set back must not silence an agent
	refusals *bounded.Map[*atomic.Int64] // by agent: when the last was logged, in nanoseconds after started; 0: never
}

var _ breaker.QuietObserver = (*observer)(nil)

// New returns an Observer that logs, as [Component] of log. nil: it logs nothing.
func New(log *slog.Logger, o Options) breaker.Observer {
	return &observer{
		log:      Component(log),
		interval: cmp.Or(o.RefusalInterval, time.Second),
		started:  time.Now(),
		refusals: bounded.New(bounded.Options[*atomic.Int64]{Max: maxPaced}),
	}
}

func (o *observer) enabled(level slog.Level) bool { return o.log.Enabled(context.Background(), level) }

func (o *observer) write(level slog.Level, msg, event, agent string, attrs ...slog.Attr) {
	all := append([]slog.Attr{slog.String("event", "circuit_breaker."+event), slog.String("agent", agent)}, attrs...)
	o.log.LogAttrs(context.Background(), level, msg, all...)
}

// Event implements [breaker.Observer].
func (o *observer) Event(agent string, e breaker.Event, degraded bool) {
	attrs := []slog.Attr{
		slog.String("from", e.From.Upper()), slog.String("to", e.To.Upper()),
		slog.String("reason", text.Clip(e.Text, maxReason)), slog.String("actor", text.Clip(e.Actor, maxActor)),
		slog.Int64("failures", e.Failures), slog.Int64("calls", e.Calls), slog.String("epoch", e.Epoch),
		slog.String("at", time.UnixMilli(e.AtMs).UTC().Format(time.RFC3339Nano)),
	}
	if degraded {
		attrs = append(attrs, slog.Bool("degraded", true))
	}
	if e.Address != "" {
		attrs = append(attrs, slog.String("address", e.Address))
	}
	if d := detail(e); d != "" {
		attrs = append(attrs, slog.String("detail", d))
	}
	level, msg := slog.LevelInfo, "Circuit breaker transitioned to "+e.To.Upper()
	switch {
	case e.Kind == machine.EventRepaired:
		level, msg = slog.LevelWarn, "Circuit breaker keys held bad fields, which were repaired"
	case e.Kind == machine.EventConfigured:
		msg = "Circuit breaker settings changed"
	case e.Kind == machine.EventForgotten:
		msg = "Circuit breaker deleted"
	case e.Kind == machine.EventEditUndone:
		level, msg = slog.LevelWarn, "Circuit breaker keys were edited under a protected hold, and put back"
	case e.To == breaker.Open:
		level, msg = slog.LevelWarn, "Circuit breaker OPENED"
	}
	o.write(level, msg, e.Kind, agent, attrs...)
}

// causeSlowRate is the reason of an event: slow calls opened the breaker [B8], [B13].
const causeSlowRate = "slow_rate"

// detail says what an event means; "" if from, to and reason say it.
func detail(e breaker.Event) string {
	switch {
	case e.Kind == machine.EventManualReset:
		return "Manual reset (was " + e.From.Upper() + ")"
	case e.Kind == machine.EventManualRelease:
		return "Manual release (was " + e.From.Upper() + ")"
	case e.From != breaker.HalfOpen:
		return ""
	case e.Kind == machine.EventClosed:
		return "Recovery confirmed"
	case e.Kind == machine.EventOpened && e.Text == causeSlowRate:
		return "Test requests slow, reopening"
	case e.Kind == machine.EventOpened:
		return "Test request failed, reopening"
	}
	return ""
}

// Probed implements [breaker.Observer].
func (o *observer) Probed(agent string, out breaker.Outcome) {
	if o.enabled(slog.LevelInfo) {
		o.write(slog.LevelInfo, "Circuit breaker half-open test", "half_open_test", agent,
			slog.String("outcome", string(out.Kind)), class(out))
	}
}

func class(out breaker.Outcome) slog.Attr {
	return slog.String("class", text.Line(out.Class, maxClass))
}

// Refused implements [breaker.Observer].
func (o *observer) Refused(agent string, e *breaker.OpenError) {
	if o.enabled(slog.LevelWarn) && o.due(agent) {
		o.write(slog.LevelWarn, "CircuitBreakerOpenError", "refused", agent, slog.String("state", e.State.Upper()),
			slog.String("reason", string(e.Reason)), slog.Float64("retry_after_seconds", e.Wait.Seconds()))
	}
}

// due reports whether a refusal of the agent is to be logged.
func (o *observer) due(agent string) bool {
	if o.interval < 0 {
		return true
	}
	last, ok := o.refusals.Load(agent)
	if !ok {
		last, _ = o.refusals.LoadOrStore(agent, new(atomic.Int64))
	}
	before, now := last.Load(), max(int64(time.Since(o.started)), 1)
	return (before == 0 || now-before >= int64(o.interval)) && last.CompareAndSwap(before, now)
}

// Quiet implements [breaker.QuietObserver].
func (o *observer) Quiet() bool { return !o.enabled(slog.LevelDebug) }

// Settled implements [breaker.Observer].
func (o *observer) Settled(agent string, out breaker.Outcome, r breaker.Report) {
	if o.enabled(slog.LevelDebug) {
		o.settled(agent, out, r)
	}
}

func (o *observer) settled(agent string, out breaker.Outcome, r breaker.Report) {
	msg, event, attrs := "Success recorded", "success", []slog.Attr(nil)
	switch {
	case !r.Counted:
		msg, event = "Outcome not counted", "not_counted"
		attrs = []slog.Attr{slog.String("outcome", string(out.Kind)), slog.String("why", string(r.Why)), class(out)}
	case out.Kind == breaker.Failure && r.Run > 0 && r.Threshold > 0:
		msg, event = fmt.Sprintf("Failure recorded (%d/%d)", r.Run, r.Threshold), "failure"
		attrs = []slog.Attr{class(out)}
	case out.Kind == breaker.Failure:
		msg, event = "Failure recorded", "failure"
		attrs = []slog.Attr{class(out)}
	}
	if out.Duration > 0 {
		attrs = append(attrs, slog.Float64("seconds", out.Duration.Seconds()))
	}
	for _, is := range []struct {
		key   string
		value bool
	}{{"slow", out.Slow}, {"pending", r.Pending}, {"degraded", r.Degraded}} {
		if is.value {
			attrs = append(attrs, slog.Bool(is.key, true))
		}
	}
	o.write(slog.LevelDebug, msg, event, agent, attrs...)
}

// Flushed implements [breaker.Observer]. What counts was logged when it was settled.
func (o *observer) Flushed(agent string, s machine.Summary, r breaker.Report) {
	if !r.Counted && o.enabled(slog.LevelDebug) {
		o.write(slog.LevelDebug, "Outcomes not counted", "not_counted", agent, slog.Int64("calls", s.Calls()),
			slog.Int64("failures", s.Failures), slog.String("why", string(r.Why)))
	}
}
