package guard

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// Named is a path whose next segment is the name of something.
type Named struct {
	Prefix string // with its slashes: /v1/circuit_breakers/
	Valid  func(string) bool
	Refuse func() *problem.Problem // of a name that is not valid
}

// AgentsUnder is a path whose next segment is an agent's name.
func AgentsUnder(prefix string) Named {
	return Named{Prefix: prefix, Valid: breaker.ValidName, Refuse: func() *problem.Problem {
		return problem.New(problem.InvalidAgentName, "%v", breaker.ErrBadName)
	}}
}

// Paths refuses, by its text as it was sent, a path that holds a bad name or that a mux would clean: a redirect would lose the body,
// and a name with a slash would become another path.
func Paths(named ...Named) Guard {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if p := checkPath(r.URL.EscapedPath(), named); p != nil {
				p.Write(w)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}

func checkPath(path string, named []Named) *problem.Problem {
	if !strings.HasPrefix(path, "/") {
		return noPath()
	}
	if strings.IndexByte(path, '%') >= 0 {
		var ok bool
		if path, ok = unescape(path); !ok {
			return noPath()
		}
	}
	for _, n := range named {
		if rest, ok := strings.CutPrefix(path, n.Prefix); ok {
			return n.check(rest)
		}
	}
	for rest, more := path[1:], true; more; {
		var segment string
		segment, rest, more = strings.Cut(rest, "/")
		if segment == "" && more || badSegment(segment) {
			return noPath()
		}
	}
	return nil
}

func noPath() *problem.Problem { return problem.New(problem.NotFound, "no such path") }

// escapedSlash stands for a slash within a segment. No name and no path of ours holds it.
const escapedSlash = "\x00"

// unescape decodes each segment.
func unescape(path string) (plain string, ok bool) {
	segments := strings.Split(path, "/")
	for i, segment := range segments {
		s, err := url.PathUnescape(segment)
		if err != nil {
			return "", false
		}
		segments[i] = strings.ReplaceAll(s, "/", escapedSlash)
	}
	return strings.Join(segments, "/"), true
}

func badSegment(s string) bool { return s == "." || s == ".." || strings.Contains(s, escapedSlash) }

// check takes what follows the prefix: a name, or a name and a verb. More slashes are within the name.
func (n Named) check(rest string) *problem.Problem {
	name, verb := rest, ""
	if i := strings.LastIndexByte(rest, '/'); i >= 0 {
		name, verb = rest[:i], rest[i+1:]
	}
	if !n.Valid(name) {
		return n.Refuse()
	}
	if badSegment(verb) {
		return noPath()
	}
	return nil
}
