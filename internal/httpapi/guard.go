package httpapi

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/text"
)

// handler puts the guards before the mux.
func (s *server) handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out := &response{ResponseWriter: w}
		defer s.survive(out, r)
		path := r.URL.EscapedPath()
		if !s.ofGateway(path) {
			s.bound(out)
		}
		switch {
		case s.loopbackOnly && !loopbackHost(r.Host):
			refuse(out, problem.New(problem.HostNotAllowed, "this listener answers to loopback names only, such as localhost or 127.0.0.1"))
		case s.ofGateway(path):
			s.serveGateway(out, r)
		case s.gate != nil && strings.HasPrefix(path, gatePath):
			s.gate.ServeHTTP(out, r)
		default:
			s.serveOwn(out, r, path)
		}
	})
}

func (s *server) serveOwn(w http.ResponseWriter, r *http.Request, path string) {
	private(w)
	if p := s.checkPath(path); p != nil {
		refuse(w, p)
		return
	}
	if !s.refuseCrossOrigin(w, r) {
		s.mux.ServeHTTP(w, r)
	}
}

// bound keeps a client that sends or reads slowly from holding the connection for long; the gateway's may take as long as they like.
// Where the time-outs of the http.Server do that, it has nothing to do.
func (s *server) bound(w http.ResponseWriter) {
	if s.readIn == 0 {
		return
	}
	c := http.NewResponseController(w) // a writer without deadlines is a test's
	_ = c.SetReadDeadline(time.Now().Add(s.readIn))
	_ = c.SetWriteDeadline(time.Now().Add(s.writeIn))
}

// refuseCrossOrigin answers a page of another site that would change something.
func (s *server) refuseCrossOrigin(w http.ResponseWriter, r *http.Request) bool {
	if s.cross.Check(r) == nil {
		return false
	}
	refuse(w, problem.New(problem.CrossOrigin, "a page of another site may not change anything here"))
	return true
}

// loopbackHost says whether a Host header names this machine to itself. A page of another site that has its own name resolve to
// 127.0.0.1 is not told apart by its origin, but by this.
func loopbackHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	ip := net.ParseIP(host)
	return ip.IsLoopback() || ip == nil && (host == "" || strings.EqualFold(host, "localhost"))
}

// response remembers whether the answer has begun.
type response struct {
	http.ResponseWriter
	begun bool
}

func (w *response) WriteHeader(status int) {
	w.begun = true
	w.ResponseWriter.WriteHeader(status)
}

func (w *response) Write(b []byte) (int, error) {
	w.begun = true
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// survive turns a panic of a handler into a 500, or into a cut connection if the answer had begun.
func (s *server) survive(w *response, r *http.Request) {
	v := recover()
	if v == nil {
		return
	}
	if v == http.ErrAbortHandler { //nolint:errorlint,err113 // net/http compares it so
		panic(v)
	}
	s.logPanic(r, v)
	if w.begun {
		panic(http.ErrAbortHandler)
	}
	refuse(w, problem.Unexpected())
}

func (s *server) logPanic(r *http.Request, v any) {
	s.logger.ErrorContext(r.Context(), "panic in a request", "event", "http.panic", "method", text.Short(r.Method),
		"path", text.Clip(r.URL.EscapedPath(), maxMessage), "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
}

// checkPath refuses, by its text as it was sent, a path that holds a bad name or that a mux would clean.
func (s *server) checkPath(escaped string) *problem.Problem {
	segments := strings.Split(escaped, "/")
	if segments[0] != "" || len(segments) < 2 {
		return problem.New(problem.NotFound, "no such path")
	}
	segments = segments[1:]
	for i, segment := range segments {
		if !strings.Contains(segment, "%") {
			continue
		}
		plain, err := url.PathUnescape(segment)
		if err != nil {
			return problem.New(problem.NotFound, "no such path")
		}
		segments[i] = plain
	}
	for _, n := range s.named {
		if at := len(n.prefix); len(segments) > at && slices.Equal(segments[:at], n.prefix) {
			return n.check(segments[at:])
		}
	}
	for i, segment := range segments {
		if segment == "" && i < len(segments)-1 || segment == "." || segment == ".." || strings.Contains(segment, "/") {
			return problem.New(problem.NotFound, "no such path")
		}
	}
	return nil
}

// check takes what follows the prefix: a name, or a name and a verb.
func (n named) check(rest []string) *problem.Problem {
	name := rest[0]
	if len(rest) > 2 { // a slash within the name
		name = strings.Join(rest[:len(rest)-1], "/")
	}
	if !n.valid(name) {
		return n.refuse()
	}
	if len(rest) == 2 && (rest[1] == "." || rest[1] == ".." || strings.Contains(rest[1], "/")) {
		return problem.New(problem.NotFound, "no such path")
	}
	return nil
}

// noRoute answers what no operation does: 405 where another method would find one, else 404.
func (s *server) noRoute(w http.ResponseWriter, r *http.Request) {
	var allowed []string
	for _, m := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete} {
		other := *r
		other.Method = m
		if _, pattern := s.mux.Handler(&other); pattern != "/" {
			allowed = append(allowed, m)
		}
	}
	if len(allowed) == 0 {
		refuse(w, problem.New(problem.NotFound, "no such path; /docs and /openapi.json list what there is"))
		return
	}
	allow := strings.Join(allowed, ", ")
	refuse(w, problem.New(problem.MethodNotAllowed, "this path takes %s", allow).With("Allow", allow))
}
