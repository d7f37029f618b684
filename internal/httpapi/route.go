package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strconv"

	"github.com/danielgtaylor/huma/v2"
)

// endpoint describes one operation, for the mux and for the document alike.
type endpoint struct {
	method, path, id, summary, tag string
	params                         []*huma.Param
	status                         int // of success; 0: 200
	body                           bodyRule
	codes                          []code       // what may go wrong besides what everything shares
	in, out                        *huma.Schema // nil: as the Go types say
	contentType                    string       // of the answer; "": application/json
}

// bodyRule says whether an operation takes a body.
type bodyRule int

const (
	noBody bodyRule = iota // what is sent is not read
	optionalBody
	requiredBody
)

// none is the body of what takes or gives none.
type none struct{}

// request is what an operation is given.
type request struct {
	*http.Request
	agent string // valid; "" where the path has none
	api   *api
}

func (r *request) ctx() context.Context { return r.Context() }

// answer is what it gives: a status ("" body for 204), headers, and the body.
type answer[O any] struct {
	status int // 0: the endpoint's
	etag   string
	body   O
}

// serve documents an operation and puts it on the mux: In is its body, Out its answer. In may be json.RawMessage, for an
// operation that reads its body itself.
func serve[In, Out any](a *api, e endpoint, fn func(*request, In) (answer[Out], error)) {
	if e.status == 0 {
		e.status = http.StatusOK
	}
	schema := a.doc.add(e, reflect.TypeFor[In](), reflect.TypeFor[Out]())
	a.mux.HandleFunc(e.method+" "+e.path, func(w http.ResponseWriter, r *http.Request) {
		var in In
		if e.body != noBody {
			text, p := readBody(w, r)
			if p == nil {
				p = a.doc.decode(e, schema, text, &in)
			}
			if p != nil {
				p.write(w)
				return
			}
		}
		out, err := fn(&request{Request: r, agent: r.PathValue("agent"), api: a}, in)
		if err != nil {
			a.fail(w, r, err)
			return
		}
		if out.etag != "" {
			w.Header().Set("ETag", out.etag)
		}
		if out.status == 0 {
			out.status = e.status
		}
		if out.status == http.StatusNoContent {
			w.WriteHeader(out.status)
			return
		}
		writeJSON(w, out.status, "application/json", out.body)
	})
}

// serveRaw documents and mounts a handler that writes its answer itself.
func (a *api) serveRaw(e endpoint, h http.Handler) {
	if e.status == 0 {
		e.status = http.StatusOK
	}
	a.doc.add(e, reflect.TypeFor[none](), reflect.TypeFor[none]())
	a.mux.Handle(e.method+" "+e.path, h)
}

// document is the OpenAPI document, and the schemas by which bodies are checked.
type document struct {
	api     *huma.OpenAPI
	problem *huma.Schema
}

func newDocument(version string) document {
	d := document{api: &huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info: &huma.Info{
			Title: "breakerd", Version: version,
			Description: "Circuit breakers shared by a whole fleet. Every answer that is not a success is application/problem+json, " +
				"with a stable code.",
		},
		Components: &huma.Components{Schemas: huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)},
	}}
	d.problem = d.schemas().Schema(reflect.TypeFor[problem](), true, "Problem")
	return d
}

func (d document) schemas() huma.Registry { return d.api.Components.Schemas }

// add enters an operation, and gives the schema of its body.
func (d document) add(e endpoint, in, out reflect.Type) *huma.Schema {
	op := &huma.Operation{
		Method: e.method, Path: e.path, OperationID: e.id, Summary: e.summary, Tags: []string{e.tag},
		Parameters: e.params, Responses: d.problems(e),
	}
	if slices.Contains(pathNames(e.path), "agent") {
		op.Parameters = append([]*huma.Param{agentParam("agent", "path", true)}, op.Parameters...)
	}
	if e.in == nil && in != reflect.TypeFor[none]() {
		e.in = d.schemas().Schema(in, true, e.id+"Request")
	}
	if e.body != noBody {
		op.RequestBody = &huma.RequestBody{
			Required: e.body == requiredBody,
			Content:  map[string]*huma.MediaType{"application/json": {Schema: e.in}},
		}
	}
	ok := &huma.Response{Description: http.StatusText(e.status)}
	if e.out == nil && out != reflect.TypeFor[none]() {
		e.out = d.schemas().Schema(out, true, e.id+"Response")
	}
	if e.contentType == "" {
		e.contentType = "application/json"
	}
	if e.out != nil {
		ok.Content = map[string]*huma.MediaType{e.contentType: {Schema: e.out}}
	}
	op.Responses[strconv.Itoa(e.status)] = ok
	d.api.AddOperation(op)
	return e.in
}

