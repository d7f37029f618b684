package httpapi

import (
	"encoding/json"
	"net/http"
	"reflect"
	"slices"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/breakerd/breakerd/internal/problem"
)

// document is the OpenAPI document, and the schemas by which bodies are checked.
type document struct {
	api     *huma.OpenAPI
	problem *huma.Schema
}

func newDocument(title, version, about string) document {
	d := document{api: &huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info: &huma.Info{
			Title: title, Version: version,
			Description: about + " Every answer that is not a success is application/problem+json, with a stable code.",
		},
		Components: &huma.Components{Schemas: huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)},
	}}
	d.problem = d.schemas().Schema(reflect.TypeFor[problem.Problem](), true, "Problem")
	return d
}

func (d document) schemas() huma.Registry { return d.api.Components.Schemas }

// schemaOf is a reference to the schema of a named Go type.
func (d document) schemaOf(v any) *huma.Schema {
	return d.schemas().Schema(reflect.TypeOf(v), true, "")
}

// showExecution documents the fields that a problem of a workflow's execution has besides.
func (d document) showExecution(x *huma.Schema) {
	fields := d.schemas().SchemaFromRef(d.problem.Ref).Properties
	fields["step"] = &huma.Schema{Type: huma.TypeString, Description: "Of a workflow: the step that stopped it."}
	fields["cause"] = &huma.Schema{Type: huma.TypeString, Description: "Of a workflow: why, in a word."}
	fields["execution"] = x
}

// add enters an operation, and gives the schema of its body.
func (d document) add(e endpoint, in, out reflect.Type) *huma.Schema {
	op := &huma.Operation{
		Method: e.method, Path: e.path, OperationID: e.id, Summary: e.summary, Tags: []string{e.tag},
		Parameters: e.params, Responses: d.problems(e),
	}
	for _, name := range slices.Backward(pathNames(e.path)) {
		op.Parameters = append([]*huma.Param{pathParam(name)}, op.Parameters...)
	}
	if e.in == nil && in != reflect.TypeFor[none]() {
		e.in = d.schemas().Schema(in, true, e.id+"Request")
	}
	if e.body != noBody {
		media := &huma.MediaType{Schema: e.in}
		if e.example != "" {
			media.Example = json.RawMessage(e.example)
		}
		op.RequestBody = &huma.RequestBody{
			Required: e.body == requiredBody, Content: map[string]*huma.MediaType{"application/json": media},
		}
	}
	ok := huma.Response{Headers: e.headers}
	if e.out == nil && out != reflect.TypeFor[none]() {
		e.out = d.schemas().Schema(out, true, e.id+"Response")
	}
	if e.contentType == "" {
		e.contentType = "application/json"
	}
	if e.out != nil {
		ok.Content = map[string]*huma.MediaType{e.contentType: {Schema: e.out}}
	}
	for _, status := range append([]int{e.status}, e.also...) {
		ok.Description = http.StatusText(status)
		op.Responses[strconv.Itoa(status)] = new(ok)
	}
	if !slices.ContainsFunc(d.api.Tags, func(t *huma.Tag) bool { return t.Name == e.tag }) {
		d.api.Tags = append(d.api.Tags, &huma.Tag{Name: e.tag})
	}
	d.api.AddOperation(op)
	return e.in
}

// problems documents what may go wrong, by status.
func (d document) problems(e endpoint) map[string]*huma.Response {
	codes := append([]problem.Code{problem.Internal, problem.HostNotAllowed}, e.codes...)
	for _, name := range pathNames(e.path) {
		codes = append(codes, badPathCodes()[name])
	}
	if e.method != http.MethodGet {
		codes = append(codes, problem.CrossOrigin)
	}
	if len(e.params) > 0 || e.body != noBody {
		codes = append(codes, problem.InvalidValue)
	}
	if e.body != noBody {
		codes = append(codes, problem.InvalidJSON, problem.BodyTooLarge, problem.UnsupportedMediaType)
	}
	slices.Sort(codes)
	if e.refusals == nil {
		e.refusals = []int{http.StatusTooManyRequests, http.StatusServiceUnavailable}
	}
	out := map[string]*huma.Response{}
	for _, c := range slices.Compact(codes) {
		at := []int{c.Status()}
		if c == problem.CircuitBreakerOpen {
			at = e.refusals
		}
		for _, s := range at {
			key := strconv.Itoa(s)
			if out[key] == nil {
				out[key] = &huma.Response{Content: map[string]*huma.MediaType{"application/problem+json": {Schema: d.problem}}}
			} else {
				out[key].Description += ", "
			}
			out[key].Description += string(c)
			if c == problem.CircuitBreakerOpen {
				out[key].Headers = map[string]*huma.Param{
					"x-circuit-breaker-state": headerParam("Of a breaker's refusal: OPEN or HALF_OPEN.", false),
					"retry-after":             headerParam("Whole seconds.", true),
				}
			}
		}
	}
	return out
}
