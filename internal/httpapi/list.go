package httpapi

import (
	"cmp"
	"context"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/route"
	"github.com/breakerd/breakerd/internal/view"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

const (
	listChunk   = 64 // breakers inspected at the same time
	sortByState = "state"
	sortByName  = "agent_id"
)

type listReply struct {
	Breakers   []view.BreakerEntry `json:"circuit_breakers" nullable:"false"`
	NextCursor *string             `json:"next_cursor"      doc:"null: this was the last page."`
}

// place is where an agent is in a list. Sorted by state, breakers that are not closed come first.
type place struct {
	rank int // 0 not closed, 1 closed; always 0 when sorted by name
	name string
}

func (p place) compare(q place) int {
	return cmp.Or(cmp.Compare(p.rank, q.rank), strings.Compare(p.name, q.name))
}

// listQuery is the query of a list.
type listQuery struct {
	state breaker.State // "": all
	q     string
	sort  string
	limit int
	after place
}

func readListQuery(r *route.Request) (l listQuery, err error) {
	q, err := r.Params()
	if err != nil {
		return l, err
	}
	if state := q.Get("state"); state != "" {
		var ok bool
		if l.state, ok = machine.ParseState(state); !ok {
			return l, problem.BadValue("query.state", state, "CLOSED, OPEN or HALF_OPEN")
		}
	}
	if l.q = strings.ToLower(q.Get("q")); len(l.q) > 128 {
		return l, problem.BadValue("query.q", l.q, "at most 128 bytes")
	}
	l.sort = cmp.Or(q.Get("sort"), sortByState)
	if l.sort != sortByState && l.sort != sortByName {
		return l, problem.BadValue("query.sort", l.sort, "state or agent_id")
	}
	if l.limit, err = route.Whole(q, "limit", route.MostListed); err != nil {
		return l, err
	}
	return l, l.readCursor(q.Get("cursor"))
}

// readCursor reads where the page before ended; "": this is the first page.
func (l *listQuery) readCursor(cursor string) error {
	if cursor == "" {
		return nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(cursor)
	f := strings.Split(string(raw), " ")
	if err != nil || len(f) != 3 || f[0] != l.sort || f[1] != "0" && f[1] != "1" || !breaker.ValidName(f[2]) {
		return problem.BadValue("query.cursor", cursor, "the next_cursor of a page with the same sort")
	}
	l.after = place{rank: int(f[1][0] - '0'), name: f[2]}
	return nil
}

// cursor is what readCursor reads.
func (l *listQuery) cursor() *string {
	place := l.sort + " " + strconv.Itoa(l.after.rank) + " " + l.after.name
	return new(base64.RawURLEncoding.EncodeToString([]byte(place)))
}

// list is GET of all breakers. They are ordered by the state in Redis, and shown advanced to now [B11].
func (a *api) list(r *route.Request, _ route.None) (out listReply, err error) {
	l, err := readListQuery(r)
	if err != nil {
		return out, err
	}
	places, err := a.places(r.Context(), l)
	if err != nil {
		return out, err
	}
	out.Breakers = []view.BreakerEntry{}
	for len(places) > 0 {
		n := min(len(places), listChunk, l.limit-len(out.Breakers)+1) // one more than the page: is there a next page?
		entries, err := a.inspectAll(r.Context(), places[:n])
		if err != nil {
			return out, err
		}
		for i, e := range entries {
			if l.state != "" && e.State != l.state.Upper() {
				continue
			}
			if len(out.Breakers) == l.limit {
				out.NextCursor = l.cursor()
				return out, nil
			}
			out.Breakers = append(out.Breakers, e)
			l.after = places[i]
		}
		places = places[n:]
	}
	return out, nil
}

// places lists, in order, the agents that may be on the page.
func (a *api) places(ctx context.Context, l listQuery) (out []place, err error) {
	agents, err := a.Directory.Agents(ctx)
	if err != nil {
		return nil, err
	}
	if l.q != "" {
		agents = slices.DeleteFunc(slices.Clone(agents), func(name string) bool {
			return !strings.Contains(strings.ToLower(name), l.q)
		})
	}
	states, err := a.Directory.States(ctx, agents)
	if err != nil {
		return nil, err
	}
	for i, agent := range agents {
		p := place{name: agent}
		if closed := states[i] != breaker.Open && states[i] != breaker.HalfOpen; closed && l.sort == sortByState {
			p.rank = 1
		}
		if l.after.name == "" || p.compare(l.after) > 0 {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, place.compare)
	return out, nil
}

// inspectAll shows breakers in order. Inspections that are asked for at once share round trips.
func (a *api) inspectAll(ctx context.Context, places []place) ([]view.BreakerEntry, error) {
	entries, errs := make([]view.BreakerEntry, len(places)), make([]error, len(places))
	var wg sync.WaitGroup
	for i, p := range places {
		wg.Go(func() {
			defer func() {
				if v := recover(); v != nil { // a goroutine's panic would end the process
					errs[i] = problem.New(problem.Internal, "agent %s cannot be shown", p.name)
				}
			}()
			v, policy, err := a.Manager.Inspect(ctx, p.name)
			entries[i], errs[i] = view.Entry(p.name, v, policy), err
		})
	}
	wg.Wait()
	return entries, cmp.Or(errs...)
}
