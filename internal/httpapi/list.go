package httpapi

import (
	"cmp"
	"context"
	"encoding/base64"
	"net/url"
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

// place is where an agent stands in a list: not-closed before closed when sorted by state, then by name.
type place struct {
	rank int // 0 not closed, 1 closed; always 0 when sorted by name
	name string
}

func (p place) compare(q place) int {
	return cmp.Or(cmp.Compare(p.rank, q.rank), strings.Compare(p.name, q.name))
}

// listQuery is what a list asks for.
type listQuery struct {
	state breaker.State // "": all
	q     string
	sort  string
	limit int
	after place
}

func readListQuery(r *route.Request) (l listQuery, err error) {
	q, err := r.Params("state", "q", "sort", "limit", "cursor")
	if err != nil {
		return l, err
	}
	if text := q.Get("state"); text != "" {
		var ok bool
		if l.state, ok = machine.ParseState(text); !ok {
			return l, problem.BadValue("query.state", text, "CLOSED, OPEN or HALF_OPEN")
		}
	}
	if l.q = strings.ToLower(q.Get("q")); len(l.q) > 128 {
		return l, problem.BadValue("query.q", l.q, "at most 128 bytes")
	}
	l.sort = cmp.Or(q.Get("sort"), sortByState)
	if l.sort != sortByState && l.sort != sortByName {
		return l, problem.BadValue("query.sort", l.sort, "state or agent_id")
	}
	if l.limit, err = route.Whole(q, "limit", route.MostListed, route.MostListed); err != nil {
		return l, err
	}
	return l, l.readCursor(q)
}

// readCursor takes up where a page ended.
func (l *listQuery) readCursor(q url.Values) error {
	text := q.Get("cursor")
	if text == "" {
		return nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(text)
	f := strings.Split(string(raw), " ")
	if err != nil || len(f) != 3 || f[0] != l.sort || f[1] != "0" && f[1] != "1" || !breaker.ValidName(f[2]) {
		return problem.BadValue("query.cursor", text, "the next_cursor of a page with the same sort")
	}
	l.after = place{rank: int(f[1][0] - '0'), name: f[2]}
	return nil
}

func (l *listQuery) cursor(at place) *string {
	text := base64.RawURLEncoding.EncodeToString([]byte(l.sort + " " + strconv.Itoa(at.rank) + " " + at.name))
	return &text
}

// list is GET of all breakers. The order goes by the state as it stands in Redis, each entry shows it advanced to now [B11].
func (a *api) list(r *route.Request, _ route.None) (route.Answer[listReply], error) {
	l, err := readListQuery(r)
	if err != nil {
		return route.Answer[listReply]{}, err
	}
	places, err := a.places(r.Context(), l)
	if err != nil {
		return route.Answer[listReply]{}, err
	}
	out := listReply{Breakers: []view.BreakerEntry{}}
	for len(places) > 0 {
		n := min(len(places), listChunk, l.limit-len(out.Breakers)+1) // one more tells whether there is a next page
		entries, err := a.inspectAll(r.Context(), places[:n])
		if err != nil {
			return route.Answer[listReply]{}, err
		}
		for i, e := range entries {
			if l.state != "" && e.State != l.state.Upper() {
				continue
			}
			if len(out.Breakers) == l.limit {
				out.NextCursor = l.cursor(l.after)
				return route.Answer[listReply]{Body: out}, nil
			}
			out.Breakers = append(out.Breakers, e)
			l.after = places[i]
		}
		places = places[n:]
	}
	return route.Answer[listReply]{Body: out}, nil
}

// places lists, in order, the agents that may be on the page.
func (a *api) places(ctx context.Context, l listQuery) ([]place, error) {
	agents, err := a.Directory.Agents(ctx)
	if err != nil {
		return nil, err
	}
	if l.q != "" {
		agents = slices.DeleteFunc(slices.Clone(agents), func(n string) bool { return !strings.Contains(strings.ToLower(n), l.q) })
	}
	states, err := a.Directory.States(ctx, agents)
	if err != nil {
		return nil, err
	}
	var out []place
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

// inspectAll shows these agents' breakers, in order; the store pools what is asked at once.
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
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return entries, nil
}
