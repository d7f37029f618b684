package httpapi

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/breakerd/breakerd/internal/access"
	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/route"
	"github.com/breakerd/breakerd/internal/text"
	"github.com/breakerd/breakerd/internal/view"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// upper is a word that is taken in either case.
type upper string

// UnmarshalText implements [encoding.TextUnmarshaler].
func (u *upper) UnmarshalText(text []byte) error {
	*u = upper(strings.ToUpper(string(text)))
	return nil
}

type resetBody struct {
	TargetState    upper    `json:"target_state"              enum:"HALF_OPEN,CLOSED"`
	Reason         string   `json:"reason,omitempty"          doc:"For the log; at most 500 bytes of printable text."`
	Force          bool     `json:"force,omitempty"           doc:"Lifts a protected hold too."`
	GradualSeconds *float64 `json:"gradual_seconds,omitempty" doc:"CLOSED: admit a growing share of calls, all after so long." minimum:"0"`
	Actor          string   `json:"actor,omitempty"           doc:"As the header X-Actor."`
}

type holdBody struct {
	Reason         string   `json:"reason,omitempty"          doc:"Needed; at most 500 bytes of printable text."`
	TimeoutSeconds *float64 `json:"timeout_seconds,omitempty" doc:"How long it stands; without it, open: HOLD_DEFAULT_SECONDS, close: until it is lifted."`
	Protected      bool     `json:"protected,omitempty"       doc:"Is lifted only with force."`
	Force          bool     `json:"force,omitempty"           doc:"Replaces a hold of another actor, and a protected one, too."`
	Actor          string   `json:"actor,omitempty"           doc:"As the header X-Actor."`
}

type releaseBody struct {
	Reason string `json:"reason,omitempty" doc:"For the log; at most 500 bytes of printable text."`
	Force  bool   `json:"force,omitempty"  doc:"Ends a protected hold too."`
	Actor  string `json:"actor,omitempty"  doc:"As the header X-Actor."`
}

type forceReply struct {
	Status  string `json:"status"   enum:"reset,opened,closed,released"`
	AgentID string `json:"agent_id"`
	State   string `json:"state"    enum:"CLOSED,OPEN,HALF_OPEN"`
	Endless bool   `json:"endless,omitempty" doc:"The hold stands until somebody lifts it."`
	Created bool   `json:"created,omitempty" doc:"The agent was not known before: is its name right?"`

	Nearest []string `json:"nearest,omitempty" doc:"Of an agent that was not known: the known names that are nearest to its name."`
}

const (
	adminPath    = "/v1/admin/circuit_breakers"
	oneAdminPath = adminPath + "/{agent}"
)

func (a *api) breakerRoutes() {
	route.Serve(a.API, route.Operation{
		Route: "GET " + adminPath, ID: "listCircuitBreakers", Role: access.Read, Tag: "breakers",
		Summary: "All breakers, those that are not closed first", Codes: []problem.Code{problem.StoreUnavailable},
		Params: listParams(),
	}, a.list)
	one := []problem.Code{problem.AgentUnknown, problem.StoreUnavailable}
	forced := []problem.Code{problem.AgentUnknown, problem.StoreUnavailable, problem.HoldProtected}
	held := append(slices.Clip(forced), problem.HoldExists)
	actor := []*huma.Param{route.ActorParam()}
	route.Serve(a.API, route.Operation{
		Route: "GET " + oneAdminPath, ID: "getCircuitBreaker", Role: access.Read, Tag: "breakers", Codes: one,
		Summary: "One breaker, with its policy",
	}, a.detail)
	route.Serve(a.API, route.Operation{
		Route: "GET " + oneAdminPath + "/events", ID: "listEvents", Role: access.Read, Tag: "breakers",
		Summary: "Its transitions and what was done to it by hand", Codes: append(slices.Clip(one), problem.InvalidValue),
	}, a.events)
	route.Serve(a.API, route.Operation{
		Route: "DELETE " + oneAdminPath, ID: "deleteCircuitBreaker", Role: access.Admin, Tag: "breakers", Codes: forced,
		Summary: "Forget an agent: its breaker, override, profile and history", Status: http.StatusNoContent,
		Params: append(actor, route.QueryParam("force", "A protected hold too.", &huma.Schema{Type: huma.TypeBoolean})),
	}, a.forget)
	route.Serve(a.API, route.Operation{
		Route: "POST " + oneAdminPath + "/reset", ID: "resetCircuitBreaker", Role: access.Operate,
		Tag: "breakers", Params: actor, Codes: forced,
		Summary: "Close it, or let test calls through; lifts a hold",
		Example: `{"target_state": "HALF_OPEN", "reason": "issue_resolved"}`,
	}, a.reset)
	route.Serve(a.API, route.Operation{
		Route: "POST " + oneAdminPath + "/open", ID: "openCircuitBreaker", Role: access.Operate,
		Tag: "breakers", Params: actor, Codes: held,
		Summary: "Hold it open: ban the agent; one that is not known yet, too", Optional: true,
		Example: `{"reason": "flooding_quarantine", "timeout_seconds": 3600}`,
	}, func(r *route.Request, in holdBody) (forceReply, error) {
		return a.hold(r, breaker.HoldOpen, in, "opened")
	})
	route.Serve(a.API, route.Operation{
		Route: "POST " + oneAdminPath + "/close", ID: "closeCircuitBreaker", Role: access.Operate,
		Tag: "breakers", Params: actor, Codes: held,
		Summary: "Hold it closed: admit and record every call, never open", Optional: true,
		Example: `{"reason": "known_issue"}`,
	}, func(r *route.Request, in holdBody) (forceReply, error) {
		return a.hold(r, breaker.HoldClosed, in, "closed")
	})
}

