package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/breakerd/breakerd/internal/access"
	"github.com/breakerd/breakerd/internal/bridgeapi"
	"github.com/breakerd/breakerd/internal/budget"
	"github.com/breakerd/breakerd/internal/config"
	"github.com/breakerd/breakerd/internal/daemon"
	"github.com/breakerd/breakerd/internal/destination"
	"github.com/breakerd/breakerd/internal/gateway"
	"github.com/breakerd/breakerd/internal/guard"
	"github.com/breakerd/breakerd/internal/metrics"
	"github.com/breakerd/breakerd/internal/policycache"
	"github.com/breakerd/breakerd/internal/registry"
	"github.com/breakerd/breakerd/internal/workflow"
)

// Bridge is the gateway and workflow service.
func Bridge() daemon.Program {
	p := program{
		name:  "bridge",
		check: config.Config.CheckBridge, build: buildBridge, callsOut: true,
		listen: func(c config.Config) string { return c.BridgeListen },
	}
	return daemon.Program{
		Name:  p.name,
		About: "calls agents behind circuit breakers that a whole fleet shares: a reverse proxy and a workflow engine.",
		Help:  help, Configure: p.configure, Sockets: []string{"BRIDGE_LISTEN", "INBOUND_LISTEN", "DEBUG_LISTEN"},
	}
}

func buildBridge(s *service, ready func(context.Context) error) (parts, error) {
	library, err := workflow.NewLibrary(workflow.LibraryOptions{
		Dir: s.cfg.WorkflowsDir, Known: s.Registry.Known, Texts: s.Docs, Logger: s.log, StoreDown: s.Fallback.Degraded,
	})
	if err != nil {
		return parts{}, fmt.Errorf("WORKFLOWS_DIR: %w", err)
	}
	measure := metrics.NewBridge(s.metrics)
	allowed, _, err := destination.Parse(s.cfg.AgentAllow)
	if err != nil {
		return parts{}, fmt.Errorf("AGENT_ALLOW: %w", err)
	}
	outbound := gateway.NewAgentBase(allowed).Bound(s.connectionsOut)
	gate, err := gateway.New(gateway.Options{
		Agents: s.Registry, Manager: s.Manager, Base: outbound, Observe: observeCalls(s.log, measure, s.NoteCall),
		Logger: s.log, ID: s.ID, Access: s.agentsAccess(), Rate: s.rate,
	})
	if err != nil {
		return parts{}, err
	}
	s.warnOfAccess("BRIDGE", s.cfg.BridgeListen, s.cfg.BridgeAuth, "call the agents, and register others")
	if s.access != nil && s.cfg.AgentsAuth == "" && !config.Loopback(s.cfg.BridgeListen) {
		s.log.Warn("everyone who reaches the listener may call the agents: BRIDGE_AGENTS_AUTH=required asks who they are",
			"event", "access.open", "listen", s.cfg.BridgeListen)
	}
	memory := budget.New(workflowMemory(s.cfg.WorkflowMemory))
	api, err := bridgeapi.New(bridgeapi.Options{
		Manager: s.Manager, Agents: agents{s.Registry, s.Policies, s.cfg.BridgeListen, s.log}, Workflows: library,
		Execute: execute(s, gate, measure, memory), Budget: memory,
		Executions: workflow.NewStore(workflow.StoreOptions{
			Records: s.Docs, Logger: s.log, StoreDown: s.Fallback.Degraded, Budget: memory,
		}),
		HealthOptions: s.healthOptions(ready, library), Logger: s.log,
		Access: s.access, Rate: s.rate, LoopbackOnly: s.cfg.BridgeAuth == "" && s.access == nil,
	})
	if err != nil {
		return parts{}, fmt.Errorf("the API cannot be built: %w", err)
	}
	handler := gateway.KeepTrace(logRequests(s.log, underAgents(gate, api, s.agentsLoopbackOnly(), s.log)))
	p := parts{
		listeners: []daemon.Listener{
			{Listen: s.cfg.BridgeListen, Variable: "BRIDGE_LISTEN", Handler: handler, Stream: true},
		},
		tasks:  []func(context.Context){library.Run, closeIdle(outbound)},
		banner: func(urls []string) string { return bannerBridge(s.cfg.InboundURL, urls) },
	}
	if s.cfg.InboundListen != "" {
		return addInbound(s, p)
	}
	return p, nil
}

// agentsAccess says who may call agents through the gateway; nil: everybody.
func (s *service) agentsAccess() *access.Guard {
	if s.cfg.AgentsAuth == "" {
		return nil
	}
	return s.access
}

// agentsLoopbackOnly reports whether the gateway is on loopback, where nobody is asked who he is.
func (s *service) agentsLoopbackOnly() bool {
	return s.cfg.BridgeAuth == "" && s.agentsAccess() == nil && config.Loopback(s.cfg.BridgeListen)
}