// problems documents what may go wrong, by status.
func (d document) problems(e endpoint) map[string]*huma.Response {
	codes := append([]code{codeInternal, codeHostNotAllowed}, e.codes...)
	if slices.Contains(pathNames(e.path), "agent") {
		codes = append(codes, codeInvalidAgentName)
	}
	if e.method != http.MethodGet {
		codes = append(codes, codeCrossOrigin)
	}
	if len(e.params) > 0 || e.body != noBody {
		codes = append(codes, codeInvalidValue)
	}
	if e.body != noBody {
		codes = append(codes, codeInvalidJSON, codeBodyTooLarge, codeUnsupportedMediaType)
	}
	slices.Sort(codes)
	status := statuses()
	out := map[string]*huma.Response{}
	for _, c := range slices.Compact(codes) {
		at := []int{status[c]}
		if c == codeCircuitBreakerOpen {
			at = append(at, http.StatusServiceUnavailable)
		}
		for _, s := range at {
			key := strconv.Itoa(s)
			if out[key] == nil {
				out[key] = &huma.Response{Content: map[string]*huma.MediaType{"application/problem+json": {Schema: d.problem}}}
			} else {
				out[key].Description += ", "
			}
			out[key].Description += string(c)
		}
	}
	return out
}

// decode checks a body against its schema, exactly, and reads it into v.
func (d document) decode(e endpoint, schema *huma.Schema, text []byte, v any) *problem {
	if text == nil {
		if e.body == requiredBody {
			return newProblem(codeBodyRequired, "want a JSON body")
		}
		return nil
	}
	if raw, ok := v.(*json.RawMessage); ok {
		*raw = text
		return nil
	}
	var plain any
	if err := json.Unmarshal(text, &plain); err != nil {
		return newProblem(codeInvalidJSON, "%s", clip(err.Error()))
	}
	path, res := huma.NewPathBuffer(make([]byte, 0, 128), 0), &huma.ValidateResult{}
	path.Push("body")
	huma.Validate(d.schemas(), schema, path, huma.ModeWriteToServer, plain, res)
	p := newProblem(codeInvalidValue, "the body is not what this operation takes")
	for _, err := range res.Errors[:min(len(res.Errors), maxErrors)] {
		p.Errors = append(p.Errors, asFieldError(err))
	}
	d.exactNames(schema, plain, "body", p)
	if len(p.Errors) > 0 {
		return p
	}
	if err := json.Unmarshal(text, v); err != nil {
		return newProblem(codeInvalidValue, "%s", clip(err.Error()))
	}
	return nil
}

// maxErrors bounds how much a hopeless body can make us say.
const maxErrors = 20

// exactNames refuses what huma and encoding/json take for a field in spite of its case.
func (d document) exactNames(s *huma.Schema, v any, at string, p *problem) {
	for s != nil && s.Ref != "" {
		s = d.schemas().SchemaFromRef(s.Ref)
	}
	if s == nil || len(p.Errors) >= maxErrors {
		return
	}
	switch v := v.(type) {
	case []any:
		for i, item := range v {
			d.exactNames(s.Items, item, at+"["+strconv.Itoa(i)+"]", p)
		}
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			field, ok := s.Properties[name]
			if !ok && s.AdditionalProperties == false {
				p.Errors = append(p.Errors, fieldError{Location: at + "." + clip(name), Message: "unknown field"})
			}
			d.exactNames(field, v[name], at+"."+clip(name), p)
		}
	}
}

func asFieldError(err error) fieldError {
	d, ok := err.(huma.ErrorDetailer)
	if !ok {
		return fieldError{Message: clip(err.Error())}
	}
	e := d.ErrorDetail()
	f := fieldError{Location: clip(e.Location), Message: clip(e.Message)}
	switch v := e.Value.(type) {
	case string, float64, bool:
		f.Value = clip(fmt.Sprint(v))
	}
	return f
}
