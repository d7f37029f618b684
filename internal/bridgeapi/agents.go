package bridgeapi

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/breakerd/breakerd/internal/access"
	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/registry"
	"github.com/breakerd/breakerd/internal/route"
	"github.com/breakerd/breakerd/internal/view"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// RegisteredAgent is one registration, as the agents file has it, and its breaker. It is exported for huma, which
// documents embedded fields of exported types only.
type RegisteredAgent struct {
	registry.Form
	Breaker *view.BreakerEntry `json:"breaker,omitempty"`
}

type registeredReply struct {
	Agents     []RegisteredAgent `json:"agents"`
	NextCursor *string           `json:"next_cursor"`
	Degraded   bool              `json:"degraded,omitempty"`
}

func (b *bridge) agentRoutes() {
	in, out := b.agentSchema(), b.agentSchema()
	origin := func(about string) *huma.Schema {
		return &huma.Schema{Type: huma.TypeString, Enum: []any{"file", "api"}, Description: about}
	}
	out.Properties["origin"] = origin("file: the API cannot change it.")
	out.Properties["breaker"] = b.SchemaOf(view.BreakerEntry{})
	in.Properties["origin"] = origin("As getAgent shows it; not believed.")
	in.Properties["breaker"] = &huma.Schema{
		Type: huma.TypeObject, AdditionalProperties: true,
		Description: "As getAgent shows it; not looked at. What getAgent gives can be sent back whole.",
	}
	out.Required = []string{"name", "timeout_seconds", "classify"}
	list := objectSchema(map[string]*huma.Schema{
		"agents":      {Type: huma.TypeArray, Items: out},
		"next_cursor": {Type: huma.TypeString, Nullable: true, Description: "null: this was the last page."},
		"degraded":    {Type: huma.TypeBoolean, Description: "Redis is down: these are the agents of the file alone."},
	}, "agents", "next_cursor")
	put := route.Operation{
		Tag: "agents", Role: access.Admin,
		In: in, Out: out, Also: []int{http.StatusCreated}, Params: []*huma.Param{route.ActorParam()},
		Codes: []problem.Code{problem.AgentInFile, problem.AgentConflict, problem.ForbiddenAgent, problem.StoreUnavailable},
		Example: `{"name": "FailingAgent", "url": "http://failing-agent:9000", ` +
			`"circuit_breaker_config": {"failure_threshold": 3}}`,
	}
	register, one := put, agentsPath+"/{agent}"
	register.Route, register.ID = "POST "+agentsPath, "registerAgent"
	register.Summary = "Register an agent, or replace its registration as a whole"
	put.Route, put.ID = "PUT "+one, "putAgent"
	put.Summary = "The same as registerAgent; the body may leave out the name"
	route.Serve(b.API, route.Operation{
		Route: "GET " + agentsPath, ID: "listAgents", Role: access.Read,
		Tag: "agents", Summary: "All agents, by name", Out: list,
		Params: []*huma.Param{route.LimitParam(), route.CursorParam()},
	}, b.listAgents)
	route.Serve(b.API, register, b.putAgent)
	route.Serve(b.API, route.Operation{
		Route: "GET " + one, ID: "getAgent", Role: access.Read,
		Tag: "agents", Summary: "One agent, with its breaker", Out: out,
		Codes: []problem.Code{problem.AgentUnknown, problem.StoreUnavailable},
	}, b.getAgent)
	route.Serve(b.API, put, b.putAgent)
	route.Serve(b.API, route.Operation{
		Route: "DELETE " + one, ID: "deleteAgent", Role: access.Admin, Tag: "agents", Status: http.StatusNoContent,
		Summary: "Remove its registration and its policy override; its breaker stays",
		Params:  []*huma.Param{route.ActorParam()},
		Codes:   []problem.Code{problem.AgentUnknown, problem.AgentInFile, problem.StoreUnavailable},
	}, b.deleteAgent)
}

// objectSchema documents an object of these fields.
func objectSchema(fields map[string]*huma.Schema, required ...string) *huma.Schema {
	return &huma.Schema{Type: huma.TypeObject, AdditionalProperties: false, Properties: fields, Required: required}
}

// textSchema documents a text.
func textSchema(about string) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Description: about}
}

