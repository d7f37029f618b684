package redisstore

import (
	"regexp"
	"slices"
	"strings"
)

// hiddenSecret stands where a secret stood.
const hiddenSecret = "***"

var (
	redactScheme = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]{0,19}$`)
	redactDigits = regexp.MustCompile(`^[0-9]{1,5}$`)
)

// Redact returns rawURL fit for a log: passwords, and whatever might be one,
// replaced by ***. It never fails: of text that is no URL it shows nothing, and
// when in doubt it hides too much. It is safe for concurrent use.
func Redact(rawURL string) string {
	rawURL = strings.TrimSpace(rawURL)
	scheme, rest, ok := strings.Cut(rawURL, "://")
	switch {
	case rawURL == "":
		return ""
	case !ok || !redactScheme.MatchString(scheme):
		return hiddenSecret
	}
	out := scheme + "://"
	// The last '@' of all, not of the authority: an unencoded '/', '?' or '#'
	// in a password must not end the search for it.
	at := strings.LastIndexByte(rest, '@')
	if at >= 0 && strings.Contains(rest[:at], "sentinel_password=") {
		return out + hiddenSecret // an unencoded '@' in it: nothing can be told apart
	}
	if at >= 0 {
		out += redactUserinfo(rest[:at]) + "@"
		rest = rest[at+1:]
	}
	rest, _, fragment := strings.Cut(rest, "#")
	body, query, hasQuery := strings.Cut(rest, "?")
	hosts, path := body, ""
	if i := strings.IndexByte(body, '/'); i >= 0 {
		hosts, path = body[:i], body[i:]
	}
	if at < 0 {
		if shown := redactHosts(hosts); shown != hosts {
			hosts, path = shown, ""
		}
	}
	out += hosts + path
	if hasQuery {
		out += "?" + redactQuery(query)
	}
	if fragment {
		out += "#" + hiddenSecret
	}
	return out
}

// redactUserinfo keeps the user. Alone, without a colon, it may well be a
// token; with a URL's own punctuation in it, it is no user: hidden.
func redactUserinfo(info string) string {
	user, _, colon := strings.Cut(info, ":")
	if !colon || strings.ContainsAny(user, "/?#@,=&") {
		return hiddenSecret
	}
	return user + ":" + hiddenSecret
}

// redactHosts ends, in a URL without userinfo, at a "port" that is no number:
// in redis://user:secret the '@host' was forgotten.
func redactHosts(hosts string) string {
	parts := strings.Split(hosts, ",")
	for i, part := range parts {
		colon := strings.LastIndexByte(part, ':')
		first := strings.IndexByte(part, ':')
		bracketed := strings.HasPrefix(part, "[")
		if colon < 0 || bracketed && strings.HasSuffix(part, "]") {
			continue
		}
		if colon == 0 || !bracketed && first != colon || !redactDigits.MatchString(part[colon+1:]) {
			return strings.Join(append(parts[:i], part[:first]+":"+hiddenSecret), ",")
		}
	}
	return hosts
}

func redactQuery(query string) string {
	pairs := strings.Split(query, "&")
	for i, pair := range pairs {
		name, _, _ := strings.Cut(pair, "=")
		switch {
		case name == "db", name == "sentinel_username", slices.Contains(tlsParams(), name):
		case name == "sentinel_password":
			pairs[i] = name + "=" + hiddenSecret
		default:
			pairs[i] = hiddenSecret
		}
	}
	return strings.Join(pairs, "&")
}
