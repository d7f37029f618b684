// Package route is what the HTTP APIs of breakerd and of the bridge have in common: operations that put themselves on a mux and into
// the OpenAPI document, the strict reading of their bodies, health, the document at /openapi.json and a page that shows it at /docs.
package route

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	jsonv1 "github.com/go-json-experiment/json/v1"

	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/text"
)

// API is the operations of one program. It is an http.Handler after Finish; guards stand before it.
type API struct {
	OpenAPI *huma.OpenAPI

	mux     *http.ServeMux
	problem *huma.Schema
	log     *slog.Logger
}

// New makes an API without operations. about is the document's first sentence; log may be nil.
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

// Operation describes one operation, for the mux and for the document alike.
type Operation struct {
	Method, Path, ID, Summary, Tag string
	Params                         []*huma.Param
	Status                         int   // of success; 0: 200
	Also                           []int // other statuses with the same body
	Body                           BodyRule
	Codes                          []problem.Code         // what may go wrong besides what everything shares
	Refusals                       []int                  // statuses of circuit_breaker_open; nil: 429 and 503
	Example                        string                 // of the body, JSON
	Headers                        map[string]*huma.Param // of a success
	Free                           bool                   // the body holds values of the caller's own, which may nest deeper and name as they like
	In, Out                        *huma.Schema           // nil: as the Go types say
	ContentType                    string                 // of the answer; "": application/json
}

// BodyRule says whether an operation takes a body.
type BodyRule int

// The rules. What is sent to an operation without a body is not read.
const (
	NoBody BodyRule = iota
	OptionalBody
	RequiredBody
)

// None is the body of what takes or gives none.
type None struct{}

// Answer is what an operation gives: a status, an ETag, and the body, which a 204 has not.
type Answer[Out any] struct {
	Status int // 0: the operation's
	ETag   string
	Body   Out
}

// Encoded is an answer's body that is JSON already, and is sent as it is.
type Encoded []byte

// Serve documents an operation and puts it on the mux: In is its body, Out its answer. In may be json.RawMessage, for an operation
// that reads its body itself.
func Serve[In, Out any](a *API, o Operation, fn func(*Request, In) (Answer[Out], error)) {
	a.Describe(&o, reflect.TypeFor[In](), reflect.TypeFor[Out]())
	limits := a.limitsOf(reflect.TypeFor[In](), o.In)
	a.mux.HandleFunc(o.Method+" "+o.Path, func(w http.ResponseWriter, r *http.Request) {
		var in In
		if o.Body != NoBody {
			body, p := readBody(w, r)
			if p == nil {
				p = o.decode(body, limits, &in)
			}
			if p != nil {
				p.Write(w)
				return
			}
		}
		out, err := fn(&Request{Request: r, Agent: r.PathValue("agent"), w: w}, in)
		if err != nil {
			a.Fail(w, r, err)
			return
		}
		if out.ETag != "" {
			w.Header().Set("ETag", out.ETag)
		}
		if out.Status == 0 {
			out.Status = o.Status
		}
		if out.Status == http.StatusNoContent {
			w.WriteHeader(out.Status)
			return
		}
		WriteJSON(w, out.Status, out.Body)
	})
}

// mount documents a handler that writes its answer itself, and puts it on the mux.
func (a *API) mount(o Operation, h http.Handler) {
	a.Describe(&o, reflect.TypeFor[None](), reflect.TypeFor[None]())
	a.mux.Handle(o.Method+" "+o.Path, h)
}

// Finish adds /docs, /openapi.json, and the answer to a request that no operation takes. Call it after all operations.
func (a *API) Finish() error {
	a.mux.HandleFunc("/", a.noRoute)
	a.mountPage()
	var document []byte
	a.mount(Operation{
		Method: http.MethodGet, Path: "/openapi.json", ID: "openapi", Tag: "document", Summary: "This document",
		Out: &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true},
	},
		http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(document)
		}))
	var err error
	if document, err = json.MarshalIndent(a.OpenAPI, "", "  "); err != nil {
		return fmt.Errorf("OpenAPI document: %w", err)
	}
	return nil
}

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.mux.ServeHTTP(w, r) }

// noRoute answers what no operation does: 405 where another method would find one, else 404.
func (a *API) noRoute(w http.ResponseWriter, r *http.Request) {
	var allowed []string
	for _, m := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete} {
		other := *r
		other.Method = m
		if _, pattern := a.mux.Handler(&other); pattern != "/" {
			allowed = append(allowed, m)
		}
	}
	if len(allowed) == 0 {
		problem.New(problem.NotFound, "no such path; /docs and /openapi.json list what there is").Write(w)
		return
	}
	allow := strings.Join(allowed, ", ")
	problem.New(problem.MethodNotAllowed, "this path takes %s", allow).With("Allow", allow).Write(w)
}

// Fail answers with an error's problem, and logs an error that nobody expected.
func (a *API) Fail(w http.ResponseWriter, r *http.Request, err error) {
	p, expected := problem.Of(err)
	if !expected {
		a.log.ErrorContext(r.Context(), "request failed", "event", "http.failed", "method", text.Short(r.Method),
			"path", text.Clip(r.URL.EscapedPath(), MaxMessage), "error", err)
	}
	p.Write(w)
}

// WriteJSON answers with body, which can be marshalled. An error of w means that the client is gone.
func WriteJSON(w http.ResponseWriter, status int, body any) {
	encoded, is := body.(Encoded)
	if !is {
		var err error
		if encoded, err = jsonv2.Marshal(body, jsonv1.DefaultOptionsV1(), jsontext.EscapeForHTML(false)); err != nil { // nosniff keeps it from being HTML
			panic(fmt.Sprintf("%T cannot be marshalled: %v", body, err))
		}
	}
	w.Header()["Content-Type"] = []string{"application/json"}
	w.WriteHeader(status)
	if is {
		_, _ = w.Write(encoded)
		encoded = nil
	}
	_, _ = w.Write(append(encoded, '\n'))
}
