package redisstore

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// URLForms lists the forms that Open takes, for messages and help texts.
const URLForms = "embedded://, redis://user:pass@host:6379/0, rediss://…, unix:///path?db=0, " +
	"redis://s1:26379,s2:26379/mymaster (Sentinel), redis+cluster://h1:6379,h2:6379, rediss+cluster://…"

// urlKind tells which of the forms a URL has.
type urlKind int

const (
	urlEmbedded urlKind = iota
	urlSingle
	urlUnix
	urlSentinel
	urlCluster
)

func (k urlKind) String() string {
	return [...]string{"embedded", "single server", "unix socket", "Sentinel", "Cluster"}[k]
}

// redisTarget is a parsed URL: what to dial, as whom.
type redisTarget struct {
	kind  urlKind
	addrs []string // host:port; the socket's path; nothing for an embedded one without listener
	db    int

	user, password                 string // the data nodes'
	master                         string // the Sentinel master's name
	sentinelUser, sentinelPassword string

	tls      bool
	tlsFiles tlsFiles
}

const (
	redisPort    = "6379"
	sentinelPort = "26379"
)

var (
	urlWord    = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]{0,31}$`)
	urlHost    = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9._])?$`)
	urlMaster  = regexp.MustCompile(`^[A-Za-z0-9._-]+$`) // what Sentinel itself allows
	urlInteger = regexp.MustCompile(`^[+-]?[0-9]+$`)
)

// tlsParams are the query parameters of rediss and rediss+cluster.
func tlsParams() []string { return []string{"ca_file", "cert_file", "key_file", "server_name"} }

// parseURL reads every form of REDIS_URL. No error quotes text that could be,
// or be a part of, a password: a part is named instead.
func parseURL(raw string) (redisTarget, error) {
	raw = strings.TrimSpace(raw)
	t, err := parseURLText(raw)
	if err != nil {
		return redisTarget{}, fmt.Errorf("redis url %q: %w", Redact(raw), err)
	}
	return t, nil
}

func parseURLText(raw string) (redisTarget, error) {
	var t redisTarget
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok || strings.ContainsFunc(raw, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return t, errors.New("not a URL without spaces; want one of: " + URLForms)
	}
	if err := t.setScheme(strings.ToLower(scheme)); err != nil {
		return t, err
	}
	if strings.Contains(rest, "#") {
		return t, errors.New("a '#' starts nothing here: in a password write it as %23 (percent-encoding)")
	}
	body, query, _ := strings.Cut(rest, "?")
	authority, path := body, ""
	if i := strings.IndexByte(body, '/'); i >= 0 {
		authority, path = body[:i], body[i:]
	}
	if strings.Contains(path, "@") || strings.Contains(query, "@") {
		return t, errors.New("an '@' after the host: in a password write '/' as %2F, '?' as %3F and '@' as %40 (percent-encoding)")
	}
	hosts, err := t.setUserinfo(authority)
	if err != nil {
		return t, err
	}
	if err := t.setPlace(hosts, path); err != nil {
		return t, err
	}
	return t, t.setQuery(query)
}

func (t *redisTarget) setScheme(scheme string) error {
	switch scheme {
	case "embedded":
		t.kind = urlEmbedded
	case "redis", "rediss":
		t.kind = urlSingle // or Sentinel: the path will tell
	case "unix":
		t.kind = urlUnix
	case "redis+cluster", "rediss+cluster":
		t.kind = urlCluster
	default:
		return errors.New("unknown scheme; want one of: " + URLForms)
	}
	t.tls = strings.HasPrefix(scheme, "rediss")
	return nil
}

