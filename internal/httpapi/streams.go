package httpapi

import (
	"context"
	"net/url"
	"regexp"
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

type streamReply struct {
	Events     []view.StreamEntry `json:"events"      doc:"With since, oldest first; else newest first." nullable:"false"`
	NextCursor *string            `json:"next_cursor" doc:"null: this was the last page. A page may have fewer events than limit, or none, before the last one."`
	Gap        bool               `json:"gap"         doc:"since is an id that the stream no longer has: events may be missing before the first."`
}

type auditReply struct {
	Entries    []view.StreamEntry `json:"entries"     doc:"Newest first." nullable:"false"`
	NextCursor *string            `json:"next_cursor" doc:"null: this was the last page. A page may have fewer entries than limit, or none, before the last one."`
}

const (
	scanPage  = 1000 // entries read at once
	scanPages = 10   // by one request at most, for a filter that few entries pass
)

func (a *api) streamRoutes() {
	params := func(more ...*huma.Param) []*huma.Param {
		text := &huma.Schema{Type: huma.TypeString}
		return append(more,
			route.QueryParam("since", "An id, of which what follows is shown, or a time (RFC 3339), from which on.", text),
			route.QueryParam("agent", "Only this agent's; - for those of no agent.", text),
			route.QueryParam("kind", "Only of these kinds, separated by commas.", text),
			route.LimitParam(), route.CursorParam(),
		)
	}
	route.Serve(a.API, route.Operation{
		Route: "GET /v1/admin/events", ID: "listFleetEvents", Role: access.Read, Tag: "fleet", Params: params(),
		Summary: "What happened in the whole fleet, about the newest 10,000 events",
		Codes:   []problem.Code{problem.StoreUnavailable},
	}, a.fleetEvents)
	route.Serve(a.API, route.Operation{
		Route: "GET /v1/admin/audit", ID: "listAudit", Role: access.Read, Tag: "fleet",
		Params:  params(route.QueryParam("actor", "Only what this one did.", &huma.Schema{Type: huma.TypeString})),
		Summary: "What people did, about the newest 100,000 entries; deleting an agent deletes none of them",
		Codes:   []problem.Code{problem.StoreUnavailable},
	}, a.audit)
	a.eventStream()
}

// streamQuery is the query of a stream.
type streamQuery struct {
	agent, actor string
	kinds        []string
	limit        int
	since        *events.ID // the first id that is wanted
	exact        bool       // since is behind an id, which the stream should have
	cursor       *events.ID // the last id of the page before
}

var kindWord = regexp.MustCompile(`^[a-z_]{1,32}$`)

// readFilter reads which entries are wanted.
func (q *streamQuery) readFilter(values url.Values) error {
	if q.agent = values.Get("agent"); q.agent != "" && q.agent != "-" && !breaker.ValidName(q.agent) {
		return problem.BadValue("query.agent", q.agent, "an agent's name, or -")
	}
	if kinds := values.Get("kind"); kinds != "" {
		q.kinds = strings.Split(kinds, ",")
		for _, kind := range q.kinds {
			if len(q.kinds) > 32 || !kindWord.MatchString(kind) {
				return problem.BadValue("query.kind", kinds, "at most 32 kinds of events, such as opened,manual_open")
			}
		}
	}
	return nil
}

func readStreamQuery(r *route.Request) (q streamQuery, err error) {
	values, err := r.Params()
	if err != nil {
		return q, err
	}
	if err := q.readFilter(values); err != nil {
		return q, err
	}
	if q.actor = values.Get("actor"); q.actor != "" && !breaker.ValidWord(q.actor) {
		return q, problem.BadValue("query.actor", q.actor, "1 to 64 of A-Z a-z 0-9 . _ : @ -")
	}
	if q.limit, err = route.Whole(values, "limit", route.MostListed); err != nil {
		return q, err
	}
	if since := values.Get("since"); since != "" {
		id, isID := events.ParseID(since)
		at, err := time.Parse(time.RFC3339, since)
		switch {
		case isID:
			q.since, q.exact = new(id.Next()), true
		case err == nil && at.UnixMilli() >= 0:
			q.since = &events.ID{Ms: uint64(at.UnixMilli())}
		default:
			return q, problem.BadValue("query.since", since, "an id, or a time such as 2026-02-11T09:00:00Z")
		}
	}
	if cursor := values.Get("cursor"); cursor != "" {
		id, ok := events.ParseID(cursor)
		if !ok {
			return q, problem.BadValue("query.cursor", cursor, "the next_cursor of a page")
		}
		q.cursor = &id
	}
	return q, nil
}

func (q *streamQuery) wants(e events.Entry) bool {
	return e.Event.Kind != "" && (q.agent == "" || q.agent == e.Agent) && (q.actor == "" || q.actor == e.Event.Actor) &&
		(q.kinds == nil || slices.Contains(q.kinds, e.Event.Kind))
}

func (a *api) fleetEvents(r *route.Request, _ route.None) (out streamReply, err error) {
	q, err := readStreamQuery(r)
	if err != nil {
		return out, err
	}
	if q.exact && q.cursor == nil {
		before := q.since.Before()
		at, err := a.Events.Entries(r.Context(), events.All, before, before, 1)
		if err != nil {
			return out, err
		}
		out.Gap = len(at) == 0
	}
	out.Events, out.NextCursor, err = a.scan(r.Context(), events.All, q, q.since == nil)
	return out, err
}

func (a *api) audit(r *route.Request, _ route.None) (out auditReply, err error) {
	q, err := readStreamQuery(r)
	if err != nil {
		return out, err
	}
	out.Entries, out.NextCursor, err = a.scan(r.Context(), events.Audit, q, true)
	return out, err
}

// bounds are the ids between which a page lies, the one that is wanted first before the other.
func (q *streamQuery) bounds(newestFirst bool) (from, to events.ID) {
	to = events.Last()
	if q.since != nil {
		from = *q.since
	}
	switch {
	case q.cursor != nil && newestFirst:
		to = q.cursor.Before()
	case q.cursor != nil:
		from = q.cursor.Next()
	}
	if newestFirst {
		return to, from
	}
	return from, to
}

// scan reads a page of a stream.
func (a *api) scan(
	ctx context.Context, stream events.Stream, q streamQuery, newestFirst bool,
) (found []view.StreamEntry, next *string, err error) {
	from, to := q.bounds(newestFirst)
	found = []view.StreamEntry{}
	for range scanPages {
		if from != to && newestFirst != (from.Compare(to) > 0) { // nothing is left
			return found, nil, nil
		}
		read, err := a.Events.Entries(ctx, stream, from, to, scanPage)
		if err != nil {
			return nil, nil, err
		}
		wanted := slices.DeleteFunc(slices.Clone(read), func(e events.Entry) bool { return !q.wants(e) })
		for _, e := range wanted[:min(len(wanted), q.limit-len(found))] {
			found = append(found, view.StreamEntryOf(e.ID.String(), e.Agent, e.Event))
			next = new(e.ID.String())
		}
		complete := len(read) < scanPage
		switch {
		case len(found) == q.limit && (!complete || *next != read[len(read)-1].ID.String()):
			return found, next, nil
		case complete:
			return found, nil, nil
		}
		last := read[len(read)-1].ID
		next = new(last.String())
		if from = last.Next(); newestFirst {
			from = last.Before()
		}
	}
	return found, next, nil
}
