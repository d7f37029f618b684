package httpapi

import (
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/pkg/breaker"
)

type resetBody struct {
	TargetState    string   `json:"target_state"              enum:"HALF_OPEN,CLOSED"`
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
	text := func() *huma.Schema { return &huma.Schema{Type: huma.TypeString} }
	serve(a.server, endpoint{
		method: http.MethodGet, path: adminPath, id: "listCircuitBreakers", tag: "breakers",
		summary: "All breakers, those that are not closed first", codes: []problem.Code{problem.StoreUnavailable}, params: []*huma.Param{
			queryParam("state", "Only those in this state.", &huma.Schema{Type: huma.TypeString, Enum: []any{"CLOSED", "OPEN", "HALF_OPEN"}}),
			queryParam("q", "Only names that contain this, in either case.", text()),
			queryParam("sort", "Default state.", &huma.Schema{Type: huma.TypeString, Enum: []any{sortByState, sortByName}}),
			limitParam(), cursorParam(),
		},
	}, a.list)
	one := []problem.Code{problem.AgentUnknown, problem.StoreUnavailable}
	forced := []problem.Code{problem.AgentUnknown, problem.StoreUnavailable, problem.HoldProtected}
	serve(a.server, endpoint{
		method: http.MethodGet, path: oneAdminPath, id: "getCircuitBreaker", tag: "breakers",
		summary: "One breaker, with its policy", codes: one,
	}, a.detail)
	serve(a.server, endpoint{
		method: http.MethodGet, path: oneAdminPath + "/events", id: "listEvents", tag: "breakers",
		summary: "Its transitions and what was done to it by hand", codes: one,
	}, a.events)
	serve(a.server, endpoint{
		method: http.MethodDelete, path: oneAdminPath, id: "deleteCircuitBreaker", tag: "breakers",
		summary: "Forget an agent: its breaker, override, profile and history", status: http.StatusNoContent,
		params: []*huma.Param{actorParam(), queryParam("force", "A protected hold too.", &huma.Schema{Type: huma.TypeBoolean})},
		codes:  forced,
	}, a.forget)
	serve(a.server, endpoint{
		method: http.MethodPost, path: oneAdminPath + "/reset", id: "resetCircuitBreaker", tag: "breakers", body: requiredBody,
		summary: "Close it, or let test calls through; lifts a hold", params: []*huma.Param{actorParam()},
		codes: append(forced, problem.BodyRequired), example: `{"target_state": "HALF_OPEN", "reason": "issue_resolved"}`,
	}, a.reset)
	serve(a.server, endpoint{
		method: http.MethodPost, path: oneAdminPath + "/open", id: "openCircuitBreaker", tag: "breakers", body: optionalBody,
		summary: "Hold it open: ban the agent; one that is not known yet, too", params: []*huma.Param{actorParam()}, codes: forced,
		example: `{"reason": "flooding_quarantine", "timeout_seconds": 3600}`,
	}, a.holdOpen)
	serve(a.server, endpoint{
		method: http.MethodPost, path: oneAdminPath + "/close", id: "closeCircuitBreaker", tag: "breakers", body: optionalBody,
		summary: "Hold it closed: admit and record every call, never open", params: []*huma.Param{actorParam()}, codes: forced,
		example: `{"reason": "known_issue"}`,
	}, a.holdClosed)
}

func (a *api) reset(r *request, in resetBody) (answer[forceReply], error) {
	f := breaker.Force{Target: breaker.ResetHalfOpen, Override: in.Force}
	if in.TargetState == breaker.Closed.Upper() {
		f.Target = breaker.ResetClosed
	}
	if in.GradualSeconds != nil && *in.GradualSeconds != 0 {
		if f.Target != breaker.ResetClosed {
			return answer[forceReply]{}, problem.BadValue("body.gradual_seconds", formatNumber(*in.GradualSeconds), "none with target_state HALF_OPEN")
		}
		ramp, err := seconds("body.gradual_seconds", *in.GradualSeconds, time.Millisecond)
		if err != nil {
			return answer[forceReply]{}, err
		}
		f.RampMs = ramp.Milliseconds()
	}
	return a.force(r, f, in.Reason, in.Actor, "reset")
}

func (a *api) holdOpen(r *request, in holdBody) (answer[forceReply], error) {
	return a.hold(r, breaker.HoldOpen, in, "opened")
}

func (a *api) holdClosed(r *request, in holdBody) (answer[forceReply], error) {
	return a.hold(r, breaker.HoldClosed, in, "closed")
}

func (a *api) hold(r *request, target breaker.Target, in holdBody, word string) (answer[forceReply], error) {
	f := breaker.Force{Target: target, Protected: in.Protected, Override: in.Force}
	if in.TimeoutSeconds != nil {
		length, err := seconds("body.timeout_seconds", *in.TimeoutSeconds, time.Millisecond)
		if err != nil {
			return answer[forceReply]{}, err
		}
		f.LengthMs = length.Milliseconds()
	}
	return a.force(r, f, in.Reason, in.Actor, word)
}

// force carries out an operator's verb; only an opening may name an agent that is not known yet.
func (a *api) force(r *request, f breaker.Force, reason, actor, word string) (out answer[forceReply], err error) {
	if f.Actor, err = r.actor(actor); err != nil {
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
	state, err := a.Manager.Force(r.ctx(), r.agent, f)
	if err != nil {
		return out, err
	}
	_ = a.Directory.MarkSeen(r.ctx(), []string{r.agent}) // so that lists show it at once; the repair of the index finds it anyway
	out.body = forceReply{Status: word, AgentID: r.agent, State: state.Upper()}
	return out, nil
}

// forget is DELETE of an agent.
func (a *api) forget(r *request, _ none) (out answer[none], err error) {
	q, err := r.query("force")
	if err != nil {
		return out, err
	}
	force := q.Get("force")
	if force != "" && force != "true" && force != "false" {
		return out, problem.BadValue("query.force", force, "true or false")
	}
	actor, err := r.actor("")
	if err != nil {
		return out, err
	}
	if err := a.known(r); err != nil {
		return out, err
	}
	if err := a.Directory.Forget(r.ctx(), r.agent, actor, force == "true"); err != nil {
		return out, err
	}
	a.Policies.Refresh(r.ctx(), r.agent)
	return out, nil
}
