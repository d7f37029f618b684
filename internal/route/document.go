package route

import (
	"encoding/json"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/breakerd/breakerd/internal/access"
	"github.com/breakerd/breakerd/internal/policy"
	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breakerhttp"
)

func (a *API) schemas() huma.Registry { return a.OpenAPI.Components.Schemas }

// SchemaOf is a reference to the schema of a named Go type.
func (a *API) SchemaOf(v any) *huma.Schema {
	return a.schemas().Schema(reflect.TypeOf(v), true, "")
}

// Properties are the fields of the schema that a reference names.
func (a *API) Properties(ref *huma.Schema) map[string]*huma.Schema {
	return a.schemas().SchemaFromRef(ref.Ref).Properties
}

// ProblemProperties are the documented fields of a problem.
func (a *API) ProblemProperties() map[string]*huma.Schema { return a.Properties(a.problem) }

// Describe enters an operation into the document, and fills in its defaults. An operation that is not on the mux, as
// the gate's, is described alone.
func Describe[In, Out any](a *API, o *Operation) {
	none := reflect.TypeFor[None]()
	o.hasBody = reflect.TypeFor[In]() != none
	if o.Status == 0 {
		o.Status = http.StatusOK
	}
	if o.Refusals == nil {
		o.Refusals = []int{http.StatusTooManyRequests, http.StatusServiceUnavailable}
	}
	if o.ContentType == "" {
		o.ContentType = "application/json"
	}
	if o.In == nil && o.hasBody {
		o.In = a.schemas().Schema(reflect.TypeFor[In](), true, o.ID+"Request")
	}
	if out := reflect.TypeFor[Out](); o.Out == nil && out != none {
		o.Out = a.schemas().Schema(out, true, o.ID+"Response")
	}
	method, path, _ := strings.Cut(o.Route, " ")
	if o.Role == "" {
		a.missing = append(a.missing, o.ID)
	}
	op := &huma.Operation{
		Method: method, Path: path, OperationID: o.ID, Summary: o.Summary, Tags: []string{o.Tag}, Responses: a.problems(o),
		Extensions: map[string]any{"x-role": o.Role}, Security: o.security(),
	}
	for _, name := range pathNames(o.Route) {
		op.Parameters = append(op.Parameters, pathParam(name))
	}
	op.Parameters = append(op.Parameters, o.Params...)
	op.RequestBody = o.body()
	ok := huma.Response{Headers: o.Headers}
	if o.Out != nil {
		ok.Content = map[string]*huma.MediaType{o.ContentType: {Schema: o.Out}}
	}
	for _, status := range append([]int{o.Status}, o.Also...) {
		ok.Description = http.StatusText(status)
		op.Responses[strconv.Itoa(status)] = new(ok)
	}
	if !slices.ContainsFunc(a.OpenAPI.Tags, func(t *huma.Tag) bool { return t.Name == o.Tag }) {
		a.OpenAPI.Tags = append(a.OpenAPI.Tags, &huma.Tag{Name: o.Tag})
	}
	a.OpenAPI.AddOperation(op)
}

// body documents the body that an operation takes; nil: none.
func (o *Operation) body() *huma.RequestBody {
	switch {
	case o.hasBody:
		media := &huma.MediaType{Schema: o.In}
		if o.Example != "" {
			media.Example = json.RawMessage(o.Example)
		}
		return &huma.RequestBody{
			Required: !o.Optional, Content: map[string]*huma.MediaType{"application/json": media},
		}
	case o.Takes != "":
		binary := &huma.Schema{Type: huma.TypeString, Format: "binary"}
		return &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{o.Takes: {Schema: binary}}}
	}
	return nil
}

