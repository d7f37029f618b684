// Package bridgeapi is the bridge's HTTP API under /api/v1: agents, workflows and executions. Its document has the
// gateway under /agents/ too, which is a handler of its own.
package bridgeapi

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/breakerd/breakerd/internal/access"
	"github.com/breakerd/breakerd/internal/budget"
	"github.com/breakerd/breakerd/internal/guard"
	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/registry"
	"github.com/breakerd/breakerd/internal/route"
	"github.com/breakerd/breakerd/internal/workflow"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// Options is what an API is made of. Manager, Agents, Workflows, Execute, Executions and Health are required.
type Options struct {
	Manager   *breaker.Manager
	Agents    Agents
	Workflows Workflows
	// Execute runs a workflow to its end. A caller that leaves cancels ctx.
	Execute    func(ctx context.Context, d workflow.Definition, input map[string]any) workflow.Execution
	Executions Executions
	Budget     *budget.Budget // of which executions take what they are sent; nil: no bound

	route.HealthOptions

	Access       *access.Guard // who may do what; nil: everybody may do everything
	Rate         *access.Rate  // of each client's requests; nil: no bound
	LoopbackOnly bool          // the listener is on loopback: see [guard.Loopback]
	Logger       *slog.Logger  // nil: silent
}

// Agents are the registered agents, a [registry.Registry]. While Redis is down its errors are
// [breaker.ErrStoreUnavailable]. Implementations are safe for concurrent use, as are those of Workflows and Executions.
type Agents interface {
	// List lists all agents. Beside an error it lists those that are known without Redis.
	List(ctx context.Context) ([]registry.Agent, error)
	Agent(ctx context.Context, name string) (registry.Agent, error)
	ParseAgent(name string, body []byte) (registry.Agent, error)
	Put(ctx context.Context, a registry.Agent, actor string) (created bool, err error)
	Delete(ctx context.Context, name, actor string) error
}

// Workflows are the definitions, a [workflow.Library].
type Workflows interface {
	// List lists all workflows. Beside an error it lists those that are known without Redis.
	List(ctx context.Context) ([]workflow.Entry, error)
	Get(ctx context.Context, id string) (workflow.Definition, error)
	// Put makes or replaces a workflow. Faults of its text are a *workflow.DefinitionError.
	Put(ctx context.Context, text []byte) (d workflow.Definition, created bool, err error)
	Delete(ctx context.Context, id string) error
}

// Executions keeps finished executions, a [workflow.Store].
type Executions interface {
	// Keep returns the whole execution, even if it can keep only a part of it. Records are freed by their callers.
	Keep(ctx context.Context, x workflow.Execution) (workflow.Record, error)
	Get(ctx context.Context, id string) (workflow.Record, error)
}

// New makes the API. It starts nothing in the background.
func New(o Options) (http.Handler, error) {
	b, err := newBridge(o)
	if err != nil {
		return nil, err
	}
	return b.guarded(), nil
}

// bridge is the API under construction, and what its operations share.
type bridge struct {
	*route.API
	Options
}

const (
	agentsPath     = "/api/v1/agents"
	workflowsPath  = "/api/v1/workflows"
	executionsPath = "/api/v1/executions"
)

func newBridge(o Options) (*bridge, error) {
	if o.Manager == nil || o.Agents == nil || o.Workflows == nil || o.Execute == nil || o.Executions == nil ||
		o.Health == nil {
		return nil, errors.New("bridgeapi: Options.Manager, Agents, Workflows, Execute, Executions and Health are required")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	const about = "Agents behind circuit breakers, and workflows that call them."
	b := &bridge{Options: o, API: route.New("bridge", o.Version, about, o.Logger)}
	b.API.Access, b.API.Rate = o.Access, o.Rate
	b.workflowRoutes()
	b.agentRoutes()
	b.documentGateway()
	b.Health(o.HealthOptions)
	return b, b.Finish()
}

// The bounds of a request and of its answer, but for the answer of an execution. The listener has none, for the gateway
// takes as long as its agents do.
const (
	readWithin  = 30 * time.Second
	writeWithin = time.Minute
)

func (b *bridge) guarded() http.Handler {
	workflows := guard.Named{Prefix: workflowsPath + "/", Valid: breaker.ValidName}
	workflows.Refuse = func() *problem.Problem {
		return problem.New(problem.InvalidWorkflowID,
			"bad workflow id: want 1 to 128 of A-Z a-z 0-9 . _ : @ -, first a letter or digit")
	}
	executions := guard.Named{Prefix: executionsPath + "/", Valid: workflow.ValidExecutionID}
	executions.Refuse = func() *problem.Problem {
		return problem.New(problem.InvalidExecutionID, "bad execution id: want 32 of 0-9 a-f")
	}
	return guard.Chain(b.API,
		guard.Recover(b.Logger), guard.Deadlines(readWithin, writeWithin), guard.When(b.LoopbackOnly, guard.Loopback),
		guard.Private, guard.Paths(guard.AgentsUnder(agentsPath+"/"), workflows, executions), guard.SameOrigin)
}

// documentGateway documents the gateway, which is another handler. It takes every method, of which two are shown.
func (b *bridge) documentGateway() {
	const path = "/agents/{agent}/{path}"
	gateway := func(method, id string) *huma.PathItem {
		route.Describe[route.None, route.None](b.API, &route.Operation{
			Route: method + " " + path, ID: id, Tag: "gateway", Role: access.Report, Ways: access.Gateway,
			Summary: "Call an agent through its breaker: any method, path, query and body; its answer comes back as it is",
			Codes: []problem.Code{
				problem.CircuitBreakerOpen, problem.StoreUnavailable, problem.AgentUnknown, problem.AgentHasNoURL,
				problem.InvalidPath, problem.UpstreamTimeout, problem.UpstreamUnreachable, problem.InvalidBody,
				problem.RequestTimeout, problem.MethodNotAllowed, problem.LoopDetected, problem.AgentAddressDenied,
			},
		})
		return b.OpenAPI.Paths[path]
	}
	get, post := gateway(http.MethodGet, "callAgentGet").Get, gateway(http.MethodPost, "callAgentPost").Post
	post.RequestBody = &huma.RequestBody{Content: map[string]*huma.MediaType{"*/*": {Schema: &huma.Schema{}}}}
	for _, op := range []*huma.Operation{get, post} {
		delete(op.Responses, "200")
		op.Responses["default"] = &huma.Response{Description: "What the agent answered."}
	}
}
