package route

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"reflect"
	"strconv"
	"strings"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/breakerd/breakerd/internal/budget"
	"github.com/breakerd/breakerd/internal/jsondoc"
	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/text"
)

const (
	maxBody   = 1 << 20  // bytes
	maxAtOnce = 64 << 10 // bytes of a body that are allocated before they arrive
	maxDepth  = 16       // levels; the deepest body of ours has four
	maxFree   = 32       // levels of a body that holds values of the caller's own
	maxFaults = 20       // values that a problem names
)

// MaxMessage bounds a message of ours that quotes text from outside, in characters.
const MaxMessage = 500

// readBody reads a request's body; nil: there is none. What it and its values hold is taken from memory, as it arrives:
// a length that is only announced takes nothing.
func readBody(w http.ResponseWriter, r *http.Request, memory *budget.Share) (body []byte, p *problem.Problem) {
	var err error
	if n := r.ContentLength; n >= 0 && n <= maxAtOnce && memory == nil {
		body = make([]byte, n)
		_, err = io.ReadFull(r.Body, body)
	} else {
		body, err = memory.ReadAll(http.MaxBytesReader(unwrapped(w), r.Body, maxBody))
	}
	if err == nil {
		err = memory.Take(decodedSize(body))
	}
	_, tooLarge := errors.AsType[*http.MaxBytesError](err)
	switch {
	case errors.Is(err, budget.ErrExhausted):
		return nil, problem.NoMemory("workflows hold as much memory as they may; nothing was done")
	case tooLarge:
		return nil, problem.New(problem.BodyTooLarge, "the body is larger than %d bytes", maxBody)
	case err != nil:
		return nil, problem.New(problem.InvalidJSON, "the body ended before its end")
	case len(body) == 0:
		return nil, nil
	case !isJSON(r.Header.Get("Content-Type")):
		return nil, problem.New(problem.UnsupportedMediaType, "want Content-Type: application/json").
			With("Accept", "application/json")
	}
	return body, nil
}

// decodedSize is how many bytes a JSON text takes at most once it is decoded into maps and slices, and while it is
// checked and written again. An empty map has 48 bytes, one of up to eight fields 300; a number or a text has 40 beside
// its own; each is in an interface of 16.
func decodedSize(text []byte) int {
	size := 4 * len(text)
	for _, b := range text {
		switch b {
		case '{':
			size += 400
		case '[', ',', ':':
			size += 64
		}
	}
	return size
}

// decode reads a body into v, and refuses what the operation's document does not allow.
func (o *Operation) decode(body []byte, limits limits, v any) *problem.Problem {
	raw, isRaw := v.(*json.RawMessage)
	switch {
	case body == nil && !o.Optional:
		return problem.New(problem.BodyRequired, "want a JSON body")
	case body == nil:
		return nil
	case isRaw:
		*raw = body
		return checkJSON(body, o.Free)
	case o.Free:
		if p := checkJSON(body, true); p != nil {
			return p
		}
	}
	var bad []problem.FieldError
	err := jsonv2.Unmarshal(body, v, jsonv2.RejectUnknownMembers(true))
	switch {
	case err != nil:
		if p := checkJSON(body, o.Free); p != nil {
			return p
		}
		bad = []problem.FieldError{fieldError(err)}
	case jsontext.Value(body).Kind() == jsontext.KindNull:
		bad = []problem.FieldError{{Location: "body", Message: "want " + jsondoc.Object.String()}}
	default:
		bad = limits.check(reflect.ValueOf(v).Elem(), place{"body", -1}, nil)
	}
	if len(bad) == 0 {
		return nil
	}
	p := problem.New(problem.InvalidValue, "the body is not what this operation takes")
	p.Errors = bad
	return p
}

// fieldError names the value that has the wrong type, or the unknown field.
func fieldError(err error) problem.FieldError {
	bad, ok := errors.AsType[*jsonv2.SemanticError](err)
	if !ok {
		return problem.FieldError{Location: "body", Message: text.Clip(err.Error(), MaxMessage)}
	}
	path := ""
	for token := range bad.JSONPointer.Tokens() {
		if n, err := strconv.Atoi(token); err == nil {
			path = jsondoc.Item(path, n)
		} else {
			path = jsondoc.Field(path, token)
		}
	}
	f := problem.FieldError{Location: BodyPath(path), Message: "unknown field"}
	if !errors.Is(bad.Err, jsonv2.ErrUnknownName) {
		f.Message, f.Value = "want "+kindOf(bad.GoType).String(), text.Short(string(bad.JSONValue))
	}
	return f
}

// kindOf is the JSON that a Go type takes.
func kindOf(t reflect.Type) jsondoc.Kind {
	switch t.Kind() {
	case reflect.String:
		return jsondoc.Text
	case reflect.Bool:
		return jsondoc.Boolean
	case reflect.Slice:
		return jsondoc.Array
	case reflect.Struct, reflect.Map:
		return jsondoc.Object
	}
	return jsondoc.Number
}

func isJSON(contentType string) bool {
	if contentType == "application/json" { // as nearly everybody says
		return true
	}
	kind, _, err := mime.ParseMediaType(contentType)
	return err == nil && (kind == "application/json" || strings.HasSuffix(kind, "+json"))
}

// unwrapped is the writer of net/http, whose connection http.MaxBytesReader has closed.
func unwrapped(w http.ResponseWriter) http.ResponseWriter {
	for {
		u, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return w
		}
		w = u.Unwrap()
	}
}

// checkJSON refuses a body that is no JSON, is nested too deeply, has a name twice or a number that no float64 holds.
// Unless the body is free, names are the same in either case.
func checkJSON(body []byte, free bool) *problem.Problem {
	o := jsondoc.Options{Root: "body", Depth: maxDepth, Names: jsondoc.Folded}
	if free {
		o.Depth, o.Names = maxFree, jsondoc.Exact
	}
	doc, _ := jsondoc.Parse(body, o)
	if bad, is := errors.AsType[*jsondoc.Faults](doc.Err()); is {
		fault := text.Clip(bad.Faults[0].String(), MaxMessage)
		return problem.New(problem.InvalidJSON, "the body cannot be read: %s", fault)
	}
	for v := range doc.Root().Leaves() {
		if v.Kind() != jsondoc.Number {
			continue
		}
		if _, err := strconv.ParseFloat(v.Raw(), 64); err != nil {
			return problem.BadValue(v.Path(), v.Raw(), "a number that a float64 holds")
		}
	}
	return nil
}

// Invalid is the problem of a body with faults. what names the body.
func Invalid(what string, bad *jsondoc.Faults) *problem.Problem {
	p := problem.New(problem.InvalidValue, "the %s is not valid: %d faults", what, len(bad.Faults)+bad.More)
	for _, f := range bad.Faults {
		message := text.Clip(f.Message, MaxMessage)
		p.Errors = append(p.Errors, problem.FieldError{Location: BodyPath(f.Path), Message: message})
	}
	return p
}

// BodyPath is the location of a path in the body: steps.a becomes body.steps.a.
func BodyPath(path string) string {
	if path == "" {
		return "body"
	}
	if path[0] != '[' {
		path = "." + path
	}
	return "body" + text.Clip(path, MaxMessage)
}
