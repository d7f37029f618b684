package gateway

import (
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// Prefix is where the gateway is mounted.
const Prefix = "/agents/"

// split splits a request for /agents/{agent}/rest into the agent's name and the escaped rest: "", or from its slash on.
func split(r *http.Request) (name, rest string, p *problem.Problem) {
	escaped, mine := strings.CutPrefix(r.URL.EscapedPath(), Prefix)
	if i := strings.IndexByte(escaped, '/'); i >= 0 {
		escaped, rest = escaped[:i], escaped[i:]
	}
	name, err := url.PathUnescape(escaped)
	if !mine || err != nil || !breaker.ValidName(name) {
		return "", "", problem.New(problem.InvalidAgentName, "%v", breaker.ErrBadName)
	}
	return name, rest, checkTarget(r.Method, rest)
}

// checkTarget refuses tunnels, and paths that could lead out of the agent's own.
func checkTarget(method, rest string) *problem.Problem {
	switch {
	case method == http.MethodConnect:
		return problem.New(problem.MethodNotAllowed, "no tunnels are made here")
	case !validPath(rest):
		return problem.New(problem.InvalidPath, "the path holds a . or .. segment, or what is no text")
	}
	return nil
}

// validPath refuses the segments . and .., however often they are escaped and with any parameters (..;a=b), and control
// characters: the agent may parse a path less strictly.
func validPath(escaped string) bool {
	for i := range maxEscapes {
		plain, err := url.PathUnescape(escaped)
		if err != nil {
			return i > 0 // a percent sign that was escaped
		}
		if !printable(plain) || dotted(plain) {
			return false
		}
		if plain == escaped {
			return true
		}
		escaped = plain
	}
	return false
}

// maxEscapes bounds how many times a path may be escaped.
const maxEscapes = 4

func printable(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, unicode.IsControl)
}

func dotted(path string) bool {
	for s := range strings.FieldsFuncSeq(path, func(r rune) bool { return r == '/' || r == '\\' }) {
		if name, _, _ := strings.Cut(s, ";"); name == "." || name == ".." {
			return true
		}
	}
	return false
}

// rewrite makes the request to the agent, or to an API: prefix is then "".
func rewrite(r *httputil.ProxyRequest, agent *url.URL, rest, prefix string, v *via) {
	to := join(agent, rest)
	to.RawQuery, to.ForceQuery = r.In.URL.RawQuery, r.In.URL.ForceQuery // as sent, for the agent to parse
	r.Out.URL, r.Out.Host = to, ""
	r.Out.Trailer = r.In.Trailer // the same map: its values arrive after the body
	r.Out.Header.Del("HTTP2-Settings")
	// Another protocol than WebSocket could carry requests that are refused here.
	if !strings.EqualFold(r.Out.Header.Get("Upgrade"), "websocket") {
		r.Out.Header.Del("Upgrade")
		r.Out.Header.Del("Connection")
	}
	forward(r)
	v.add(r.Out.Header)
	if prefix != "" {
		r.Out.Header.Set("X-Forwarded-Prefix", prefix)
	}
}

// mounted is where the caller finds an agent: below the path that a proxy before this one says it adds.
func mounted(r *http.Request, name string) string {
	outer := strings.TrimSuffix(r.Header.Get("X-Forwarded-Prefix"), "/")
	if !strings.HasPrefix(outer, "/") || strings.HasPrefix(outer, "//") || !validPath(outer) ||
		strings.ContainsAny(outer, "?#\\,; ") {
		outer = ""
	}
	return outer + Prefix + name
}

// forward adds this proxy to the headers of a chain of proxies.
func forward(r *httputil.ProxyRequest) {
	r.Out.Header["X-Forwarded-For"] = r.In.Header["X-Forwarded-For"]
	r.SetXForwarded()
	for _, name := range []string{"X-Forwarded-Host", "X-Forwarded-Proto"} {
		if v := r.In.Header.Values(name); len(v) > 0 {
			r.Out.Header[name] = v
		}
	}
	if v := r.In.Header.Values("Forwarded"); len(v) > 0 {
		r.Out.Header["Forwarded"] = v
	}
}

// join appends an escaped path, "" or with its leading slash, to the agent's address. Both were checked.
func join(agent *url.URL, rest string) *url.URL {
	to := *agent
	if rest != "" {
		escaped := strings.TrimSuffix(agent.EscapedPath(), "/") + rest
		to.Path, _ = url.PathUnescape(escaped)
		to.RawPath = escaped
	}
	return &to
}
