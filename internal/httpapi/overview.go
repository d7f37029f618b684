package httpapi

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/breakerd/breakerd/internal/policy"
	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/route"
	"github.com/breakerd/breakerd/internal/text"
	"github.com/breakerd/breakerd/internal/view"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// overviewSource is what an overview of the fleet is read from, beside the breakers themselves.
type overviewSource interface {
	// ClockMs is Redis' clock, ms since 1970.
	ClockMs(ctx context.Context) (int64, error)
	// NotClosed lists the agents whose breaker is not closed, or held; what else it lists is closed by now.
	NotClosed(ctx context.Context) (map[string]float64, error)
	// Agents lists known agents by name.
	Agents(ctx context.Context) ([]string, error)
	// OverridesVersion is another text after each change of an override or a profile that was not made by hand.
	OverridesVersion(ctx context.Context) (string, error)
	// EachProfile are the agents' profiles, JSON, in order; "": none. refused has the errors of single agents.
	EachProfile(ctx context.Context, agents []string) (texts []string, refused map[string]error, err error)
	// EachOverride is to overrides what EachProfile is to profiles.
	EachOverride(ctx context.Context, agents []string) (texts []string, refused map[string]error, err error)
	// EachSeen is when each agent was last seen, in order; the zero time: unknown.
	EachSeen(ctx context.Context, agents []string) ([]time.Time, error)
	// Idle counts the known agents that nobody has called within a time, and lists so many of them.
	Idle(ctx context.Context, nowMs int64, within time.Duration, most int) (n int, names []string, err error)
}

const (
	// overviewLives is for how long those who ask share an overview. One that took longer to read lives for as long as
	// that, so that reading takes half of the time at most.
	overviewLives = 500 * time.Millisecond
	// documentsLive is how long an edit of a profile or an override by hand may stay unnoticed.
	documentsLive = 10 * time.Second
	// inspectedAtOnce is how many breakers are inspected at the same time. They share round trips.
	inspectedAtOnce = 32
)

// overviews are this replica's readings of the fleet. One listing works at a time; what it reads, the next ones use.
type overviews struct {
	api   *api
	turn  chan struct{} // holds a value while a listing works
	stale atomic.Bool   // an operator has changed something since the last reading began
	// summarized is the last summary.
	summarized atomic.Pointer[summarized]
	// changes counts what operators have changed here.
	changes atomic.Int64

	// What follows belongs to who has the turn.
	last   *overview
	docs   documents
	recent transitions
}

func newOverviews(a *api) *overviews { return &overviews{api: a, turn: make(chan struct{}, 1)} }

// with has f work on an overview that is at most so old as overviewLives says. What f reads goes on when its caller
// leaves, for others wait for it.
func (s *overviews) with(ctx context.Context, f func(ctx context.Context, s *overview) error) error {
	return s.use(ctx, true, f)
}

// glance is with for who looks though nobody asks: what is read for it is not kept, so that a list shows what has
// happened since.
func (s *overviews) glance(ctx context.Context, f func(ctx context.Context, s *overview) error) error {
	return s.use(ctx, false, f)
}

func (s *overviews) use(ctx context.Context, keep bool, f func(ctx context.Context, s *overview) error) error {
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("wait for another listing: %w", ctx.Err())
	}
	defer func() { <-s.turn }()
	ctx = context.WithoutCancel(ctx)
	if s.stale.Swap(false) || s.last == nil || time.Now().After(s.last.until) {
		began := time.Now()
		s.last = &overview{
			of: s, shown: map[string]*shown{}, orders: map[string][]place{}, hidden: named{Names: []string{}},
		}
		s.last.err = s.last.read(ctx)
		s.last.until = time.Now().Add(max(overviewLives, time.Since(began)))
		if !keep {
			defer func() { s.last = nil }()
		}
	}
	if s.last.err != nil {
		return s.last.err
	}
	return f(ctx, s.last)
}

