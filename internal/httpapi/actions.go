package httpapi

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/breakerd/breakerd/internal/access"
	"github.com/breakerd/breakerd/internal/guard"
	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/redisdocs"
	"github.com/breakerd/breakerd/internal/route"
	"github.com/breakerd/breakerd/internal/view"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

const (
	actionsPath = "/v1/admin/actions"
	// actionWait is how long an answer waits for the end of an action. A thousand agents take less.
	actionWait = 3 * time.Second
	// actionTodo is the result of an agent whose part is still to be done.
	actionTodo = "todo"
)

type actionBody struct {
	Agents   []string  `json:"agents,omitempty"   doc:"Their names; either this or selector."`
	Selector *selector `json:"selector,omitempty" doc:"Those that the list finds with the same words; at least one of them."`
	Action   string    `json:"action"             enum:"open,close,half_open,reset,release" doc:"What is done to each: held open or closed; reset to half-open or to closed; its hold ended as by itself."`
	Reason   string    `json:"reason"             doc:"1 to 500 bytes of printable text."`
	DryRun   bool      `json:"dry_run,omitempty"  doc:"Only says which agents it would be."`
	Expect   *int      `json:"expect,omitempty"   minimum:"0" doc:"How many agents at most; if there are more, nothing is done."`

	TimeoutSeconds *float64 `json:"timeout_seconds,omitempty" doc:"open, close: as for one agent."`
	GradualSeconds *float64 `json:"gradual_seconds,omitempty" minimum:"0" doc:"reset: as for one agent."`
	Protected      bool     `json:"protected,omitempty"       doc:"open, close: as for one agent."`
	Force          bool     `json:"force,omitempty"           doc:"Lifts protected holds, and replaces those of others."`
}

// selector says which agents are meant, in the words of the list's query.
type selector struct {
	State    []string `json:"state,omitempty"    maxItems:"32"`
	Hold     []string `json:"hold,omitempty"     maxItems:"32"`
	Mode     []string `json:"mode,omitempty"     maxItems:"32"`
	Ramping  bool     `json:"ramping,omitempty"`
	Override string   `json:"override,omitempty"`
	Label    []string `json:"label,omitempty"    maxItems:"32"`
	Reason   string   `json:"reason,omitempty"`
	Q        string   `json:"q,omitempty"`
}

type actionReply struct {
	ID         string         `json:"id,omitempty"          doc:"16 hex digits; missing if nothing was begun."`
	Action     string         `json:"action"                enum:"open,close,half_open,reset,release"`
	Reason     string         `json:"reason"`
	Actor      string         `json:"actor"`
	DryRun     bool           `json:"dry_run"`
	Matched    int            `json:"matched"               doc:"How many agents it is about."`
	Todo       int            `json:"todo"                  doc:"Of how many agents the part is still to be done."`
	Finished   bool           `json:"finished"`
	CreatedAt  *string        `json:"created_at"            format:"date-time"`
	FinishedAt *string        `json:"finished_at"           format:"date-time"`
	Results    []actionResult `json:"results"               nullable:"false" doc:"By agent."`
}

type actionResult struct {
	AgentID string `json:"agent_id"`
	Result  string `json:"result"   enum:"todo,done,hold_protected,hold_exists,not_held,agent_unknown,refused" doc:"refused: Redis refuses to change this breaker."`
}

// actionsUnder is the prefix of paths whose next segment is an action's id.
func actionsUnder() guard.Named {
	return guard.Named{Prefix: actionsPath + "/", Valid: machine.IsHex16, Refuse: func() *problem.Problem {
		return problem.New(problem.InvalidActionID, "an action's id has 16 hex digits")
	}}
}

// targets are what the actions bring about.
func targets() map[string]breaker.Target {
	return map[string]breaker.Target{
		"open": breaker.HoldOpen, "close": breaker.HoldClosed, "half_open": breaker.ResetHalfOpen,
		"reset": breaker.ResetClosed, "release": breaker.ReleaseHold,
	}
}

func (a *api) actionRoutes() {
	route.Serve(a.API, route.Operation{
		Route: "POST " + actionsPath, ID: "postAction", Role: access.Operate, Tag: "fleet",
		Params: []*huma.Param{route.ActorParam()},
		Summary: "Change the breakers of many agents: any replica goes on with it, each agent's part is done once. " +
			"More than 100 need the role admin",
		Codes:   []problem.Code{problem.StoreUnavailable, problem.MoreThanExpected, problem.ForbiddenAgent},
		Also:    []int{http.StatusAccepted},
		Example: `{"selector": {"state": ["OPEN"]}, "action": "reset", "reason": "provider is back", "expect": 50}`,
	}, a.postAction)
	route.Serve(a.API, route.Operation{
		Route: "GET " + actionsPath + "/{action}", ID: "getAction", Role: access.Read, Tag: "fleet",
		Summary: "What has become of an action, until a day after it was asked for",
		Codes:   []problem.Code{problem.StoreUnavailable, problem.ActionUnknown, problem.InvalidValue},
	}, a.getAction)
}

