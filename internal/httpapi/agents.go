package httpapi

import (
	"encoding/json"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/registry"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// profile is what people write about an agent.
type profile struct {
	Contact string            `json:"contact,omitempty" doc:"Whom to call; at most 500 bytes of printable text."`
	URL     string            `json:"url,omitempty"     doc:"http or https, without user, query and fragment; at most 2000 bytes."`
	Labels  map[string]string `json:"labels,omitempty"  doc:"At most 32; a name is 1 to 64 of A-Z a-z 0-9 . _ : @ -, a value at most 256 bytes."`

	TimeoutSeconds *float64 `json:"timeout_seconds,omitempty" doc:"How long the bridge waits for its answer to begin, and for each next part." minimum:"0.001" maximum:"3600"`
	Classify       string   `json:"classify,omitempty"        doc:"What the bridge judges an answer by; default status."               enum:"status,jsonrpc,mcp"`
}

type agentReply struct {
	AgentID   string            `json:"agent_id"`
	Contact   *string           `json:"contact"`
	URL       *string           `json:"url"`
	Labels    map[string]string `json:"labels"    nullable:"false"`
	LastSeen  *string           `json:"last_seen" format:"date-time"`
	State     string            `json:"state"     enum:"CLOSED,OPEN,HALF_OPEN"`
	Reason    *string           `json:"reason"`
	OpenedAt  *string           `json:"opened_at" format:"date-time"`
	Until     *string           `json:"timeout_until" format:"date-time"`
	Degraded  bool              `json:"degraded"`
	Protected bool              `json:"hold_protected"`

	TimeoutSeconds *float64 `json:"timeout_seconds" doc:"null: the bridge's default."`
	Classify       *string  `json:"classify"        doc:"null: status."`
}

type quarantineReply struct {
	Items []json.RawMessage `json:"items" doc:"Failed and refused calls, newest first." nullable:"false"`
}

const quarantineMost = 50

func (a *api) agentRoutes() {
	path := "/v1/admin/agents/{agent}"
	serve(a.server, endpoint{
		method: http.MethodGet, path: path, id: "getAgent", tag: "agents",
		summary: "Whom to call about an agent, and how its breaker stands; ETag of the profile, if there is one",
		codes:   []problem.Code{problem.AgentUnknown, problem.StoreUnavailable}, headers: etagHeader(false),
	}, a.getAgent)
	serve(a.server, endpoint{
		method: http.MethodPut, path: path, id: "putAgent", tag: "agents", body: requiredBody,
		summary: "Set its profile as a whole; also for an agent that is not known yet (201)",
		params:  []*huma.Param{actorParam(), ifMatchParam(), ifNoneMatchParam()},
		codes:   []problem.Code{problem.BodyRequired, problem.StoreUnavailable, problem.PreconditionFailed, problem.PreconditionRequired},
		also:    []int{http.StatusCreated}, headers: etagHeader(true),
		example: `{"contact": "ops@example.org", "url": "http://agent.internal:9000", "labels": {"priority": "low"}}`,
	}, a.putAgent)
	serve(a.server, endpoint{
		method: http.MethodGet, path: "/v1/admin/quarantine", id: "listQuarantine", tag: "agents",
		summary: "An agent's newest failed and refused calls",
		params: []*huma.Param{agentParam("agent_id", "query", true), queryParam("limit", "50 at most and by default.",
			&huma.Schema{Type: huma.TypeInteger, Minimum: new(1.0), Maximum: new(float64(quarantineMost))})},
		codes: []problem.Code{problem.InvalidAgentName, problem.AgentUnknown, problem.StoreUnavailable},
	}, a.quarantine)
}

func (a *api) getAgent(r *request, _ none) (out answer[agentReply], err error) {
	text, err := a.Directory.Profile(r.ctx(), r.agent)
	if err != nil {
		return out, err
	}
	return a.agentAnswer(r, text)
}

// agentAnswer shows an agent with this profile.
func (a *api) agentAnswer(r *request, text string) (out answer[agentReply], err error) {
	v, policy, err := a.inspect(r)
	if err != nil {
		return out, err
	}
	seen, err := a.Directory.Seen(r.ctx(), r.agent)
	if err != nil {
		return out, err
	}
	var p profile
	_ = json.Unmarshal([]byte(text), &p) // what a hand wrote is shown as far as it can be read
	e := entryOf(r.agent, v, policy)
	out.body = agentReply{
		AgentID: r.agent, Contact: textOrNull(p.Contact), URL: textOrNull(p.URL), Labels: p.Labels,
		State: e.State, Reason: e.Reason, OpenedAt: e.OpenedAt, Until: e.TimeoutUntil, Degraded: e.Degraded,
		Protected: v.Hold.Protected == 1, TimeoutSeconds: p.TimeoutSeconds, Classify: textOrNull(p.Classify),
	}
	if p.Labels == nil {
		out.body.Labels = map[string]string{}
	}
	if !seen.IsZero() {
		out.body.LastSeen = stamp(seen.UnixMilli())
	}
	out.etag = etagOf(text)
	return out, nil
}

func (a *api) putAgent(r *request, in profile) (out answer[agentReply], err error) {
	text, err := json.Marshal(in)
	if err != nil {
		return out, err
	}
	if _, err := registry.ParseAgent(r.agent, text, breaker.DefaultPolicy(), nil); err != nil { // or the bridge would not take it
		return out, agentProblem(r.agent, err)
	}
	created, err := a.change(r, a.Directory.Profile, a.Directory.PutProfile, string(text))
	if err != nil {
		return out, err
	}
	out, err = a.agentAnswer(r, string(text))
	if created {
		out.status = http.StatusCreated
	}
	return out, err
}

func (a *api) quarantine(r *request, _ none) (out answer[quarantineReply], err error) {
	q, err := r.query("agent_id", "limit")
	if err != nil {
		return out, err
	}
	limit, err := whole(q, "limit", quarantineMost, quarantineMost)
	if err != nil {
		return out, err
	}
	if r.agent = q.Get("agent_id"); !breaker.ValidName(r.agent) {
		return out, breaker.ErrBadName
	}
	if err := a.known(r); err != nil {
		return out, err
	}
	texts, err := a.Directory.Quarantine(r.ctx(), r.agent)
	if err != nil {
		return out, err
	}
	out.body.Items = []json.RawMessage{}
	for _, text := range texts[:min(len(texts), limit)] {
		if item := json.RawMessage(text); json.Valid(item) {
			out.body.Items = append(out.body.Items, item)
		}
	}
	return out, nil
}
