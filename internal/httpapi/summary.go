package httpapi

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/breakerd/breakerd/internal/access"
	"github.com/breakerd/breakerd/internal/policy"
	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/redisdocs"
	"github.com/breakerd/breakerd/internal/route"
	"github.com/breakerd/breakerd/internal/view"
	"github.com/breakerd/breakerd/pkg/breaker"
)

const (
	idleAfter  = 24 * time.Hour // without a call
	mostNamed  = 10             // agents that the summary names of a kind
	mostLabels = 100            // that it counts
)

// The cause of a breaker that an operator opened, or let test calls through.
const causeOperator = "operator"

type summaryReply struct {
	NowMs     int64          `json:"now_ms"            doc:"Redis' clock when the breakers were read, ms since 1970."`
	Enabled   bool           `json:"enabled"           doc:"false: this replica's global switch is off, and it admits and records nothing."`
	Agents    int            `json:"agents"            doc:"All that are known."`
	States    map[string]int `json:"states"            doc:"Agents by state."                                                                                    nullable:"false"`
	Holds     holdCounts     `json:"holds"`
	Causes    map[string]int `json:"causes"            doc:"Breakers that are not closed, by why they opened; operator: a person's decision."                    nullable:"false"`
	Modes     map[string]int `json:"modes"             doc:"Agents by what their policy does: enforce, observe, disabled."                                       nullable:"false"`
	Labels    []labelCount   `json:"labels"            doc:"Agents by label, those with most breakers that are not closed first; 100 at most."                   nullable:"false"`
	Oldest    []oldOpening   `json:"oldest_open"       doc:"Open for longest, 10 at most."                                                                       nullable:"false"`
	Ramping   int            `json:"ramping"           doc:"Closed breakers that let calls return: they admit a part of them."`
	NextProbe *openingAt     `json:"next_probe,omitempty"   doc:"The open breaker that is the first to let probes through by itself, and when; missing: none will."`
	LastTrip  *openingAt     `json:"last_opening,omitempty" doc:"The breaker that opened last, and when; missing: the stream of events has no opening."`
	Flappers  []flapper      `json:"flappers"          doc:"Opened at least 3 times in the last 10 minutes, the most often first, 10 at most."                   nullable:"false"`
	Idle      named          `json:"idle"              doc:"Known agents that nobody has called for a day, the one called longest ago first."`
	Strangers named          `json:"unregistered"      doc:"Agents that neither the agent registry's file of this replica has nor a profile."`
	Hidden    named          `json:"unreadable"        doc:"Agents whose breaker is not closed, or held, and that Redis refuses to show: they count as this replica remembers them."`
	Overrides int            `json:"overrides"         doc:"Agents with an override in Redis."`
	Gate      gateSummary    `json:"gate"`
	Replicas  replicaCounts  `json:"replicas"`
	Invalid   named          `json:"invalid_overrides" doc:"Agents whose override is not in force: it cannot be read, or fits no policy. The last good one is."`
}

// summarized is a summary, and when it was made. It never changes.
type summarized struct {
	*summaryReply

	at time.Time
}

// gateSummary is the fleet's gate in short.
type gateSummary struct {
	Action string  `json:"action" enum:"none,stop,shed,recover"`
	Share  float64 `json:"share"  doc:"Of all calls, admitted now."`
	Since  *string `json:"since"  format:"date-time"`
	Until  *string `json:"until"  format:"date-time" doc:"When it ends by itself; null: when it is lifted."`
	Reason *string `json:"reason"`
	Actor  *string `json:"actor"`
}

// replicaCounts counts the replicas that were heard within the hour and did not end in order, and names those that
// somebody should look at.
type replicaCounts struct {
	Alive    int   `json:"alive"`
	Waiting  int64 `json:"waiting"     doc:"Outcomes that they have not sent to Redis yet."`
	Missing  named `json:"missing"     doc:"Suspect, or gone: their heartbeats are missing."`
	Degraded named `json:"degraded"    doc:"They answer from their own memory, because Redis is down for them."`
	Off      named `json:"not_enabled" doc:"Their global switch is off."`
	Behind   named `json:"behind_gate" doc:"They do not obey the fleet's gate yet."`
}

type holdCounts struct {
	Open      int `json:"open"`
	Closed    int `json:"closed"`
	Protected int `json:"protected" doc:"Of both."`
}

type labelCount struct {
	Name      string `json:"name"`
	Value     string `json:"value"`
	Agents    int    `json:"agents"`
	NotClosed int    `json:"not_closed"`
}

