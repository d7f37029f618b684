// Package view shows breakers and times in JSON, as the APIs of breakerd and of the bridge have them in common.
package view

import (
	"math"
	"strings"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// BreakerEntry is one agent's breaker as lists show it. The first seven fields are the StemeDB runbook's. It is
// exported for huma, which documents embedded fields of exported types only.
type BreakerEntry struct {
	AgentID             string     `json:"agent_id"`
	State               string     `json:"state"                enum:"CLOSED,OPEN,HALF_OPEN"`
	OpenedAt            *string    `json:"opened_at"            format:"date-time"`
	Reason              *string    `json:"reason"               doc:"Why it opened, or the operator's words."`
	FailureCount        int64      `json:"failure_count"        doc:"Closed: in the window now. Else: what it opened on."`
	FailureRate         float64    `json:"failure_rate"         doc:"failure_count over the calls of the same time."`
	TimeoutUntil        *string    `json:"timeout_until"        doc:"Open: when it turns half-open by itself; null: never."         format:"date-time"`
	ConsecutiveFailures int64      `json:"consecutive_failures"`
	Hold                *holdView  `json:"hold,omitempty"       doc:"An operator's decision, if one stands."`
	Probes              *probeView `json:"probes,omitempty"     doc:"The round, while half-open."`
	Ramp                *rampView  `json:"ramp,omitempty"       doc:"A gradual return, while it lasts."`
	Reopens             int64      `json:"reopens"              doc:"Openings since it was last closed, less the first."`
	Totals              totalsView `json:"totals"               doc:"Since the breaker came into being."`
	Epoch               *string    `json:"epoch"                doc:"New with every transition; null: a transition is due, and not in Redis yet."`
	Degraded            bool       `json:"degraded"             doc:"Shown from this replica's memory, because Redis is down, or refuses to show it."`
}

type holdView struct {
	Kind      string  `json:"kind"      enum:"OPEN,CLOSED"`
	Since     *string `json:"since"     format:"date-time"`
	Until     *string `json:"until"     doc:"null: until it is lifted." format:"date-time"`
	Actor     *string `json:"actor"     doc:"null: nobody gave a name."`
	Protected bool    `json:"protected" doc:"Lifted only with force."`
}

type probeView struct {
	Max       int64 `json:"max"       doc:"Test calls of this round, over all replicas."`
	Need      int64 `json:"need"      doc:"Successes that close it."`
	Succeeded int64 `json:"succeeded"`
	Failed    int64 `json:"failed"`
	Live      int   `json:"live"      doc:"Under way now."`
}

type rampView struct {
	Since *string `json:"since" format:"date-time"`
	Until *string `json:"until" format:"date-time"`
}

type totalsView struct {
	Successes   int64 `json:"successes"`
	Failures    int64 `json:"failures"`
	Transitions int64 `json:"transitions"`
}

// Entry shows an agent's breaker.
func Entry(agent string, v breaker.View, p breaker.Policy) BreakerEntry {
	failures, calls := figures(v, p)
	e := BreakerEntry{
		AgentID: agent, State: v.State.Upper(), OpenedAt: Stamp(v.OpenedMs), Reason: TextOrNull(Reason(v)),
		FailureCount: failures, ConsecutiveFailures: v.Run, Reopens: v.Reopens, Epoch: Epoch(v.Epoch), Degraded: v.Degraded,
		Totals: totalsView{Successes: v.Successes, Failures: v.Failures, Transitions: v.Transitions},
	}
	if calls > 0 {
		e.FailureRate = math.Round(float64(failures)/float64(calls)*1e6) / 1e6
	}
	if v.State == breaker.Open {
		e.TimeoutUntil = deadline(v.DeadlineMs())
	}
	if h := v.Hold; h.Kind != "" {
		e.Hold = &holdView{
			Kind: h.Kind.Upper(), Since: Stamp(h.StartMs), Actor: Actor(h.Actor), Protected: h.Protected == 1,
		}
		if h.LengthMs > 0 {
			e.Hold.Until = deadline(v.DeadlineMs())
		}
	}
	if v.State == breaker.HalfOpen {
		e.Probes = &probeView{
			Max: v.Round.Max, Need: v.Round.Need, Succeeded: v.Round.OK, Failed: v.Round.Failed, Live: len(v.Leases),
		}
	}
	if v.Ramp.LengthMs > 0 {
		e.Ramp = &rampView{Since: Stamp(v.Ramp.StartMs), Until: deadline(v.Ramp.StartMs + v.Ramp.LengthMs)}
	}
	return e
}

// figures are the failures and calls of the window, or of the evidence that the breaker opened on.
func figures(v breaker.View, p breaker.Policy) (failures, calls int64) {
	if v.State != breaker.Closed && v.Evidence != (machine.Evidence{}) {
		return v.Evidence.Failures, v.Evidence.Calls
	}
	w := v.Window(v.NowMs, p.WindowSize.Milliseconds())
	return w.Failures, w.Failures + w.Successes
}

// Reason is why a breaker opened, or the operator's words. The snapshot keeps its beginning only, the log all of it.
func Reason(v breaker.View) string {
	for _, e := range v.Log {
		if len(e.Text) > len(v.Cause) && v.Cause != "" && machine.Clip(e.Text) == v.Cause {
			return e.Text
		}
	}
	return v.Cause
}

// Epoch is an epoch of the store. A transition that is due has none yet: inspect, which saves nothing [B11], numbers it
// from a draw of zeros.
func Epoch(epoch string) *string {
	if strings.HasPrefix(epoch, machine.ZeroEpoch[1:]) && epoch != machine.ZeroEpoch {
		return nil
	}
	return &epoch
}

// Actor is who made a change; nil for the breaker itself.
func Actor(actor string) *string {
	if actor == "-" {
		return nil
	}
	return TextOrNull(actor)
}

// Stamp is a time as JSON shows it: UTC, whole seconds; nil for 0.
func Stamp(ms int64) *string {
	if ms == 0 {
		return nil
	}
	text := time.UnixMilli(ms).UTC().Format(time.RFC3339)
	return &text
}

// deadline is Stamp rounded up: at the time shown, the deadline has passed.
func deadline(ms int64) *string {
	if ms == 0 {
		return nil
	}
	return Stamp((ms + 999) / 1000 * 1000)
}

// TextOrNull is s; nil for "".
func TextOrNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
