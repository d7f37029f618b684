package route

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/breakerd/breakerd/internal/jsondoc"
	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/text"
)

const (
	maxBody  = 1 << 20 // bytes
	maxDepth = 16      // levels; the deepest body of ours has four
	maxOwn   = 32      // of a body that holds values of the caller's own
)

// readBody reads a request's body: nil when there is none, else one JSON value, checked as a text.
func readBody(w http.ResponseWriter, r *http.Request, free bool) ([]byte, *problem.Problem) {
	text, err := io.ReadAll(http.MaxBytesReader(unwrapped(w), r.Body, maxBody))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, problem.New(problem.BodyTooLarge, "the body is larger than %d bytes", maxBody)
	case err != nil:
		return nil, problem.New(problem.InvalidJSON, "the body ended before its end")
	case len(text) == 0:
		return nil, nil
	}
	if !isJSON(r.Header.Get("Content-Type")) {
		return nil, problem.New(problem.UnsupportedMediaType, "want Content-Type: application/json").With("Accept", "application/json")
	}
	return text, checkJSON(text, free)
}

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

// checkJSON refuses what encoding/json lets pass: names given twice, in whatever case unless free, deep nesting, bad UTF-8, numbers
// that no float64 holds.
func checkJSON(body []byte, free bool) *problem.Problem {
	o := jsondoc.Options{Root: "body", Depth: maxDepth, Names: jsondoc.Folded}
	if free {
		o.Depth, o.Names = maxOwn, jsondoc.Exact
	}
	doc, _ := jsondoc.Parse(body, o)
	if bad, is := errors.AsType[*jsondoc.Faults](doc.Err()); is {
		return problem.New(problem.InvalidJSON, "the body cannot be read: %s", text.Clip(bad.Faults[0].String(), MaxMessage))
	}
	for v := range doc.Root().All() {
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