// setUserinfo takes user:password from the authority and returns the rest.
func (t *redisTarget) setUserinfo(authority string) (hosts string, err error) {
	i := strings.LastIndexByte(authority, '@')
	if i < 0 {
		return authority, nil
	}
	info, hosts := authority[:i], authority[i+1:]
	if strings.Contains(info, "@") && strings.Contains(info, ",") {
		return "", errors.New("user and password stand once, before the first host; in a password write '@' as %40 and ',' as %2C")
	}
	user, password, _ := strings.Cut(info, ":")
	if t.user, err = url.PathUnescape(user); err != nil {
		return "", errors.New("the user name has a '%' without two hexadecimal digits: write it as %25")
	}
	if t.password, err = url.PathUnescape(password); err != nil {
		return "", errors.New("the password has a '%' without two hexadecimal digits: write it as %25")
	}
	return hosts, nil
}

// setPlace takes the hosts and the path, which decides between one server and
// Sentinel.
func (t *redisTarget) setPlace(hosts, path string) (err error) {
	if t.kind == urlEmbedded {
		return t.setEmbedded(hosts, path)
	}
	if t.kind == urlUnix {
		return t.setSocket(hosts, path)
	}
	name, err := url.PathUnescape(strings.TrimPrefix(path, "/"))
	if err != nil {
		return errors.New("the path has a '%' without two hexadecimal digits")
	}
	port := redisPort
	if t.kind == urlSingle && name != "" && !urlInteger.MatchString(name) {
		t.kind, t.master, port = urlSentinel, name, sentinelPort
		if !urlMaster.MatchString(name) {
			return errors.New("the path is neither a database number nor the name of a Sentinel master (letters, digits, '.', '_', '-')")
		}
	}
	if t.addrs, err = parseHosts(hosts, port, 1); err != nil {
		return err
	}
	switch {
	case t.kind == urlCluster && name != "" && name != "0":
		return errors.New("a path: Redis Cluster has database 0 only")
	case t.kind == urlSingle && len(t.addrs) > 1:
		return errors.New("several hosts: for Sentinel the path names the master (/mymaster), " +
			"for a cluster the scheme is redis+cluster or rediss+cluster")
	case t.kind == urlSingle && name != "":
		return t.setDB(name)
	}
	return nil
}

// setEmbedded allows no place at all, or a loopback address to listen on.
func (t *redisTarget) setEmbedded(host, path string) error {
	switch {
	case t.user != "" || t.password != "":
		return errors.New("embedded:// has no user and no password")
	case path != "" && path != "/":
		return errors.New("embedded:// has no path and no database number")
	case host == "":
		return nil
	}
	addrs, err := parseHosts(host, redisPort, 0) // 0: a free port, for tests
	if err != nil {
		return err
	}
	name, port, _ := net.SplitHostPort(addrs[0])
	if name == "localhost" {
		name = "127.0.0.1"
	}
	if ip, err := netip.ParseAddr(name); len(addrs) > 1 || err != nil || !ip.IsLoopback() {
		return errors.New("the embedded store has no password and listens on a loopback address only: " +
			"embedded:// (no listener) or embedded://127.0.0.1:6379; run a real Redis for other machines")
	}
	t.addrs = []string{net.JoinHostPort(name, port)}
	return nil
}

func (t *redisTarget) setSocket(host, path string) error {
	if host != "" || len(path) < 2 {
		return errors.New("the socket's path must be absolute: unix:///run/redis.sock?db=0")
	}
	path, err := url.PathUnescape(path)
	if err != nil {
		return errors.New("the path has a '%' without two hexadecimal digits: write it as %25")
	}
	t.addrs = []string{path}
	return nil
}

func (t *redisTarget) setDB(text string) error {
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return fmt.Errorf("database number %q; want 0 or a positive integer", text)
	}
	t.db = int(n)
	return nil
}

