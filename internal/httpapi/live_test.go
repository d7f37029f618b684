package httpapi

import (
	"encoding/json"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/text"
)

// operationAt finds an operation in the document; nil: there is none.
func (d document) operationAt(method, path string) *huma.Operation {
	item := d.api.Paths[path]
	if item == nil {
		return nil
	}
	return map[string]*huma.Operation{
		http.MethodGet: item.Get, http.MethodPost: item.Post, http.MethodPut: item.Put, http.MethodDelete: item.Delete,
	}[method]
}

// gateAt is the operation of a path of the gate, whatever the method.
func (d document) gateAt(path string) *huma.Operation {
	if strings.Contains(strings.TrimPrefix(path, gatePath), "/") {
		return d.operationAt(http.MethodGet, gatePath+"{agent}/{path}")
	}
	return d.operationAt(http.MethodGet, gatePath+"{agent}")
}

// operations lists the document's, by id.
func (d document) operations() map[string]*huma.Operation {
	out := map[string]*huma.Operation{}
	for path := range d.api.Paths {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
			if op := d.operationAt(method, path); op != nil {
				out[op.OperationID] = op
			}
		}
	}
	return out
}

// asDocumented checks an answer of a live server against what the document says of the operation: status, media type, headers,
// codes, body.
func (d document) asDocumented(op *huma.Operation, g got) {
	g.t.Helper()
	what := op.Method + " " + op.Path + ": " + strconv.Itoa(g.status) + " " + text.Short(g.text)
	response := op.Responses[strconv.Itoa(g.status)]
	if response == nil {
		g.t.Errorf("status not documented: %s", what)
		return
	}
	kind, _, _ := mime.ParseMediaType(g.header.Get("Content-Type"))
	media := response.Content[kind]
	if media == nil && (kind != "" || len(response.Content) > 0 || g.text != "") {
		g.t.Errorf("media type %q not documented: %s", kind, what)
		return
	}
	for name, h := range response.Headers {
		if h.Required && g.header.Get(name) == "" && (g.status < 400 || g.json["code"] == string(problem.CircuitBreakerOpen)) {
			g.t.Errorf("no header %s: %s", name, what)
		}
	}
	if media == nil || !strings.HasSuffix(kind, "json") {
		return
	}
	if c, ok := g.json["code"].(string); ok && kind == "application/problem+json" && !slices.Contains(strings.Split(response.Description, ", "), c) {
		g.t.Errorf("code %s is not in %q: %s", c, response.Description, what)
	}
	d.validate(g, media.Schema, what)
}

func (d document) validate(g got, schema *huma.Schema, what string) {
	g.t.Helper()
	var body any
	if err := json.Unmarshal([]byte(g.text), &body); err != nil {
		g.t.Errorf("no JSON: %s", what)
		return
	}
	path, res := huma.NewPathBuffer(nil, 0), &huma.ValidateResult{}
	huma.Validate(d.schemas(), schema, path, huma.ModeReadFromServer, body, res)
	for _, err := range res.Errors {
		g.t.Errorf("%v: %s", err, what)
	}
}

// probe is one request of a sample; what is left out is taken from the document: its example of a path and of a body.
type probe struct {
	path, query, body string
	header            []string
}

// sample is a request that an operation answers with a success, and one that it refuses. before makes the success possible; what
// it returns is the body to send, if any.
type sample struct {
	before    func(*fixture) string
	good, bad probe
}

