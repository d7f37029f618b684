package gateway

import (
	"io"
	"net/http"
	"net/url"
	"strings"
)

// The bounds of following an agent's redirects, and what is read of the body of each.
const (
	maxRedirects = 5
	maxBetween   = 64 << 10
)

// redirects follows 307 and 308 within an agent: to the same scheme, host and port, and below the path of its url. For
// the breaker that is one call, with the last answer. Another redirect is an answer like any.
type redirects struct {
	base  http.RoundTripper
	agent *url.URL
}

// RoundTrip implements [http.RoundTripper].
func (f redirects) RoundTrip(r *http.Request) (*http.Response, error) {
	for range maxRedirects {
		resp, err := f.base.RoundTrip(r)
		if err != nil {
			return resp, err
		}
		next := f.next(r, resp)
		if next == nil {
			return resp, nil
		}
		_, _ = io.CopyN(io.Discard, resp.Body, maxBetween) // so that the connection can be used again
		_ = resp.Body.Close()
		r = next
	}
	return f.base.RoundTrip(r)
}

// next returns the request that an answer redirects to, nil if it is not to be followed.
func (f redirects) next(r *http.Request, resp *http.Response) *http.Request {
	if resp.StatusCode != http.StatusTemporaryRedirect && resp.StatusCode != http.StatusPermanentRedirect ||
		r.GetBody == nil {
		return nil
	}
	to, err := r.URL.Parse(resp.Header.Get("Location"))
	if err != nil || resp.Header.Get("Location") == "" || !f.within(to) {
		return nil
	}
	body, err := r.GetBody()
	if err != nil {
		return nil
	}
	next := r.Clone(r.Context())
	to.Fragment, to.RawFragment = "", ""
	next.URL, next.Body, next.Host = to, body, ""
	return next
}

func (f redirects) within(to *url.URL) bool {
	_, inside := below(to.EscapedPath(), f.agent.EscapedPath())
	return inside && to.User == nil && strings.EqualFold(to.Scheme, f.agent.Scheme) &&
		strings.EqualFold(to.Hostname(), f.agent.Hostname()) && port(to) == port(f.agent) && validPath(to.EscapedPath())
}

func port(u *url.URL) string {
	switch p := u.Port(); {
	case p != "":
		return p
	case strings.EqualFold(u.Scheme, "https"):
		return "443"
	default:
		return "80"
	}
}