// compare orders labels by how many breakers of theirs are not closed, then by how many agents they have.
func (l *labelCount) compare(o *labelCount) int {
	return cmp.Or(-cmp.Compare(l.NotClosed, o.NotClosed), -cmp.Compare(l.Agents, o.Agents),
		strings.Compare(l.Name, o.Name), strings.Compare(l.Value, o.Value))
}

type oldOpening struct {
	AgentID  string  `json:"agent_id"`
	OpenedAt *string `json:"opened_at" format:"date-time"`
	Reason   *string `json:"reason"`
	Held     bool    `json:"held"      doc:"By an operator."`
	Actor    *string `json:"actor"     doc:"Who holds it."`
	Failures int64   `json:"failures"  doc:"Of calls, on which it opened."`
	Calls    int64   `json:"calls"`
}

// openingAt is one agent, and a time.
type openingAt struct {
	AgentID string `json:"agent_id"`
	At      string `json:"at"       format:"date-time"`
}

type flapper struct {
	AgentID  string `json:"agent_id"`
	Openings int    `json:"openings"`
}

// named counts agents, or replicas, and names the first of them.
type named struct {
	Count int      `json:"count"`
	Names []string `json:"names" doc:"10 at most." nullable:"false"`
}

func (n *named) add(name string) {
	if n.Count++; len(n.Names) < mostNamed {
		n.Names = append(n.Names, name)
	}
}

func (a *api) summaryRoute() {
	route.Serve(a.API, route.Operation{
		Route: "GET /v1/admin/summary", ID: "getSummary", Role: access.Read, Tag: "fleet",
		Summary: "What is wrong in the fleet, in counts",
		Codes:   []problem.Code{problem.StoreUnavailable, problem.InvalidValue},
		Params:  []*huma.Param{route.MaxAgeParam()},
	}, a.summary)
}

func (a *api) summary(r *route.Request, _ route.None) (out summaryReply, err error) {
	age, err := route.MaxAge(r)
	if err != nil {
		return out, err
	}
	last := a.overviews.summarized.Load()
	if last != nil && time.Since(last.at) < age && !a.overviews.stale.Load() {
		return *last.summaryReply, nil // whoever reads anew now need not be waited for
	}
	err = a.overviews.with(r.Context(), func(ctx context.Context, s *overview) error {
		if s.summary == nil {
			if s.summary, err = s.summarize(ctx); err != nil {
				return err
			}
			a.overviews.summarized.Store(&summarized{s.summary, time.Now()})
		}
		out = *s.summary
		return nil
	})
	return out, err
}

// summarize counts.
func (s *overview) summarize(ctx context.Context) (*summaryReply, error) {
	agents, err := s.names(ctx)
	if err != nil {
		return nil, err
	}
	docs, err := s.documentsOf(ctx, agents)
	if err != nil {
		return nil, err
	}
	out := &summaryReply{
		NowMs: s.nowMs, Agents: len(agents), Hidden: s.hidden,
		Modes:   map[string]int{"enforce": 0, "observe": 0, modeDisabled: 0},
		Invalid: named{Names: []string{}}, Strangers: named{Names: []string{}},
	}
	ours, err := s.of.api.Policies.Resolve("", policy.Override{})
	out.Enabled = err != nil || !ours.Disabled
	s.countNotes(out)
	out.Labels = s.countLabels(agents, docs)
	for _, agent := range agents {
		d := docs[agent]
		out.Modes[d.mode]++
		if !d.registered {
			out.Strangers.add(agent)
		}
		if d.overridden {
			out.Overrides++
		}
		if d.problem != "" {
			out.Invalid.add(agent)
		}
	}
	if out.Idle.Count, out.Idle.Names, err = s.of.api.Directory.Idle(ctx, s.nowMs, idleAfter, mostNamed); err != nil {
		return nil, err
	}
	if out.Idle.Names == nil {
		out.Idle.Names = []string{}
	}
	out.Flappers = s.flappers()
	if e := s.of.recent.last; e != nil {
		out.LastTrip = &openingAt{AgentID: e.Agent, At: view.EventOf(e.Event).At}
	}
	return out, s.countReplicas(ctx, out)
}

