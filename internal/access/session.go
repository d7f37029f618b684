package access

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	// Cookie is the name of a session's cookie.
	Cookie = "breakerd_session"
	// sessionLives is how long a session lasts at most.
	sessionLives = 12 * time.Hour
)

// OpenSession returns the cookie of a new session of a caller, and its end; nil: he needs none, or has one. The cookie
// is name.expiry.mac, keyed by the digest of the token: every replica that has the file can check it, and it ends with
// the line. It is opened by a token alone, so a session cannot be made to last.
func OpenSession(c *Caller, r *http.Request, now time.Time) (*http.Cookie, time.Time) {
	if c == nil || c.By != knownByToken {
		return nil, time.Time{}
	}
	until := now.Add(sessionLives).Truncate(time.Second)
	if !c.Until.IsZero() && c.Until.Before(until) {
		until = c.Until.Truncate(time.Second)
	}
	claim := c.Name + "." + strconv.FormatInt(until.Unix(), 10)
	return sessionCookie(claim+"."+c.line.mac(claim), int(until.Sub(now).Seconds()), r), until
}

// CloseSession returns the cookie that takes the place of a session's.
func CloseSession(r *http.Request) *http.Cookie {
	return sessionCookie("", -1, r)
}

// sessionCookie is secure if the request came by TLS, to us or, as that says, to a proxy.
func sessionCookie(value string, maxAge int, r *http.Request) *http.Cookie {
	return &http.Cookie{ //nolint:gosec // without TLS a secure cookie would never come back
		Name: Cookie, Value: value, MaxAge: maxAge, Path: "/v1", HttpOnly: true, SameSite: http.SameSiteStrictMode,
		Secure: r.TLS != nil || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https"),
	}
}

// mac authenticates a session's claim.
func (l *line) mac(claim string) string {
	h := hmac.New(sha256.New, l.digest[:])
	h.Write([]byte("breakerd session " + claim))
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// bySession returns whose session a request's cookie is of; nil: nobody's.
func (f *file) bySession(r *http.Request, now time.Time) *Caller {
	cookies := r.CookiesNamed(Cookie)
	if len(cookies) != 1 {
		return nil
	}
	value := cookies[0].Value
	last := strings.LastIndexByte(value, '.')
	if last < 0 {
		return nil
	}
	claim, mac := value[:last], value[last+1:]
	dot := strings.LastIndexByte(claim, '.')
	if dot < 0 {
		return nil
	}
	seconds, err := strconv.ParseInt(claim[dot+1:], 10, 64)
	until := time.Unix(seconds, 0)
	if err != nil || !now.Before(until) {
		return nil
	}
	for _, l := range f.lines {
		if l.caller.Name == claim[:dot] && l.hasDigest && hmac.Equal([]byte(mac), []byte(l.mac(claim))) {
			if !l.caller.stands(now) {
				return nil
			}
			c := l.caller
			c.By, c.Until = knownBySession, until
			return &c
		}
	}
	return nil
}

// StripSession takes the session's cookie out of a request's header, and leaves the others as they were sent.
func StripSession(h http.Header) {
	lines := h["Cookie"]
	if len(lines) == 0 {
		return
	}
	var kept []string
	for _, text := range lines {
		if !strings.Contains(text, Cookie) {
			kept = append(kept, text)
			continue
		}
		var pairs []string
		for pair := range strings.SplitSeq(text, ";") {
			name, _, _ := strings.Cut(pair, "=")
			if pair = strings.TrimSpace(pair); strings.TrimSpace(name) != Cookie && pair != "" {
				pairs = append(pairs, pair)
			}
		}
		if len(pairs) > 0 {
			kept = append(kept, strings.Join(pairs, "; "))
		}
	}
	if h["Cookie"] = kept; len(kept) == 0 {
		delete(h, "Cookie")
	}
}
