package httpapi

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/breakerd/breakerd/internal/access"
	"github.com/breakerd/breakerd/internal/latency"
	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/route"
	"github.com/breakerd/breakerd/internal/view"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// What agents are sorted by, the greatest first.
const (
	sortByP99     = "p99"
	sortByAverage = "average"
	sortByCalls   = "calls"
)

type agentLatency struct {
	AgentID string `json:"agent_id"`
	view.Latency
}

type latencyReply struct {
	Agents   []agentLatency `json:"agents"   nullable:"false"`
	Total    int            `json:"total"    doc:"Agents that the query finds, those beyond the limit included."`
	Degraded bool           `json:"degraded" doc:"Redis is down: these are the calls of the answering replica alone."`
}

// latencyQuery is the query of the list.
type latencyQuery struct {
	agent     string // "": all
	threshold time.Duration
	sort      string
	limit     int
}

func (a *api) latencyRoute() {
	number := &huma.Schema{Type: huma.TypeNumber, Minimum: new(0.0)}
	order := &huma.Schema{Type: huma.TypeString, Enum: []any{sortByP99, sortByAverage, sortByCalls}}
	route.Serve(a.API, route.Operation{
		Route: "GET /v1/admin/latency", ID: "listLatency", Role: access.Read, Tag: "fleet",
		Summary: "How long the calls of each agent took in about the last ten minutes, on all replicas; the slowest first",
		Params: []*huma.Param{
			route.QueryParam("agent", "Only this agent.", &huma.Schema{Type: huma.TypeString, Pattern: route.NamePattern}),
			route.QueryParam("threshold_ms",
				"Only agents whose 99th percentile is at least this; with sort=average, their average.", number),
			route.QueryParam("sort", "The greatest first. Default p99.", order), route.LimitParam(),
		},
		Codes: []problem.Code{problem.AgentUnknown, problem.StoreUnavailable},
	}, a.listLatency)
}

func readLatencyQuery(r *route.Request) (l latencyQuery, err error) {
	q, err := r.Params()
	if err != nil {
		return l, err
	}
	if l.limit, err = route.Whole(q, "limit", route.MostListed); err != nil {
		return l, err
	}
	l.sort = cmp.Or(q.Get("sort"), sortByP99)
	if sorts := []string{sortByP99, sortByAverage, sortByCalls}; !slices.Contains(sorts, l.sort) {
		return l, problem.BadValue("query.sort", l.sort, "one of "+strings.Join(sorts, ", "))
	}
	if text := q.Get("threshold_ms"); text != "" {
		ms, err := strconv.ParseFloat(text, 64)
		if err != nil || !(ms >= 0 && ms <= float64(breaker.MaxDuration.Milliseconds())) {
			return l, problem.BadValue("query.threshold_ms", text, "a number of milliseconds from 0 to 30 days, such as 100")
		}
		l.threshold = time.Duration(ms * float64(time.Millisecond))
	}
	if l.agent = q.Get("agent"); q.Has("agent") && !breaker.ValidName(l.agent) {
		return l, breaker.ErrBadName
	}
	return l, nil
}

// figure is by what the query sorts.
func (l *latencyQuery) figure(f *latency.Figures) int64 {
	switch l.sort {
	case sortByAverage:
		return int64(f.Calls.Average())
	case sortByCalls:
		return f.Calls.Calls()
	}
	return int64(f.Calls.Percentile(99))
}

// takes reports whether an agent is slow enough.
func (l *latencyQuery) takes(f *latency.Figures) bool {
	if l.sort == sortByAverage {
		return f.Calls.Average() >= l.threshold
	}
	return f.Calls.Percentile(99) >= l.threshold
}

func (a *api) listLatency(r *route.Request, _ route.None) (out latencyReply, err error) {
	l, err := readLatencyQuery(r)
	if err != nil {
		return out, err
	}
	if l.agent != "" {
		r.Agent = l.agent
		if err := r.Who.CheckAgent(l.agent); err != nil {
			return out, err
		}
		if err := a.known(r); err != nil {
			return out, err
		}
	}
	all, degraded := a.figures(r.Context())
	type ranked struct {
		agent  string
		figure int64
	}
	var found []ranked
	for agent, f := range all {
		if (l.agent == "" || l.agent == agent) && l.takes(&f) {
			found = append(found, ranked{agent, l.figure(&f)})
		}
	}
	slices.SortFunc(found, func(x, y ranked) int {
		return cmp.Or(cmp.Compare(y.figure, x.figure), strings.Compare(x.agent, y.agent))
	})
	out = latencyReply{Agents: []agentLatency{}, Total: len(found), Degraded: degraded}
	for _, one := range found[:min(len(found), l.limit)] {
		f := all[one.agent]
		out.Agents = append(out.Agents, agentLatency{one.agent, view.LatencyOf(&f)})
	}
	return out, nil
}

func (a *api) figures(ctx context.Context) (all map[string]latency.Figures, alone bool) {
	if a.Latency == nil {
		return nil, false
	}
	return a.Latency(ctx)
}

// latencyOf shows how long the calls of one agent took; nil: no call was measured.
func (a *api) latencyOf(ctx context.Context, agent string) *view.Latency {
	all, _ := a.figures(ctx)
	f, ok := all[agent]
	if !ok {
		return nil
	}
	return new(view.LatencyOf(&f))
}
