package httpapi

import (
	"cmp"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/route"
	"github.com/breakerd/breakerd/internal/text"
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
	Reason         string   `json:"reason,omitempty"          doc:"For the log; at most 500 bytes of printable text."`
	TimeoutSeconds *float64 `json:"timeout_seconds,omitempty" doc:"How long it stands; without it, until it is lifted."`
	Protected      bool     `json:"protected,omitempty"       doc:"Is lifted only with force."`
	Force          bool     `json:"force,omitempty"           doc:"Replaces a protected hold too."`
	Actor          string   `json:"actor,omitempty"           doc:"As the header X-Actor."`
}

type forceReply struct {
	Status  string `json:"status"   enum:"reset,opened,closed"`
	AgentID string `json:"agent_id"`
	State   string `json:"state"    enum:"CLOSED,OPEN,HALF_OPEN"`
}

const (
	adminPath    = "/v1/admin/circuit_breakers"
	oneAdminPath = adminPath + "/{agent}"
)

func (a *api) breakerRoutes() {
	route.Serve(a.API, route.Operation{
		Route: "GET " + adminPath, ID: "listCircuitBreakers", Tag: "breakers",
		Summary: "All breakers, those that are not closed first", Codes: []problem.Code{problem.StoreUnavailable},
		Params: listParams(),
	}, a.list)
	one := []problem.Code{problem.AgentUnknown, problem.StoreUnavailable}
	forced := []problem.Code{problem.AgentUnknown, problem.StoreUnavailable, problem.HoldProtected}
	actor := []*huma.Param{route.ActorParam()}
	route.Serve(a.API, route.Operation{
		Route: "GET " + oneAdminPath, ID: "getCircuitBreaker", Tag: "breakers", Codes: one,
		Summary: "One breaker, with its policy",
	}, a.detail)
	route.Serve(a.API, route.Operation{
		Route: "GET " + oneAdminPath + "/events", ID: "listEvents", Tag: "breakers",
		Summary: "Its transitions and what was done to it by hand", Codes: append(one, problem.InvalidValue),
	}, a.events)
	route.Serve(a.API, route.Operation{
		Route: "DELETE " + oneAdminPath, ID: "deleteCircuitBreaker", Tag: "breakers", Codes: forced,
		Summary: "Forget an agent: its breaker, override, profile and history", Status: http.StatusNoContent,
		Params: append(actor, route.QueryParam("force", "A protected hold too.", &huma.Schema{Type: huma.TypeBoolean})),
	}, a.forget)
	route.Serve(a.API, route.Operation{
		Route: "POST " + oneAdminPath + "/reset", ID: "resetCircuitBreaker", Tag: "breakers", Params: actor, Codes: forced,
		Summary: "Close it, or let test calls through; lifts a hold",
		Example: `{"target_state": "HALF_OPEN", "reason": "issue_resolved"}`,
	}, a.reset)
	route.Serve(a.API, route.Operation{
		Route: "POST " + oneAdminPath + "/open", ID: "openCircuitBreaker", Tag: "breakers", Params: actor, Codes: forced,
		Summary: "Hold it open: ban the agent; one that is not known yet, too", Optional: true,
		Example: `{"reason": "flooding_quarantine", "timeout_seconds": 3600}`,
	}, func(r *route.Request, in holdBody) (forceReply, error) {
		return a.hold(r, breaker.HoldOpen, in, "opened")
	})
	route.Serve(a.API, route.Operation{
		Route: "POST " + oneAdminPath + "/close", ID: "closeCircuitBreaker", Tag: "breakers", Params: actor, Codes: forced,
		Summary: "Hold it closed: admit and record every call, never open", Optional: true,
		Example: `{"reason": "known_issue"}`,
	}, func(r *route.Request, in holdBody) (forceReply, error) {
		return a.hold(r, breaker.HoldClosed, in, "closed")
	})
}

func (a *api) reset(r *route.Request, in resetBody) (forceReply, error) {
	f := breaker.Force{Target: breaker.ResetHalfOpen, Override: in.Force}
	if string(in.TargetState) == breaker.Closed.Upper() {
		f.Target = breaker.ResetClosed
	}
	if in.GradualSeconds != nil && *in.GradualSeconds != 0 {
		const location = "body.gradual_seconds"
		if f.Target != breaker.ResetClosed {
			const want = "none with target_state HALF_OPEN"
			return forceReply{}, problem.BadValue(location, route.FormatNumber(*in.GradualSeconds), want)
		}
		ramp, err := seconds(location, *in.GradualSeconds, time.Millisecond)
		if err != nil {
			return forceReply{}, err
		}
		f.RampMs = ramp.Milliseconds()
	}
	return a.force(r, f, in.Reason, in.Actor, "reset")
}

func (a *api) hold(r *route.Request, target breaker.Target, in holdBody, status string) (forceReply, error) {
	f := breaker.Force{Target: target, Protected: in.Protected, Override: in.Force}
	if in.TimeoutSeconds != nil {
		length, err := seconds("body.timeout_seconds", *in.TimeoutSeconds, time.Millisecond)
		if err != nil {
			return forceReply{}, err
		}
		f.LengthMs = length.Milliseconds()
	}
	return a.force(r, f, in.Reason, in.Actor, status)
}

// force carries out an operator's verb. Only an opening may name an agent that is not known yet.
func (a *api) force(r *route.Request, f breaker.Force, reason, actor, status string) (out forceReply, err error) {
	if f.Actor, err = r.Actor(actor); err != nil {
		return out, err
	}
	if f.Reason = cmp.Or(reason, "manual"); !text.Printable(f.Reason, maxReason) {
		return out, problem.BadValue("body.reason", reason, "at most 500 bytes of printable text")
	}
	if f.Target != breaker.HoldOpen {
		if err := a.known(r); err != nil {
			return out, err
		}
	}
	state, err := a.Manager.Force(r.Context(), r.Agent, f)
	if err != nil {
		return out, err
	}
	_ = a.Directory.MarkSeen(r.Context(), []string{r.Agent}) // if it fails, the index lists the agent after its repair
	return forceReply{Status: status, AgentID: r.Agent, State: state.Upper()}, nil
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
