package httpapi

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/breakerd/breakerd/internal/access"
	"github.com/breakerd/breakerd/internal/policy"
	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/redisdocs"
	"github.com/breakerd/breakerd/internal/route"
	"github.com/breakerd/breakerd/internal/text"
	"github.com/breakerd/breakerd/internal/view"
)

type findingsReply struct {
	Findings   []finding `json:"findings"    nullable:"false"`
	Replicas   int       `json:"replicas"    doc:"That were compared."`
	Agents     int       `json:"agents"      doc:"Whose keys were looked at for this page."`
	NextCursor *string   `json:"next_cursor" doc:"null: this was the last page. A page may have no findings before the last one."`
	NowMs      int64     `json:"now_ms"      doc:"Redis' clock."`
}

// finding is something that is not as it should be.
type finding struct {
	Code    string  `json:"code"     enum:"replica_missing,policy_differs,gate_behind,degraded,outcomes_wait,store_differs,switch_off,bad_key,hand_edit,wrong_expiry,not_in_index,not_listed,cannot_be_read,override_invalid"`
	Replica *string `json:"replica"`
	AgentID *string `json:"agent_id"`
	Key     *string `json:"key"      doc:"In Redis."`
	Detail  string  `json:"detail"`
	Action  string  `json:"action"   doc:"What to do, or what happens by itself."`
}

const (
	verifyAgents = 200             // of a page
	verifyWaits  = 2 * time.Second // for which an outcome may wait: what waits in cached mode is sent within one
	verifyByScan = "scan."         // begins the cursor of the part that goes by keys, after those of the index
	verifyByName = "after."        // begins the cursor of the part that goes by names
)

func (a *api) verifyRoute() {
	route.Serve(a.API, route.Operation{
		Route: "GET /v1/admin/verify", ID: "listFindings", Role: access.Read, Tag: "fleet",
		Summary: "What is wrong in the fleet: replicas that differ, and with deep=1 keys that breakers do not leave so",
		Codes:   []problem.Code{problem.StoreUnavailable, problem.InvalidValue},
		Params: []*huma.Param{
			route.QueryParam("deep", "1: look at the keys of every agent, too, page by page.",
				&huma.Schema{Type: huma.TypeString, Enum: []any{"0", "1"}}),
			route.QueryParam("limit", "Agents of a page, 1000 at most; 200 without it.",
				&huma.Schema{Type: huma.TypeInteger, Minimum: new(1.0), Maximum: new(float64(route.MostListed))}),
			route.CursorParam(),
		},
	}, a.verify)
}

func (a *api) verify(r *route.Request, _ route.None) (out findingsReply, err error) {
	q, err := r.Params()
	if err != nil {
		return out, err
	}
	deep, limit, err := verifyQuery(q)
	if err != nil {
		return out, err
	}
	ctx, cursor := r.Context(), q.Get("cursor")
	out.Findings = []finding{}
	if out.NowMs, err = a.Directory.ClockMs(ctx); err != nil {
		return out, err
	}
	if cursor == "" {
		if err := a.verifyReplicas(ctx, &out); err != nil {
			return out, err
		}
	}
	if !deep {
		return out, nil
	}
	if cursor == "" {
		planted, err := a.Keys.PlantedKeys(ctx)
		if err != nil {
			return out, err
		}
		out.addFaults(planted)
		cursor = verifyByName
	}
	var agents []string
	if after, byName := strings.CutPrefix(cursor, verifyByName); byName {
		agents, out.NextCursor, err = a.verifyNames(ctx, after, limit)
	} else {
		agents, out.NextCursor, err = a.verifyUnlisted(ctx, strings.TrimPrefix(cursor, verifyByScan))
	}
	if err != nil {
		return out, err
	}
	return out, a.verifyKeys(ctx, agents, &out)
}

func verifyQuery(q url.Values) (deep bool, limit int, err error) {
	switch d := q.Get("deep"); d {
	case "", "0":
	case "1":
		deep = true
	default:
		return false, 0, problem.BadValue("query.deep", d, "0 or 1")
	}
	limit = verifyAgents
	if q.Get("limit") != "" {
		if limit, err = route.Whole(q, "limit", route.MostListed); err != nil {
			return false, 0, err
		}
	}
	cursor := q.Get("cursor")
	known := strings.HasPrefix(cursor, verifyByName) || strings.HasPrefix(cursor, verifyByScan)
	if cursor != "" && (!known || !deep) {
		return false, 0, problem.BadValue("query.cursor", cursor, "the next_cursor of a page, with deep=1")
	}
	return deep, limit, nil
}

// verifyNames are the agents of a page of the index.
func (a *api) verifyNames(ctx context.Context, after string, limit int) (agents []string, next *string, err error) {
	all, err := a.Directory.Agents(ctx)
	if err != nil {
		return nil, nil, err
	}
	from, found := slices.BinarySearch(all, after)
	if found {
		from++
	}
	agents = all[from:min(from+limit, len(all))]
	if from+limit < len(all) {
		return agents, new(verifyByName + agents[limit-1]), nil
	}
	return agents, new(verifyByScan), nil
}

