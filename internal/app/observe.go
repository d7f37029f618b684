package app

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/breakerd/breakerd/internal/metrics"
	"github.com/breakerd/breakerd/internal/text"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// observer hands what breakers do to the metrics, to the log, in the lines that operators grep for, and to the
// quarantine.
type observer struct {
	*metrics.Metrics

	log        *slog.Logger
	quarantine *quarantine
	refusals   pace // per agent; the metric counts them all
}

var _ breaker.Observer = (*observer)(nil)

// Event implements [breaker.Observer].
func (o *observer) Event(agent string, e breaker.Event, degraded bool) {
	o.Metrics.Event(agent, e, degraded)
	attrs := []any{
		"event", "circuit_breaker." + e.Kind, "agent", agent, "from", e.From.Upper(), "to", e.To.Upper(),
		"reason", e.Text, "actor", e.Actor, "failures", e.Failures, "calls", e.Calls, "epoch", e.Epoch,
		"at", time.UnixMilli(e.AtMs).UTC().Format(time.RFC3339Nano),
	}
	if degraded {
		attrs = append(attrs, "degraded", true)
	}
	level, msg := slog.LevelInfo, "Circuit breaker transitioned to "+e.To.Upper()
	switch {
	case e.Kind == machine.EventRepaired:
		level, msg = slog.LevelWarn, "Circuit breaker keys held bad fields, which were repaired"
	case e.Kind == machine.EventEditUndone:
		level, msg = slog.LevelWarn, "Circuit breaker keys were edited under a protected hold, and put back"
	case e.To == breaker.Open:
		level, msg = slog.LevelWarn, "Circuit breaker OPENED"
	}
	o.log.Log(context.Background(), level, msg, attrs...)
}

// Probed implements [breaker.Observer].
func (o *observer) Probed(agent string, out breaker.Outcome) {
	o.Metrics.Probed(agent, out)
	o.log.Info("Circuit breaker half-open test", "event", "circuit_breaker.half_open_test", "agent", agent,
		"outcome", string(out.Kind), "class", text.Line(out.Class, maxClass))
}

// Refused implements [breaker.Observer].
func (o *observer) Refused(agent string, e *breaker.OpenError) {
	o.Metrics.Refused(agent, e)
	o.quarantine.add(sample{
		AgentID: agent, Kind: "refused", State: e.State.Upper(), Reason: string(e.Reason), Degraded: e.Degraded,
	})
	if o.refusals.due(agent) {
		o.log.Warn("CircuitBreakerOpenError", "event", "circuit_breaker.refused", "agent", agent, "state", e.State.Upper(),
			"reason", string(e.Reason), "retry_after_seconds", e.RetryAfter.Seconds())
	}
}

// Settled implements [breaker.Observer]. The quarantine takes no failure of a disabled breaker, which records nothing
// [B21], nor one that belongs to another agent.
func (o *observer) Settled(agent string, out breaker.Outcome, r breaker.Report) {
	o.Metrics.Settled(agent, out, r)
	if out.Kind == breaker.Failure && r.Why != machine.CodeDisabled && r.Why != machine.CodeForeign {
		o.quarantine.add(sample{
			AgentID: agent, Kind: "failure", State: r.State.Upper(), Error: text.Line(out.Class, maxClass),
			Seconds: out.Duration.Seconds(), Degraded: r.Degraded,
		})
	}
}

// pace lets each key through once a second. Its zero value is ready.
type pace struct {
	mu   sync.Mutex
	last map[string]time.Time
}

// paced bounds the keys that a pace remembers. It forgets all of them when there are more.
const paced = 10_000

func (p *pace) due(key string) bool {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Sub(p.last[key]) < time.Second {
		return false
	}
	if p.last == nil || len(p.last) >= paced {
		p.last = map[string]time.Time{}
	}
	p.last[key] = now
	return true
}
