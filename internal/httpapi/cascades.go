package httpapi

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/breakerd/breakerd/internal/access"
	"github.com/breakerd/breakerd/internal/events"
	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/route"
	"github.com/breakerd/breakerd/internal/view"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// trip is an agent whose breaker has opened, and those that opened after it because they call it.
type trip struct {
	AgentID  string   `json:"agent_id"`
	OpenedAt string   `json:"opened_at" format:"date-time" doc:"Of its first opening within the time."`
	AtMs     int64    `json:"at_ms"     doc:"The same, ms since 1970 by Redis' clock."`
	Cause    string   `json:"cause"`
	Epoch    string   `json:"epoch"`
	Openings int      `json:"openings"  doc:"Within the time."`
	Via      []string `json:"via"      doc:"Who stands between it and the one that it followed, without an opening of its own." nullable:"false"`
	Followed []*trip  `json:"followed"  doc:"Who calls it, and opened after it." nullable:"false"`

	place int // among all trips
}

type cascadesReply struct {
	Cascades  []*trip `json:"cascades"  doc:"Each by the agent that failed first, oldest first." nullable:"false"`
	Edges     int     `json:"edges"     doc:"Known calls of one agent by another, within a day."`
	Truncated bool    `json:"truncated" doc:"There were more openings than are looked at."`
}

const (
	lastDefault = 5 * time.Minute
	lastMost    = 24 * time.Hour
	mostTrips   = 1000
	mostBetween = 4 // calls between a trip and the one that it followed
)

func (a *api) cascadeRoute() {
	route.Serve(a.API, route.Operation{
		Route: "GET /v1/admin/cascades", ID: "listCascades", Role: access.Read, Tag: "fleet",
		Summary: "Which agent failed first, and which ones that call it followed",
		Params: []*huma.Param{route.QueryParam("last", "How far back, from 1s to 24h; default 5m.",
			&huma.Schema{Type: huma.TypeString, Examples: []any{"5m"}})},
		Codes: []problem.Code{problem.StoreUnavailable},
	}, a.cascades)
}

func (a *api) cascades(r *route.Request, _ route.None) (out cascadesReply, err error) {
	q, err := r.Params()
	if err != nil {
		return out, err
	}
	last := lastDefault
	if text := q.Get("last"); text != "" {
		if last, err = time.ParseDuration(text); err != nil || last < time.Second || last > lastMost {
			return out, problem.BadValue("query.last", text, "a time from 1s to 24h, such as 5m")
		}
	}
	trips, truncated, err := a.trips(r.Context(), time.Now().Add(-last).UnixMilli())
	if err != nil {
		return out, err
	}
	var calls map[string][]string
	if a.Calls != nil {
		if calls, err = a.Calls(r.Context()); err != nil {
			return out, err
		}
	}
	for _, called := range calls {
		out.Edges += len(called)
	}
	out.Cascades, out.Truncated = trees(trips, calls), truncated
	return out, nil
}

// trips reads each agent's openings since a time, in the order in which the agents first opened.
func (a *api) trips(ctx context.Context, sinceMs int64) (trips []*trip, truncated bool, err error) {
	since := events.ID{Ms: uint64(max(sinceMs, 0))}
	var read []events.Entry
	for at := events.Last(); ; {
		page, err := a.Events.Entries(ctx, events.All, at, since, scanPage)
		if err != nil {
			return nil, false, err
		}
		read = append(read, page...)
		if len(page) < scanPage {
			break
		}
		if len(read) >= scanPage*scanPages {
			truncated = true
			break
		}
		at = page[len(page)-1].ID.Before()
	}
	slices.Reverse(read) // oldest first
	byAgent := map[string]*trip{}
	for _, e := range read {
		if !e.Event.Transition() || e.Event.To != breaker.Open {
			continue
		}
		t := byAgent[e.Agent]
		if t == nil {
			if len(trips) == mostTrips {
				truncated = true
				continue
			}
			t = &trip{
				AgentID: e.Agent, AtMs: e.Event.AtMs, OpenedAt: view.EventOf(e.Event).At, Cause: e.Event.Text,
				Epoch: e.Event.Epoch, Via: []string{}, Followed: []*trip{},
			}
			byAgent[e.Agent] = t
			trips = append(trips, t)
		}
		t.Openings++
	}
	slices.SortStableFunc(trips, func(a, b *trip) int { return cmp.Compare(a.AtMs, b.AtMs) })
	return trips, truncated, nil
}

// trees puts each trip below the one that it followed: the nearest agent that it calls, itself or by others, and that
// had opened before. So a trip is below earlier ones only, and agents that call each other in a circle make no circle
// here. It returns the trips that followed none.
func trees(trips []*trip, calls map[string][]string) []*trip {
	opened := make(map[string]*trip, len(trips))
	for i, t := range trips {
		t.place = i
		opened[t.AgentID] = t
	}
	roots := []*trip{}
	for _, t := range trips {
		first, via := followed(t, opened, calls)
		if first == nil {
			roots = append(roots, t)
			continue
		}
		t.Via = append(t.Via, via...)
		first.Followed = append(first.Followed, t)
	}
	return roots
}

// followed finds the trip that t followed, and who stands between.
func followed(t *trip, opened map[string]*trip, calls map[string][]string) (first *trip, via []string) {
	from := map[string]string{t.AgentID: ""}
	ring := []string{t.AgentID}
	for range mostBetween + 1 {
		ring = called(ring, calls, from)
		for _, agent := range ring {
			if one := opened[agent]; one != nil && one.place < t.place && (first == nil || one.place < first.place) {
				first = one
			}
		}
		if first != nil {
			for at := from[first.AgentID]; at != t.AgentID; at = from[at] {
				via = append(via, at)
			}
			return first, via
		}
	}
	return nil, nil
}

// called lists whom the callers call and nobody nearer does, and adds to from who does.
func called(callers []string, calls map[string][]string, from map[string]string) (agents []string) {
	for _, caller := range callers {
		for _, agent := range calls[caller] {
			if _, met := from[agent]; !met {
				from[agent] = caller
				agents = append(agents, agent)
			}
		}
	}
	return agents
}

// parentAgent checks the name of the agent that makes a call; "": nobody said.
func parentAgent(at, name string) error {
	if name != "" && !breaker.ValidName(name) {
		return problem.BadValue(at, name, "an agent's name: "+strings.TrimPrefix(breaker.ErrBadName.Error(), "breaker: "))
	}
	return nil
}
