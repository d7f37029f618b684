package guard

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// Named is a prefix of paths whose next segment is a name.
type Named struct {
	Prefix string // with its slashes: /v1/circuit_breakers/
	Valid  func(string) bool
	Refuse func() *problem.Problem // of a name that is not valid
}

// AgentsUnder is a prefix of paths whose next segment is an agent's name.
func AgentsUnder(prefix string) Named {
	return Named{Prefix: prefix, Valid: breaker.ValidName, Refuse: func() *problem.Problem {
		return problem.New(problem.InvalidAgentName, "%v", breaker.ErrBadName)
	}}
}

// Paths refuses a path with an invalid name, and a path that [http.ServeMux] would clean: its redirect loses the
// body. It looks at the path as it was sent, in which a name with an escaped slash is still one segment.
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

// escapedSlash is written for a slash within a segment. No name and no path of ours has this byte.
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

// check checks what follows the prefix: a name, or a name and a verb. If there are more slashes, the name is not valid.
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