// codes are the codes of all problems of an operation, sorted.
func (o *Operation) codes() []problem.Code {
	codes := append([]problem.Code{problem.Internal, problem.HostNotAllowed}, o.Codes...)
	for _, name := range pathNames(o.Route) {
		codes = append(codes, badPathCodes()[name])
		if name == "agent" {
			codes = append(codes, problem.ForbiddenAgent)
		}
	}
	if o.Role != access.Open {
		codes = append(codes, problem.Unauthenticated, problem.Forbidden, problem.RateLimited)
	}
	if !strings.HasPrefix(o.Route, http.MethodGet) {
		codes = append(codes, problem.CrossOrigin)
	}
	if len(o.Params) > 0 || o.hasBody {
		codes = append(codes, problem.InvalidValue)
	}
	if o.hasBody {
		codes = append(codes, problem.InvalidJSON, problem.BodyTooLarge, problem.UnsupportedMediaType)
	}
	if o.Takes != "" {
		codes = append(codes, problem.BodyTooLarge, problem.UnsupportedMediaType)
	}
	if o.hasBody && !o.Optional {
		codes = append(codes, problem.BodyRequired)
	}
	slices.Sort(codes)
	return slices.Compact(codes)
}

// problems documents the problems of an operation by status. The description of a status is its codes.
func (a *API) problems(o *Operation) map[string]*huma.Response {
	out := map[string]*huma.Response{}
	for _, c := range o.codes() {
		statuses := []int{c.Status()}
		if c == problem.CircuitBreakerOpen {
			statuses = o.Refusals
		}
		for _, s := range statuses {
			response := out[strconv.Itoa(s)]
			if response == nil {
				response = &huma.Response{Content: map[string]*huma.MediaType{"application/problem+json": {Schema: a.problem}}}
				out[strconv.Itoa(s)] = response
			} else {
				response.Description += ", "
			}
			response.Description += string(c)
			if c == problem.Unauthenticated {
				addHeader(response, "www-authenticate", HeaderParam("Of unauthenticated.", false))
			}
			if c == problem.CircuitBreakerOpen {
				addHeader(response, "x-circuit-breaker-state", HeaderParam("Of a breaker's refusal: OPEN or HALF_OPEN.", false))
				addHeader(response, "retry-after", HeaderParam("Whole seconds.", true))
			}
		}
	}
	return out
}

func addHeader(r *huma.Response, name string, h *huma.Param) {
	if r.Headers == nil {
		r.Headers = map[string]*huma.Param{}
	}
	r.Headers[name] = h
}

// The names of the security schemes.
const (
	schemeBearer, schemeToken        = "bearer", "token"
	schemeSession, schemeCertificate = "session", "certificate"
)

// securitySchemes documents by what a caller is known.
func securitySchemes() map[string]*huma.SecurityScheme {
	return map[string]*huma.SecurityScheme{
		schemeBearer: {Type: "http", Scheme: "bearer", Description: "A token of AUTH_FILE."},
		schemeToken: {
			Type: "apiKey", In: "header", Name: access.TokenHeader, Description: "The same, if Authorization is another's.",
		},
		schemeSession:     {Type: "apiKey", In: "cookie", Name: access.Cookie, Description: "What openSession gave."},
		schemeCertificate: {Type: "mutualTLS", Description: "A client certificate whose subject is in AUTH_FILE."},
	}
}

// security says by what a caller of an operation may be known.
func (o *Operation) security() []map[string][]string {
	if o.Role == access.Open {
		return nil
	}
	schemes := []string{schemeBearer, schemeToken, schemeSession, schemeCertificate}
	switch o.Ways {
	case access.Gate:
		schemes = []string{schemeBearer, schemeToken, schemeCertificate}
	case access.Gateway:
		schemes = []string{schemeToken, schemeCertificate}
	}
	var out []map[string][]string
	for _, s := range schemes {
		out = append(out, map[string][]string{s: {}})
	}
	return out
}

// NamePattern is breaker.ValidName for the document.
const NamePattern = `^[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}$`

// wordPattern is breaker.ValidWord for the document.
const wordPattern = `^[A-Za-z0-9._:@-]{1,64}$`

// pathNames lists the {names} of a pattern.
func pathNames(path string) []string {
	var names []string
	for _, m := range regexp.MustCompile(`\{(\w+)\}`).FindAllStringSubmatch(path, -1) {
		names = append(names, m[1])
	}
	return names
}

