package httpapi

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// handler puts the guards before the mux.
func (a *api) handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out := &response{ResponseWriter: w}
		defer a.survive(out, r)
		out.Header().Set("X-Content-Type-Options", "nosniff")
		out.Header().Set("Cache-Control", "no-store")
		if a.LoopbackOnly && !loopbackHost(r.Host) {
			newProblem(codeHostNotAllowed, "this listener answers to loopback names only, such as localhost or 127.0.0.1").write(out)
			return
		}
		if p := checkPath(r.URL.EscapedPath()); p != nil {
			p.write(out)
			return
		}
		if err := a.cross.Check(r); err != nil {
			newProblem(codeCrossOrigin, "a page of another site may not change anything here").write(out)
			return
		}
		a.mux.ServeHTTP(out, r)
	})
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
func (a *api) survive(w *response, r *http.Request) {
	v := recover()
	if v == nil {
		return
	}
	if v == http.ErrAbortHandler { //nolint:errorlint,err113 // net/http compares it so
		panic(v)
	}
	a.logPanic(r, v)
	if w.begun {
		panic(http.ErrAbortHandler)
	}
	newProblem(codeInternal, "unexpected error; the log of this replica says which").write(w)
}

func (a *api) logPanic(r *http.Request, v any) {
	a.Logger.ErrorContext(r.Context(), "panic in a request", "event", "http.panic", "method", clip(r.Method),
		"path", clip(r.URL.EscapedPath()), "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
}

// named are the paths whose next segment is an agent's name.
func named() [][]string {
	return [][]string{{"v1", "circuit_breakers"}, {"v1", "admin", "circuit_breakers"}, {"v1", "admin", "agents"}, {"v1", "gate"}}
}

// checkPath refuses, by its text as it was sent, a path that holds a bad agent name or that a mux would clean.
func checkPath(escaped string) *problem {
	segments := strings.Split(escaped, "/")
	if segments[0] != "" || len(segments) < 2 {
		return newProblem(codeNotFound, "no such path")
	}
	segments = segments[1:]
	for i, s := range segments {
		plain, err := url.PathUnescape(s)
		if err != nil {
			return newProblem(codeNotFound, "no such path")
		}
		segments[i] = plain
	}
	for _, prefix := range named() {
		if len(segments) > len(prefix) && slices.Equal(segments[:len(prefix)], prefix) {
			return checkName(segments[len(prefix):])
		}
	}
	for i, s := range segments {
		if s == "" && i < len(segments)-1 || s == "." || s == ".." || strings.Contains(s, "/") {
			return newProblem(codeNotFound, "no such path")
		}
	}
	return nil
}

// checkName takes what follows such a prefix: a name, or a name and a verb.
func checkName(rest []string) *problem {
	name := rest[0]
	if len(rest) > 2 { // a slash within the name
		name = strings.Join(rest[:len(rest)-1], "/")
	}
	if !breaker.ValidName(name) {
		return newProblem(codeInvalidAgentName, "%v", breaker.ErrBadName)
	}
	if len(rest) == 2 && (rest[1] == "." || rest[1] == ".." || strings.Contains(rest[1], "/")) {
		return newProblem(codeNotFound, "no such path")
	}
	return nil
}

// noRoute answers what no operation does: 405 where another method would find one, else 404.
func (a *api) noRoute(w http.ResponseWriter, r *http.Request) {
	var allowed []string
	for _, m := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete} {
		other := *r
		other.Method = m
		if _, pattern := a.mux.Handler(&other); pattern != "/" {
			allowed = append(allowed, m)
		}
	}
	if len(allowed) == 0 {
		newProblem(codeNotFound, "no such path; /openapi.json lists what there is").write(w)
		return
	}
	newProblem(codeMethodNotAllowed, "this path takes %s", strings.Join(allowed, ", ")).
		with("Allow", strings.Join(allowed, ", ")).write(w)
}
