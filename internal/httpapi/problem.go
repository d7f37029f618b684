package httpapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/breakerd/breakerd/internal/jsondoc"
	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/text"
)

// fail answers with an error's problem.
func (s *server) fail(w http.ResponseWriter, r *http.Request, err error) {
	p, expected := problem.Of(err)
	if !expected {
		s.logger.ErrorContext(r.Context(), "request failed", "event", "http.failed", "method", text.Short(r.Method),
			"path", text.Clip(r.URL.EscapedPath(), maxMessage), "error", err)
	}
	refuse(w, p)
}

// refuse answers with a problem outside of the routes too, where private was not called yet.
func refuse(w http.ResponseWriter, p *problem.Problem) {
	private(w)
	p.Write(w)
}

// private keeps an answer of ours from being guessed at or kept.
func private(w http.ResponseWriter) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
}

// writeJSON sends v; it can be marshalled. An error means that the client is gone, which nobody needs to hear.
func writeJSON(w http.ResponseWriter, status int, contentType string, v any) {
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false) // read by people; nosniff keeps it from being HTML
	if err := enc.Encode(v); err != nil {
		panic(fmt.Sprintf("httpapi: %T cannot be marshalled: %v", v, err))
	}
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	_, _ = body.WriteTo(w)
}

// maxMessage is for words of ours that quote some foreign text, in characters.
const maxMessage = 500

// withFaults is p, with what is wrong with the body.
func withFaults(p *problem.Problem, bad *jsondoc.Faults) *problem.Problem {
	for _, f := range bad.Faults {
		p.Errors = append(p.Errors, problem.FieldError{Location: bodyPath(f.Path), Message: text.Clip(f.Message, maxMessage)})
	}
	return p
}

// bodyPath is where a value stands in a body: steps.a becomes body.steps.a.
func bodyPath(path string) string {
	if path == "" {
		return "body"
	}
	if path[0] != '[' {
		path = "." + path
	}
	return "body" + text.Clip(path, maxMessage)
}