// afterChanges makes the next listing read anew after each request that may have changed something: who changes a
// breaker sees it in the next list of this replica.
func (s *overviews) afterChanges(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead && strings.HasPrefix(r.URL.Path, "/v1/admin/") {
			defer func() { s.stale.Store(true); s.changes.Add(1) }()
		}
		next.ServeHTTP(w, r)
	})
}

// overview is one reading of the fleet. Breakers that are not closed, or held, or let calls return, are inspected
// when it is made. The others, names and documents are read when somebody asks for them, and kept for all who ask
// after that.
type overview struct {
	of    *overviews
	until time.Time // when the next listing reads anew
	err   error     // of the reading, which all who ask meanwhile get

	nowMs  int64             // Redis' clock
	shown  map[string]*shown // the breakers that were inspected, by agent
	notes  []string          // agents of shown that are noted, by name
	hidden named             // agents whose breaker is not closed, or held, and that Redis refuses to show
	agents []string          // all known ones by name, those of notes included; nil: not read yet
	docs   bool              // the version of the documents was compared

	summary *summaryReply      // nil: not made yet
	orders  map[string][]place // by query
}

// shown is one breaker as it was inspected, which never changes.
type shown struct {
	view   breaker.View
	policy breaker.Policy
	entry  view.BreakerEntry
	series *seriesView // nil: nobody has asked for it yet
}

// noted reports whether a breaker is not closed, or held, or lets calls return.
func (b *shown) noted() bool {
	return b.view.State != breaker.Closed || b.view.Hold.Kind != "" || b.ramps()
}

// ramps reports whether a breaker that has closed admits a part of the calls only.
func (b *shown) ramps() bool { return b != nil && b.view.Ramp.LengthMs > 0 }

// state is the breaker's state; b is nil for one that was not inspected, and so is closed.
func (b *shown) state() breaker.State {
	if b == nil {
		return breaker.Closed
	}
	return b.view.State
}

func (s *overview) read(ctx context.Context) (err error) {
	if s.nowMs, err = s.of.api.Directory.ClockMs(ctx); err != nil {
		return err
	}
	listed, err := s.of.api.Directory.NotClosed(ctx)
	if err != nil {
		return err
	}
	if err := s.readTransitions(ctx); err != nil {
		return err
	}
	names := slices.Collect(maps.Keys(listed))
	for agent := range s.of.recent.closed {
		if _, is := listed[agent]; !is {
			names = append(names, agent)
		}
	}
	slices.Sort(names)
	if err := s.inspect(ctx, names); err != nil {
		return err
	}
	for _, agent := range names {
		if _, is := listed[agent]; is && s.shown[agent].view.Degraded { // Redis is up
			s.hidden.add(agent)
		}
	}
	for agent := range s.of.recent.closed {
		if !s.shown[agent].ramps() {
			delete(s.of.recent.closed, agent)
		}
	}
	s.notes = slices.DeleteFunc(names, func(agent string) bool { return !s.shown[agent].noted() })
	return nil
}

// inspect has the breakers of agents in shown.
func (s *overview) inspect(ctx context.Context, agents []string) error {
	todo := make([]string, 0, len(agents))
	for _, agent := range agents {
		if s.shown[agent] == nil {
			todo = append(todo, agent)
		}
	}
	found := make([]*shown, len(todo))
	if err := atOnce(inspectedAtOnce, len(todo), func(i int) (err error) {
		found[i], err = s.of.api.show(ctx, todo[i])
		return err
	}); err != nil {
		return err
	}
	for i, agent := range todo {
		s.shown[agent] = found[i]
	}
	return nil
}

// atOnce does n things, at most so many at the same time. Who meets an error goes on with nothing else, for the others
// most likely fail as well.
func atOnce(most, n int, do func(i int) error) error {
	errs := make([]error, n)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(most, n) {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				if errs[i] = do(int(i)); errs[i] != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	return cmp.Or(errs...)
}

// show inspects one breaker. A goroutine's panic would end the process.
func (a *api) show(ctx context.Context, agent string) (b *shown, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = problem.New(problem.Internal, "agent %s cannot be shown", agent)
		}
	}()
	v, p, err := a.Manager.Inspect(ctx, agent)
	if err != nil {
		return nil, err
	}
	return &shown{view: v, policy: p, entry: view.Entry(agent, v, p)}, nil
}

