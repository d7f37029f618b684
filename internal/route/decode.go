package route

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/text"
)

// decode checks a body against its schema, exactly, and reads it into v.
func (a *API) decode(o Operation, schema *huma.Schema, body []byte, v any) *problem.Problem {
	if body == nil {
		if o.Body == RequiredBody {
			return problem.New(problem.BodyRequired, "want a JSON body")
		}
		return nil
	}
	if raw, ok := v.(*json.RawMessage); ok {
		*raw = body
		return nil
	}
	var plain any
	if err := json.Unmarshal(body, &plain); err != nil {
		return problem.New(problem.InvalidJSON, "%s", text.Clip(err.Error(), MaxMessage))
	}
	path, res := huma.NewPathBuffer(make([]byte, 0, 128), 0), &huma.ValidateResult{}
	path.Push("body")
	huma.Validate(a.schemas(), schema, path, huma.ModeWriteToServer, plain, res)
	var bad []problem.FieldError
	for _, err := range res.Errors[:min(len(res.Errors), MaxErrors)] {
		bad = append(bad, asFieldError(err))
	}
	if bad = a.exactNames(schema, plain, "body", bad); len(bad) > 0 {
		p := problem.New(problem.InvalidValue, "the body is not what this operation takes")
		p.Errors = bad
		return p
	}
	if err := json.Unmarshal(body, v); err != nil {
		return problem.New(problem.InvalidValue, "%s", text.Clip(err.Error(), MaxMessage))
	}
	return nil
}

// MaxErrors bounds how much a hopeless body can make us say.
const MaxErrors = 20

// exactNames adds to bad what huma and encoding/json take for a field in spite of its case.
func (a *API) exactNames(s *huma.Schema, v any, at string, bad []problem.FieldError) []problem.FieldError {
	for s != nil && s.Ref != "" {
		s = a.schemas().SchemaFromRef(s.Ref)
	}
	if s == nil || len(bad) >= MaxErrors {
		return bad
	}
	switch v := v.(type) {
	case []any:
		if s.Items == nil {
			return bad
		}
		for i, item := range v {
			bad = a.exactNames(s.Items, item, at+"["+strconv.Itoa(i)+"]", bad)
		}
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			field, ok := s.Properties[name]
			if !ok && s.AdditionalProperties == false {
				bad = append(bad, problem.FieldError{Location: at + "." + text.Short(name), Message: "unknown field"})
			}
			bad = a.exactNames(field, v[name], at+"."+text.Short(name), bad)
		}
	}
	return bad
}

func asFieldError(err error) problem.FieldError {
	d, ok := err.(huma.ErrorDetailer)
	if !ok {
		return problem.FieldError{Message: text.Clip(err.Error(), MaxMessage)}
	}
	e := d.ErrorDetail()
	f := problem.FieldError{Location: text.Clip(e.Location, MaxMessage), Message: text.Clip(e.Message, MaxMessage)}
	switch v := e.Value.(type) {
	case string, float64, bool:
		f.Value = text.Short(fmt.Sprint(v))
	}
	return f
}
