package httpapi

import (
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/route"
	"github.com/breakerd/breakerd/pkg/breaker"
)

type resetBody struct {
	TargetState    upper    `json:"target_state"              enum:"HALF_OPEN,CLOSED"`
	Reason         string   `json:"reason,omitempty"          doc:"For the log; at most 500 bytes of printable text."`
	Force          bool     `json:"force,omitempty"           doc:"Lifts a protected hold too."`
	GradualSeconds *float64 `json:"gradual_seconds,omitempty" doc:"CLOSED: admit a growing share of calls, all after so long." minimum:"0"`
	Actor          string   `json:"actor,omitempty"           doc:"As the header X-Actor."`
}

// upper is a word that is taken in either case.
type upper string

// UnmarshalText implements encoding.TextUnmarshaler.
func (u *upper) UnmarshalText(text []byte) error {
	*u = upper(strings.ToUpper(string(text)))
	return nil
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
	text := func() *huma.Schema { return &huma.Schema{Type: huma.TypeString} }
	route.Serve(a.API, route.Operation{
		Method: http.MethodGet, Path: adminPath, ID: "listCircuitBreakers", Tag: "breakers",
		Summary: "All breakers, those that are not closed first", Codes: []problem.Code{problem.StoreUnavailable}, Params: []*huma.Param{
			route.QueryParam("state", "Only those in this state.", &huma.Schema{Type: huma.TypeString, Enum: []any{"CLOSED", "OPEN", "HALF_OPEN"}}),
			route.QueryParam("q", "Only names that contain this, in either case.", text()),
			route.QueryParam("sort", "Default state.", &huma.Schema{Type: huma.TypeString, Enum: []any{sortByState, sortByName}}),
			route.LimitParam(), route.CursorParam(),
		},
	}, a.list)
	one := []problem.Code{problem.AgentUnknown, problem.StoreUnavailable}
	forced := []problem.Code{problem.AgentUnknown, problem.StoreUnavailable, problem.HoldProtected}
	route.Serve(a.API, route.Operation{
		Method: http.MethodGet, Path: oneAdminPath, ID: "getCircuitBreaker", Tag: "breakers",
		Summary: "One breaker, with its policy", Codes: one,
	}, a.detail)
	route.Serve(a.API, route.Operation{
		Method: http.MethodGet, Path: oneAdminPath + "/events", ID: "listEvents", Tag: "breakers",
		Summary: "Its transitions and what was done to it by hand", Codes: one,
	}, a.events)
	route.Serve(a.API, route.Operation{
		Method: http.MethodDelete, Path: oneAdminPath, ID: "deleteCircuitBreaker", Tag: "breakers",
		Summary: "Forget an agent: its breaker, override, profile and history", Status: http.StatusNoContent,
		Params: []*huma.Param{route.ActorParam(), route.QueryParam("force", "A protected hold too.", &huma.Schema{Type: huma.TypeBoolean})},
		Codes:  forced,
	}, a.forget)
	route.Serve(a.API, route.Operation{
		Method: http.MethodPost, Path: oneAdminPath + "/reset", ID: "resetCircuitBreaker", Tag: "breakers", Body: route.RequiredBody,
		Summary: "Close it, or let test calls through; lifts a hold", Params: []*huma.Param{route.ActorParam()},
		Codes: append(forced, problem.BodyRequired), Example: `{"target_state": "HALF_OPEN", "reason": "issue_resolved"}`,
	}, a.reset)
	route.Serve(a.API, route.Operation{
		Method: http.MethodPost, Path: oneAdminPath + "/open", ID: "openCircuitBreaker", Tag: "breakers", Body: route.OptionalBody,
		Summary: "Hold it open: ban the agent; one that is not known yet, too", Params: []*huma.Param{route.ActorParam()}, Codes: forced,
		Example: `{"reason": "flooding_quarantine", "timeout_seconds": 3600}`,
	}, a.holdOpen)
	route.Serve(a.API, route.Operation{
		Method: http.MethodPost, Path: oneAdminPath + "/close", ID: "closeCircuitBreaker", Tag: "breakers", Body: route.OptionalBody,
		Summary: "Hold it closed: admit and record every call, never open", Params: []*huma.Param{route.ActorParam()}, Codes: forced,
		Example: `{"reason": "known_issue"}`,
	}, a.holdClosed)
}

func (a *api) reset(r *route.Request, in resetBody) (route.Answer[forceReply], error) {
	f := breaker.Force{Target: breaker.ResetHalfOpen, Override: in.Force}
	if string(in.TargetState) == breaker.Closed.Upper() {
		f.Target = breaker.ResetClosed
	}
	if in.GradualSeconds != nil && *in.GradualSeconds != 0 {
		if f.Target != breaker.ResetClosed {
			return route.Answer[forceReply]{}, problem.BadValue("body.gradual_seconds", route.FormatNumber(*in.GradualSeconds), "none with target_state HALF_OPEN")
		}
		ramp, err := seconds("body.gradual_seconds", *in.GradualSeconds, time.Millisecond)
		if err != nil {
			return route.Answer[forceReply]{}, err
		}
		f.RampMs = ramp.Milliseconds()
	}
	return a.force(r, f, in.Reason, in.Actor, "reset")
}

func (a *api) holdOpen(r *route.Request, in holdBody) (route.Answer[forceReply], error) {
	return a.hold(r, breaker.HoldOpen, in, "opened")
}

func (a *api) holdClosed(r *route.Request, in holdBody) (route.Answer[forceReply], error) {
	return a.hold(r, breaker.HoldClosed, in, "closed")
}

func (a *api) hold(r *route.Request, target breaker.Target, in holdBody, word string) (route.Answer[forceReply], error) {
	f := breaker.Force{Target: target, Protected: in.Protected, Override: in.Force}
	if in.TimeoutSeconds != nil {
		length, err := seconds("body.timeout_seconds", *in.TimeoutSeconds, time.Millisecond)
		if err != nil {
			return route.Answer[forceReply]{}, err
		}
		f.LengthMs = length.Milliseconds()
	}
	return a.force(r, f, in.Reason, in.Actor, word)
}

// force carries out an operator's verb; only an opening may name an agent that is not known yet.
func (a *api) force(r *route.Request, f breaker.Force, reason, actor, word string) (out route.Answer[forceReply], err error) {
	if f.Actor, err = r.Actor(actor); err != nil {
		return out, err
	}
	if f.Reason, err = reasonText(reason); err != nil {
		return out, err
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
	_ = a.Directory.MarkSeen(r.Context(), []string{r.Agent}) // so that lists show it at once; the repair of the index finds it anyway
	out.Body = forceReply{Status: word, AgentID: r.Agent, State: state.Upper()}
	return out, nil
}

// forget is DELETE of an agent.
func (a *api) forget(r *route.Request, _ route.None) (out route.Answer[route.None], err error) {
	q, err := r.Params("force")
	if err != nil {
		return out, err
	}
	force := q.Get("force")
	if force != "" && force != "true" && force != "false" {
		return out, problem.BadValue("query.force", force, "true or false")
	}
	actor, err := r.Actor("")
	if err != nil {
		return out, err
	}
	if err := a.known(r); err != nil {
		return out, err
	}
	if err := a.Directory.Forget(r.Context(), r.Agent, actor, force == "true"); err != nil {
		return out, err
	}
	a.Policies.Refresh(r.Context(), r.Agent)
	return out, nil
}
