// Package guard checks requests before the handlers of breakerd and of the bridge. Each guard is a middleware:
// recovery from panics, deadlines, the host, the headers of our own answers, the path as it was sent, and the origin.
package guard

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/text"
)

// Guard is a middleware.
type Guard = func(http.Handler) http.Handler

// Chain puts guards before a handler, the first outermost.
func Chain(h http.Handler, guards ...Guard) http.Handler {
	for _, g := range slices.Backward(guards) {
		h = g(h)
	}
	return h
}

// When is the guard if it is wanted, else one that lets everything pass.
func When(wanted bool, g Guard) Guard {
	if wanted {
		return g
	}
	return func(next http.Handler) http.Handler { return next }
}

// Refuse answers with a problem in place of the handler, with the headers that [Private] sets.
func Refuse(w http.ResponseWriter, p *problem.Problem) {
	h := w.Header()
	h[contentTypeOptions], h[cacheControl] = []string{noSniff}, []string{noStore}
	p.Write(w)
}

// Private sets headers that keep an answer from being stored, and from being taken for another media type.
func Private(next http.Handler) http.Handler {
	sniff, store := []string{noSniff}, []string{noStore} // all answers share them: nobody writes to a header's values
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h[contentTypeOptions], h[cacheControl] = sniff, store
		next.ServeHTTP(w, r)
	})
}

// The headers of Private, in canonical form.
const (
	contentTypeOptions, noSniff = "X-Content-Type-Options", "nosniff"
	cacheControl, noStore       = "Cache-Control", "no-store"
)

// Deadlines bounds how long a request may take to arrive and its answer to be sent, so that a slow client does not
// hold the connection. It is for a handler beside others that have no bounds; for a whole server, [http.Server] has
// time-outs.
func Deadlines(read, write time.Duration) Guard {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c := http.NewResponseController(w) // only a test's writer cannot do this
			_ = c.SetReadDeadline(time.Now().Add(read))
			_ = c.SetWriteDeadline(time.Now().Add(write))
			next.ServeHTTP(w, r)
		})
	}
}

// Loopback refuses a request whose Host is not a loopback name. It keeps out a page of another site whose name
// resolves to 127.0.0.1: to a browser, that page has the same origin as this listener (DNS rebinding).
func Loopback(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !loopbackHost(r.Host) {
			Refuse(w, problem.New(problem.HostNotAllowed,
				"this listener answers to loopback names only, such as localhost or 127.0.0.1"))
			return
		}
		next.ServeHTTP(w, r)
	})
}

func loopbackHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	ip := net.ParseIP(host)
	return ip.IsLoopback() || ip == nil && (host == "" || strings.EqualFold(host, "localhost"))
}

// SameOrigin refuses a request of a page of another site, unless its method is safe.
func SameOrigin(next http.Handler) http.Handler {
	cross := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if cross.Check(r) != nil {
			refuseCrossOrigin(w)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// SameOriginUpgrades is SameOrigin for a handler that accepts WebSockets. A WebSocket begins with a GET, but no
// browser keeps its answer from the page, so it is refused as a change is.
func SameOriginUpgrades(next http.Handler) http.Handler {
	cross := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		judged := r
		if r.Header.Get("Upgrade") != "" {
			judged = new(*r)
			judged.Method = http.MethodPost
		}
		if cross.Check(judged) != nil {
			refuseCrossOrigin(w)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func refuseCrossOrigin(w http.ResponseWriter) {
	Refuse(w, problem.New(problem.CrossOrigin, "a page of another site may not change anything here"))
}

// Recover logs a panic of the handler, and answers 500. If the answer had begun, it closes the connection.
func Recover(log *slog.Logger) Guard {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			out := &response{ResponseWriter: w}
			defer func() {
				v := recover()
				if v == nil {
					return
				}
				if v == http.ErrAbortHandler { //nolint:errorlint,err113 // net/http compares it so
					panic(v)
				}
				LogPanic(log, r, v)
				if out.begun {
					panic(http.ErrAbortHandler)
				}
				Refuse(out, problem.Unexpected())
			}()
			next.ServeHTTP(out, r)
		})
	}
}

// LogPanic logs the value and the stack of a panic. Only a deferred function may call it.
func LogPanic(log *slog.Logger, r *http.Request, v any) {
	log.ErrorContext(r.Context(), "panic in a request", "event", "http.panic", "method", text.Short(r.Method),
		"path", text.Clip(r.URL.EscapedPath(), maxPath), "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
}

// maxPath bounds a path in a log line, in characters.
const maxPath = 500

// response records whether the answer has begun.
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