func (a *api) reset(r *route.Request, in resetBody) (forceReply, error) {
	target := breaker.ResetHalfOpen
	if string(in.TargetState) == breaker.Closed.Upper() {
		target = breaker.ResetClosed
	}
	f, err := a.forceOf(r, forceInput{
		target: target, reason: in.Reason, actor: in.Actor, gradual: in.GradualSeconds, override: in.Force,
	})
	if err != nil {
		return forceReply{}, err
	}
	return a.force(r, f, "reset")
}

func (a *api) releaseRoute() {
	route.Serve(a.API, route.Operation{
		Route: "POST " + oneAdminPath + "/release", ID: "releaseCircuitBreaker", Role: access.Operate,
		Tag: "breakers", Params: []*huma.Param{route.ActorParam()},
		Codes:   []problem.Code{problem.AgentUnknown, problem.StoreUnavailable, problem.HoldProtected, problem.NotHeld},
		Summary: "End a hold as its own end would: an open one in half-open, a closed one in fresh closed", Optional: true,
		Example: `{"reason": "issue_resolved"}`,
	}, a.release)
}

func (a *api) release(r *route.Request, in releaseBody) (forceReply, error) {
	f, err := a.forceOf(r, forceInput{
		target: breaker.ReleaseHold, reason: in.Reason, actor: in.Actor, override: in.Force,
	})
	if err != nil {
		return forceReply{}, err
	}
	return a.force(r, f, "released")
}

func (a *api) hold(r *route.Request, target breaker.Target, in holdBody, status string) (forceReply, error) {
	f, err := a.forceOf(r, forceInput{
		target: target, reason: in.Reason, actor: in.Actor, timeout: in.TimeoutSeconds, protected: in.Protected,
		override: in.Force,
	})
	if err != nil {
		return forceReply{}, err
	}
	out, err := a.force(r, f, status)
	out.Endless = err == nil && f.LengthMs == 0
	return out, err
}

// forceInput is what an operator asks for, of one agent or of many.
type forceInput struct {
	target              breaker.Target
	reason, actor       string
	timeout, gradual    *float64 // seconds; nil: not given
	protected, override bool
}

