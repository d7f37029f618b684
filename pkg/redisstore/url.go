package redisstore

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// urlForms are the forms that Open takes.
const urlForms = "embedded://, redis://user:pass@host:6379/0, rediss://…, unix:///path?db=0, " +
	"redis://s1:26379,s2:26379/mymaster (Sentinel), redis+cluster://h1:6379,h2:6379, rediss+cluster://…"

type urlKind string

const (
	urlEmbedded urlKind = "embedded"
	urlSingle   urlKind = "single server"
	urlUnix     urlKind = "unix socket"
	urlSentinel urlKind = "Sentinel"
	urlCluster  urlKind = "Cluster"
)

// target is what a URL says. Of opt it sets the addresses (an embedded server's listener, a socket's path), the
// database, the master's name and the credentials.
type target struct {
	scheme string
	kind   urlKind
	opt    redis.UniversalOptions
	tls    *tlsFiles // nil: no TLS
}

var (
	urlWord   = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]{0,31}$`)
	urlUser   = regexp.MustCompile(`^[A-Za-z0-9._-]*$`)
	urlHost   = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9._])?$`)
	urlMaster = regexp.MustCompile(`^[A-Za-z0-9._-]+$`) // what Sentinel itself allows
)

// String is the URL for a log: its scheme, user, addresses and database, as far as they were understood. What could be
// a password, or a part of one, is ***: a user alone may be a token.
func (t *target) String() string {
	if t.scheme == "" {
		return "***"
	}
	out := t.scheme + "://"
	switch o := t.opt; {
	case o.Password != "" && urlUser.MatchString(o.Username):
		out += o.Username + ":***@"
	case o.Username != "" || o.Password != "":
		out += "***@"
	}
	out += strings.Join(t.opt.Addrs, ",")
	if t.opt.MasterName != "" {
		out += "/" + t.opt.MasterName
	}
	switch {
	case t.opt.DB == 0:
	case t.kind == urlSingle:
		out += "/" + strconv.Itoa(t.opt.DB)
	default:
		out += "?db=" + strconv.Itoa(t.opt.DB)
	}
	return out
}

// parseURL reads every form of REDIS_URL. No error quotes text that could be, or be a part of, a password.
func parseURL(raw string) (t target, err error) {
	if err = t.parse(strings.TrimSpace(raw)); err != nil {
		return t, fmt.Errorf("redis url %q: %w", t.String(), err)
	}
	return t, nil
}

func (t *target) parse(raw string) error {
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok {
		return errors.New("no scheme: a server at localhost:6379 is redis://localhost:6379; want one of: " + urlForms)
	}
	if strings.ContainsFunc(raw, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return errors.New("a space or a control character: in a password write it percent-encoded, a space as %20")
	}
	if err := t.setScheme(strings.ToLower(scheme)); err != nil {
		return err
	}
	if strings.Contains(rest, "#") {
		return errors.New("a '#' starts nothing here: in a password write it as %23 (percent-encoding)")
	}
	if _, err := url.PathUnescape(rest); err != nil {
		return errors.New("a '%' without two hexadecimal digits: write it as %25")
	}
	body, query, _ := strings.Cut(rest, "?")
	authority, path := body, ""
	if i := strings.IndexByte(body, '/'); i >= 0 {
		authority, path = body[:i], body[i:]
	}
	if strings.Contains(path, "@") || strings.Contains(query, "@") {
		return errors.New("an '@' after the host: in a password write '/' as %2F, '?' as %3F and '@' as %40 " +
			"(percent-encoding)")
	}
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		info := authority[:i]
		if strings.Contains(info, "@") && strings.Contains(info, ",") {
			return errors.New("user and password stand once, before the first host; " +
				"in a password write '@' as %40 and ',' as %2C")
		}
		user, password, _ := strings.Cut(info, ":")
		t.opt.Username, t.opt.Password, authority = unescape(user), unescape(password), authority[i+1:]
	}
	if err := t.setPlace(authority, path); err != nil {
		return err
	}
	return t.setQuery(query)
}

// unescape decodes what parse has checked.
func unescape(text string) string {
	out, _ := url.PathUnescape(text)
	return out
}

func (t *target) setScheme(scheme string) error {
	switch scheme {
	case "embedded":
		t.kind = urlEmbedded
	case "redis", "rediss":
		t.kind = urlSingle // or Sentinel, by the path
	case "unix":
		t.kind = urlUnix
	case "redis+cluster", "rediss+cluster":
		t.kind = urlCluster
	default:
		return errors.New("unknown scheme; want one of: " + urlForms)
	}
	t.scheme = scheme
	if strings.HasPrefix(scheme, "rediss") {
		t.tls = &tlsFiles{}
	}
	return nil
}

