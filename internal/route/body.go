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

	"github.com/breakerd/breakerd/internal/jsondoc"
	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/text"
)

const (
	maxBody  = 1 << 20 // bytes
	maxDepth = 16      // levels; the deepest body of ours has four
	maxOwn   = 32      // of a body that holds values of the caller's own
)

// readBody reads a request's body; nil: there is none.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, *problem.Problem) {
	var body []byte
	var err error
	if n := r.ContentLength; n >= 0 && n <= maxBody {
		body = make([]byte, n)
		_, err = io.ReadFull(r.Body, body)
	} else {
		body, err = io.ReadAll(http.MaxBytesReader(unwrapped(w), r.Body, maxBody))
	}
	if err != nil {
		if _, large := errors.AsType[*http.MaxBytesError](err); large {
			return nil, problem.New(problem.BodyTooLarge, "the body is larger than %d bytes", maxBody)
		}
		return nil, problem.New(problem.InvalidJSON, "the body ended before its end")
	}
	if len(body) == 0 {
		return nil, nil
	}
	if !isJSON(r.Header.Get("Content-Type")) {
		return nil, problem.New(problem.UnsupportedMediaType, "want Content-Type: application/json").With("Accept", "application/json")
	}
	return body, nil
}

// decode reads a body into v, exactly as the operation's document has it.
func (o *Operation) decode(body []byte, limits limits, v any) *problem.Problem {
	raw, isRaw := v.(*json.RawMessage)
	switch {
	case body == nil && o.Body == RequiredBody:
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
		bad = append(bad, fieldError(err))
	case jsontext.Value(body).Kind() == jsontext.KindNull:
		bad = append(bad, problem.FieldError{Location: "body", Message: "want an object"})
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

// fieldError names the value that could not be decoded.
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
		f.Message, f.Value = "want "+kindOf(bad.GoType), text.Short(string(bad.JSONValue))
	}
	return f
}

// kindOf says in words what JSON a type takes.
func kindOf(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return jsondoc.Text.String()
	case reflect.Bool:
		return jsondoc.Boolean.String()
	case reflect.Slice:
		return jsondoc.Array.String()
	case reflect.Struct, reflect.Map:
		return jsondoc.Object.String()
	}
	return jsondoc.Number.String()
}

// MaxErrors bounds how much a hopeless body can make us say.
const MaxErrors = 20

func isJSON(contentType string) bool {
	if contentType == "application/json" { // as nearly everybody says
		return true
	}
	kind, _, err := mime.ParseMediaType(contentType)
	return err == nil && (kind == "application/json" || strings.HasSuffix(kind, "+json"))
}

// unwrapped is net/http's own writer, which MaxBytesReader has close the connection.
func unwrapped(w http.ResponseWriter) http.ResponseWriter {
	for {
		u, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return w
		}
		w = u.Unwrap()
	}
}

// checkJSON refuses what is no JSON, names given twice, in whatever case unless free, deep nesting, and numbers that no float64 holds.
func checkJSON(body []byte, free bool) *problem.Problem {
	o := jsondoc.Options{Root: "body", Depth: maxDepth, Names: jsondoc.Folded}
	if free {
		o.Depth, o.Names = maxOwn, jsondoc.Exact
	}
	doc, _ := jsondoc.Parse(body, o)
	if bad, is := errors.AsType[*jsondoc.Faults](doc.Err()); is {
		return problem.New(problem.InvalidJSON, "the body cannot be read: %s", text.Clip(bad.Faults[0].String(), MaxMessage))
	}
	for v := range doc.Root().Leaves() {
		if v.Kind() != jsondoc.Number {
			continue
		}
		if _, err := strconv.ParseFloat(v.Raw(), 64); err != nil {
			return problem.BadValue(v.Path(), v.Raw(), "a number of usual size")
		}
	}
	return nil
}

// MaxMessage is for words of ours that quote some foreign text, in characters.
const MaxMessage = 500

// Invalid is the problem of a body with these faults; what names it.
func Invalid(what string, bad *jsondoc.Faults) *problem.Problem {
	p := problem.New(problem.InvalidValue, "the %s is not valid: %d faults", what, len(bad.Faults)+bad.More)
	for _, f := range bad.Faults {
		p.Errors = append(p.Errors, problem.FieldError{Location: BodyPath(f.Path), Message: text.Clip(f.Message, MaxMessage)})
	}
	return p
}

// BodyPath is where a value stands in a body: steps.a becomes body.steps.a.
func BodyPath(path string) string {
	if path == "" {
		return "body"
	}
	if path[0] != '[' {
		path = "." + path
	}
	return "body" + text.Clip(path, MaxMessage)
}
