package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	maxBody  = 1 << 20 // bytes
	maxDepth = 16      // the deepest body of ours has four levels
	maxOwn   = 32      // of a body that holds values of the caller's own
)

// readBody reads a request's body: nil when there is none, else one JSON value, checked as a text.
func readBody(w http.ResponseWriter, r *http.Request, free bool) ([]byte, *problem) {
	text, err := io.ReadAll(http.MaxBytesReader(unwrapped(w), r.Body, maxBody))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, newProblem(codeBodyTooLarge, "the body is larger than %d bytes", maxBody)
	case err != nil:
		return nil, newProblem(codeInvalidJSON, "the body ended before its end")
	case len(text) == 0:
		return nil, nil
	}
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" && !strings.HasSuffix(kind, "+json") {
		return nil, newProblem(codeUnsupportedMediaType, "want Content-Type: application/json").with("Accept", "application/json")
	}
	return text, checkJSON(text, free)
}

// unwrapped is net/http's own writer, which MaxBytesReader tells to close the connection.
func unwrapped(w http.ResponseWriter) http.ResponseWriter {
	if r, ok := w.(*response); ok {
		return r.ResponseWriter
	}
	return w
}

// checkJSON refuses what encoding/json lets pass: names given twice, in whatever case unless free, deep nesting, bad UTF-8, numbers
// that no float64 holds.
func checkJSON(text []byte, free bool) *problem {
	if !utf8.Valid(text) {
		return newProblem(codeInvalidJSON, "the body is not UTF-8")
	}
	var whole json.RawMessage // all of it is one value: what trails is an error
	if err := json.Unmarshal(text, &whole); err != nil {
		return newProblem(codeInvalidJSON, "the body is not one JSON value: %s", clip(err.Error()))
	}
	c := jsonCheck{dec: json.NewDecoder(bytes.NewReader(text)), fold: strings.ToLower, most: maxDepth}
	if free {
		c.fold, c.most = strings.Clone, maxOwn
	}
	c.dec.UseNumber()
	return c.value("body", 0)
}

type jsonCheck struct {
	dec  *json.Decoder
	fold func(string) string // names that are the same after it are one
	most int                 // levels
}

// value checks the next value. The text is known to be well-formed.
func (c jsonCheck) value(at string, depth int) *problem {
	if depth > c.most {
		return newProblem(codeInvalidJSON, "the body is nested deeper than %d levels", c.most)
	}
	token, err := c.dec.Token()
	if err != nil {
		return newProblem(codeInvalidJSON, "the body is not one JSON value: %s", clip(err.Error()))
	}
	switch t := token.(type) {
	case json.Number:
		if _, err := strconv.ParseFloat(t.String(), 64); err != nil {
			return badValue(at, t.String(), "a number of usual size")
		}
	case json.Delim:
		if t == '{' {
			return c.object(at, depth)
		}
		for i := 0; c.dec.More(); i++ {
			if p := c.value(at+"["+strconv.Itoa(i)+"]", depth+1); p != nil {
				return p
			}
		}
		_, _ = c.dec.Token()
	}
	return nil
}

func (c jsonCheck) object(at string, depth int) *problem {
	seen := map[string]bool{}
	for c.dec.More() {
		token, err := c.dec.Token()
		if err != nil {
			return newProblem(codeInvalidJSON, "the body is not one JSON value: %s", clip(err.Error()))
		}
		name, _ := token.(string)
		fold := c.fold(name)
		if seen[fold] {
			return newProblem(codeInvalidJSON, "%s.%s is given twice", at, clip(name))
		}
		seen[fold] = true
		if p := c.value(at+"."+clip(name), depth+1); p != nil {
			return p
		}
	}
	_, _ = c.dec.Token()
	return nil
}