// pathParam documents a {name} of a path.
func pathParam(name string) *huma.Param {
	p := AgentParam(name, "path")
	switch name {
	case "workflow":
		p.Description, p.Example = "Its workflow_id.", "circuit-breaker-test"
	case "execution":
		p.Description, p.Example = "Its execution_id.", strings.Repeat("0a", 16)
		p.Schema = &huma.Schema{Type: huma.TypeString, Pattern: "^[0-9a-f]{32}$"}
	case "action":
		p.Description, p.Example = "Its id.", strings.Repeat("0a", 8)
		p.Schema = &huma.Schema{Type: huma.TypeString, Pattern: "^[0-9a-f]{16}$"}
	case "path":
		p.Description, p.Example, p.Schema = "What follows, slashes and all.", "ask", &huma.Schema{Type: huma.TypeString}
	}
	return p
}

// badPathCodes are the codes of a {name} that is not valid.
func badPathCodes() map[string]problem.Code {
	return map[string]problem.Code{
		"agent": problem.InvalidAgentName, "workflow": problem.InvalidWorkflowID,
		"execution": problem.InvalidExecutionID, "action": problem.InvalidActionID, "path": problem.InvalidPath,
	}
}

// AgentParam documents an agent's name.
func AgentParam(name, in string) *huma.Param {
	return &huma.Param{
		Name: name, In: in, Required: true, Description: "The agent's name.",
		Schema: &huma.Schema{Type: huma.TypeString, Pattern: NamePattern}, Example: "FailingAgent",
	}
}

// ActorParam documents the header that [Request.Actor] reads.
func ActorParam() *huma.Param {
	return &huma.Param{
		Name: "X-Actor", In: "header",
		Description: "Who does it, for the log; default api. With a token it is a claim beside the token's name.",
		Schema:      &huma.Schema{Type: huma.TypeString, Pattern: wordPattern},
	}
}

// HeaderParam documents a header of an answer; always: every answer has it.
func HeaderParam(about string, always bool) *huma.Param {
	return &huma.Param{Description: about, Required: always, Schema: &huma.Schema{Type: huma.TypeString}}
}

// QueryParam documents a parameter of the query.
func QueryParam(name, about string, s *huma.Schema) *huma.Param {
	return &huma.Param{Name: name, In: "query", Description: about, Schema: s}
}

// ArrayParam documents a parameter that is an array: given several times, or with commas between its values.
func ArrayParam(name, about string, item *huma.Schema) *huma.Param {
	return QueryParam(name, about+" Several: given again, or with commas between.",
		&huma.Schema{Type: huma.TypeArray, Items: item})
}

// LimitParam documents how long a page of a list is.
func LimitParam() *huma.Param {
	return QueryParam("limit", "Entries a page, 1000 at most and by default.",
		&huma.Schema{Type: huma.TypeInteger, Minimum: new(1.0), Maximum: new(float64(MostListed))})
}

// CursorParam documents where a page of a list begins.
func CursorParam() *huma.Param {
	return QueryParam("cursor", "next_cursor of the page before.", &huma.Schema{Type: huma.TypeString})
}

// OverrideSchema documents an override; policy.Parse is what checks one.
func OverrideSchema() *huma.Schema {
	s := &huma.Schema{Type: huma.TypeObject, AdditionalProperties: false, Properties: map[string]*huma.Schema{}}
	for _, f := range policy.Fields(breaker.DefaultPolicy()) {
		kind := huma.TypeNumber
		switch f.Value.(type) {
		case bool:
			kind = huma.TypeBoolean
		case int:
			kind = huma.TypeInteger
		case string:
			kind = huma.TypeString
		}
		s.Properties[f.Name] = &huma.Schema{Type: kind, Description: f.Allowed, Default: f.Value}
	}
	return s
}

// DescribeCalls completes the documented fields of a registry.Calls by what tags of Go types cannot say.
func DescribeCalls(fields map[string]*huma.Schema) {
	var classifiers []any
	for _, c := range breakerhttp.BodyClassifiers() {
		classifiers = append(classifiers, string(c))
	}
	fields["classify_observe"].Enum = classifiers
	for _, name := range []string{"failure_statuses", "ignored_statuses"} {
		fields[name].Items = &huma.Schema{OneOf: []*huma.Schema{
			{Type: huma.TypeInteger, Minimum: new(100.0), Maximum: new(999.0)},
			{Type: huma.TypeString, Pattern: "^[1-9][0-9]{2}-[1-9][0-9]{2}$"},
		}}
	}
}