// verifyUnlisted are the agents of a part of Redis' keys that the index does not have.
func (a *api) verifyUnlisted(ctx context.Context, from string) (agents []string, next *string, err error) {
	scanned, rest, err := a.Keys.ScanAgents(ctx, from)
	if err != nil {
		return nil, nil, err
	}
	listed, err := a.Directory.Agents(ctx)
	if err != nil {
		return nil, nil, err
	}
	slices.Sort(scanned)
	agents = slices.DeleteFunc(slices.Compact(scanned), func(name string) bool {
		_, has := slices.BinarySearch(listed, name)
		return has
	})
	if rest != "" {
		next = new(verifyByScan + rest)
	}
	return agents, next, nil
}

// verifyKeys looks at the keys of agents.
func (a *api) verifyKeys(ctx context.Context, agents []string, out *findingsReply) error {
	out.Agents = len(agents)
	if len(agents) == 0 {
		return nil
	}
	faults, err := a.Keys.Verify(ctx, agents)
	if err != nil {
		return err
	}
	out.addFaults(faults)
	overrides, refused, err := a.Directory.EachOverride(ctx, agents)
	if err != nil {
		return err
	}
	for i, agent := range agents {
		if bad := a.overrideProblem(ctx, agent, overrides[i]); bad != nil && refused[agent] == nil {
			out.Findings = append(out.Findings, finding{
				Code: "override_invalid", AgentID: &agents[i], Detail: text.Clip(bad.Error(), route.MaxMessage),
				Action: "the last good policy is in force: correct or delete the override",
			})
		}
	}
	return nil
}

// overrideProblem is why an override is not in force; nil: it is, or there is none.
func (a *api) overrideProblem(ctx context.Context, agent, override string) error {
	if override == "" {
		return nil
	}
	o, err := policy.Parse([]byte(override))
	if err != nil {
		return err
	}
	return a.Policies.Check(ctx, agent, o)
}

// addFaults adds what was found in Redis.
func (out *findingsReply) addFaults(faults []redisdocs.Fault) {
	actions := map[string]string{
		redisdocs.FaultBadKey:       "the next call of the agent, or the next write, repairs it",
		redisdocs.FaultHandEdit:     "it counts with the agent's next call",
		redisdocs.FaultExpiry:       "delete the key, or reset the breaker: that sets every expiry anew",
		redisdocs.FaultNotInIndex:   "a replica repairs the index within 10 minutes",
		redisdocs.FaultNotNotClosed: "a replica corrects the list within 10 seconds; if not, look at the replicas' logs",
		redisdocs.FaultUnreadable:   "look at the ACL of Redis' user: docs/security.md has one that works",
	}
	for _, f := range faults {
		out.Findings = append(out.Findings, finding{
			Code: f.Code, AgentID: view.TextOrNull(f.Agent), Key: view.TextOrNull(f.Key),
			Detail: text.Clip(f.Text, route.MaxMessage), Action: actions[f.Code],
		})
	}
}

// verifyReplicas compares the replicas.
func (a *api) verifyReplicas(ctx context.Context, out *findingsReply) error {
	gate, err := a.Fleet.Gate(ctx)
	if err != nil {
		return err
	}
	heard, err := a.Fleet.Replicas(ctx)
	if err != nil {
		return err
	}
	out.Replicas = len(heard)
	policies := commonOf(heard, func(h *redisdocs.Heard) string { return h.Policy })
	stores := commonOf(heard, func(h *redisdocs.Heard) string { return h.Born })
	for i := range heard {
		h := &heard[i]
		add := func(is bool, code, detail, action string) {
			if is {
				out.Findings = append(out.Findings, finding{Code: code, Replica: &h.ID, Detail: detail, Action: action})
			}
		}
		if h.State() != redisdocs.Alive {
			add(true, "replica_missing", "its last heartbeat is "+h.Age.Round(time.Second).String()+" old",
				"look at its machine and its log: it did not say that it ends")
			continue
		}
		add(h.Policy != policies, "policy_differs", "its defaults, or its agent registry file, are not those of most",
			"give every replica the same CIRCUIT_BREAKER_ variables and AGENTS_FILE")
		add(h.Enabled && h.Gate != gate.Version, "gate_behind", "it does not obey the fleet's gate yet",
			"it does within a second, if it reaches Redis")
		add(!h.Enabled, "switch_off", "its global switch is off: it admits every call, and records none",
			"CIRCUIT_BREAKER_ENABLED=true, and restart it")
		add(h.DegradedMs > 0, "degraded", "it answers from its own memory: Redis is down for it",
			"look at the network between it and Redis")
		add(h.Waiting > 0 && h.WaitingAge > verifyWaits.Seconds(), "outcomes_wait",
			route.FormatNumber(float64(h.Waiting))+" outcomes wait for Redis", "they are sent as soon as Redis answers it")
		add(h.Born != "" && h.Born != stores, "store_differs", "it sees another Redis, or other data in it, than most",
			"compare its REDIS_URL with the others'")
	}
	return nil
}
