package httpapi

import (
	"errors"
	"math"
	"strings"
	"time"

	"github.com/breakerd/breakerd/internal/policy"
	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/text"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// BreakerEntry is one agent's breaker as lists show it; the first seven fields are the StemeDB runbook's. It is exported, so that
// the OpenAPI document shows it where it is embedded.
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
	Epoch               string     `json:"epoch"                doc:"New with every transition."`
	Degraded            bool       `json:"degraded"             doc:"Shown from this replica's memory, because Redis is away."`
}

type holdView struct {
	Kind      string  `json:"kind"      enum:"OPEN,CLOSED"`
	Since     *string `json:"since"     format:"date-time"`
	Until     *string `json:"until"     doc:"null: until it is lifted." format:"date-time"`
	Actor     string  `json:"actor"`
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

// breakerDetail is one agent's breaker in full.
type breakerDetail struct {
	BreakerEntry
	Policy        map[string]policyValue `json:"policy"              doc:"Each value by name, and where it came from."`
	PolicyProblem string                 `json:"policy_problem,omitempty" doc:"Why the override in Redis is not in force; the last good policy is."`
	Reporters     map[string]string      `json:"reporters,omitempty" doc:"With minimum_reporters: who failed, and when last."`
}

type policyValue struct {
	Value  any    `json:"value"`
	Origin string `json:"origin"`
}

// entryOf shows a view.
func entryOf(agent string, v breaker.View, p breaker.Policy) BreakerEntry {
	failures, calls := figures(v, p)
	e := BreakerEntry{
		AgentID: agent, State: v.State.Upper(), OpenedAt: stamp(v.OpenedMs), Reason: textOrNull(wholeReason(v)),
		FailureCount: failures, ConsecutiveFailures: v.Run, Reopens: v.Reopens, Epoch: v.Epoch, Degraded: v.Degraded,
		Totals: totalsView{Successes: v.Successes, Failures: v.Failures, Transitions: v.Transitions},
	}
	if calls > 0 {
		e.FailureRate = math.Round(float64(failures)/float64(calls)*1e6) / 1e6
	}
	if v.State == breaker.Open {
		e.TimeoutUntil = deadline(v.DeadlineMs())
	}
	if h := v.Hold; h.Kind != "" {
		e.Hold = &holdView{Kind: h.Kind.Upper(), Since: stamp(h.StartMs), Actor: h.Actor, Protected: h.Protected == 1}
		if h.LengthMs > 0 {
			e.Hold.Until = deadline(v.DeadlineMs())
		}
	}
	if v.State == breaker.HalfOpen {
		e.Probes = &probeView{Max: v.Round.Max, Need: v.Round.Need, Succeeded: v.Round.OK, Failed: v.Round.Failed, Live: len(v.Leases)}
	}
	if v.Ramp.LengthMs > 0 {
		e.Ramp = &rampView{Since: stamp(v.Ramp.StartMs), Until: deadline(v.Ramp.StartMs + v.Ramp.LengthMs)}
	}
	return e
}

// figures are the failures and calls that the breaker opened on, or while it is closed those of its window.
func figures(v breaker.View, p breaker.Policy) (failures, calls int64) {
	if v.State != breaker.Closed && v.Evidence != (machine.Evidence{}) {
		return v.Evidence.Failures, v.Evidence.Calls
	}
	w := v.Window(v.NowMs, p.WindowSize.Milliseconds())
	return w.Failures, w.Failures + w.Successes
}

// wholeReason is the cause; the snapshot keeps only its beginning, the log all of it.
func wholeReason(v breaker.View) string {
	for _, e := range v.Log {
		if len(e.Text) > len(v.Cause) && v.Cause != "" && machine.Clip(e.Text) == v.Cause {
			return e.Text
		}
	}
	return v.Cause
}

// inspect shows one agent that is known, or says that it is not. While Redis is away it shows what this replica remembers.
func (a *api) inspect(r *request) (breaker.View, breaker.Policy, error) {
	err := a.known(r)
	if err != nil && !errors.Is(err, breaker.ErrStoreUnavailable) {
		return breaker.View{}, breaker.Policy{}, err
	}
	v, p, inspectErr := a.Manager.Inspect(r.ctx(), r.agent)
	if inspectErr != nil {
		return v, p, inspectErr
	}
	if err != nil && (!v.Degraded || !v.Present) {
		return v, p, err
	}
	return v, p, nil
}

// known refuses an agent that nobody ever heard of: a typo must not make a breaker.
func (a *api) known(r *request) error {
	ok, err := a.Directory.Known(r.ctx(), r.agent)
	if err == nil && !ok {
		p := problem.New(problem.AgentUnknown, "no agent %s has a breaker, an override or a profile, or was seen within 30 days", r.agent)
		p.Agent = r.agent
		return p
	}
	return err
}

// detail is GET of one breaker.
func (a *api) detail(r *request, _ none) (answer[breakerDetail], error) {
	v, p, err := a.inspect(r)
	if err != nil {
		return answer[breakerDetail]{}, err
	}
	out := breakerDetail{BreakerEntry: entryOf(r.agent, v, p), Policy: map[string]policyValue{}}
	p, origins, err := a.Policies.Describe(r.ctx(), r.agent)
	if err != nil {
		out.PolicyProblem = text.Clip(err.Error(), maxMessage)
	}
	for _, f := range policy.Fields(p) {
		out.Policy[f.Name] = policyValue{Value: f.Value, Origin: origins[f.Name]}
	}
	for name, at := range v.Reporters {
		if out.Reporters == nil {
			out.Reporters = map[string]string{}
		}
		out.Reporters[name] = *stamp(max(at, 1))
	}
	return answer[breakerDetail]{body: out}, nil
}

// eventView is one line of an agent's log.
type eventView struct {
	At       string  `json:"at"       doc:"When it fell due, which may be before it was noticed." format:"date-time"`
	AtMs     int64   `json:"at_ms"    doc:"The same, milliseconds since 1970."`
	Event    string  `json:"event"    doc:"opened, half_opened, closed, manual_open, manual_close, manual_reset, hold_expired, hand_edit, hand_restored, healed, configured"`
	From     *string `json:"from"     enum:"CLOSED,OPEN,HALF_OPEN"`
	To       *string `json:"to"       enum:"CLOSED,OPEN,HALF_OPEN"`
	Epoch    string  `json:"epoch"`
	Actor    *string `json:"actor"    doc:"null: the breaker itself."`
	Reason   string  `json:"reason"`
	Failures int64   `json:"failures"`
	Calls    int64   `json:"calls"`
	Run      int64   `json:"consecutive_failures"`
	Slow     int64   `json:"slow"`
}

type eventsReply struct {
	Events []eventView `json:"events" doc:"Newest first, at most 64." nullable:"false"`
}

func (a *api) events(r *request, _ none) (answer[eventsReply], error) {
	v, _, err := a.inspect(r)
	if err != nil {
		return answer[eventsReply]{}, err
	}
	out := eventsReply{Events: []eventView{}}
	for _, e := range v.Log {
		out.Events = append(out.Events, eventView{
			At: time.UnixMilli(e.AtMs).UTC().Format(time.RFC3339), AtMs: e.AtMs, Event: e.Kind, Epoch: e.Epoch, Reason: e.Text,
			From: textOrNull(e.From.Upper()), To: textOrNull(e.To.Upper()), Actor: textOrNull(strings.TrimPrefix(e.Actor, "-")),
			Failures: e.Failures, Calls: e.Calls, Run: e.Run, Slow: e.Slow,
		})
	}
	return answer[eventsReply]{body: out}, nil
}
