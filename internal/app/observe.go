package app

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	"github.com/breakerd/breakerd/internal/text"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// observers tells several observers the same.
type observers []breaker.Observer

func (o observers) Admitted(agent string, p breaker.Permit) {
	for _, x := range o {
		x.Admitted(agent, p)
	}
}

func (o observers) Refused(agent string, e *breaker.OpenError) {
	for _, x := range o {
		x.Refused(agent, e)
	}
}

func (o observers) Settled(agent string, out breaker.Outcome, r breaker.Report) {
	for _, x := range o {
		x.Settled(agent, out, r)
	}
}

func (o observers) Flushed(agent string, sum machine.Summary, r breaker.Report) {
	for _, x := range o {
		x.Flushed(agent, sum, r)
	}
}

func (o observers) Probed(agent string, out breaker.Outcome) {
	for _, x := range o {
		x.Probed(agent, out)
	}
}

func (o observers) Event(agent string, e breaker.Event, degraded bool) {
	for _, x := range o {
		x.Event(agent, e, degraded)
	}
}

func (o observers) StoreCall(v machine.Verb, took time.Duration, err error) {
	for _, x := range o {
		x.StoreCall(v, took, err)
	}
}

func (o observers) PolicyRejected(agent string, err error) {
	for _, x := range o {
		x.PolicyRejected(agent, err)
	}
}

// logObserver writes the lines that operators grep for (deployment guide and runbook).
type logObserver struct {
	breaker.NopObserver
	log     *slog.Logger
	refused pace // per agent; the metric counts them all
}

// pace lets each key through once a second. Its zero value is ready.
type pace struct {
	mu   sync.Mutex
	last map[string]time.Time
}

// paced bounds the keys that a pace remembers; with more it forgets them all.
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

func newLogObserver(log *slog.Logger) *logObserver {
	return &logObserver{log: log}
}

func (l *logObserver) Event(agent string, e breaker.Event, degraded bool) {
	attrs := []any{
		"event", "circuit_breaker." + e.Kind, "agent", agent, "from", e.From.Upper(), "to", e.To.Upper(),
		"reason", e.Text, "actor", e.Actor, "failures", e.Failures, "calls", e.Calls, "epoch", e.Epoch,
		"at", time.UnixMilli(e.AtMs).UTC().Format(time.RFC3339Nano),
	}
	if degraded {
		attrs = append(attrs, "degraded", true)
	}
	level, text := slog.LevelInfo, "Circuit breaker transitioned to "+e.To.Upper()
	switch {
	case e.Kind == machine.EventRepaired:
		level, text = slog.LevelWarn, "Circuit breaker keys held what they cannot hold, and were healed"
	case e.Kind == machine.EventEditUndone:
		level, text = slog.LevelWarn, "Circuit breaker keys were edited under a protected hold, and put back"
	case e.To == breaker.Open:
		level, text = slog.LevelWarn, "Circuit breaker OPENED"
	}
	l.log.Log(context.Background(), level, text, attrs...)
}

func (l *logObserver) Probed(agent string, o breaker.Outcome) {
	l.log.Info("Circuit breaker half-open test", "event", "circuit_breaker.half_open_test", "agent", agent,
		"outcome", string(o.Kind), "class", text.Line(o.Class, maxClass))
}

func (l *logObserver) Refused(agent string, e *breaker.OpenError) {
	if !l.refused.due(agent) {
		return
	}
	l.log.Warn("CircuitBreakerOpenError", "event", "circuit_breaker.refused", "agent", agent, "state", e.State.Upper(),
		"reason", string(e.Reason), "retry_after_seconds", e.RetryAfter.Seconds())
}

// maxClass bounds a caller's error class in a log line or a list, in bytes.
const maxClass = 200

// quarantine keeps samples of failed and refused calls: at most one a second and agent, from this replica.
type quarantine struct {
	breaker.NopObserver
	push    func(ctx context.Context, agent, item string) error
	replica string
	items   chan sample
	pace    pace
}

type sample struct{ agent, text string }

// sampleItem is one item of GET /v1/admin/quarantine.
type sampleItem struct {
	At       string  `json:"at"`
	AgentID  string  `json:"agent_id"`
	Kind     string  `json:"kind"` // failure or refused
	State    string  `json:"state,omitempty"`
	Reason   string  `json:"reason,omitempty"`
	Error    string  `json:"error,omitempty"`
	Seconds  float64 `json:"duration_seconds,omitempty"`
	Replica  string  `json:"replica"`
	Degraded bool    `json:"degraded,omitempty"`
}

func newQuarantine(push func(ctx context.Context, agent, item string) error, replica string) *quarantine {
	return &quarantine{push: push, replica: replica, items: make(chan sample, 256)}
}

// Settled keeps nothing where the breaker is off: that records nothing [B21]. Nor of what belongs to another agent.
func (q *quarantine) Settled(agent string, o breaker.Outcome, r breaker.Report) {
	if o.Kind == breaker.Failure && r.Why != machine.CodeDisabled && r.Why != machine.CodeForeign {
		q.add(sampleItem{
			AgentID: agent, Kind: "failure", State: r.State.Upper(), Error: text.Line(o.Class, maxClass),
			Seconds: o.Duration.Seconds(), Degraded: r.Degraded,
		})
	}
}

func (q *quarantine) Refused(agent string, e *breaker.OpenError) {
	q.add(sampleItem{AgentID: agent, Kind: "refused", State: e.State.Upper(), Reason: string(e.Reason), Degraded: e.Degraded})
}

// add never waits: a sample that finds the queue full, or comes within a second of the last, is dropped.
func (q *quarantine) add(item sampleItem) {
	if !q.pace.due(item.AgentID + " " + item.Kind) {
		return
	}
	now := time.Now()
	item.At, item.Replica = now.UTC().Format(time.RFC3339), q.replica
	text, err := json.Marshal(item)
	if err != nil {
		return
	}
	select {
	case q.items <- sample{item.AgentID, string(text)}:
	default:
	}
}

// run writes samples until ctx ends. A store that is away loses them: they are samples.
func (q *quarantine) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-q.items:
			if q.push(ctx, s.agent, s.text) != nil {
				continue
			}
		}
	}
}