// setPlace takes the hosts and the path, which decides between one server and Sentinel.
func (t *target) setPlace(hosts, path string) (err error) {
	switch t.kind {
	case urlEmbedded:
		return t.setEmbedded(hosts, path)
	case urlUnix:
		if hosts != "" || len(path) < 2 {
			return errors.New("the socket's path must be absolute: unix:///run/redis.sock?db=0")
		}
		t.opt.Addrs = []string{unescape(path)}
		return nil
	case urlSingle, urlSentinel, urlCluster:
	}
	name, port := unescape(strings.TrimPrefix(path, "/")), "6379"
	if t.kind == urlSingle && strings.Trim(name, "+-0123456789") != "" {
		if !urlMaster.MatchString(name) {
			return errors.New("the path is neither a database number nor the name of a Sentinel master " +
				"(letters, digits, '.', '_', '-')")
		}
		t.kind, port = urlSentinel, "26379"
	}
	if t.opt.Addrs, err = parseHosts(hosts, port, 1); err != nil {
		return err // String shows no path then: where '@host' was forgotten, it may be a piece of a password
	}
	switch {
	case t.kind == urlSentinel:
		t.opt.MasterName = name
	case t.kind == urlCluster && name != "" && name != "0":
		return errors.New("a path: Redis Cluster has database 0 only")
	case t.kind == urlSingle && len(t.opt.Addrs) > 1:
		return errors.New("several hosts: for Sentinel the path names the master (/mymaster), " +
			"for a cluster the scheme is redis+cluster or rediss+cluster")
	case t.kind == urlSingle && name != "":
		return t.setDB(name)
	}
	return nil
}

// setEmbedded allows no place at all, or a loopback address to listen on.
func (t *target) setEmbedded(host, path string) error {
	switch {
	case t.opt.Username != "" || t.opt.Password != "":
		return errors.New("embedded:// has no user and no password")
	case path != "" && path != "/":
		return errors.New("embedded:// has no path and no database number")
	case host == "":
		return nil
	}
	addrs, err := parseHosts(host, "6379", 0) // 0: a free port, for tests
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
	t.opt.Addrs = []string{net.JoinHostPort(name, port)}
	return nil
}

func (t *target) setDB(text string) error {
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return fmt.Errorf("database number %q; want 0 or a positive integer", text)
	}
	t.opt.DB = int(n)
	return nil
}

// parseHosts reads host[:port][,host[:port]…]. No port may be below lowest.
func parseHosts(text, defaultPort string, lowest uint64) ([]string, error) {
	var addrs []string
	for part := range strings.SplitSeq(text, ",") {
		host, port := part, defaultPort
		if colon := strings.LastIndexByte(part, ':'); colon > strings.LastIndexByte(part, ']') {
			host, port = part[:colon], part[colon+1:]
		}
		if host == "" {
			return nil, fmt.Errorf("host %d is empty", len(addrs)+1)
		}
		valid := urlHost.MatchString(host)
		if inner, ok := strings.CutPrefix(host, "["); ok {
			host = strings.TrimSuffix(inner, "]")
			ip, err := netip.ParseAddr(host)
			valid = err == nil && ip.Is6() && host != inner
		}
		if !valid {
			return nil, fmt.Errorf("host %d is not a host name or an address (IPv6 goes in brackets, "+
				"a password's special characters are percent-encoded)", len(addrs)+1)
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n < lowest {
			return nil, fmt.Errorf("the port of host %d is not a number from 1 to 65535 "+
				"(a password stands before an '@': user:password@host)", len(addrs)+1)
		}
		addrs = append(addrs, net.JoinHostPort(host, port))
	}
	return addrs, nil
}

// param is one query parameter, and where its value goes.
type param struct {
	name string
	to   *string
}

// params are the query parameters of t's form. db is the database's.
func (t *target) params(db *string) (out []param) {
	if t.kind == urlSingle || t.kind == urlUnix || t.kind == urlSentinel {
		out = append(out, param{"db", db})
	}
	if t.kind == urlSentinel {
		user, password := &t.opt.SentinelUsername, &t.opt.SentinelPassword
		out = append(out, param{"sentinel_username", user}, param{"sentinel_password", password})
	}
	if t.tls != nil {
		out = append(out, t.tls.params()...)
	}
	return out
}

func (t *target) setQuery(query string) error {
	values, err := url.ParseQuery(strings.ReplaceAll(query, "+", "%2B")) // passwords in base64 have a plus sign
	if err != nil {
		return errors.New("a ';' in a value is written %3B")
	}
	var db string
	params := t.params(&db)
	for _, name := range slices.Sorted(maps.Keys(values)) {
		i := slices.IndexFunc(params, func(p param) bool { return p.name == name })
		switch {
		case i < 0:
			return t.unknown(name, values, params)
		case len(values[name]) > 1:
			return fmt.Errorf("parameter %s stands twice", name)
		case values.Get(name) == "":
			return fmt.Errorf("parameter %s is empty", name)
		}
		*params[i].to = values.Get(name)
	}
	if db != "" && t.opt.DB != 0 {
		return errors.New("the database stands in the path and in parameter db")
	}
	if db != "" {
		return t.setDB(db)
	}
	return nil
}

// unknown is the error of a parameter that t's form does not have. The name of one beside a password may be a piece of
// it.
func (t *target) unknown(name string, values url.Values, params []param) error {
	if values.Get(name) == "" || !urlWord.MatchString(name) {
		return errors.New("a parameter is not of the form name=value (in a value write '&' as %26 and '=' as %3D)")
	}
	if slices.ContainsFunc((&tlsFiles{}).params(), func(p param) bool { return p.name == name }) {
		return fmt.Errorf("parameter %s needs TLS: rediss:// or rediss+cluster://", name)
	}
	if values.Has("sentinel_password") && name != "sentinel_password" {
		name = "beside sentinel_password (in a password write '&' as %26)"
	}
	allowed := make([]string, len(params))
	for i, p := range params {
		allowed[i] = p.name
	}
	return fmt.Errorf("unknown parameter %s; allowed for this form (%s): %s",
		name, t.kind, cmp.Or(strings.Join(allowed, ", "), "none is"))
}