// names are all known agents by name.
func (s *overview) names(ctx context.Context) ([]string, error) {
	if s.agents != nil {
		return s.agents, nil
	}
	indexed, err := s.of.api.Directory.Agents(ctx)
	if err != nil {
		return nil, err
	}
	// What is not closed is known, whatever the index says.
	all := slices.Concat(indexed, s.notes)
	slices.Sort(all)
	s.agents = slices.Compact(all)
	return s.agents, nil
}

// documents are what was read of agents' profiles and overrides. They outlive an overview, as long as their version
// stands.
type documents struct {
	version string
	read    time.Time
	of      map[string]*document
}

// document is what people wrote about an agent.
type document struct {
	profile    profile
	overridden bool
	registered bool          // the registry's file, or a profile, has the agent
	record     policy.Record // of the override, as far as it can be read
	ended      bool          // the override is not in force any more
	problem    string        // why the override is not in force; "": it is, or there is none
	mode       string        // of the policy: enforce, observe or disabled
}

// documentsOf has the documents of agents, by name.
func (s *overview) documentsOf(ctx context.Context, agents []string) (map[string]*document, error) {
	d, from := &s.of.docs, s.of.api.Directory
	if !s.docs {
		version, err := from.OverridesVersion(ctx)
		if err != nil {
			return nil, err
		}
		if version != d.version || d.of == nil || time.Since(d.read) > documentsLive {
			*d = documents{version: version, read: time.Now(), of: map[string]*document{}}
		}
		s.docs = true
	}
	todo := make([]string, 0, len(agents))
	for _, agent := range agents {
		if d.of[agent] == nil {
			todo = append(todo, agent)
		}
	}
	if len(todo) == 0 {
		return d.of, nil
	}
	profiles, _, err := from.EachProfile(ctx, todo) // one that Redis refuses is shown without: so is its override
	if err != nil {
		return nil, err
	}
	overrides, refused, err := from.EachOverride(ctx, todo)
	if err != nil {
		return nil, err
	}
	none := &document{mode: modeOf(s.of.api.Policies.Resolve("", policy.Override{}))}
	for i, agent := range todo {
		d.of[agent] = s.of.api.document(ctx, agent, profiles[i], overrides[i], refused[agent], none)
	}
	return d.of, nil
}

// document reads an agent's documents; none is what it returns for an agent without any, so that those share one.
func (a *api) document(
	ctx context.Context, agent, profileText, override string, refused error, none *document,
) *document {
	var d document
	if profileText != "" {
		_ = json.Unmarshal([]byte(profileText), &d.profile) // an external edit is shown as far as it can be read
	}
	inFile := a.fillFromFile(agent, &d.profile)
	d.registered = profileText != "" || inFile
	d.overridden = override != "" || refused != nil
	if profileText == "" && !inFile && !d.overridden {
		return none
	}
	o, err := policy.Override{}, refused
	if override != "" {
		d.record, err = policy.ParseRecord([]byte(override))
		if d.ended = d.record.Ended(time.Now()); !d.ended {
			o = d.record.Override
		}
	}
	var p breaker.Policy
	if err == nil {
		p, err = a.Policies.Resolve(agent, o)
	}
	if err != nil {
		d.problem = text.Clip(err.Error(), route.MaxMessage)
		p, _, _ = a.Policies.Describe(ctx, agent) // the last good one
	}
	d.mode = modeOf(p, nil)
	return &d
}

// The modes of a policy, as the summary counts them.
const modeDisabled = "disabled"

func modeOf(p breaker.Policy, err error) string {
	if err == nil && p.Disabled {
		return modeDisabled
	}
	return string(p.Mode)
}
