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

	"github.com/breakerd/breakerd/internal/access"
	"github.com/breakerd/breakerd/internal/events"
	"github.com/breakerd/breakerd/internal/guard"
	"github.com/breakerd/breakerd/internal/health"
	"github.com/breakerd/breakerd/internal/latency"
	"github.com/breakerd/breakerd/internal/permits"
	"github.com/breakerd/breakerd/internal/policy"
	"github.com/breakerd/breakerd/internal/redisdocs"
	"github.com/breakerd/breakerd/internal/registry"
	"github.com/breakerd/breakerd/internal/route"
	"github.com/breakerd/breakerd/internal/ui"
	"github.com/breakerd/breakerd/internal/webhook"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// Options is what an API is made of. Manager, Directory, Policies, Fleet, Keys, Events, Listen and Health are required.
type Options struct {
	Manager   *breaker.Manager
	Directory Directory
	Policies  Policies
	Fleet     Fleet
	Keys      Keys
	// Calls is whom each agent, or workflow, was seen to call within a day. nil: nobody knows.
	Calls func(ctx context.Context) (map[string][]string, error)
	// Backups writes and restores backups. nil: there are none.
	Backups Backups
	// Latency is how long calls took lately, by agent; alone: on this replica, for Redis is down. nil: nobody knows.
	Latency func(ctx context.Context) (all map[string]latency.Figures, alone bool)
	// Webhooks lists the webhooks. nil: there are none.
	Webhooks func(ctx context.Context) ([]webhook.View, error)
	// InFile returns what the agent registry's file says of an agent. It must be quick. nil: there is no file.
	InFile func(agent string) (a registry.Agent, ok bool)
	// Permits signs permits; nil: they have no signature.
	Permits *permits.Signer
	// HoldDefault is how long an agent is held open if the operator does not say; 0: until the hold is lifted.
	HoldDefault time.Duration
	// HistoryMinutes is for how long the minutes of [Keys.History] are kept; 0: they are not.
	HistoryMinutes int
	// Events reads the fleet's streams, and Listen hears the one of events: see [events.Hub].
	Events events.Reader
	Listen func(ctx context.Context, after *events.ID) (*events.Listener, events.ID, *events.Reset, error)

	route.HealthOptions
	// Judges gets what judges the fleet's holds and overrides, by the name of the part. nil: nobody wants it.
	Judges func(name string, j health.Judge)

	Access       *access.Guard // who may do what; nil: everybody may do everything
	Rate         *access.Rate  // of each client's requests; nil: no bound
	LoopbackOnly bool          // the listener is on loopback: see [guard.Loopback]
	Logger       *slog.Logger  // nil: silent
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

// Keys is what Redis' keys hold beside what breakers and documents say. While Redis is down its errors are
// [breaker.ErrStoreUnavailable].
type Keys interface {
	// History is what was called of an agent, minute by minute.
	History(ctx context.Context, agent string) (redisdocs.History, error)
	// PlantedKeys finds the fleet's keys that are of another type than theirs.
	PlantedKeys(ctx context.Context) ([]redisdocs.Fault, error)
	// Verify finds what is wrong in the keys of agents, by agent.
	Verify(ctx context.Context, agents []string) ([]redisdocs.Fault, error)
	// ScanAgents lists agents that have keys, whatever the index says, a part at a time: from is "" at first, and next is
	// "" with the last part.
	ScanAgents(ctx context.Context, from string) (agents []string, next string, err error)
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
	return a.guarded()
}

// adminChecks is where the page reads the health of its replica.
const adminChecks = "/v1/admin/checks"

// api is the API under construction, and what its operations share.
type api struct {
	*route.API
	Options

	overviews *overviews
	backups   slots // backups under way at this replica
	restores  slots
}

func newAPI(o Options) (*api, error) {
	if o.Manager == nil || o.Directory == nil || o.Policies == nil || o.Fleet == nil || o.Keys == nil ||
		o.Events == nil || o.Listen == nil || o.Health == nil {
		return nil, errors.New(
			"httpapi: Options.Manager, Directory, Policies, Fleet, Keys, Events, Listen and Health are required")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	a := &api{Options: o, API: route.New("breakerd", o.Version, "Circuit breakers shared by a whole fleet.", o.Logger)}
	a.API.Access, a.API.Rate = o.Access, o.Rate
	a.overviews = newOverviews(a)
	a.backups, a.restores = newSlots(maxBackups), newSlots(1)
	if o.Judges != nil {
		o.Judges("holds", (&fleetJudge{overviews: a.overviews, judge: judgeHolds}).Judge)
		o.Judges("overrides", (&fleetJudge{overviews: a.overviews, judge: judgeOverrides}).Judge)
	}
	a.dataRoutes()
	a.breakerRoutes()
	a.releaseRoute()
	a.historyRoute()
	a.configRoutes()
	a.agentRoutes()
	a.streamRoutes()
	a.fleetRoutes()
	a.replicasRoute()
	a.verifyRoute()
	a.tokensRoute()
	a.actionRoutes()
	a.summaryRoute()
	a.explainRoute()
	a.cascadeRoute()
	a.latencyRoute()
	a.webhookRoute()
	a.backupRoutes()
	a.sessionRoutes()
	o.ChecksToo = adminChecks
	a.Health(o.HealthOptions)
	return a, a.Finish()
}

func (a *api) guarded() (http.Handler, error) {
	paths := guard.Paths(guard.AgentsUnder("/v1/circuit_breakers/"),
		guard.AgentsUnder(adminPath+"/"), guard.AgentsUnder("/v1/admin/agents/"), actionsUnder())
	routes := guard.Chain(a.overviews.afterChanges(a.API), guard.Private, paths, guard.SameOrigin)
	page, err := ui.Handler(routes)
	if err != nil {
		return nil, err
	}
	return guard.Chain(a.gateOr(page), guard.Recover(a.Logger), guard.When(a.LoopbackOnly, guard.Loopback)), nil
}
