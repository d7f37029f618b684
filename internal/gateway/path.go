package gateway

import (
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// Prefix is where the gateway is mounted.
const Prefix = "/agents/"

// split takes /agents/{agent}/rest apart: the name, and what follows it, as it was sent: "" or from its slash on.
func split(u *url.URL) (name, rest string, p *problem) {
	escaped, mine := strings.CutPrefix(u.EscapedPath(), Prefix)
	if i := strings.IndexByte(escaped, '/'); i >= 0 {
		escaped, rest = escaped[:i], escaped[i:]
	}
	name, err := url.PathUnescape(escaped)
	if !mine || err != nil || !breaker.ValidName(name) {
		return "", "", newProblem(codeInvalidAgentName, "%v", breaker.ErrBadName)
	}
	if !validPath(rest) {
		return name, "", newProblem(codeInvalidPath, "the path behind the agent's name holds a . or .. segment, or what is no text")
	}
	return name, rest, nil
}

// validPath refuses what could lead out of the agent's own path, however it is escaped, and what is not printable.
func validPath(escaped string) bool {
	plain, err := url.PathUnescape(escaped)
	if err != nil || !utf8.ValidString(plain) || strings.ContainsFunc(plain, unicode.IsControl) {
		return false
	}
	segments := strings.FieldsFunc(plain, func(r rune) bool { return r == '/' || r == '\\' })
	return !slices.Contains(segments, ".") && !slices.Contains(segments, "..")
}

// rewrite turns a request to the gateway into one to the agent.
func rewrite(r *httputil.ProxyRequest, agent *url.URL, rest string) {
	to := join(agent, rest)
	to.RawQuery, to.ForceQuery = r.In.URL.RawQuery, r.In.URL.ForceQuery // as it was sent: the agent judges it
	r.Out.URL, r.Out.Host = to, ""
	r.Out.Header["X-Forwarded-For"] = r.In.Header["X-Forwarded-For"] // goes on with the chain
	r.SetXForwarded()
}

// join puts an escaped path, "" or with its leading slash, behind the agent's own. Both were checked.
func join(agent *url.URL, rest string) *url.URL {
	to := *agent
	if rest != "" {
		escaped := strings.TrimSuffix(agent.EscapedPath(), "/") + rest
		to.Path, _ = url.PathUnescape(escaped)
		to.RawPath = escaped
	}
	return &to
}
