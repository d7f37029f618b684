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

	"github.com/breakerd/breakerd/internal/policy"
	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/pkg/breaker"
)

func (a *API) schemas() huma.Registry { return a.OpenAPI.Components.Schemas }

// SchemaOf is a reference to the schema of a named Go type.
func (a *API) SchemaOf(v any) *huma.Schema {
	return a.schemas().Schema(reflect.TypeOf(v), true, "")
}

// Properties are the fields of a referenced schema.
func (a *API) Properties(ref *huma.Schema) map[string]*huma.Schema {
	return a.schemas().SchemaFromRef(ref.Ref).Properties
}

// ProblemProperties are the documented fields of a problem.
func (a *API) ProblemProperties() map[string]*huma.Schema { return a.Properties(a.problem) }

// Describe enters an operation into the document, and fills in its defaults. What is on no mux, as the gate,
// is described alone.
func (a *API) Describe(o *Operation, in, out reflect.Type) {
	if o.Status == 0 {
		o.Status = http.StatusOK
	}
	op := &huma.Operation{
		Method: o.Method, Path: o.Path, OperationID: o.ID, Summary: o.Summary, Tags: []string{o.Tag},
		Parameters: o.Params, Responses: a.problems(o),
	}
	for _, name := range slices.Backward(pathNames(o.Path)) {
		op.Parameters = append([]*huma.Param{pathParam(name)}, op.Parameters...)
	}
	if o.In == nil && in != reflect.TypeFor[None]() {
		o.In = a.schemas().Schema(in, true, o.ID+"Request")
	}
	if o.Body != NoBody {
		media := &huma.MediaType{Schema: o.In}
		if o.Example != "" {
			media.Example = json.RawMessage(o.Example)
		}
		op.RequestBody = &huma.RequestBody{
			Required: o.Body == RequiredBody, Content: map[string]*huma.MediaType{"application/json": media},
		}
	}
	ok := huma.Response{Headers: o.Headers}
	if o.Out == nil && out != reflect.TypeFor[None]() {
		o.Out = a.schemas().Schema(out, true, o.ID+"Response")
	}
	if o.ContentType == "" {
		o.ContentType = "application/json"
	}
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

// problems documents what may go wrong, by status.
func (a *API) problems(o *Operation) map[string]*huma.Response {
	codes := append([]problem.Code{problem.Internal, problem.HostNotAllowed}, o.Codes...)
	for _, name := range pathNames(o.Path) {
		codes = append(codes, badPathCodes()[name])
	}
	if o.Method != http.MethodGet {
		codes = append(codes, problem.CrossOrigin)
	}
	if len(o.Params) > 0 || o.Body != NoBody {
		codes = append(codes, problem.InvalidValue)
	}
	if o.Body != NoBody {
		codes = append(codes, problem.InvalidJSON, problem.BodyTooLarge, problem.UnsupportedMediaType)
	}
	slices.Sort(codes)
	if o.Refusals == nil {
		o.Refusals = []int{http.StatusTooManyRequests, http.StatusServiceUnavailable}
	}
	out := map[string]*huma.Response{}
	for _, c := range slices.Compact(codes) {
		at := []int{c.Status()}
		if c == problem.CircuitBreakerOpen {
			at = o.Refusals
		}
		for _, s := range at {
			key := strconv.Itoa(s)
			if out[key] == nil {
				out[key] = &huma.Response{Content: map[string]*huma.MediaType{"application/problem+json": {Schema: a.problem}}}
			} else {
				out[key].Description += ", "
			}
			out[key].Description += string(c)
			if c == problem.CircuitBreakerOpen {
				out[key].Headers = map[string]*huma.Param{
					"x-circuit-breaker-state": HeaderParam("Of a breaker's refusal: OPEN or HALF_OPEN.", false),
					"retry-after":             HeaderParam("Whole seconds.", true),
				}
			}
		}
	}
	return out
}

// NamePattern is breaker.ValidName for the document.
const NamePattern = `^[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}$`

// wordPattern is breaker.ValidWord for the document.
const wordPattern = `^[A-Za-z0-9._:@-]{1,64}$`

// pathNames lists the {names} in a mux pattern.
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
	case "path":
		p.Description, p.Example, p.Schema = "What follows, slashes and all.", "ask", &huma.Schema{Type: huma.TypeString}
	}
	return p
}

// badPathCodes are the problems of a {name} that cannot be one.
func badPathCodes() map[string]problem.Code {
	return map[string]problem.Code{
		"agent": problem.InvalidAgentName, "workflow": problem.InvalidWorkflowID, "execution": problem.InvalidExecutionID, "path": problem.InvalidPath,
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
		Name: "X-Actor", In: "header", Description: "Who does it, for the log; default api.",
		Schema: &huma.Schema{Type: huma.TypeString, Pattern: wordPattern},
	}
}

// HeaderParam documents a header of an answer; always: no answer is without it.
func HeaderParam(about string, always bool) *huma.Param {
	return &huma.Param{Description: about, Required: always, Schema: &huma.Schema{Type: huma.TypeString}}
}

// QueryParam documents a parameter of the query.
func QueryParam(name, about string, s *huma.Schema) *huma.Param {
	return &huma.Param{Name: name, In: "query", Description: about, Schema: s}
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