func (a *api) postAction(r *route.Request, in actionBody) (out actionReply, err error) {
	target, ok := targets()[in.Action]
	if !ok {
		return out, problem.BadValue("body.action", in.Action, "open, close, half_open, reset or release")
	}
	if in.Reason == "" {
		return out, problem.BadValue("body.reason", in.Reason, "why it is done")
	}
	f, err := a.forceOf(r, forceInput{
		target: target, reason: in.Reason, timeout: in.TimeoutSeconds, gradual: in.GradualSeconds,
		protected: in.Protected, override: in.Force,
	})
	if err != nil {
		return out, err
	}
	if in.Expect != nil && *in.Expect < 0 {
		return out, problem.BadValue("body.expect", strconv.Itoa(*in.Expect), "0 or more")
	}
	agents, err := a.selected(r.Context(), in)
	if err != nil {
		return out, err
	}
	if in.Expect != nil && len(agents) > *in.Expect {
		return out, problem.New(problem.MoreThanExpected, "%d agents are meant, of %d that were expected: nothing was done",
			len(agents), *in.Expect)
	}
	if err := mayActOn(r.Who, agents); err != nil {
		return out, err
	}
	if in.DryRun || len(agents) == 0 {
		results := map[string]string{}
		for _, agent := range agents {
			results[agent] = ""
		}
		out = shownAction(redisdocs.Action{Force: f, Results: results})
		out.DryRun, out.Finished = in.DryRun, true
		return out, nil
	}
	id, err := a.act(r, f, agents)
	if err != nil {
		return out, err
	}
	out, err = a.action(r.Context(), id)
	if err == nil && !out.Finished {
		r.Status = http.StatusAccepted
	}
	return out, err
}

// mostWithoutAdmin is on how many agents a caller may act at once whose role is not admin.
const mostWithoutAdmin = 100

// mayActOn refuses an action on too many agents, or on one that the caller may not name.
func mayActOn(who *access.Caller, agents []string) error {
	if len(agents) > mostWithoutAdmin && !who.Has(access.Admin) {
		return problem.New(problem.Forbidden, "%d agents are meant: more than %d need the role %s; nothing was done",
			len(agents), mostWithoutAdmin, access.Admin)
	}
	for _, agent := range agents {
		if err := who.CheckAgent(agent); err != nil {
			return err
		}
	}
	return nil
}

// act begins an action, and waits a moment for its end.
func (a *api) act(r *route.Request, f breaker.Force, agents []string) (id string, err error) {
	text := fmt.Sprintf("%s of %d agents: %s", actionOf(f.Target), len(agents), f.Reason)
	return a.Fleet.Act(r.Context(), f, agents, text, actionWait)
}

// selected are the agents that an action is about, by name.
func (a *api) selected(ctx context.Context, in actionBody) (agents []string, err error) {
	if (in.Selector == nil) == (len(in.Agents) == 0) {
		return nil, problem.BadValue("body", "", "either agents or selector")
	}
	for i, agent := range in.Agents {
		if !breaker.ValidName(agent) {
			return nil, problem.BadValue(fmt.Sprintf("body.agents.%d", i), agent, breaker.ErrBadName.Error())
		}
	}
	if in.Selector == nil {
		slices.Sort(in.Agents)
		return slices.Compact(in.Agents), nil
	}
	s := in.Selector
	q := url.Values{"state": s.State, "hold": s.Hold, "label": s.Label, "mode": s.Mode}
	if s.Ramping {
		q.Set("ramping", "true")
	}
	for name, value := range map[string]string{"override": s.Override, "reason": s.Reason, "q": s.Q} {
		if value != "" {
			q.Set(name, value)
		}
	}
	maps.DeleteFunc(q, func(_ string, values []string) bool { return len(values) == 0 })
	if len(q) == 0 {
		return nil, problem.BadValue("body.selector", "{}",
			"at least one of state, hold, mode, ramping, override, label, reason, q")
	}
	l := listQuery{sort: sortByName}
	if err := l.readFilters("body.selector.", q); err != nil {
		return nil, err
	}
	return a.find(ctx, l)
}

// find lists the agents that a query finds now.
func (a *api) find(ctx context.Context, l listQuery) (agents []string, err error) {
	a.overviews.stale.Store(true)
	err = a.overviews.with(ctx, func(ctx context.Context, s *overview) error {
		places, err := s.find(ctx, l)
		agents = namesOf(places)
		return err
	})
	return agents, err
}

func (a *api) getAction(r *route.Request, _ route.None) (out actionReply, err error) {
	if _, err := r.Params(); err != nil {
		return out, err
	}
	return a.action(r.Context(), r.PathValue("action"))
}

func (a *api) action(ctx context.Context, id string) (out actionReply, err error) {
	action, ok, err := a.Fleet.Action(ctx, id)
	if err != nil {
		return out, err
	}
	if !ok {
		return out, problem.New(problem.ActionUnknown, "there is no such action, or it was asked for more than a day ago")
	}
	return shownAction(action), nil
}

// actionOf is the word of a target.
func actionOf(target breaker.Target) string {
	for word, t := range targets() {
		if t == target {
			return word
		}
	}
	return string(target)
}

func shownAction(a redisdocs.Action) actionReply {
	out := actionReply{
		ID: a.ID, Action: actionOf(a.Force.Target), Reason: a.Force.Reason, Actor: a.Force.Actor,
		Matched: len(a.Results), Finished: a.FinishedMs > 0, CreatedAt: view.Stamp(a.CreatedMs),
		FinishedAt: view.Stamp(a.FinishedMs), Results: []actionResult{},
	}
	for _, agent := range slices.Sorted(maps.Keys(a.Results)) {
		result := a.Results[agent]
		if result == "" {
			result = actionTodo
			out.Todo++
		}
		out.Results = append(out.Results, actionResult{agent, result})
	}
	return out
}
