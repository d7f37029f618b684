// Package route is what the HTTP APIs of breakerd and of the bridge have in common: operations that put themselves on a
// mux and into the OpenAPI document, the strict reading of bodies, health, /openapi.json and /docs.
package route

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	jsonv1 "github.com/go-json-experiment/json/v1"

	"github.com/breakerd/breakerd/internal/access"
	"github.com/breakerd/breakerd/internal/budget"
	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/text"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// API is the operations of one program. After Finish it is an [http.Handler], which needs the guards of package guard.
type API struct {
	OpenAPI *huma.OpenAPI
	Access  *access.Guard // who may do what; nil: everybody may do everything. It is set before any operation
	Rate    *access.Rate  // of requests, but those of the health routes; nil: no bound

	mux     *http.ServeMux
	problem *huma.Schema
	log     *slog.Logger
	missing []string // operations that state no role
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
		Components: &huma.Components{
			Schemas:         huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer),
			SecuritySchemes: securitySchemes(),
		},
	}}
	a.problem = a.schemas().Schema(reflect.TypeFor[problem.Problem](), true, "Problem")
	return a
}

// Operation describes one operation, for the mux and for the document.
type Operation struct {
	Route            string // method and path, as a pattern of [http.ServeMux]
	ID, Summary, Tag string
	Role             access.Role // that a caller needs
	Ways             access.Ways // for the document: by what a caller may be known, if not by API
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
	Takes            string                 // the content type of a body that is no JSON: see ServeUpload
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
		r := &Request{
			Request: addressed(httpRequest), Agent: httpRequest.PathValue("agent"), Status: o.Status, w: w, params: o.Params,
		}
		if !a.admit(r, &o) {
			return
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
		a.logClaim(r)
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

// addressed is a request whose changes are on record with its address.
func addressed(r *http.Request) *http.Request {
	if r.Method == http.MethodGet {
		return r
	}
	return r.WithContext(breaker.WithAddress(r.Context(), r.RemoteAddr))
}

// ServeStream is Serve for an operation that takes no body and writes its answer itself, for as long as it likes. An
// error of fn is answered; fn returns it before it has written anything. The request's context ends when the caller may
// no longer read.
func ServeStream(a *API, o Operation, fn func(http.ResponseWriter, *Request) error) {
	a.mount(o, func(w http.ResponseWriter, r *Request) {
		ctx, cancel := a.Access.While(r.Context(), r.Who)
		defer cancel()
		r.Request = r.WithContext(ctx)
		if err := fn(w, r); err != nil {
			a.Fail(w, r.Request, err)
		}
	})
}

// ServeUpload is Serve for an operation whose body has the content type o.Takes, and any length that the operation
// itself bounds as it reads. Each part of the body has to arrive within a time.
func ServeUpload[Out any](a *API, o Operation, fn func(r *Request, body io.Reader) (Out, error)) {
	Describe[None, Out](a, &o)
	a.mux.HandleFunc(o.Route, func(w http.ResponseWriter, httpRequest *http.Request) {
		r := &Request{Request: addressed(httpRequest), Status: o.Status, w: w, params: o.Params}
		if !a.admit(r, &o) {
			return
		}
		kind, _, err := mime.ParseMediaType(httpRequest.Header.Get("Content-Type"))
		if err != nil || kind != o.Takes {
			problem.New(problem.UnsupportedMediaType, "want Content-Type: %s", o.Takes).With("Accept", o.Takes).Write(w)
			return
		}
		out, err := fn(r, &arriving{httpRequest.Body, http.NewResponseController(w)})
		if err != nil {
			a.Fail(w, httpRequest, err)
			return
		}
		a.logClaim(r)
		WriteJSON(w, r.Status, out)
	})
}

// arriveWithin is how long the next part of a body may take.
const arriveWithin = 30 * time.Second

// arriving is a body that may take its time, but not stand still.
type arriving struct {
	io.Reader

	c *http.ResponseController
}

func (b *arriving) Read(p []byte) (int, error) {
	_ = b.c.SetReadDeadline(time.Now().Add(arriveWithin)) // only a test's writer has no deadlines
	return b.Reader.Read(p)
}

// mount documents a handler that writes its answer itself, and puts it on the mux.
func (a *API) mount(o Operation, h func(http.ResponseWriter, *Request)) {
	Describe[None, None](a, &o)
	a.mux.HandleFunc(o.Route, func(w http.ResponseWriter, httpRequest *http.Request) {
		if r := (&Request{Request: httpRequest, w: w, params: o.Params}); a.admit(r, &o) {
			h(w, r)
		}
	})
}

// admit finds out who makes a request, and answers it if that may not carry out the operation.
func (a *API) admit(r *Request, o *Operation) bool {
	who, p := a.Access.Admit(r.Request, o.Role, access.API)
	if p != nil {
		p.Write(r.w)
		return false
	}
	r.Who = who
	if o.Tag != healthTag {
		if p := a.Rate.Take(r.Request, who); p != nil {
			p.Write(r.w)
			return false
		}
	}
	if r.Agent == "" {
		return true
	}
	if err := who.CheckAgent(r.Agent); err != nil {
		a.Fail(r.w, r.Request, err)
		return false
	}
	return true
}

// logClaim logs that a known caller has done something in the name of somebody else.
func (a *API) logClaim(r *Request) {
	if r.claim != "" {
		a.log.InfoContext(r.Context(), "done in the name of another", "event", "access.claim", "actor", r.Who.Name,
			"claim", r.claim, "method", r.Method, "path", text.Clip(r.URL.EscapedPath(), MaxMessage))
	}
}

// Finish adds /docs, /openapi.json, and the answer to a request that no operation takes. Call it after all operations.
func (a *API) Finish() error {
	a.mux.HandleFunc("/", a.noRoute)
	a.mountPage()
	var document []byte
	a.mount(Operation{
		Route: "GET /openapi.json", ID: "openapi", Tag: "document", Summary: "This document",
		Role: access.Read, Out: &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true},
	}, func(w http.ResponseWriter, _ *Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(document)
	})
	if len(a.missing) > 0 {
		return fmt.Errorf("these operations state no role: %q", a.missing)
	}
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
