// Package route is what the HTTP APIs of breakerd and of the bridge have in common: operations that put themselves on a
// mux and into the OpenAPI document, the strict reading of bodies, health, /openapi.json and /docs.
package route

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	jsonv1 "github.com/go-json-experiment/json/v1"

	"github.com/breakerd/breakerd/internal/budget"
	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/text"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// API is the operations of one program. After Finish it is an [http.Handler], which needs the guards of package guard.
type API struct {
	OpenAPI *huma.OpenAPI

	mux     *http.ServeMux
	problem *huma.Schema
	log     *slog.Logger
}

// New makes an API without operations. about is the first sentence of its document; log may be nil.
func New(title, version, about string, log *slog.Logger) *API {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	a := &API{mux: http.NewServeMux(), log: log, OpenAPI: &huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info: &huma.Info{
			Title: title, Version: version,
			Description: about + " Every answer that is not a success is application/problem+json, with a stable code.",
		},
		Components: &huma.Components{Schemas: huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)},
	}}
	a.problem = a.schemas().Schema(reflect.TypeFor[problem.Problem](), true, "Problem")
	return a
}

// Operation describes one operation, for the mux and for the document.
type Operation struct {
	Route            string // method and path, as a pattern of [http.ServeMux]
	ID, Summary, Tag string
	Params           []*huma.Param
	Status           int                    // of a success; 0: 200
	Also             []int                  // other statuses with the same body
	Optional         bool                   // the body may be left out
	Free             bool                   // the body holds values of the caller's own: deeper, of any names
	Example          string                 // of the body, JSON
	Codes            []problem.Code         // of problems, besides those that follow from the other fields
	Refusals         []int                  // statuses of circuit_breaker_open; nil: 429 and 503
	Headers          map[string]*huma.Param // of a success
	In, Out          *huma.Schema           // nil: those of the Go types
	ContentType      string                 // of the answer; "": application/json
	Budget           *budget.Budget         // of which the body and its values are taken until it is answered; nil: none

	hasBody bool
}

// None is the body of an operation that takes none, or gives none.
type None struct{}

// Serve documents an operation and puts it on the mux: In is its body, Out its answer's. In is [json.RawMessage] for an
// operation that checks its body itself.
func Serve[In, Out any](a *API, o Operation, fn func(*Request, In) (Out, error)) {
	Describe[In, Out](a, &o)
	limits := a.limitsOf(reflect.TypeFor[In](), o.In)
	a.mux.HandleFunc(o.Route, func(w http.ResponseWriter, httpRequest *http.Request) {
		r := &Request{Request: httpRequest, Agent: httpRequest.PathValue("agent"), Status: o.Status, w: w, params: o.Params}
		if httpRequest.Method != http.MethodGet {
			r.Request = httpRequest.WithContext(breaker.WithAddress(httpRequest.Context(), httpRequest.RemoteAddr))
		}
		defer r.end()
		var in In
		if o.hasBody {
			var memory *budget.Share
			if o.Budget != nil {
				memory = o.Budget.Open()
				r.Finally(memory.Free)
			}
			body, p := readBody(w, httpRequest, memory)
			if p == nil {
				p = o.decode(body, limits, &in)
			}
			if p != nil {
				p.Write(w)
				return
			}
		}
		out, err := fn(r, in)
		if err != nil {
			a.Fail(w, httpRequest, err)
			return
		}
		if r.ETag != "" {
			w.Header().Set("ETag", r.ETag)
		}
		if r.Status == http.StatusNoContent {
			w.WriteHeader(r.Status)
			return
		}
		WriteJSON(w, r.Status, out)
	})
}

// ServeStream is Serve for an operation that takes no body and writes its answer itself, for as long as it likes. An
// error of fn is answered; fn returns it before it has written anything.
func ServeStream(a *API, o Operation, fn func(http.ResponseWriter, *Request) error) {
	a.mount(o, func(w http.ResponseWriter, r *http.Request) {
		if err := fn(w, &Request{Request: r, w: w, params: o.Params}); err != nil {
			a.Fail(w, r, err)
		}
	})
}

// mount documents a handler that writes its answer itself, and puts it on the mux.
func (a *API) mount(o Operation, h http.HandlerFunc) {
	Describe[None, None](a, &o)
	a.mux.Handle(o.Route, h)
}

// Finish adds /docs, /openapi.json, and the answer to a request that no operation takes. Call it after all operations.
func (a *API) Finish() error {
	a.mux.HandleFunc("/", a.noRoute)
	a.mountPage()
	var document []byte
	a.mount(Operation{
		Route: "GET /openapi.json", ID: "openapi", Tag: "document", Summary: "This document",
		Out: &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true},
	}, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(document)
	})
	var err error
	if document, err = json.MarshalIndent(a.OpenAPI, "", "  "); err != nil {
		return fmt.Errorf("OpenAPI document: %w", err)
	}
	return nil
}

// ServeHTTP implements [http.Handler].
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.mux.ServeHTTP(w, r) }

// noRoute answers 405 on a path that has operations with other methods, else 404.
func (a *API) noRoute(w http.ResponseWriter, r *http.Request) {
	methods := []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete}
	allow := strings.Join(slices.DeleteFunc(methods, func(method string) bool {
		other := *r
		other.Method = method
		_, pattern := a.mux.Handler(&other)
		return pattern == "/"
	}), ", ")
	if allow == "" {
		problem.New(problem.NotFound, "no such path; /docs and /openapi.json list what there is").Write(w)
		return
	}
	problem.New(problem.MethodNotAllowed, "this path takes %s", allow).With("Allow", allow).Write(w)
}

// Fail answers with the problem of an error, and logs an error that has none of its own.
func (a *API) Fail(w http.ResponseWriter, r *http.Request, err error) {
	p, expected := problem.Of(err)
	if !expected {
		a.log.ErrorContext(r.Context(), "request failed", "event", "http.failed", "method", text.Short(r.Method),
			"path", text.Clip(r.URL.EscapedPath(), MaxMessage), "error", err)
	}
	p.Write(w)
}

// Encoded is a body that is JSON already.
type Encoded []byte

// WriteJSON answers with a body that can be marshalled, as encoding/json marshals it without escaping HTML: the header
// nosniff keeps it from being HTML. An error of w means that the client is gone.
func WriteJSON(w http.ResponseWriter, status int, body any) {
	if encoded, is := body.(Encoded); is {
		writeJSON(w, status, encoded)
		_, _ = w.Write([]byte("\n"))
		return
	}
	out, err := jsonv2.Marshal(body, jsonv1.DefaultOptionsV1(), jsontext.EscapeForHTML(false))
	if err != nil {
		panic(fmt.Sprintf("%T cannot be marshalled: %v", body, err))
	}
	writeJSON(w, status, append(out, '\n'))
}

func writeJSON(w http.ResponseWriter, status int, body []byte) {
	w.Header()["Content-Type"] = []string{"application/json"}
	w.WriteHeader(status)
	_, _ = w.Write(body)
}
