// Package bridgeapi is the bridge's API under /api/v1: agents, workflows and executions, with its document at /openapi.json. The gateway
// under /agents/ is in the document, and a handler of its own.
package bridgeapi

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"reflect"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/breakerd/breakerd/internal/guard"
	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/registry"
	"github.com/breakerd/breakerd/internal/route"
	"github.com/breakerd/breakerd/internal/workflow"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// Options is what the API stands on. Manager, Agents, Workflows, Execute, Executions and HealthOptions.Health are required.
type Options struct {
	Manager   *breaker.Manager
	Agents    Agents
	Workflows Workflows
	// Execute runs a workflow to its end. A caller that leaves ends ctx.
	Execute    func(ctx context.Context, d workflow.Definition, input map[string]any) workflow.Execution
	Executions Executions

	route.HealthOptions

	LoopbackOnly bool         // see [guard.Loopback]
	Logger       *slog.Logger // nil: silent
}

// Agents are the registered agents, a *registry.Registry. A store that is away is an error that is breaker.ErrStoreUnavailable.
// Implementations are safe for concurrent use, as are those of Workflows and Executions.
type Agents interface {
	List(ctx context.Context) ([]registry.Agent, error) // with an error: those that are known all the same
	Agent(ctx context.Context, name string) (registry.Agent, error)
	ParseAgent(name string, body []byte) (registry.Agent, error)
	Put(ctx context.Context, a registry.Agent, actor string) (created bool, err error)
	Delete(ctx context.Context, name, actor string) error
}

// Workflows are the definitions, a *workflow.Library.
type Workflows interface {
	List(ctx context.Context) ([]workflow.Entry, error) // with an error: those that are known all the same
	Get(ctx context.Context, id string) (workflow.Definition, error)
	Put(ctx context.Context, text []byte) (d workflow.Definition, created bool, err error) // *workflow.DefinitionError
	Delete(ctx context.Context, id string) error
}

// Executions keeps what became of executions, a *workflow.Store.
type Executions interface {
	Keep(ctx context.Context, x workflow.Execution) (text json.RawMessage, err error) // the whole execution, whatever is kept
	Get(ctx context.Context, id string) (text json.RawMessage, err error)
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
	gatewayPath    = "/agents/{agent}/{path}"
)

func newBridge(o Options) (*bridge, error) {
	if o.Manager == nil || o.Agents == nil || o.Workflows == nil || o.Execute == nil || o.Executions == nil || o.Health == nil {
		return nil, errors.New("bridgeapi: Options.Manager, Agents, Workflows, Execute, Executions and Health are required")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	b := &bridge{
		Options: o, API: route.New("bridge", o.Version, "Agents behind circuit breakers, and workflows that call them.", o.Logger),
	}
	b.workflowRoutes()
	b.agentRoutes()
	b.documentGateway()
	b.Health(o.HealthOptions)
	return b, b.Finish()
}

// An answer of the API has to be sent within these times, but for an execution's: see [bridge.execute].
const (
	readWithin  = 30 * time.Second
	writeWithin = time.Minute
)

func (b *bridge) guarded() http.Handler {
	return guard.Chain(b.API, guard.Recover(b.Logger), guard.Deadlines(readWithin, writeWithin), guard.When(b.LoopbackOnly, guard.Loopback),
		guard.Private, guard.Paths(guard.AgentsUnder(agentsPath+"/"),
			guard.Named{Prefix: workflowsPath + "/", Valid: breaker.ValidName, Refuse: func() *problem.Problem {
				return problem.New(problem.InvalidWorkflowID, "bad workflow id: want 1 to 128 of A-Z a-z 0-9 . _ : @ -, first a letter or digit")
			}},
			guard.Named{Prefix: executionsPath + "/", Valid: workflow.ValidExecutionID, Refuse: func() *problem.Problem {
				return problem.New(problem.InvalidExecutionID, "bad execution id: want 32 of 0-9 a-f")
			}}), guard.SameOrigin)
}

// documentGateway enters what is not on the mux: every method, of which two are shown.
func (b *bridge) documentGateway() {
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		o := route.Operation{
			Method: method, Path: gatewayPath, Tag: "gateway", ID: "callAgent" + method[:1] + strings.ToLower(method[1:]),
			Summary: "Call an agent through its breaker: any method, path, query and body; its answer comes back as it is",
			Codes: []problem.Code{
				problem.CircuitBreakerOpen, problem.StoreUnavailable, problem.AgentUnknown, problem.AgentHasNoURL, problem.InvalidPath,
				problem.UpstreamTimeout, problem.UpstreamUnreachable, problem.InvalidBody, problem.RequestTimeout, problem.MethodNotAllowed,
			},
		}
		b.Describe(&o, reflect.TypeFor[route.None](), reflect.TypeFor[route.None]())
		op := b.OpenAPI.Paths[o.Path].Get
		if method == http.MethodPost {
			op = b.OpenAPI.Paths[o.Path].Post
			op.RequestBody = &huma.RequestBody{Content: map[string]*huma.MediaType{"*/*": {Schema: &huma.Schema{}}}}
		}
		delete(op.Responses, "200")
		op.Responses["default"] = &huma.Response{Description: "What the agent answered."}
	}
}
