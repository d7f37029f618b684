package bridgeapi

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/registry"
	"github.com/breakerd/breakerd/internal/route"
	"github.com/breakerd/breakerd/internal/view"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// RegisteredAgent is one registration, in the form that the agents file has too. It is exported for the sake of the document.
type RegisteredAgent struct {
	registry.Form
	Breaker *view.BreakerEntry `json:"breaker,omitempty"`
}

type registeredReply struct {
	Agents     []RegisteredAgent `json:"agents"`
	NextCursor *string           `json:"next_cursor"`
	Degraded   bool              `json:"degraded,omitempty"`
}

const agentExample = `{"name": "FailingAgent", "url": "http://failing-agent:9000", "circuit_breaker_config": {"failure_threshold": 3}}`

func (b *bridge) agentRoutes() {
	in, out := agentSchema(), agentSchema()
	out.Properties["origin"] = &huma.Schema{Type: huma.TypeString, Enum: []any{"file", "api"}, Description: "file: the API cannot change it."}
	out.Properties["breaker"] = b.SchemaOf(view.BreakerEntry{})
	in.Properties["origin"] = &huma.Schema{Type: huma.TypeString, Enum: []any{"file", "api"}, Description: "As getAgent shows it; not believed."}
	in.Properties["breaker"] = &huma.Schema{
		Type: huma.TypeObject, AdditionalProperties: true, Description: "As getAgent shows it; not looked at. What getAgent gives can be sent back whole.",
	}
	out.Required = []string{"name", "timeout_seconds", "classify"}
	list := &huma.Schema{Type: huma.TypeObject, Required: []string{"agents", "next_cursor"}, AdditionalProperties: false, Properties: map[string]*huma.Schema{
		"agents":      {Type: huma.TypeArray, Items: out},
		"next_cursor": {Type: huma.TypeString, Nullable: true, Description: "null: this was the last page."},
		"degraded":    {Type: huma.TypeBoolean, Description: "Redis is away: these are the agents of the file alone."},
	}}
	one := agentsPath + "/{agent}"
	changes := []problem.Code{problem.BodyRequired, problem.AgentInFile, problem.AgentConflict, problem.StoreUnavailable}
	route.Serve(b.API, route.Operation{
		Method: http.MethodGet, Path: agentsPath, ID: "listAgents", Tag: "agents", Summary: "All agents, by name", Out: list,
		Params: []*huma.Param{route.LimitParam(), route.CursorParam()},
	}, b.listAgents)
	route.Serve(b.API, route.Operation{
		Method: http.MethodPost, Path: agentsPath, ID: "registerAgent", Tag: "agents", Body: route.RequiredBody, In: in, Out: out,
		Summary: "Register an agent, or replace its registration as a whole", Params: []*huma.Param{route.ActorParam()},
		Codes: changes, Also: []int{http.StatusCreated}, Example: agentExample,
	}, b.putAgent)
	route.Serve(b.API, route.Operation{
		Method: http.MethodGet, Path: one, ID: "getAgent", Tag: "agents", Summary: "One agent, with its breaker", Out: out,
		Codes: []problem.Code{problem.AgentUnknown, problem.StoreUnavailable},
	}, b.getAgent)
	route.Serve(b.API, route.Operation{
		Method: http.MethodPut, Path: one, ID: "putAgent", Tag: "agents", Body: route.RequiredBody, In: in, Out: out,
		Summary: "The same as registerAgent; the body may leave out the name", Params: []*huma.Param{route.ActorParam()},
		Codes: changes, Also: []int{http.StatusCreated}, Example: agentExample,
	}, b.putAgent)
	route.Serve(b.API, route.Operation{
		Method: http.MethodDelete, Path: one, ID: "deleteAgent", Tag: "agents", Status: http.StatusNoContent,
		Summary: "Remove its registration and its policy override; its breaker stays", Params: []*huma.Param{route.ActorParam()},
		Codes: []problem.Code{problem.AgentUnknown, problem.AgentInFile, problem.StoreUnavailable},
	}, b.deleteAgent)
}

