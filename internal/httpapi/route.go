package httpapi

import (
	"context"
	"io"
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"github.com/breakerd/breakerd/internal/problem"
)

// endpoint describes one operation, for the mux and for the document alike.
type endpoint struct {
	method, path, id, summary, tag string
	params                         []*huma.Param
	status                         int   // of success; 0: 200
	also                           []int // other statuses with the same body
	body                           bodyRule
	codes                          []problem.Code         // what may go wrong besides what everything shares
	refusals                       []int                  // statuses of circuit_breaker_open; nil: 429 and 503
	example                        string                 // of the body, JSON
	headers                        map[string]*huma.Param // of a success
	free                           bool                   // the body holds values of the caller's own, which may nest deeper and name as they like
	in, out                        *huma.Schema           // nil: as the Go types say
	contentType                    string                 // of the answer; "": application/json
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
	w     http.ResponseWriter
}

func (r *request) ctx() context.Context { return r.Context() }

// answer is what it gives: a status ("" body for 204), headers, and the body.
type answer[O any] struct {
	status int // 0: the endpoint's
	etag   string
	header map[string]string // sent as spelt
	body   O
}

// encoded is an answer's body that is JSON already, and is sent as it is.
type encoded []byte

// serve documents an operation and puts it on the mux: In is its body, Out its answer. In may be json.RawMessage, for an
// operation that reads its body itself.
func serve[In, Out any](s *server, e endpoint, fn func(*request, In) (answer[Out], error)) {
	if e.status == 0 {
		e.status = http.StatusOK
	}
	schema := s.doc.add(e, reflect.TypeFor[In](), reflect.TypeFor[Out]())
	s.mux.HandleFunc(e.method+" "+e.path, func(w http.ResponseWriter, r *http.Request) {
		var in In
		if e.body != noBody {
			text, p := readBody(w, r, e.free)
			if p == nil {
				p = s.doc.decode(e, schema, text, &in)
			}
			if p != nil {
				refuse(w, p)
				return
			}
		}
		out, err := fn(&request{Request: r, agent: r.PathValue("agent"), w: w}, in)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		if out.etag != "" {
			w.Header().Set("ETag", out.etag)
		}
		for name, value := range out.header {
			w.Header()[name] = []string{value}
		}
		if out.status == 0 {
			out.status = e.status
		}
		if out.status == http.StatusNoContent {
			w.WriteHeader(out.status)
			return
		}
		writeBody(w, out.status, out.body)
	})
}

// writeBody sends an answer's body. An error means that the client is gone, which nobody needs to hear.
func writeBody(w http.ResponseWriter, status int, body any) {
	text, is := body.(encoded)
	if !is {
		writeJSON(w, status, "application/json", body)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(text)
	_, _ = io.WriteString(w, "\n")
}

// serveRaw documents and mounts a handler that writes its answer itself.
func (s *server) serveRaw(e endpoint, h http.Handler) {
	if e.status == 0 {
		e.status = http.StatusOK
	}
	s.doc.add(e, reflect.TypeFor[none](), reflect.TypeFor[none]())
	s.mux.Handle(e.method+" "+e.path, h)
}