// parseHosts reads host[:port][,host[:port]…]; no port may be below lowest.
func parseHosts(text, defaultPort string, lowest uint64) ([]string, error) {
	var addrs []string
	for part := range strings.SplitSeq(text, ",") {
		i := len(addrs)
		host, port := part, defaultPort
		if colon := strings.LastIndexByte(part, ':'); colon > strings.LastIndexByte(part, ']') {
			host, port = part[:colon], part[colon+1:]
		}
		host, bracketed := trimBrackets(host)
		switch {
		case host == "":
			return nil, fmt.Errorf("host %d is empty", i+1)
		case bracketed && !isIPv6(host) || !bracketed && !urlHost.MatchString(host):
			return nil, fmt.Errorf("host %d is not a host name or an address (IPv6 goes in brackets, "+
				"a password's special characters are percent-encoded)", i+1)
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n < lowest {
			return nil, fmt.Errorf("the port of host %d is not a number from 1 to 65535 "+
				"(a password stands before an '@': user:password@host)", i+1)
		}
		addrs = append(addrs, net.JoinHostPort(host, port))
	}
	return addrs, nil
}

func trimBrackets(host string) (string, bool) {
	if len(host) >= 2 && host[0] == '[' && host[len(host)-1] == ']' {
		return host[1 : len(host)-1], true
	}
	return host, false
}

func isIPv6(host string) bool {
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Is6()
}

// urlParams are the query parameters that the form of t allows.
func (t *redisTarget) urlParams() []string {
	var allowed []string
	switch t.kind {
	case urlSingle, urlUnix:
		allowed = []string{"db"}
	case urlSentinel:
		allowed = []string{"db", "sentinel_username", "sentinel_password"}
	case urlEmbedded, urlCluster: // none of its own
	}
	if t.tls {
		allowed = append(allowed, tlsParams()...)
	}
	return allowed
}

func (t *redisTarget) setQuery(query string) error {
	if query == "" {
		return nil
	}
	seen := map[string]bool{}
	for pair := range strings.SplitSeq(query, "&") {
		name, escaped, hasValue := strings.Cut(pair, "=")
		if !hasValue && !slices.Contains(t.urlParams(), name) || !urlWord.MatchString(name) {
			return errors.New("a parameter is not of the form name=value (in a value write '&' as %26 and '=' as %3D)")
		}
		if err := t.checkParam(name, seen); err != nil {
			return err
		}
		// A plus sign stays one: passwords in base64 have it.
		value, err := url.PathUnescape(escaped)
		if err != nil {
			return fmt.Errorf("parameter %s has a '%%' without two hexadecimal digits: write it as %%25", name)
		}
		if value == "" {
			return fmt.Errorf("parameter %s is empty", name)
		}
		if err := t.setParam(name, value); err != nil {
			return err
		}
	}
	return nil
}

func (t *redisTarget) checkParam(name string, seen map[string]bool) error {
	allowed := t.urlParams()
	switch {
	case slices.Contains(allowed, name) && seen[name]:
		return fmt.Errorf("parameter %s stands twice", name)
	case slices.Contains(allowed, name):
		seen[name] = true
		return nil
	case slices.Contains(tlsParams(), name):
		return fmt.Errorf("parameter %s needs TLS: rediss:// or rediss+cluster://", name)
	}
	if seen["sentinel_password"] {
		name = "after sentinel_password (in a password write '&' as %26)" // it may be a piece of it
	}
	list := "none is"
	if len(allowed) > 0 {
		list = strings.Join(allowed, ", ")
	}
	return fmt.Errorf("unknown parameter %s; allowed for this form (%s): %s", name, t.kind, list)
}

func (t *redisTarget) setParam(name, value string) error {
	switch name {
	case "db":
		if t.db != 0 {
			return errors.New("the database stands in the path and in parameter db")
		}
		return t.setDB(value)
	case "sentinel_username":
		t.sentinelUser = value
	case "sentinel_password":
		t.sentinelPassword = value
	case "ca_file":
		t.tlsFiles.ca = value
	case "cert_file":
		t.tlsFiles.cert = value
	case "key_file":
		t.tlsFiles.key = value
	case "server_name":
		t.tlsFiles.serverName = value
	}
	return nil
}