// agentSchema documents a registration; the registry is what checks one.
func agentSchema() *huma.Schema {
	text := func(about string) *huma.Schema { return &huma.Schema{Type: huma.TypeString, Description: about} }
	timeout := registry.DefaultTimeout.Seconds()
	return &huma.Schema{Type: huma.TypeObject, AdditionalProperties: false, Properties: map[string]*huma.Schema{
		"name":                   {Type: huma.TypeString, Pattern: route.NamePattern},
		"url":                    text("http or https; without it the agent is a policy that has no address."),
		"circuit_breaker_config": route.OverrideSchema(),
		"contact":                text("Whom to call; at most 500 bytes of printable text."),
		"labels":                 {Type: huma.TypeObject, AdditionalProperties: text(""), Description: "At most 32, each at most 256 bytes."},
		"timeout_seconds": {
			Type: huma.TypeNumber, Minimum: new(0.001), Maximum: new(registry.MaxTimeout.Seconds()), Default: timeout,
			Description: "How long its answer may take to begin, and each next part of it.",
		},
		"classify": {
			Type: huma.TypeString, Enum: []any{"status", "jsonrpc", "mcp"}, Default: "status",
			Description: "What a failure is told by: the status; also an error in a JSON-RPC body; also isError in an MCP result.",
		},
	}}
}

// listAgents shows what is known without Redis, when that is away.
func (b *bridge) listAgents(r *route.Request, _ route.None) (out route.Answer[registeredReply], err error) {
	q, err := r.Params("limit", "cursor")
	if err != nil {
		return out, err
	}
	limit, err := route.Whole(q, "limit", route.MostListed, route.MostListed)
	if err != nil {
		return out, err
	}
	after, err := agentCursor(q.Get("cursor"))
	if err != nil {
		return out, err
	}
	agents, err := b.Agents.List(r.Context())
	if err != nil && !errors.Is(err, breaker.ErrStoreUnavailable) {
		return out, err
	}
	agents = slices.DeleteFunc(agents, func(a registry.Agent) bool { return a.Name <= after })
	out.Body = registeredReply{Agents: []RegisteredAgent{}, Degraded: err != nil}
	if len(agents) > limit {
		agents = agents[:limit]
		out.Body.NextCursor = new(base64.RawURLEncoding.EncodeToString([]byte(agents[limit-1].Name)))
	}
	for _, a := range agents {
		out.Body.Agents = append(out.Body.Agents, RegisteredAgent{Form: a.Form()})
	}
	return out, nil
}

// agentCursor is the name with which a page ended.
func agentCursor(text string) (string, error) {
	name, err := base64.RawURLEncoding.DecodeString(text)
	if text != "" && (err != nil || !breaker.ValidName(string(name))) {
		return "", problem.BadValue("query.cursor", text, "the next_cursor of a page")
	}
	return string(name), nil
}

func (b *bridge) getAgent(r *route.Request, _ route.None) (out route.Answer[RegisteredAgent], err error) {
	a, err := b.Agents.Agent(r.Context(), r.Agent)
	if err != nil {
		return out, agentProblem(r.Agent, err)
	}
	out.Body.Form = a.Form()
	if v, p, err := b.Manager.Inspect(r.Context(), a.Name); err == nil {
		out.Body.Breaker = new(view.Entry(a.Name, v, p))
	}
	return out, nil
}

// putAgent is POST of an agent, and PUT of the one that the path names.
func (b *bridge) putAgent(r *route.Request, in json.RawMessage) (out route.Answer[RegisteredAgent], err error) {
	actor, err := r.Actor("")
	if err != nil {
		return out, err
	}
	a, err := b.Agents.ParseAgent(r.Agent, in)
	if err != nil {
		return out, agentProblem(r.Agent, err)
	}
	created, err := b.Agents.Put(r.Context(), a, actor)
	if err != nil {
		return out, agentProblem(a.Name, err)
	}
	if stored, err := b.Agents.Agent(r.Context(), a.Name); err == nil {
		a = stored // with the override that it had
	}
	out.Body.Form = a.Form()
	if created {
		out.Status = http.StatusCreated
	}
	return out, nil
}

func (b *bridge) deleteAgent(r *route.Request, _ route.None) (out route.Answer[route.None], err error) {
	actor, err := r.Actor("")
	if err != nil {
		return out, err
	}
	return out, agentProblem(r.Agent, b.Agents.Delete(r.Context(), r.Agent, actor))
}

// agentProblem names the registry's errors; others, and nil, stay as they are.
func agentProblem(agent string, err error) error {
	var p *problem.Problem
	faults, bad := errors.AsType[*registry.Faults](err)
	switch {
	case bad:
		return route.Invalid("registration", faults)
	case errors.Is(err, registry.ErrUnknown):
		p = problem.New(problem.AgentUnknown, "agent %s is not registered", agent)
	case errors.Is(err, registry.ErrInFile):
		p = problem.New(problem.AgentInFile, "agent %s stands in the agents file: change it there", agent)
	case errors.Is(err, registry.ErrConflict):
		p = problem.New(problem.AgentConflict, "others keep changing agent %s: try it again", agent)
	default:
		return err
	}
	p.Agent = agent
	return p
}
