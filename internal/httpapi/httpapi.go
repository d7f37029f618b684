// Package httpapi is breakerd's HTTP API: the data verbs acquire, report, renew and batch, the gate for proxies, and
// the operator's verbs under /v1/admin.
//
// A request passes these checks in order: the guards (host, path and agent's name as they were sent, origin), the
// route, the body as a whole, its values. Every answer that is not a 2xx is a [problem.Problem] with a stable code.
//
// The API sees breakers through a [breaker.Manager], and the rest through the interfaces [Directory] and [Policies].
package httpapi

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/breakerd/breakerd/internal/events"
	"github.com/breakerd/breakerd/internal/guard"
	"github.com/breakerd/breakerd/internal/policy"
	"github.com/breakerd/breakerd/internal/registry"
	"github.com/breakerd/breakerd/internal/route"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// Options is what an API is made of. Manager, Directory, Policies, Fleet, Events, Listen and Health are required.
type Options struct {
	Manager   *breaker.Manager
	Directory Directory
	Policies  Policies
	Fleet     Fleet
	// Calls is whom each agent, or workflow, was seen to call within a day. nil: nobody knows.
	Calls func(ctx context.Context) (map[string][]string, error)
	// InFile returns what the agent registry's file says of an agent. It must be quick. nil: there is no file.
	InFile func(agent string) (a registry.Agent, ok bool)
	// HoldDefault is how long an agent is held open if the operator does not say; 0: until the hold is lifted.
	HoldDefault time.Duration
	// Events reads the fleet's streams, and Listen hears the one of events: see [events.Hub].
	Events events.Reader
	Listen func(ctx context.Context, after *events.ID) (*events.Listener, events.ID, *events.Reset, error)

	route.HealthOptions

	LoopbackOnly bool         // the listener is on loopback: see [guard.Loopback]
	Logger       *slog.Logger // nil: silent
}

// ErrConflict is the error of PutOverride and PutProfile when the text is not the expected one.
var ErrConflict = errors.New("the document changed meanwhile")

// Directory is what Redis holds of agents beside their breakers. While Redis is down its errors are
// [breaker.ErrStoreUnavailable]. Implementations are safe for concurrent use.
type Directory interface {
	overviewSource
	// Known reports whether an agent has a profile, an override or a breaker, or was seen within 30 days.
	Known(ctx context.Context, agent string) (bool, error)
	// MarkSeen marks agents as seen now.
	MarkSeen(ctx context.Context, agents []string) error
	// Seen is when an agent was last seen; the zero time: unknown.
	Seen(ctx context.Context, agent string) (time.Time, error)
	// Override is an agent's policy override, JSON; "": none.
	Override(ctx context.Context, agent string) (string, error)
	// PutOverride replaces the override, if it is still expected; a text of "" deletes it. Else it returns ErrConflict.
	PutOverride(ctx context.Context, agent, expected, text, actor string) error
	// Profile is an agent's profile, JSON; "": none.
	Profile(ctx context.Context, agent string) (string, error)
	// PutProfile is PutOverride for the profile.
	PutProfile(ctx context.Context, agent, expected, text, actor string) error
	// Quarantine is the agent's failed and refused calls, JSON, newest first.
	Quarantine(ctx context.Context, agent string) ([]string, error)
	// Forget deletes everything of an agent. Without force a protected hold is breaker.ErrHoldProtected.
	Forget(ctx context.Context, agent, actor string, force bool) error
}

// Policies are the agents' policies, by their layers.
type Policies interface {
	// Describe gives the policy in force and the origin of each field. The error says why an override is not in force.
	Describe(ctx context.Context, agent string) (breaker.Policy, map[string]string, error)
	// Check reports whether the agent's policy is valid with an override; the error wraps a *breaker.PolicyError.
	Check(ctx context.Context, agent string, o policy.Override) error
	// Resolve gives the agent's policy with an override in place of the one it has; agent "": one without any layer.
	Resolve(agent string, o policy.Override) (breaker.Policy, error)
	// Refresh makes this replica read an override that has changed.
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

	overviews *overviews
}

func newAPI(o Options) (*api, error) {
	if o.Manager == nil || o.Directory == nil || o.Policies == nil || o.Fleet == nil || o.Events == nil ||
		o.Listen == nil || o.Health == nil {
		return nil, errors.New(
			"httpapi: Options.Manager, Directory, Policies, Fleet, Events, Listen and Health are required")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	a := &api{Options: o, API: route.New("breakerd", o.Version, "Circuit breakers shared by a whole fleet.", o.Logger)}
	a.overviews = newOverviews(a)
	a.dataRoutes()
	a.breakerRoutes()
	a.configRoutes()
	a.agentRoutes()
	a.streamRoutes()
	a.fleetRoutes()
	a.summaryRoute()
	a.explainRoute()
	a.cascadeRoute()
	a.Health(o.HealthOptions)
	return a, a.Finish()
}

func (a *api) guarded() http.Handler {
	paths := guard.Paths(guard.AgentsUnder("/v1/circuit_breakers/"),
		guard.AgentsUnder(adminPath+"/"), guard.AgentsUnder("/v1/admin/agents/"))
	routes := guard.Chain(a.overviews.afterChanges(a.API), guard.Private, paths, guard.SameOrigin)
	return guard.Chain(a.gateOr(routes), guard.Recover(a.Logger), guard.When(a.LoopbackOnly, guard.Loopback))
}
