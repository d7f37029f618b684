package httpapi

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/breakerd/breakerd/internal/guard"
	"github.com/breakerd/breakerd/internal/policy"
	"github.com/breakerd/breakerd/internal/route"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// Options is what the API stands on. Manager, Directory, Policies and Health are required.
type Options struct {
	Manager   *breaker.Manager
	Directory Directory
	Policies  Policies

	route.HealthOptions

	// LoopbackOnly refuses requests whose Host is not a loopback name: for a listener on loopback, so that no web page can
	// reach it under a name of its own (DNS rebinding).
	LoopbackOnly bool
	Logger       *slog.Logger // nil: silent
}

// ErrConflict is what PutOverride and PutProfile return when the text is not the expected one any more.
var ErrConflict = errors.New("the document changed meanwhile")

// Directory is what is kept of agents beside their breakers. A store that is away is an error that is
// breaker.ErrStoreUnavailable. Implementations are safe for concurrent use.
type Directory interface { //nolint:interfacebloat // one implementation, one consumer: splitting it would name nothing
	// Agents lists known agents by name; States their state as it stands, in order, "" where there is none.
	Agents(ctx context.Context) ([]string, error)
	States(ctx context.Context, agents []string) ([]breaker.State, error)
	// Known says whether an agent has a profile, an override or a breaker, or was seen within 30 days.
	Known(ctx context.Context, agent string) (bool, error)
	// MarkSeen marks agents as seen now.
	MarkSeen(ctx context.Context, agents []string) error
	// Seen is when an agent was last seen; the zero time if that is not known.
	Seen(ctx context.Context, agent string) (time.Time, error)
	// Override and Profile read an agent's documents, JSON; "" when there is none. The Puts write one ("" deletes it) if it
	// still holds expected ("": none yet), else they return ErrConflict.
	Override(ctx context.Context, agent string) (string, error)
	PutOverride(ctx context.Context, agent, expected, text, actor string) error
	Profile(ctx context.Context, agent string) (string, error)
	PutProfile(ctx context.Context, agent, expected, text, actor string) error
	// Quarantine is the agent's newest failed and refused calls, newest first, as JSON texts.
	Quarantine(ctx context.Context, agent string) ([]string, error)
	// Forget deletes everything of an agent. breaker.ErrHoldProtected: a protected hold stands and force is not given.
	Forget(ctx context.Context, agent, actor string, force bool) error
}

// Policies says how agents' breakers behave and why.
type Policies interface {
	// Describe gives the policy in force and, for each of its fields by name, where the value came from. The error says why an
	// override is not in force; policy and origins hold all the same.
	Describe(ctx context.Context, agent string) (breaker.Policy, map[string]string, error)
	// Check says whether the agent's policy would be valid with this override; the error wraps a *breaker.PolicyError.
	Check(ctx context.Context, agent string, o policy.Override) error
	// Refresh makes this replica use an override that has just changed.
	Refresh(ctx context.Context, agent string)
}

// New makes breakerd's API. It starts nothing in the background.
func New(o Options) (http.Handler, error) {
	a, err := newAPI(o)
	if err != nil {
		return nil, err
	}
	return a.guarded(), nil
}

// api is the API under construction, and what its operations share.
type api struct {
	*route.API
	Options
}

func newAPI(o Options) (*api, error) {
	if o.Manager == nil || o.Directory == nil || o.Policies == nil || o.Health == nil {
		return nil, errors.New("httpapi: Options.Manager, Directory, Policies and Health are required")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	a := &api{Options: o, API: route.New("breakerd", o.Version, "Circuit breakers shared by a whole fleet.", o.Logger)}
	a.dataRoutes()
	a.breakerRoutes()
	a.configRoutes()
	a.agentRoutes()
	a.Health(o.HealthOptions)
	return a, a.Finish()
}

func (a *api) guarded() http.Handler {
	routes := guard.Chain(a.API, guard.Private, guard.Paths(guard.AgentsUnder("/v1/circuit_breakers/"),
		guard.AgentsUnder(adminPath+"/"), guard.AgentsUnder("/v1/admin/agents/")), guard.SameOrigin)
	return guard.Chain(a.gateOr(routes), guard.Recover(a.Logger), guard.When(a.LoopbackOnly, guard.Loopback))
}
