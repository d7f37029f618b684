package httpapi

import (
	"cmp"
	"encoding/json"
	"errors"
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"
	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/breakerd/breakerd/internal/access"
	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/registry"
	"github.com/breakerd/breakerd/internal/route"
	"github.com/breakerd/breakerd/internal/view"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breakerhttp"
)

// profile is what people write about an agent.
type profile struct {
	Contact string `json:"contact,omitempty" doc:"Whom to call; at most 500 bytes of printable text."`
	URL     string `json:"url,omitempty"     doc:"http or https, without user, query and fragment; at most 2000 bytes."`
	Labels  labels `json:"labels,omitempty"  doc:"At most 32; a name is 1 to 64 of A-Z a-z 0-9 . _ : @ -, a value at most 256 bytes."`

	TimeoutSeconds *float64 `json:"timeout_seconds,omitempty" doc:"How long the bridge waits for its answer to begin, and for each next part." minimum:"0.001" maximum:"3600"`
	Classify       *string  `json:"classify,omitempty"        doc:"What the bridge judges an answer by; default status."               enum:"status,jsonrpc,mcp,mcp_strict,llm,grpc,auto"`
	registry.Calls
}

// labels refuses null as a label's value, which encoding/json would read as "".
type labels map[string]string

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (l *labels) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	var texts map[string]*string
	if err := jsonv2.UnmarshalDecode(dec, &texts); err != nil || texts == nil {
		return err
	}
	*l = labels{}
	for name, text := range texts {
		if text == nil {
			return &jsonv2.SemanticError{JSONPointer: dec.StackPointer().AppendToken(name), GoType: reflect.TypeFor[string]()}
		}
		(*l)[name] = *text
	}
	return nil
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
	registry.Calls
	InFile bool `json:"in_file"         doc:"The agent registry's file has the agent: it says what the profile leaves open."`
}

type quarantineReply struct {
	Items []json.RawMessage `json:"items" doc:"Failed and refused calls, newest first." nullable:"false"`
}

const maxQuarantine = 50

func (a *api) agentRoutes() {
	path := "/v1/admin/agents/{agent}"
	route.DescribeCalls(a.Properties(a.SchemaOf(profile{})))
	route.DescribeCalls(a.Properties(a.SchemaOf(agentReply{})))
	route.Serve(a.API, route.Operation{
		Route: "GET " + path, ID: "getAgent", Role: access.Read, Tag: "agents",
		Summary: "Whom to call about an agent, and how its breaker stands; ETag of the profile, if there is one",
		Codes:   []problem.Code{problem.AgentUnknown, problem.StoreUnavailable}, Headers: etagHeader(false),
	}, a.getAgent)
	route.Serve(a.API, route.Operation{
		Route: "PUT " + path, ID: "putAgent", Role: access.Operate,
		Tag: "agents", Also: []int{http.StatusCreated}, Headers: etagHeader(true),
		Summary: "Set its profile as a whole; also for an agent that is not known yet (201). " +
			"Another url needs the role admin",
		Params:  []*huma.Param{route.ActorParam(), ifMatchParam(), ifNoneMatchParam()},
		Codes:   []problem.Code{problem.StoreUnavailable, problem.PreconditionFailed, problem.PreconditionRequired},
		Example: `{"contact": "ops@example.org", "url": "http://agent.internal:9000", "labels": {"priority": "low"}}`,
	}, a.putAgent)
	route.Serve(a.API, route.Operation{
		Route: "GET /v1/admin/quarantine", ID: "listQuarantine", Role: access.Read, Tag: "agents",
		Summary: "An agent's newest failed and refused calls",
		Params: []*huma.Param{route.AgentParam("agent_id", "query"), route.QueryParam("limit", "50 at most and by default.",
			&huma.Schema{Type: huma.TypeInteger, Minimum: new(1.0), Maximum: new(float64(maxQuarantine))})},
		Codes: []problem.Code{
			problem.InvalidAgentName, problem.ForbiddenAgent, problem.AgentUnknown, problem.StoreUnavailable,
		},
	}, a.quarantine)
}

func (a *api) getAgent(r *route.Request, _ route.None) (agentReply, error) {
	text, err := a.Directory.Profile(r.Context(), r.Agent)
	if err != nil {
		return agentReply{}, err
	}
	return a.showAgent(r, text)
}

