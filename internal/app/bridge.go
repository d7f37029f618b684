package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"github.com/breakerd/breakerd/internal/bridgeapi"
	"github.com/breakerd/breakerd/internal/config"
	"github.com/breakerd/breakerd/internal/daemon"
	"github.com/breakerd/breakerd/internal/gateway"
	"github.com/breakerd/breakerd/internal/guard"
	"github.com/breakerd/breakerd/internal/metrics"
	"github.com/breakerd/breakerd/internal/policycache"
	"github.com/breakerd/breakerd/internal/redisdocs"
	"github.com/breakerd/breakerd/internal/registry"
	"github.com/breakerd/breakerd/internal/workflow"
)

// Bridge is the gateway and workflow service.
func Bridge() daemon.Program {
	p := program{
		check: config.Config.CheckBridge, listen: func(c config.Config) string { return c.BridgeListen },
		mount: mountBridge, banner: bannerBridge,
	}
	return daemon.Program{
		Name: "bridge", About: "calls agents behind circuit breakers that a whole fleet shares: a reverse proxy and a workflow engine.",
		Help: help, Configure: p.configure,
	}
}

func mountBridge(s *core) ([]daemon.Listener, error) {
	library, err := workflow.NewLibrary(workflow.LibraryOptions{
		Dir: s.cfg.WorkflowsDir, Known: s.registry.Known, Texts: texts{s.docs}, Logger: s.log, StoreDown: s.fallback.Degraded,
	})
	if err != nil {
		return nil, fmt.Errorf("WORKFLOWS_DIR: %w", err)
	}
	measure := metrics.NewBridge(s.metrics)
	base, inbound := gateway.NewBase(0), gateway.NewBase(registry.DefaultTimeout)
	gate, err := gateway.New(gateway.Options{Agents: s.registry, Manager: s.manager, Base: base, Observe: measure.Upstream, Logger: s.log})
	if err != nil {
		return nil, err
	}
	engine := workflow.NewEngine(workflow.EngineOptions{Caller: gate, MaxParallel: s.cfg.ParallelSteps, MaxExecutions: s.cfg.Executions, Logger: s.log})
	loopbackOnly := s.cfg.BridgeAuth == ""
	api, err := bridgeapi.New(bridgeapi.Options{
		Manager: s.manager, Agents: agents{s.registry, s.book}, Workflows: library,
		Execute: func(ctx context.Context, d workflow.Definition, input map[string]any) workflow.Execution {
			x := engine.Execute(ctx, d, input)
			if began(x) {
				measure.Executed(x.Status)
			}
			return x
		},
		Executions:    workflow.NewStore(workflow.StoreOptions{Records: s.docs, Logger: s.log, StoreDown: s.fallback.Degraded}),
		HealthOptions: s.healthOptions(library), LoopbackOnly: loopbackOnly, Logger: s.log,
	})
	if err != nil {
		return nil, fmt.Errorf("the API cannot be built: %w", err)
	}
	s.also = append(s.also, library.Run, func(ctx context.Context) {
		<-ctx.Done()
		base.CloseIdleConnections()
		inbound.CloseIdleConnections()
	})
	handler := underAgents(gate, gateway.KeepTrace(api), loopbackOnly, s.log)
	listeners := []daemon.Listener{{Listen: s.cfg.BridgeListen, Variable: "BRIDGE_LISTEN", Handler: handler, Stream: true}}
	if s.cfg.InboundListen != "" {
		guarded, err := gateway.NewInbound(gateway.InboundOptions{
			URL: s.cfg.InboundURL, Agent: s.cfg.InboundAgent,
			KeyFile: s.cfg.InboundKeyFile, SecretFile: s.cfg.InboundSecretFile,
			Manager: s.manager, Base: inbound, Logger: s.log,
		})
		if err != nil {
			return nil, err
		}
		listeners = append(listeners, daemon.Listener{Listen: s.cfg.InboundListen, Variable: "INBOUND_LISTEN", Handler: guarded, Stream: true})
	}
	return listeners, nil
}

// underAgents serves the gateway at its prefix, by the path as it was sent, which an [http.ServeMux] would clean, and the API elsewhere.
// A page of another site may call agents as far as these let it; but on a loopback listener, where nobody else can, it may only GET.
func underAgents(gate, api http.Handler, loopbackOnly bool, log *slog.Logger) http.Handler {
	gate = guard.Chain(gate, guard.Recover(log), guard.When(loopbackOnly, guard.Loopback), guard.When(loopbackOnly, guard.SameOriginUpgrades))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if path := r.URL.EscapedPath(); path+"/" == gateway.Prefix || strings.HasPrefix(path, gateway.Prefix) {
			gate.ServeHTTP(w, r)
			return
		}
		api.ServeHTTP(w, r)
	})
}

// began says whether anything was run at all.
func began(x workflow.Execution) bool {
	_, lacks := errors.AsType[*workflow.InputError](x.Err)
	return !lacks && !errors.Is(x.Err, workflow.ErrTooManyExecutions)
}

// agents are the registered ones; a policy that is changed with one counts on this replica at once.
type agents struct {
	*registry.Registry
	book *policycache.Cache
}

// Put implements bridgeapi.Agents.
func (a agents) Put(ctx context.Context, agent registry.Agent, actor string) (created bool, err error) {
	created, err = a.Registry.Put(ctx, agent, actor)
	a.book.Refresh(ctx, agent.Name)
	return created, err
}

// Delete implements bridgeapi.Agents.
func (a agents) Delete(ctx context.Context, name, actor string) error {
	err := a.Registry.Delete(ctx, name, actor)
	a.book.Refresh(ctx, name)
	return err
}

// texts are the workflows in Redis, as the library wants them.
type texts struct{ *redisdocs.Docs }

// PutWorkflow implements workflow.Texts.
func (t texts) PutWorkflow(ctx context.Context, id, text, entry string) error {
	err := t.Docs.PutWorkflow(ctx, id, text, entry)
	if errors.Is(err, redisdocs.ErrFull) {
		return workflow.ErrFull
	}
	return err
}

func bannerBridge(s *core, addresses []string) string {
	text := fmt.Sprintf(`Try:
  curl -X POST http://%[1]s/api/v1/agents -H 'Content-Type: application/json' -d '{"name":"my-agent","url":"http://127.0.0.1:9000/my-agent"}'
  curl http://%[1]s/agents/my-agent/any/path
  curl http://%[1]s/api/v1/workflows
`, addresses[0])
	if len(addresses) > 1 {
		text += fmt.Sprintf("The API at %s is guarded at http://%s\n", s.cfg.InboundURL, addresses[1])
	}
	return text
}