// addInbound adds the guard before an API of the operator's.
func addInbound(s *service, p parts) (parts, error) {
	base := gateway.NewBase(registry.DefaultTimeout).Bound(s.connectionsOut)
	inbound, err := gateway.NewInbound(gateway.InboundOptions{
		URL: s.cfg.InboundURL, Agent: s.cfg.InboundAgent,
		KeyFile: s.cfg.InboundKeyFile, SecretFile: s.cfg.InboundSecretFile,
		Manager: s.Manager, Base: base, Logger: s.log, ID: s.ID,
	})
	if err != nil {
		return parts{}, err
	}
	p.tasks = append(p.tasks, closeIdle(base))
	p.listeners = append(p.listeners, daemon.Listener{
		Listen: s.cfg.InboundListen, Variable: "INBOUND_LISTEN", Handler: logRequests(s.log, inbound), Stream: true,
	})
	return p, nil
}

// closeIdle closes the idle connections to agents when ctx ends.
func closeIdle(base *gateway.Base) func(ctx context.Context) {
	return func(ctx context.Context) {
		<-ctx.Done()
		base.CloseIdleConnections()
	}
}

// underAgents serves the gateway at its prefix, by the path as it was sent, which an [http.ServeMux] would clean, and
// the API elsewhere. A page of another site may call agents as far as these let it; but on a loopback listener, where
// nobody else can, it may only GET.
func underAgents(gate, api http.Handler, loopbackOnly bool, log *slog.Logger) http.Handler {
	gate = guard.Chain(gate, guard.Recover(log),
		guard.When(loopbackOnly, guard.Loopback), guard.When(loopbackOnly, guard.SameOriginUpgrades))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if path := r.URL.EscapedPath(); path+"/" == gateway.Prefix || strings.HasPrefix(path, gateway.Prefix) {
			gate.ServeHTTP(w, r)
			return
		}
		api.ServeHTTP(w, r)
	})
}

// execute runs workflows, and counts those that began.
func execute(
	s *service, gate *gateway.Gateway, measure *metrics.Bridge, memory *budget.Budget,
) func(context.Context, workflow.Definition, map[string]any) workflow.Execution {
	engine := workflow.NewEngine(workflow.EngineOptions{
		Caller: gate, MaxParallel: s.cfg.ParallelSteps, MaxExecutions: s.cfg.Executions, Logger: s.log,
		Budget: memory,
	})
	return func(ctx context.Context, d workflow.Definition, input map[string]any) workflow.Execution {
		x := engine.Execute(ctx, d, input)
		_, badInput := errors.AsType[*workflow.InputError](x.Err)
		if !badInput && !errors.Is(x.Err, workflow.ErrTooManyExecutions) {
			measure.Executed(x.Status)
		}
		return x
	}
}

// agents are the registered ones. A policy that is registered with one applies on this replica at once.
type agents struct {
	*registry.Registry

	policies *policycache.Cache
	listen   string // the bridge's own address
	log      *slog.Logger
}

// Put implements [bridgeapi.Agents].
func (a agents) Put(ctx context.Context, agent registry.Agent, actor string) (created bool, err error) {
	created, err = a.Registry.Put(ctx, agent, actor)
	a.policies.Refresh(ctx, agent.Name)
	if err == nil && leadsTo(agent.URL, a.listen) {
		a.log.WarnContext(ctx, "the url of this agent leads back to this bridge: calls of it are refused as a loop",
			"event", "bridge.agent_loop", "agent", agent.Name, "url", agent.URL.String())
	}
	return created, err
}

// leadsTo reports whether a URL is surely that of a listener on this machine.
func leadsTo(u *url.URL, listen string) bool {
	if u == nil {
		return false
	}
	host, port, err := net.SplitHostPort(listen)
	theirs := cmp.Or(u.Port(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
	if err != nil || port != theirs {
		return false
	}
	local := func(host string) bool {
		ip := net.ParseIP(host)
		return host == "localhost" || host == "" || ip.IsLoopback() || ip.IsUnspecified()
	}
	return u.Hostname() == host || local(u.Hostname()) && local(host)
}

// Delete implements [bridgeapi.Agents].
func (a agents) Delete(ctx context.Context, name, actor string) error {
	err := a.Registry.Delete(ctx, name, actor)
	a.policies.Refresh(ctx, name)
	return err
}

func bannerBridge(inboundURL string, urls []string) string {
	text := fmt.Sprintf(`Try:
  curl -X POST %[1]s/api/v1/agents %[2]s '{"name":"my-agent","url":"http://127.0.0.1:9000/my-agent"}'
  curl %[1]s/agents/my-agent/any/path
  curl %[1]s/api/v1/workflows
`, urls[0], "-H 'Content-Type: application/json' -d")
	if inboundURL != "" {
		text += fmt.Sprintf("The API at %s is guarded at %s\n", inboundURL, urls[1])
	}
	return text
}