// agentSchema documents a registration, which package registry checks.
func (b *bridge) agentSchema() *huma.Schema {
	timeout := registry.DefaultTimeout.Seconds()
	calls := b.Properties(b.SchemaOf(registry.Calls{}))
	route.DescribeCalls(calls)
	fields := map[string]*huma.Schema{
		"name":                   {Type: huma.TypeString, Pattern: route.NamePattern},
		"url":                    textSchema("http or https; without it the agent is a policy that has no address."),
		"circuit_breaker_config": route.OverrideSchema(),
		"contact":                textSchema("Whom to call; at most 500 bytes of printable text."),
		"labels": {
			Type: huma.TypeObject, AdditionalProperties: textSchema(""), Description: "At most 32, each at most 256 bytes.",
		},
		"timeout_seconds": {
			Type: huma.TypeNumber, Minimum: new(0.001), Maximum: new(registry.MaxTimeout.Seconds()), Default: timeout,
			Description: "How long its answer may take to begin, and each next part of it.",
		},
		"classify": {
			Type: huma.TypeString, Enum: calls["classify_observe"].Enum, Default: "status",
			Description: "What a failure is told by: the status, or what the body says in this protocol too.",
		},
	}
	maps.Copy(fields, calls)
	return objectSchema(fields)
}

// listAgents lists the agents of the file while Redis is down.
func (b *bridge) listAgents(r *route.Request, _ route.None) (out registeredReply, err error) {
	q, err := r.Params()
	if err != nil {
		return out, err
	}
	limit, err := route.Whole(q, "limit", route.MostListed)
	if err != nil {
		return out, err
	}
	after, err := base64.RawURLEncoding.DecodeString(q.Get("cursor"))
	if err != nil || len(after) > 0 && !breaker.ValidName(string(after)) {
		return out, problem.BadValue("query.cursor", q.Get("cursor"), "the next_cursor of a page")
	}
	agents, err := b.Agents.List(r.Context())
	if err != nil && !errors.Is(err, breaker.ErrStoreUnavailable) {
		return out, err
	}
	agents = slices.DeleteFunc(agents, func(a registry.Agent) bool { return a.Name <= string(after) })
	out = registeredReply{Agents: []RegisteredAgent{}, Degraded: err != nil}
	if len(agents) > limit {
		agents = agents[:limit]
		out.NextCursor = new(base64.RawURLEncoding.EncodeToString([]byte(agents[limit-1].Name)))
	}
	for _, a := range agents {
		out.Agents = append(out.Agents, RegisteredAgent{Form: a.Form()})
	}
	return out, nil
}

func (b *bridge) getAgent(r *route.Request, _ route.None) (out RegisteredAgent, err error) {
	a, err := b.Agents.Agent(r.Context(), r.Agent)
	if err != nil {
		return out, agentProblem(r.Agent, err)
	}
	out.Form = a.Form()
	if v, p, err := b.Manager.Inspect(r.Context(), a.Name); err == nil {
		out.Breaker = new(view.Entry(a.Name, v, p))
	}
	return out, nil
}

// putAgent is POST of an agent, and PUT of the agent in the path.
func (b *bridge) putAgent(r *route.Request, in json.RawMessage) (out RegisteredAgent, err error) {
	actor, err := r.Actor("")
	if err != nil {
		return out, err
	}
	a, err := b.Agents.ParseAgent(r.Agent, in)
	if err != nil {
		return out, agentProblem(r.Agent, err)
	}
	if err := r.Who.CheckAgent(a.Name); err != nil {
		return out, err
	}
	created, err := b.Agents.Put(r.Context(), a, actor)
	if err != nil {
		return out, agentProblem(a.Name, err)
	}
	if stored, err := b.Agents.Agent(r.Context(), a.Name); err == nil {
		a = stored // with the override that it had
	}
	out.Form = a.Form()
	if created {
		r.Status = http.StatusCreated
	}
	return out, nil
}

func (b *bridge) deleteAgent(r *route.Request, _ route.None) (none route.None, err error) {
	actor, err := r.Actor("")
	if err != nil {
		return none, err
	}
	return none, agentProblem(r.Agent, b.Agents.Delete(r.Context(), r.Agent, actor))
}

// agentProblem gives the problem of an error of the registry. It returns other errors, and nil, unchanged.
func agentProblem(agent string, err error) error {
	var p *problem.Problem
	faults, bad := errors.AsType[*registry.Faults](err)
	switch {
	case bad:
		return route.Invalid("registration", faults)
	case errors.Is(err, registry.ErrUnknown):
		p = problem.New(problem.AgentUnknown, "agent %s is not registered", agent)
	case errors.Is(err, registry.ErrInFile):
		p = problem.New(problem.AgentInFile, "agent %s is in the agents file: change it there", agent)
	case errors.Is(err, registry.ErrConflict):
		p = problem.New(problem.AgentConflict, "others keep changing agent %s: try it again", agent)
	default:
		return err
	}
	p.Agent = agent
	return p
}
