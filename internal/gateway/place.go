package gateway

import (
	"cmp"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// place says under which path of this bridge a caller finds what is at url. Addresses in an answer are rewritten by it:
// who follows one comes back to the bridge, and not past the breaker.
type place struct {
	url    *url.URL
	prefix string // /agents/{agent}, below what a proxy before this one adds; "" for the API behind the inbound guard
	front  string // the Host of the caller's request
	whole  bool   // the caller's request was for prefix itself
}

// rewrite changes the header of an answer. base is the request to the agent that it answers.
func (p place) rewrite(h http.Header, base *url.URL) {
	renameHeaders(h)
	delete(h, "Alt-Svc") // another address of the agent is none of ours
	for _, name := range []string{"Location", "Content-Location"} {
		if v, ok := h[name]; ok {
			h[name] = p.each(v, func(s string) (string, bool) { return p.reference(s, base) })
		}
	}
	if v, ok := h["Refresh"]; ok {
		h["Refresh"] = p.each(v, func(s string) (string, bool) { return p.refresh(s, base) })
	}
	if v, ok := h["Set-Cookie"]; ok {
		h["Set-Cookie"] = p.each(v, func(s string) (string, bool) { return p.cookie(s), true })
	}
}

// each rewrites values, and leaves out those of which nothing can be made.
func (p place) each(values []string, rewrite func(string) (string, bool)) []string {
	var out []string
	for _, v := range values {
		if v, ok := rewrite(v); ok {
			out = append(out, v)
		}
	}
	return out
}

// reference rewrites a URI reference of the agent's. One of a foreign host is returned as it is.
func (p place) reference(text string, base *url.URL) (string, bool) {
	ref, err := url.Parse(strings.TrimSpace(text))
	switch {
	case err != nil, ref.Opaque != "" && isWeb(ref.Scheme): // a client may read it in another way
		return "", false
	case ref.Scheme != "" && !isWeb(ref.Scheme), ref.Host != "" && !p.isOwn(ref.Host):
		return text, true
	}
	to := base.ResolveReference(ref)
	onFront := strings.EqualFold(ref.Host, p.front)
	if onFront && strings.HasPrefix(to.EscapedPath(), Prefix) {
		return text, true // of another agent, through its breaker
	}
	path, ok := p.path(to.EscapedPath(), ref.Host == "" || onFront)
	if !ok {
		return text, true
	}
	to = &url.URL{RawQuery: to.RawQuery, ForceQuery: to.ForceQuery, Fragment: to.Fragment, RawFragment: to.RawFragment}
	return path + to.String(), true
}

func isWeb(scheme string) bool {
	switch strings.ToLower(scheme) {
	case "http", "https", "ws", "wss":
		return true
	}
	return false
}

// isOwn reports whether host is the agent's, on any port: its own ports lead past the breaker too. It is also the
// caller's name of this bridge, which the agent knows from Host and X-Forwarded-Host.
func (p place) isOwn(host string) bool {
	name, agent := hostName(host), hostName(p.url.Host)
	return strings.EqualFold(name, agent) || strings.EqualFold(host, p.front) || isLoopback(name) && isLoopback(agent)
}

func hostName(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.TrimSuffix(strings.Trim(host, "[]"), ".")
}

func isLoopback(name string) bool {
	ip, err := netip.ParseAddr(name)
	return err == nil && (ip.Unmap().IsLoopback() || ip.IsUnspecified()) || strings.EqualFold(name, "localhost")
}

// path returns where an escaped path of the agent's is for the caller: below prefix. That holds for a path that is not
// below the agent's url too: a proxy of the agent's may remove what it does not know of. ok is false if the path is
// already below prefix, as from an agent that knows X-Forwarded-Prefix; front: it is on the caller's host.
func (p place) path(path string, front bool) (mapped string, ok bool) {
	if _, there := below(path, p.prefix); front && there && p.prefix != "" {
		return "", false
	}
	if rest, there := below(path, p.url.EscapedPath()); there {
		path = rest
	}
	if p.prefix == "" {
		path = "/" + strings.TrimLeft(path, "/") // "//host" would name a host
	}
	return p.prefix + path, true
}

// below returns the rest of an escaped path below another, "" or from its slash on. The same byte may be escaped in one
// and not in the other.
func below(path, top string) (rest string, ok bool) {
	rest = path
	for segment := range strings.SplitSeq(strings.Trim(top, "/"), "/") {
		if segment == "" {
			continue
		}
		next, more := strings.CutPrefix(rest, "/")
		if !more {
			return "", false
		}
		got, _, _ := strings.Cut(next, "/")
		if got != segment && plain(got) != plain(segment) {
			return "", false
		}
		rest = next[len(got):]
	}
	return rest, true
}

func plain(segment string) string {
	if s, err := url.PathUnescape(segment); err == nil {
		return s
	}
	return segment
}

// refresh rewrites the url in "5; url=/x".
func (p place) refresh(text string, base *url.URL) (string, bool) {
	i := strings.IndexAny(text, ";,")
	if i < 0 {
		return text, true
	}
	name, ref, ok := strings.Cut(text[i+1:], "=")
	if !ok || !strings.EqualFold(strings.TrimSpace(name), "url") {
		return text, true
	}
	to, ok := p.reference(strings.Trim(strings.TrimSpace(ref), `"'`), base)
	return text[:i] + "; url=" + to, ok
}

// cookie rewrites the attributes of a Set-Cookie: Path is below prefix, and a Domain that is the agent's host is left
// out, which leaves the cookie to the host that the caller knows.
func (p place) cookie(text string) string {
	parts := strings.Split(text, ";")
	out, hasPath := parts[:1], false
	for _, part := range parts[1:] {
		name, value, _ := strings.Cut(part, "=")
		switch value = strings.TrimSpace(value); strings.ToLower(strings.TrimSpace(name)) {
		case "domain":
			if p.isOwn(strings.TrimPrefix(value, ".")) {
				continue
			}
		case "path":
			if hasPath = strings.HasPrefix(value, "/"); !hasPath {
				continue // means the same as none
			}
			part = " Path=" + p.cookiePath(value)
		}
		out = append(out, part)
	}
	if !hasPath && p.whole { // by itself it would be that of all agents
		out = append(out, " Path="+p.cookiePath("/"))
	}
	return strings.Join(out, ";")
}

// cookiePath is path for a cookie. One for the whole of a larger site is for the whole of the agent.
func (p place) cookiePath(path string) string {
	if _, over := below(p.url.EscapedPath(), path); over && path != p.url.EscapedPath() {
		return cmp.Or(p.prefix, "/")
	}
	if mapped, ok := p.path(path, true); ok {
		return mapped
	}
	return path
}

// breakerPrefix begins the names of our headers about a breaker, agentPrefix those that an agent's get in their place:
// nobody is to take an agent's word for ours.
const (
	breakerPrefix = "X-Circuit-Breaker-"
	agentPrefix   = "X-Agent-Circuit-Breaker-"
)

func renameHeaders(h http.Header) {
	for name, values := range h {
		if rest, ok := strings.CutPrefix(name, breakerPrefix); ok {
			delete(h, name)
			h[agentPrefix+rest] = append(h[agentPrefix+rest], values...)
		}
	}
}

// renameTrailers is renameHeaders for what follows the body of an agent's answer.
func renameTrailers(h http.Header, theirs bool) {
	if !theirs {
		return
	}
	renameHeaders(h) // those that were announced
	for name, values := range h {
		if rest, ok := strings.CutPrefix(name, http.TrailerPrefix+breakerPrefix); ok {
			delete(h, name)
			h[http.TrailerPrefix+agentPrefix+rest] = values
		}
	}
}