// showAgent shows an agent that has this profile.
func (a *api) showAgent(r *route.Request, text string) (out agentReply, err error) {
	v, policy, err := a.inspect(r)
	if err != nil {
		return out, err
	}
	seen, err := a.Directory.Seen(r.Context(), r.Agent)
	if err != nil {
		return out, err
	}
	var p profile
	_ = json.Unmarshal([]byte(text), &p) // an external edit is shown as far as it can be read
	inFile := a.fillFromFile(r.Agent, &p)
	e := view.Entry(r.Agent, v, policy)
	out = agentReply{
		AgentID: r.Agent, Contact: view.TextOrNull(p.Contact), URL: view.TextOrNull(p.URL), Labels: p.Labels,
		State: e.State, Reason: e.Reason, OpenedAt: e.OpenedAt, Until: e.TimeoutUntil, Degraded: e.Degraded,
		Protected: v.Hold.Protected == 1, TimeoutSeconds: p.TimeoutSeconds, Classify: p.Classify,
		Calls: p.Calls, InFile: inFile,
	}
	if out.Labels == nil {
		out.Labels = map[string]string{}
	}
	if !seen.IsZero() {
		out.LastSeen = view.Stamp(seen.UnixMilli())
	}
	r.ETag = etagOf(text)
	return out, nil
}

// fillFromFile fills in what the agent registry's file says and the profile does not. It reports whether the file has
// the agent.
func (a *api) fillFromFile(agent string, p *profile) bool {
	if a.InFile == nil {
		return false
	}
	filed, ok := a.InFile(agent)
	if !ok {
		return false
	}
	form := filed.Form()
	p.Contact, p.URL = cmp.Or(p.Contact, form.Contact), cmp.Or(p.URL, form.URL)
	if len(p.Labels) == 0 {
		p.Labels = form.Labels
	}
	if p.TimeoutSeconds == nil && filed.Timeout != registry.DefaultTimeout {
		p.TimeoutSeconds = &form.TimeoutSeconds
	}
	if p.Classify == nil && filed.Classify != breakerhttp.StatusOnly {
		p.Classify = new(string(filed.Classify))
	}
	p.Calls = p.Or(form.Calls)
	return true
}

func (a *api) putAgent(r *route.Request, in profile) (agentReply, error) {
	text, err := json.Marshal(in)
	if err != nil {
		return agentReply{}, err
	}
	// The bridge has to be able to read the profile as a registration.
	if _, err := registry.ParseAgent(r.Agent, text, breaker.DefaultPolicy(), nil); err != nil {
		if faults, bad := errors.AsType[*registry.Faults](err); bad {
			err = route.Invalid("registration", faults)
		}
		return agentReply{}, err
	}
	if err := a.mayDirect(r, in.URL); err != nil {
		return agentReply{}, err
	}
	if err := a.change(r, a.Directory.Profile, a.Directory.PutProfile, string(text)); err != nil {
		return agentReply{}, err
	}
	return a.showAgent(r, string(text))
}

// mayDirect refuses another url by a caller who may not register agents: bridge sends their calls there.
func (a *api) mayDirect(r *route.Request, url string) error {
	if r.Who.Has(access.Admin) {
		return nil
	}
	text, err := a.Directory.Profile(r.Context(), r.Agent)
	if err != nil {
		return err
	}
	var was profile
	_ = json.Unmarshal([]byte(text), &was) // an external edit has no url
	if url == was.URL {
		return nil
	}
	return problem.New(problem.Forbidden, "another url needs the role %s: calls of the agent go there", access.Admin)
}

func (a *api) quarantine(r *route.Request, _ route.None) (out quarantineReply, err error) {
	q, err := r.Params()
	if err != nil {
		return out, err
	}
	limit, err := route.Whole(q, "limit", maxQuarantine)
	if err != nil {
		return out, err
	}
	if r.Agent = q.Get("agent_id"); !breaker.ValidName(r.Agent) {
		return out, breaker.ErrBadName
	}
	if err := r.Who.CheckAgent(r.Agent); err != nil {
		return out, err
	}
	if err := a.known(r); err != nil {
		return out, err
	}
	texts, err := a.Directory.Quarantine(r.Context(), r.Agent)
	if err != nil {
		return out, err
	}
	out.Items = []json.RawMessage{}
	for _, text := range texts[:min(len(texts), limit)] {
		if item := json.RawMessage(text); json.Valid(item) {
			out.Items = append(out.Items, item)
		}
	}
	return out, nil
}
