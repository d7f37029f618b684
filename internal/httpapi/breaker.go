package httpapi

import (
	"cmp"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/breakerd/breakerd/internal/access"
	"github.com/breakerd/breakerd/internal/policy"
	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/route"
	"github.com/breakerd/breakerd/internal/text"
	"github.com/breakerd/breakerd/internal/view"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// breakerDetail is one agent's breaker with its policy.
type breakerDetail struct {
	view.BreakerEntry
	Policy        map[string]policyValue `json:"policy"              doc:"Each value by name, and where it came from."`
	PolicyProblem string                 `json:"policy_problem,omitempty" doc:"Why the override in Redis is not in force; the last good policy is."`
	Series        *seriesView            `json:"series"              doc:"Its calls over an hour, where HISTORY_MINUTES keeps that, else over its window."`
	Leases        []leaseView            `json:"leases"              doc:"Of probes that are under way, the oldest first." nullable:"false"`
	Reporters     map[string]string      `json:"reporters,omitempty" doc:"With minimum_reporters: who failed, and when last."`
	Latency       *view.Latency          `json:"latency,omitempty"   doc:"How long its calls took in about the last ten minutes, on all replicas; missing: none was measured."`
}

// leaseView is one probe that is under way. Who makes the call is not on record.
type leaseView struct {
	Permit string `json:"permit" doc:"The middle of its permit, 16 hex digits."`
	Since  string `json:"since"  format:"date-time"`
	Until  string `json:"until"  format:"date-time" doc:"When its place is free again, unless it is reported or renewed."`
}

type policyValue struct {
	Value  any    `json:"value"`
	Origin string `json:"origin"`
}

// inspect gives the breaker of an agent that is known. While Redis is down, it is what this replica remembers.
func (a *api) inspect(r *route.Request) (breaker.View, breaker.Policy, error) {
	err := a.known(r)
	if err != nil && !errors.Is(err, breaker.ErrStoreUnavailable) {
		return breaker.View{}, breaker.Policy{}, err
	}
	v, p, inspectErr := a.Manager.Inspect(r.Context(), r.Agent)
	if inspectErr != nil {
		return v, p, inspectErr
	}
	if err != nil && (!v.Degraded || !v.Present) {
		return v, p, err
	}
	return v, p, nil
}

// known refuses an agent that is not known: a typo must not make a breaker.
func (a *api) known(r *route.Request) error {
	ok, err := a.Directory.Known(r.Context(), r.Agent)
	if err == nil && !ok {
		p := problem.New(problem.AgentUnknown,
			"no agent %s has a breaker, an override or a profile, or was seen within 30 days", r.Agent)
		p.Agent, p.Nearest = r.Agent, a.nearest(r.Context(), r.Agent)
		return p
	}
	return err
}

// detail is GET of one breaker.
func (a *api) detail(r *route.Request, _ route.None) (out breakerDetail, err error) {
	v, p, err := a.inspect(r)
	if err != nil {
		return out, err
	}
	out = breakerDetail{BreakerEntry: view.Entry(r.Agent, v, p), Policy: map[string]policyValue{}}
	p, origins, err := a.Policies.Describe(r.Context(), r.Agent)
	if err != nil {
		out.PolicyProblem = text.Clip(err.Error(), route.MaxMessage)
	}
	if p.HalfOpenSuccessThreshold == 0 { // all probes of a round
		p.HalfOpenSuccessThreshold = p.HalfOpenMaxCalls
	}
	for _, f := range policy.Fields(p) {
		out.Policy[f.Name] = policyValue{Value: f.Value, Origin: origins[f.Name]}
	}
	out.Series, out.Leases = a.seriesOrWindow(r.Context(), r.Agent, v, p), leases(v)
	out.Latency = a.latencyOf(r.Context(), r.Agent)
	for name, at := range v.Reporters {
		if out.Reporters == nil {
			out.Reporters = map[string]string{}
		}
		out.Reporters[name] = *view.Stamp(max(at, 1))
	}
	return out, nil
}

func leases(v breaker.View) []leaseView {
	out := make([]leaseView, 0, len(v.Leases))
	for token, l := range v.Leases {
		out = append(out, leaseView{
			Permit: token, Since: *view.Stamp(max(l.IssuedMs, 1)), Until: *view.Stamp(max(l.StartMs+l.LengthMs, 1)),
		})
	}
	slices.SortFunc(out, func(x, y leaseView) int {
		return cmp.Or(strings.Compare(x.Since, y.Since), strings.Compare(x.Permit, y.Permit))
	})
	return out
}

type historyReply struct {
	AgentID     string       `json:"agent_id"`
	KeptMinutes int          `json:"kept_minutes" doc:"HISTORY_MINUTES of this replica. 0: it keeps none, and minutes shows the window alone."`
	NowMs       int64        `json:"now_ms"       doc:"Redis' clock."`
	Minutes     []minuteView `json:"minutes"      doc:"Oldest first; one without a call is left out." nullable:"false"`
}

type minuteView struct {
	At       string `json:"at"       format:"date-time" doc:"When the minute began. A call counts in the minute in which its bucket of the window began."`
	Calls    int64  `json:"calls"`
	Failures int64  `json:"failures"`
	Slow     int64  `json:"slow"`
}

// mostMinutes is the largest HISTORY_MINUTES.
const mostMinutes = 1440

func (a *api) historyRoute() {
	const minutes = "How many minutes back, the current one included; without it, all that is kept."
	whole := &huma.Schema{Type: huma.TypeInteger, Minimum: new(1.0), Maximum: new(float64(mostMinutes))}
	route.Serve(a.API, route.Operation{
		Route: "GET " + oneAdminPath + "/history", ID: "getHistory", Role: access.Read, Tag: "breakers",
		Summary: "Its calls, failures and slow calls by minute, as far back as HISTORY_MINUTES keeps them",
		Codes:   []problem.Code{problem.AgentUnknown, problem.StoreUnavailable, problem.InvalidValue},
		Params:  []*huma.Param{route.QueryParam("minutes", minutes, whole)},
	}, a.history)
}

// history is what was called, minute by minute.
func (a *api) history(r *route.Request, _ route.None) (out historyReply, err error) {
	q, err := r.Params()
	if err != nil {
		return out, err
	}
	last, err := route.Whole(q, "minutes", mostMinutes)
	if err != nil {
		return out, err
	}
	if err = a.known(r); err != nil {
		return out, err
	}
	if err = a.Manager.Flush(r.Context(), r.Agent); err != nil {
		return out, err
	}
	h, err := a.Keys.History(r.Context(), r.Agent)
	if err != nil {
		return out, err
	}
	out = historyReply{AgentID: r.Agent, KeptMinutes: h.Kept, NowMs: h.NowMs, Minutes: []minuteView{}}
	first := time.UnixMilli(h.NowMs).Truncate(time.Minute).Add(-time.Duration(last-1) * time.Minute).UnixMilli()
	for _, m := range h.Minutes {
		if m.StartMs >= first {
			out.Minutes = append(out.Minutes, minuteView{*view.Stamp(max(m.StartMs, 1)), m.Calls, m.Failures, m.Slow})
		}
	}
	return out, nil
}

type eventsReply struct {
	Events []view.Event `json:"events" doc:"Newest first, at most 64." nullable:"false"`
}

func (a *api) events(r *route.Request, _ route.None) (eventsReply, error) {
	out := eventsReply{Events: []view.Event{}}
	if _, err := r.Params(); err != nil {
		return out, err
	}
	v, _, err := a.inspect(r)
	if err != nil {
		return out, err
	}
	for _, e := range v.Log {
		out.Events = append(out.Events, view.EventOf(e))
	}
	return out, nil
}