// forceOf checks what an operator asks for. A hold yields to that of another actor; who gives no name is another one
// each time.
func (a *api) forceOf(r *route.Request, in forceInput) (f breaker.Force, err error) {
	f = breaker.Force{Target: in.target, Protected: in.protected, Override: in.override}
	if f.Actor, err = r.Actor(in.actor); err != nil {
		return f, err
	}
	holds := f.Target == breaker.HoldOpen || f.Target == breaker.HoldClosed
	if holds && strings.TrimSpace(in.reason) == "" {
		return f, problem.BadValue("body.reason", in.reason, "why it is held: whoever meets it has to know")
	}
	if f.Reason = cmp.Or(in.reason, "manual"); !text.Printable(f.Reason, maxReason) {
		return f, problem.BadValue("body.reason", in.reason, "at most 500 bytes of printable text")
	}
	if f.Target == breaker.HoldOpen && in.timeout == nil {
		f.LengthMs = a.HoldDefault.Milliseconds()
	}
	length := func(name string, value *float64, taken bool, into *int64) error {
		if value == nil {
			return nil
		}
		if !taken {
			return problem.BadValue("body."+name, route.FormatNumber(*value), "none with "+string(f.Target))
		}
		d, err := seconds("body."+name, *value, time.Millisecond)
		*into = d.Milliseconds()
		return err
	}
	if in.gradual != nil && *in.gradual == 0 {
		in.gradual = nil
	}
	if err := cmp.Or(length("timeout_seconds", in.timeout, holds, &f.LengthMs),
		length("gradual_seconds", in.gradual, f.Target == breaker.ResetClosed, &f.RampMs)); err != nil {
		return f, err
	}
	switch {
	case holds && f.Actor == route.Nobody:
		f.Yield = breaker.YieldAny
	case holds:
		f.Yield = breaker.YieldOthers
	}
	return f, nil
}

// holdExists says which hold a Force has left as it is.
func (a *api) holdExists(r *route.Request) error {
	v, _, err := a.Manager.Inspect(r.Context(), r.Agent)
	if err != nil {
		return err
	}
	p := problem.New(problem.HoldExists, "%s holds it %s: %s; force replaces that", text.Short(v.Hold.Actor),
		v.Hold.Kind.Upper(), text.Clip(view.Reason(v), route.MaxMessage))
	p.Agent = r.Agent
	return p
}

// nearestNames is how many known names are shown beside one that was not known.
const nearestNames = 3

// nearest are the known names that may have been meant.
func (a *api) nearest(ctx context.Context, agent string) (names []string) {
	agents, err := a.Directory.Agents(ctx)
	if err != nil {
		return nil
	}
	most := max(2, len(agent)/4)
	distance := map[string]int{}
	for _, name := range agents {
		if longer := len(name) - len(agent); name == agent || longer > most || -longer > most {
			continue
		}
		if d := text.Edits(strings.ToLower(name), strings.ToLower(agent)); d <= most {
			names, distance[name] = append(names, name), d
		}
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(distance[a], distance[b]), cmp.Compare(a, b))
	})
	return names[:min(len(names), nearestNames)]
}

// force carries out an operator's verb. Only an opening may name an agent that is not known yet.
func (a *api) force(r *route.Request, f breaker.Force, status string) (out forceReply, err error) {
	if f.Target != breaker.HoldOpen {
		if err := a.known(r); err != nil {
			return out, err
		}
	} else if known, err := a.Directory.Known(r.Context(), r.Agent); err == nil && !known {
		out.Created, out.Nearest = true, a.nearest(r.Context(), r.Agent)
	}
	state, err := a.Manager.Force(r.Context(), r.Agent, f)
	if errors.Is(err, breaker.ErrHoldExists) {
		return forceReply{}, a.holdExists(r)
	}
	if err != nil {
		return out, err
	}
	_ = a.Directory.MarkSeen(r.Context(), []string{r.Agent}) // if it fails, the index lists the agent after its repair
	out.Status, out.AgentID, out.State = status, r.Agent, state.Upper()
	return out, nil
}

// forget is DELETE of an agent.
func (a *api) forget(r *route.Request, _ route.None) (none route.None, err error) {
	q, err := r.Params()
	if err != nil {
		return none, err
	}
	force := q.Get("force")
	if force != "" && force != "true" && force != "false" {
		return none, problem.BadValue("query.force", force, "true or false")
	}
	actor, err := r.Actor("")
	if err != nil {
		return none, err
	}
	if err := a.known(r); err != nil {
		return none, err
	}
	if err := a.Directory.Forget(r.Context(), r.Agent, actor, force == "true"); err != nil {
		return none, err
	}
	a.Policies.Refresh(r.Context(), r.Agent)
	return none, nil
}
