package httpapi

import (
	"cmp"
	"context"
	"errors"
	"math"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/breakerd/breakerd/internal/access"
	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/redisdocs"
	"github.com/breakerd/breakerd/internal/route"
	"github.com/breakerd/breakerd/internal/text"
	"github.com/breakerd/breakerd/internal/view"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// Fleet is what all replicas have in common. While Redis is down its errors are [breaker.ErrStoreUnavailable].
type Fleet interface {
	Gate(ctx context.Context) (redisdocs.Gate, error)
	// PutGate replaces the gate, or with nil removes it, if it is still was; else it returns ErrConflict.
	PutGate(ctx context.Context, was *redisdocs.Gate, c *redisdocs.GateChange, actor string) error
	Replicas(ctx context.Context) ([]redisdocs.Heard, error)
	// Self is the answering replica, from its memory.
	Self() redisdocs.Heard
	// Act begins an action on agents that any replica carries out, and waits for its end, but no longer than wait. text
	// says in the audit what was asked for.
	Act(ctx context.Context, f breaker.Force, agents []string, text string, wait time.Duration) (id string, err error)
	// Action reads an action; ok is false if there is none, or no longer.
	Action(ctx context.Context, id string) (a redisdocs.Action, ok bool, err error)
}

const (
	fleetPath = "/v1/admin/fleet"

	actionNone, actionStop, actionShed, actionRecover = "none", "stop", "shed", "recover"

	// ackWait is how long the answer to a change waits for the replicas, ackPoll how often it asks for them.
	ackWait, ackPoll = time.Second, 25 * time.Millisecond
	// gateTries bounds how often a change without If-Match is tried against others.
	gateTries = 5
)

type gateBody struct {
	Action          string   `json:"action"                     enum:"stop,shed,recover" doc:"stop: admit no call. shed: refuse a percentage of all calls. recover: admit a growing share, from what is admitted now, without a gate from none, to all."`
	Percentage      *float64 `json:"percentage,omitempty"       minimum:"0" maximum:"100" doc:"shed: how much of all calls is refused; above 0."`
	DurationSeconds *float64 `json:"duration_seconds,omitempty" minimum:"0" doc:"recover: until all calls are admitted; above 0."`
	UntilSeconds    *float64 `json:"until_seconds,omitempty"    minimum:"0" doc:"stop, shed: when it ends by itself; without it, when it is lifted."`
	ResetOpen       bool     `json:"reset_open,omitempty"       doc:"recover: also reset every breaker that is open and not held, each with a ramp of the same length."`
	Reason          string   `json:"reason"                     doc:"At most 500 bytes of printable text."`
}

// gateReply is the gate as it is shown.
type gateReply struct {
	Action        string  `json:"action"         enum:"none,stop,shed,recover"`
	Share         float64 `json:"share"          doc:"Of all calls, admitted now; the agents' breakers say more."`
	From          float64 `json:"from"           doc:"The share at started_at."`
	To            float64 `json:"to"             doc:"The share length_seconds later."`
	StartedAt     *string `json:"started_at"     format:"date-time"`
	LengthSeconds float64 `json:"length_seconds"`
	Until         *string `json:"until"          format:"date-time" doc:"When it ends by itself; null: when it is lifted."`
	Reason        *string `json:"reason"`
	Actor         *string `json:"actor"`
	Problem       string  `json:"problem,omitempty" doc:"What of a gate that a hand wrote was not understood."`
	NowMs         int64   `json:"now_ms"         doc:"Redis' clock."`

	ResetAction string `json:"reset_action,omitempty" doc:"With reset_open: the id of the action that resets the open breakers; missing if none was open."`

	Acknowledged []string `json:"acknowledged" nullable:"false" doc:"Replicas that obey it."`
	Missing      []string `json:"missing"      nullable:"false" doc:"Replicas that may not have heard of it: cut off, or gone without a word within the hour."`
	NotCovered   []string `json:"not_covered"  nullable:"false" doc:"Replicas whose global switch is off: they admit every call."`
}

func (a *api) fleetRoutes() {
	reads := []problem.Code{problem.StoreUnavailable, problem.InvalidValue}
	changes := []problem.Code{problem.StoreUnavailable, problem.PreconditionFailed, problem.InvalidValue}
	params := []*huma.Param{route.ActorParam(), {
		Name: "If-Match", In: "header", Schema: &huma.Schema{Type: huma.TypeString},
		Description: "The ETag that was read; without it, whatever stands is replaced.",
	}}
	route.Serve(a.API, route.Operation{
		Route: "GET " + fleetPath, ID: "getFleet", Role: access.Read,
		Tag: "fleet", Codes: reads, Headers: etagHeader(false),
		Summary: "The fleet's gate: the share of all calls that every replica admits; ETag if there is one",
	}, a.getGate)
	route.Serve(a.API, route.Operation{
		Route: "PUT " + fleetPath, ID: "putFleet", Role: access.Admin,
		Tag: "fleet", Params: params, Codes: changes, Headers: etagHeader(false),
		Summary: "Stop every call, shed a part of them, or recover; waits a second at most for the replicas",
		Example: `{"action": "shed", "percentage": 20, "until_seconds": 600, "reason": "overload"}`,
	}, a.putGate)
	route.Serve(a.API, route.Operation{
		Route: "DELETE " + fleetPath, ID: "deleteFleet", Role: access.Admin, Tag: "fleet", Params: params, Codes: changes,
		Summary: "Lift the gate at once; waits a second at most for the replicas",
	}, a.deleteGate)
}

func (a *api) getGate(r *route.Request, _ route.None) (out gateReply, err error) {
	if _, err := r.Params(); err != nil {
		return out, err
	}
	g, err := a.Fleet.Gate(r.Context())
	if err != nil {
		return out, err
	}
	return a.showGate(r, g, 0)
}

func (a *api) putGate(r *route.Request, in gateBody) (out gateReply, err error) {
	change, err := in.change()
	if err != nil {
		return out, err
	}
	if change.Actor, err = r.Actor(""); err != nil {
		return out, err
	}
	out, err = a.changeGate(r, func(now *redisdocs.Gate) *redisdocs.GateChange {
		c := change
		if in.Action == actionRecover && now.Stands() {
			c.From = now.Share(now.NowMs)
		}
		return &c
	}, change.Actor)
	if err != nil || !in.ResetOpen {
		return out, err
	}
	out.ResetAction, err = a.resetOpen(r, &change)
	return out, err
}

// resetOpen resets the breakers that are open and not held. Each returns by a ramp as long as the gate's. A hold that
// comes meanwhile stays. The id is "" if no breaker is open.
func (a *api) resetOpen(r *route.Request, c *redisdocs.GateChange) (id string, err error) {
	agents, err := a.find(r.Context(), listQuery{
		sort: sortByName, states: []breaker.State{breaker.Open}, holds: []string{noneAtAll},
	})
	if err != nil || len(agents) == 0 {
		return "", err
	}
	return a.act(r, breaker.Force{
		Target: breaker.ResetClosed, RampMs: c.Length.Milliseconds(), Reason: c.Reason, Actor: c.Actor,
		Yield: breaker.YieldAny,
	}, agents)
}

func (a *api) deleteGate(r *route.Request, _ route.None) (out gateReply, err error) {
	actor, err := r.Actor("")
	if err != nil {
		return out, err
	}
	return a.changeGate(r, func(*redisdocs.Gate) *redisdocs.GateChange { return nil }, actor)
}

// changeGate replaces the gate by what is made of the one that stands.
func (a *api) changeGate(
	r *route.Request, next func(now *redisdocs.Gate) *redisdocs.GateChange, actor string,
) (out gateReply, err error) {
	match := strings.Join(r.Header.Values("If-Match"), ",")
	for range gateTries {
		now, err := a.Fleet.Gate(r.Context())
		if err != nil {
			return out, err
		}
		if match != "" && !matches(match, etagOf(now.Version)) {
			break
		}
		if err = a.Fleet.PutGate(r.Context(), &now, next(&now), actor); errors.Is(err, ErrConflict) {
			continue
		}
		if err != nil {
			return out, err
		}
		if now, err = a.Fleet.Gate(r.Context()); err != nil {
			return out, err
		}
		return a.showGate(r, now, ackWait)
	}
	return out, problem.New(problem.PreconditionFailed, "the fleet's gate is not what you read: read it again")
}

// change reads what a body asks for.
func (in *gateBody) change() (c redisdocs.GateChange, err error) {
	if c.Reason = in.Reason; in.Reason == "" || !text.Printable(in.Reason, maxReason) {
		return c, problem.BadValue("body.reason", in.Reason, "1 to 500 bytes of printable text")
	}
	only := func(name string, value *float64, action ...string) error {
		for _, a := range action {
			if a == in.Action || value == nil {
				return nil
			}
		}
		return problem.BadValue("body."+name, route.FormatNumber(*value), "none with action "+in.Action)
	}
	if err = cmp.Or(only("percentage", in.Percentage, actionShed),
		only("duration_seconds", in.DurationSeconds, actionRecover),
		only("until_seconds", in.UntilSeconds, actionStop, actionShed)); err != nil {
		return c, err
	}
	if in.ResetOpen && in.Action != actionRecover {
		return c, problem.BadValue("body.reset_open", "true", "none with action "+in.Action)
	}
	if in.UntilSeconds != nil {
		if c.Until, err = seconds("body.until_seconds", *in.UntilSeconds, time.Millisecond); err != nil {
			return c, err
		}
	}
	switch in.Action {
	case actionShed:
		if in.Percentage == nil || *in.Percentage <= 0 {
			return c, problem.BadValue("body.percentage", number(in.Percentage), "above 0, to 100")
		}
		c.From = roundShare(1 - *in.Percentage/100)
		c.To = c.From
	case actionRecover:
		if in.DurationSeconds == nil {
			const want = "how long it takes until all calls are admitted; DELETE lifts the gate at once"
			return c, problem.BadValue("body.duration_seconds", "", want)
		}
		c.To = 1
		c.Length, err = seconds("body.duration_seconds", *in.DurationSeconds, time.Millisecond)
	}
	return c, err
}

// roundShare cuts what floating point adds.
func roundShare(x float64) float64 { return math.Round(x*1e6) / 1e6 }

func number(x *float64) string {
	if x == nil {
		return ""
	}
	return route.FormatNumber(*x)
}

// shownGate shows the gate without its replicas.
func shownGate(g redisdocs.Gate) gateReply {
	out := gateReply{
		Action: actionNone, Share: 1, From: 1, To: 1, Problem: g.Problem, NowMs: g.NowMs,
	}
	if g.Stands() {
		out = gateReply{
			Action: actionShed, Share: roundShare(g.Share(g.NowMs)), From: g.From, To: g.To,
			StartedAt: view.Stamp(g.StartMs), LengthSeconds: float64(g.LengthMs) / 1000, Until: view.Stamp(g.UntilMs),
			Reason: view.TextOrNull(g.Reason), Actor: view.TextOrNull(g.Actor), Problem: g.Problem, NowMs: g.NowMs,
		}
		switch {
		case g.Stops():
			out.Action = actionStop
		case g.To > g.From:
			out.Action = actionRecover
		}
	}
	return out
}

// showGate shows the gate, once the replicas have heard of it, or a time is over.
func (a *api) showGate(r *route.Request, g redisdocs.Gate, wait time.Duration) (out gateReply, err error) {
	out = shownGate(g)
	for end := time.Now().Add(wait); ; {
		heard, err := a.Fleet.Replicas(r.Context())
		if err != nil {
			return out, err
		}
		waits := out.acknowledge(g.Version, heard)
		if !waits || time.Now().After(end) {
			break
		}
		select {
		case <-time.After(ackPoll):
		case <-r.Context().Done():
			return out, r.Context().Err()
		}
	}
	r.ETag = etagOf(g.Version)
	return out, nil
}

// acknowledge sorts the replicas by whether they obey a gate. waits: one that lives may do so yet.
func (out *gateReply) acknowledge(version string, heard []redisdocs.Heard) (waits bool) {
	out.Acknowledged, out.Missing, out.NotCovered = []string{}, []string{}, []string{}
	for _, h := range heard {
		switch {
		case h.State() == redisdocs.Alive && !h.Enabled:
			out.NotCovered = append(out.NotCovered, h.ID)
		case h.State() == redisdocs.Alive && h.Gate == version:
			out.Acknowledged = append(out.Acknowledged, h.ID)
		default:
			out.Missing = append(out.Missing, h.ID)
			waits = waits || h.State() == redisdocs.Alive
		}
	}
	return waits
}