// countLabels counts agents by label.
func (s *overview) countLabels(agents []string, docs map[string]*document) []labelCount {
	labels, out := map[labelCount]*labelCount{}, []labelCount{}
	for _, agent := range agents {
		for name, value := range docs[agent].profile.Labels {
			key := labelCount{Name: name, Value: value}
			if labels[key] == nil {
				labels[key] = new(key)
			}
			labels[key].Agents++
			if s.shown[agent].state() != breaker.Closed {
				labels[key].NotClosed++
			}
		}
	}
	for _, l := range slices.SortedFunc(maps.Values(labels), (*labelCount).compare) {
		out = append(out, *l)
	}
	return out[:min(len(out), mostLabels)]
}

// countReplicas shows the gate, and counts the replicas.
func (s *overview) countReplicas(ctx context.Context, out *summaryReply) error {
	gate, err := s.of.api.Fleet.Gate(ctx)
	if err != nil {
		return err
	}
	g := shownGate(gate)
	out.Gate = gateSummary{
		Action: g.Action, Share: g.Share, Since: g.StartedAt, Until: g.Until, Reason: g.Reason, Actor: g.Actor,
	}
	heard, err := s.of.api.Fleet.Replicas(ctx)
	if err != nil {
		return err
	}
	r := &out.Replicas
	for _, n := range []*named{&r.Missing, &r.Degraded, &r.Off, &r.Behind} {
		n.Names = []string{}
	}
	for _, h := range heard {
		if h.State() != redisdocs.Alive {
			r.Missing.add(h.ID)
			continue
		}
		r.Alive++
		r.Waiting += h.Waiting
		if h.DegradedMs > 0 {
			r.Degraded.add(h.ID)
		}
		if !h.Enabled {
			r.Off.add(h.ID)
		} else if h.Gate != gate.Version {
			r.Behind.add(h.ID)
		}
	}
	return nil
}

// countNotes counts the breakers that are noted, and all others as closed.
func (s *overview) countNotes(out *summaryReply) {
	out.States = map[string]int{breaker.Closed.Upper(): out.Agents, breaker.Open.Upper(): 0, breaker.HalfOpen.Upper(): 0}
	out.Causes, out.Oldest = map[string]int{}, []oldOpening{}
	var open []*shown
	for _, agent := range s.notes {
		b := s.shown[agent]
		if b.view.State != breaker.Closed {
			out.States[breaker.Closed.Upper()]--
			out.States[b.view.State.Upper()]++
			out.Causes[causeOf(b.view)]++
		}
		switch b.view.Hold.Kind {
		case breaker.Open:
			out.Holds.Open++
		case breaker.Closed:
			out.Holds.Closed++
		}
		if b.view.Hold.Protected == 1 {
			out.Holds.Protected++
		}
		if b.ramps() {
			out.Ramping++
		}
		if b.view.State == breaker.Open {
			open = append(open, b)
		}
	}
	slices.SortStableFunc(open, func(x, y *shown) int { return cmp.Compare(x.view.OpenedMs, y.view.OpenedMs) })
	for _, b := range open[:min(len(open), mostNamed)] {
		old := oldOpening{
			AgentID: b.entry.AgentID, OpenedAt: b.entry.OpenedAt, Reason: b.entry.Reason, Held: b.view.Hold.Kind != "",
			Failures: b.view.Evidence.Failures, Calls: b.view.Evidence.Calls,
		}
		if b.entry.Hold != nil {
			old.Actor = b.entry.Hold.Actor
		}
		out.Oldest = append(out.Oldest, old)
	}
	for _, b := range open {
		if until := b.entry.TimeoutUntil; b.view.Hold.Kind == "" && until != nil &&
			(out.NextProbe == nil || *until < out.NextProbe.At) {
			out.NextProbe = &openingAt{AgentID: b.entry.AgentID, At: *until}
		}
	}
}

// causeOf is the cause of a breaker that is not closed, where an operator's words are one.
func causeOf(v breaker.View) string {
	if v.Hold.Kind == "" && slices.Contains(machineCauses(), v.Cause) {
		return v.Cause
	}
	return causeOperator
}

// flappers counts the openings within flapWindow.
func (s *overview) flappers() []flapper {
	times := map[string]int{}
	for _, e := range s.of.recent.openings {
		times[e.Agent]++
	}
	out := []flapper{}
	for agent, n := range times {
		if n >= flapOpenings {
			out = append(out, flapper{agent, n})
		}
	}
	slices.SortFunc(out, func(x, y flapper) int {
		return cmp.Or(-cmp.Compare(x.Openings, y.Openings), strings.Compare(x.AgentID, y.AgentID))
	})
	return out[:min(len(out), mostNamed)]
}
