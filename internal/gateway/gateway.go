// Package gateway forwards calls through breakers: those of callers to /agents/{agent}/…, those of a workflow's steps,
// and, with the inbound guard, those of agents to an API, where the breaker is the calling agent's.
package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"sync"
	"time"

	"github.com/breakerd/breakerd/internal/access"
	"github.com/breakerd/breakerd/internal/destination"
	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/registry"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breakerhttp"
)

// Agents finds an agent. [registry.ErrUnknown]: there is none. [breaker.ErrStoreUnavailable]: that is not known.
type Agents interface {
	Agent(ctx context.Context, name string) (registry.Agent, error)
}

// callerHeader names the agent that is called. If that hands it on when it calls another agent, as it does with trace
// headers, its breaker is known to depend on the other's. It is a claim: who forges it adds one line to what
// /v1/admin/cascades goes by, and nothing else.
const callerHeader = "X-Circuit-Breaker-Agent"

// Options configures a Gateway. Agents and Manager are required.
type Options struct {
	Agents  Agents
	Manager *breaker.Manager
	Base    http.RoundTripper        // nil: NewAgentBase
	Observe func(breakerhttp.Timing) // receives each call that was made; nil: nobody
	Logger  *slog.Logger             // nil: silent
	Access  *access.Guard            // who may call which agent; nil: nobody is asked who he is
	Rate    *access.Rate             // of each client's calls; nil: no bound
	ID      string                   // of the replica, by which it knows its own calls in a loop; "": any
}

// Gateway is the handler of /agents/{agent}/…, and a [workflow.Caller]. It is safe for concurrent use.
type Gateway struct {
	o        Options
	proxy    httputil.ReverseProxy // copied for each call
	activity breakerhttp.Activity
	via      *via
}

// New makes a Gateway.
func New(o Options) (*Gateway, error) {
	if o.Agents == nil || o.Manager == nil {
		return nil, errors.New("gateway: Options.Agents and Manager are required")
	}
	if o.Base == nil {
		o.Base = NewAgentBase(destination.Allowed{})
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Gateway{o: o, proxy: newProxy(o.Logger), via: newVia(o.ID)}, nil
}

func newProxy(log *slog.Logger) httputil.ReverseProxy {
	return httputil.ReverseProxy{
		FlushInterval: flushEvery, BufferPool: &buffers{}, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// flushEvery bounds how long bytes of a body of known length stay in a buffer. Streams are flushed at each write.
const flushEvery = 100 * time.Millisecond

// ServeHTTP implements [http.Handler]. The agent's answer is passed on as it is, but for its own address in it.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c, r, end := newCaller(w, r)
	defer end()
	name, rest, p := split(r)
	if p == nil && g.via.looped(r.Header) {
		p = looping()
		if g.via.due() {
			g.o.Logger.WarnContext(r.Context(), "a call came back", "event", "bridge.loop_detected", "agent", name)
		}
	}
	if p == nil {
		p = g.admit(r, name)
	}
	var agent registry.Agent
	if p == nil {
		agent, p = g.find(r.Context(), name)
	}
	if p != nil {
		answer(c, p, statusOf(p.Code))
		return
	}
	g.o.Manager.NoteCall(r.Header.Get(callerHeader), name)
	at := place{url: agent.URL, prefix: mounted(r, name), front: c.host, whole: rest == ""}
	proxy := g.proxy
	proxy.Rewrite = func(out *httputil.ProxyRequest) {
		rewrite(out, agent.URL, rest, at.prefix, g.via)
		out.Out.Header.Set(callerHeader, name)
		out.Out.Header.Del(access.TokenHeader)
		access.StripSession(out.Out.Header)
		repeatable(out.Out)
	}
	proxy.Transport = g.transport(agent, rest)
	proxy.ModifyResponse = func(resp *http.Response) error { return c.pass(resp, at) }
	proxy.ErrorHandler = func(w http.ResponseWriter, r *http.Request, err error) {
		fail(w, r, g.o.Logger, target{name, agent.Contact}, err)
	}
	proxy.ServeHTTP(c, r)
}

// admit returns why a request may not call an agent; nil: it may.
func (g *Gateway) admit(r *http.Request, agent string) *problem.Problem {
	who, p := g.o.Access.Admit(r, access.Report, access.Gateway)
	if p == nil {
		p = g.o.Rate.Take(r, who)
	}
	if p == nil {
		if err := who.CheckAgent(agent); err != nil {
			p, _ = problem.Of(err)
		}
	}
	return p
}

// transport returns the transport for a call of an agent at a path below its address, through its breaker.
func (g *Gateway) transport(a registry.Agent, path string) *breakerhttp.Transport {
	return &breakerhttp.Transport{
		Base: g.base(a), Manager: g.o.Manager, Agent: func(*http.Request) string { return a.Name },
		Statuses: a.Statuses, Body: a.Classify, Shadow: a.ClassifyObserve,
		Counts:  func(r *http.Request) bool { return a.Count.Counts(r.Method, path) },
		Timeout: a.Timeout, FirstData: a.FirstToken,
		Activity: &g.activity, Observe: g.o.Observe, Logger: g.o.Logger,
	}
}

func (g *Gateway) base(a registry.Agent) http.RoundTripper {
	if b, ok := g.o.Base.(*Base); ok {
		return unlooped{keeper{b, a.IdleTimeout}}
	}
	return unlooped{g.o.Base}
}

// find returns a registered agent that has an address.
func (g *Gateway) find(ctx context.Context, name string) (registry.Agent, *problem.Problem) {
	a, err := g.o.Agents.Agent(ctx, name)
	switch {
	case errors.Is(err, registry.ErrUnknown):
		return a, problem.New(problem.AgentUnknown, "no agent of this name is registered: GET /api/v1/agents lists them")
	case errors.Is(err, breaker.ErrStoreUnavailable):
		return a, problem.Unavailable("Redis is down, and the agent is not in the registry file")
	case err != nil:
		g.o.Logger.ErrorContext(ctx, "agent not read", "agent", name, "error", err)
		return a, problem.Unexpected()
	case a.URL == nil:
		return a, problem.New(problem.AgentHasNoURL, "the agent is registered without a url")
	}
	return a, nil
}

// buffers are for copying bodies. The zero value is ready.
type buffers struct{ pool sync.Pool }

const bufferSize = 32 << 10

// Get implements [httputil.BufferPool].
func (b *buffers) Get() []byte {
	if p, ok := b.pool.Get().(*[]byte); ok {
		return *p
	}
	return make([]byte, bufferSize)
}

// Put implements [httputil.BufferPool].
func (b *buffers) Put(p []byte) { b.pool.Put(&p) }