// samples has one for each operation of breakerd.
func samples() map[string]sample {
	known := func(f *fixture) string { f.fail("FailingAgent", 1); return "" }
	configured := func(f *fixture) string {
		f.do("PUT", "/v1/admin/circuit_breakers/FailingAgent/config", `{"timeout_seconds":1.5,"mode":"observe"}`).want(201)
		return ""
	}
	probing := func(f *fixture) string {
		f.fail("FailingAgent", 5)
		f.advance(time.Minute)
		permit, _ := f.do("POST", "/v1/circuit_breakers/FailingAgent/acquire", "").want(200).json["permit"].(string)
		return `{"permit":"` + permit + `"}`
	}
	quarantined := func(f *fixture) string {
		f.keeper.items["FailingAgent"] = []string{`{"error":"boom"}`}
		return known(f)
	}
	one, gateOpen := "/v1/admin/circuit_breakers/Unknown", []string{gateHeader, "1"}
	misdirected := sample{bad: probe{header: []string{"Host", "evil.example"}}}
	return map[string]sample{
		"acquire":              {bad: probe{body: `{"parent":7}`}},
		"report":               {bad: probe{body: `{"outcome":"great"}`}},
		"renew":                {before: probing, bad: probe{}},
		"batch":                {bad: probe{body: `{"operations":[{}]}`}},
		"gate":                 {good: probe{query: "?deny_status=403", header: gateOpen}, bad: probe{query: "?deny_status=200", header: gateOpen}},
		"gateBelow":            {good: probe{query: "?anything", header: gateOpen}, bad: probe{}},
		"listCircuitBreakers":  {before: known, bad: probe{query: "?limit=0"}},
		"getCircuitBreaker":    {before: configured, bad: probe{path: one}},
		"listEvents":           {before: known, bad: probe{path: one + "/events"}},
		"deleteCircuitBreaker": {before: known, bad: probe{path: one}},
		"resetCircuitBreaker":  {before: known, bad: probe{body: `{"target_state":"OPEN"}`}},
		"openCircuitBreaker":   {bad: probe{body: `{"timeout_seconds":-1}`}},
		"closeCircuitBreaker":  {before: known, bad: probe{path: one + "/close"}},
		"getConfig":            {before: configured, bad: probe{path: one + "/config"}},
		"putConfig":            {bad: probe{body: `{"mode":"maybe"}`}},
		"deleteConfig":         {before: configured, good: probe{header: []string{"If-Match", "*"}}, bad: probe{path: one + "/config"}},
		"getAgent":             {before: known, bad: probe{path: "/v1/admin/agents/Unknown"}},
		"putAgent":             {bad: probe{body: `{"url":"x"}`}},
		"listQuarantine":       {before: quarantined, good: probe{query: "?agent_id=FailingAgent"}, bad: probe{query: "?agent_id=a%20b"}},
		"live":                 misdirected, "ready": misdirected, "health": misdirected, "healthChecks": misdirected,
		"metrics": misdirected, "openapi": misdirected, "docs": misdirected,
	}
}

// send sends a probe of an operation.
func (f *fixture) send(op *huma.Operation, p probe) got {
	f.t.Helper()
	if p.path == "" {
		p.path = op.Path
		for _, param := range op.Parameters {
			if text, ok := param.Example.(string); ok && param.In == "path" {
				p.path = strings.ReplaceAll(p.path, "{"+param.Name+"}", text)
			}
		}
	}
	if p.body == "" && op.RequestBody != nil {
		if media := op.RequestBody.Content["application/json"]; media != nil {
			example, _ := media.Example.(json.RawMessage)
			p.body = string(example)
		}
	}
	return f.do(op.Method, p.path+p.query, p.body, p.header...)
}

// liveAsDocumented sends the samples, each to a fixture of its own; that each answer is as documented, do checks.
func liveAsDocumented(t *testing.T, fixed func(testing.TB) *fixture, samples map[string]sample) {
	t.Helper()
	operations := fixed(t).api.doc.operations()
	for id := range samples {
		if operations[id] == nil {
			t.Errorf("there is no operation %s", id)
		}
	}
	for id, op := range operations {
		s, ok := samples[id]
		if !ok {
			t.Errorf("operation %s has no sample", id)
			continue
		}
		t.Run(id, func(t *testing.T) {
			t.Parallel()
			if g := fixed(t).send(op, s.bad); g.status < 400 {
				t.Errorf("the bad request: %d %s", g.status, g.text)
			}
			f := fixed(t)
			if s.before != nil {
				if body := s.before(f); body != "" {
					s.good.body = body
				}
			}
			if g := f.send(op, s.good); g.status >= 300 {
				t.Errorf("the good request: %d %s", g.status, g.text)
			}
		})
	}
}

func TestEveryOperationAnswersAsDocumented(t *testing.T) {
	t.Parallel()
	liveAsDocumented(t, func(t testing.TB) *fixture {
		return newFixture(t, func(o *Options) { o.LoopbackOnly = true })
	}, samples())
}

// TestTheCheckOfAnswersNotices feeds the check with answers that the document does not have.
func TestTheCheckOfAnswersNotices(t *testing.T) {
	t.Parallel()
	d := newFixture(t).api.doc
	op := d.operations()["live"]
	for what, g := range map[string]got{
		"status": {status: 418}, "media type": {status: 200, text: "ok", header: http.Header{"Content-Type": {"text/plain"}}},
		"field":   {status: 200, text: `{"status":"ok","x":1}`, header: http.Header{"Content-Type": {"application/json"}}},
		"value":   {status: 200, text: `{"status":"so so"}`, header: http.Header{"Content-Type": {"application/json"}}},
		"no body": {status: 200},
	} {
		recorder := &recordingT{TB: t}
		g.t = recorder
		if d.asDocumented(op, g); !recorder.failed {
			t.Errorf("%s: not noticed", what)
		}
	}
}

// recordingT remembers that a test would have failed.
type recordingT struct {
	testing.TB
	failed bool
}

func (r *recordingT) Errorf(string, ...any) { r.failed = true }
