package httpapi

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

	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/registry"
	"github.com/breakerd/breakerd/internal/workflow"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// BridgeOptions is what the bridge's API stands on. Manager, Agents, Workflows, Execute, Executions and Health are required. Those
// that are also in Options mean the same here.
type BridgeOptions struct {
	Manager   *breaker.Manager
	Agents    Agents
	Workflows Workflows
	// Execute runs a workflow to its end. A caller that leaves ends ctx.
	Execute    func(ctx context.Context, d workflow.Definition, input map[string]any) workflow.Execution
	Executions Executions
	// Gateway answers /agents and all below it. It is given every path as it was sent. nil: there is nothing there.
	Gateway http.Handler

	Health       func(ctx context.Context) Health
	Ready        func(ctx context.Context) error
	LoopbackOnly bool
	Metrics      http.Handler
	Version      string
	ReplicaID    string
	Logger       *slog.Logger
	Now          func() time.Time
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

// NewBridge makes the bridge's handler. It starts nothing in the background.
func NewBridge(o BridgeOptions) (http.Handler, error) {
	b, err := newBridge(o)
	if err != nil {
		return nil, err
	}
	return b.handler(), nil
}

// bridge is the bridge's handler under construction, and what its operations share.
type bridge struct {
	*server
	BridgeOptions
}

const (
	agentsPath     = "/api/v1/agents"
	workflowsPath  = "/api/v1/workflows"
	executionsPath = "/api/v1/executions"
	gatewayPath    = "/agents"
)

func newBridge(o BridgeOptions) (*bridge, error) {
	if o.Manager == nil || o.Agents == nil || o.Workflows == nil || o.Execute == nil || o.Executions == nil || o.Health == nil {
		return nil, errors.New("httpapi: BridgeOptions.Manager, Agents, Workflows, Execute, Executions and Health are required")
	}
	c := common{
		health: o.Health, ready: o.Ready, loopbackOnly: o.LoopbackOnly, metrics: o.Metrics, version: o.Version,
		replicaID: o.ReplicaID, logger: o.Logger, now: o.Now, readIn: 30 * time.Second, writeIn: 60 * time.Second,
	}
	doc := newDocument("bridge", o.Version, "Agents behind circuit breakers, and workflows that call them.")
	b := &bridge{BridgeOptions: o, server: newServer(c, doc, agentsUnder("api", "v1", "agents"),
		named{[]string{"api", "v1", "workflows"}, breaker.ValidName, func() *problem.Problem {
			return problem.New(problem.InvalidWorkflowID, "bad workflow id: want 1 to 128 of A-Z a-z 0-9 . _ : @ -, first a letter or digit")
		}},
		named{[]string{"api", "v1", "executions"}, workflow.ValidExecutionID, func() *problem.Problem {
			return problem.New(problem.InvalidExecutionID, "bad execution id: want 32 of 0-9 a-f")
		}})}
	b.workflowRoutes()
	b.registryRoutes()
	if b.gateway = o.Gateway; b.gateway != nil {
		b.documentGateway()
	}
	return b, b.finish()
}

// ofGateway says whether a path is the gateway's. Nothing else of it is judged here: what follows is the agent's.
func (s *server) ofGateway(escaped string) bool {
	return s.gateway != nil && (escaped == gatewayPath || strings.HasPrefix(escaped, gatewayPath+"/"))
}

// serveGateway hands a request on. Pages of other sites may call agents, as far as these let them; but not where nobody else can, on a
// loopback listener: there they may only GET, as they may of any server, and their browser keeps the answer from them. A WebSocket
// begins with a GET whose answer no browser keeps from a page, so it counts as what changes something.
func (s *server) serveGateway(w http.ResponseWriter, r *http.Request) {
	judged := r
	if r.Header.Get("Upgrade") != "" {
		judged = new(*r)
		judged.Method = http.MethodPost
	}
	if s.loopbackOnly && s.refuseCrossOrigin(w, judged) {
		return
	}
	s.gateway.ServeHTTP(w, r)
}

// documentGateway enters what is not on the mux: every method, of which two are shown.
func (b *bridge) documentGateway() {
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		e := endpoint{
			method: method, path: gatewayPath + "/{agent}/{path}", tag: "gateway", id: "callAgent" + method[:1] + strings.ToLower(method[1:]),
			summary: "Call an agent through its breaker: any method, path, query and body; its answer comes back as it is",
			codes: []problem.Code{
				problem.CircuitBreakerOpen, problem.StoreUnavailable, problem.AgentUnknown, problem.AgentHasNoURL, problem.InvalidPath,
				problem.UpstreamTimeout, problem.UpstreamUnreachable, problem.InvalidBody, problem.RequestTimeout, problem.MethodNotAllowed,
			},
		}
		b.doc.add(e, reflect.TypeFor[none](), reflect.TypeFor[none]())
		op := b.doc.api.Paths[e.path].Get
		if method == http.MethodPost {
			op = b.doc.api.Paths[e.path].Post
			op.RequestBody = &huma.RequestBody{Content: map[string]*huma.MediaType{"*/*": {Schema: &huma.Schema{}}}}
		}
		delete(op.Responses, "200")
		op.Responses["default"] = &huma.Response{Description: "What the agent answered."}
	}
}
