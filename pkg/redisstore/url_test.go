package redisstore

import (
	"reflect"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"
)

func TestURL_EveryFormParses(t *testing.T) {
	t.Parallel()
	type opt = redis.UniversalOptions
	for raw, want := range map[string]target{
		"embedded://":                {kind: urlEmbedded},
		"embedded://127.0.0.1:6390":  {kind: urlEmbedded, opt: opt{Addrs: []string{"127.0.0.1:6390"}}},
		"embedded://localhost":       {kind: urlEmbedded, opt: opt{Addrs: []string{"127.0.0.1:6379"}}},
		"embedded://[::1]:1/":        {kind: urlEmbedded, opt: opt{Addrs: []string{"[::1]:1"}}},
		"redis://h":                  {kind: urlSingle, opt: opt{Addrs: []string{"h:6379"}}},
		"redis://h:1/":               {kind: urlSingle, opt: opt{Addrs: []string{"h:1"}}},
		"redis://h:1/7":              {kind: urlSingle, opt: opt{Addrs: []string{"h:1"}, DB: 7}},
		"redis://h?db=7":             {kind: urlSingle, opt: opt{Addrs: []string{"h:6379"}, DB: 7}},
		"redis://[fd00::1]:1/0":      {kind: urlSingle, opt: opt{Addrs: []string{"[fd00::1]:1"}}},
		"redis://[fd00::1]":          {kind: urlSingle, opt: opt{Addrs: []string{"[fd00::1]:6379"}}},
		"redis://u:p@h":              {kind: urlSingle, opt: opt{Addrs: []string{"h:6379"}, Username: "u", Password: "p"}},
		"redis://:p%23%2F%40+%25@h":  {kind: urlSingle, opt: opt{Addrs: []string{"h:6379"}, Password: "p#/@+%"}},
		"redis://u:p:q@r@h":          {kind: urlSingle, opt: opt{Addrs: []string{"h:6379"}, Username: "u", Password: "p:q@r"}},
		"unix:///run/r.sock":         {kind: urlUnix, opt: opt{Addrs: []string{"/run/r.sock"}}},
		"unix://u:p@/run/a%20b?db=3": {kind: urlUnix, opt: opt{Addrs: []string{"/run/a b"}, Username: "u", Password: "p", DB: 3}},
		"REDISS://h?ca_file=/ca&cert_file=/c&key_file=/k&server_name=redis.internal": {
			kind: urlSingle, opt: opt{Addrs: []string{"h:6379"}}, tls: &tlsFiles{ca: "/ca", cert: "/c", key: "/k", serverName: "redis.internal"},
		},
		"redis://s1:1,s2,s3:3/my-master": {
			kind: urlSentinel, opt: opt{Addrs: []string{"s1:1", "s2:26379", "s3:3"}, MasterName: "my-master"},
		},
		"redis://s1/mymaster": {kind: urlSentinel, opt: opt{Addrs: []string{"s1:26379"}, MasterName: "mymaster"}},
		"rediss://u:p@s1/m?sentinel_username=su&sentinel_password=s+p%3D=&db=2&ca_file=/ca": {
			kind: urlSentinel, opt: opt{
				Addrs: []string{"s1:26379"}, MasterName: "m", Username: "u", Password: "p", DB: 2, SentinelUsername: "su", SentinelPassword: "s+p==",
			}, tls: &tlsFiles{ca: "/ca"},
		},
		"redis+cluster://h1:1,h2": {kind: urlCluster, opt: opt{Addrs: []string{"h1:1", "h2:6379"}}},
		"redis+cluster://h1/0":    {kind: urlCluster, opt: opt{Addrs: []string{"h1:6379"}}},
		"rediss+cluster://u:p@h1/?server_name=n": {
			kind: urlCluster, opt: opt{Addrs: []string{"h1:6379"}, Username: "u", Password: "p"}, tls: &tlsFiles{serverName: "n"},
		},
	} {
		scheme, _, _ := strings.Cut(raw, "://")
		want.scheme = strings.ToLower(scheme)
		got, err := parseURL(raw)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q:\n got %+v, %v\nwant %+v", raw, got, err, want)
		}
	}
}

func TestURL_SpaceAroundItIsNoPartOfIt(t *testing.T) {
	t.Parallel()
	got, err := parseURL(" redis://h:1/2\n") // as a file or a shell leaves it
	if err != nil || got.opt.DB != 2 || got.opt.Addrs[0] != "h:1" {
		t.Errorf("%+v, %v", got, err)
	}
}

// wantRefused wants each URL refused with an error that holds the text.
func wantRefused(t *testing.T, reasons map[string]string) {
	t.Helper()
	for raw, want := range reasons {
		if _, err := parseURL(raw); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q in it", raw, err, want)
		}
	}
}

func TestURL_ABadPlaceIsRefusedWithTheReason(t *testing.T) {
	t.Parallel()
	wantRefused(t, map[string]string{
		"":                               "no scheme",
		"localhost:6379":                 "no scheme: a server at localhost:6379 is redis://localhost:6379; want one of: embedded://, redis://user:pass@host:6379/0",
		"app:s3cret@host":                "no scheme",
		"redis:/host":                    "no scheme",
		"redis://a b":                    "a space",
		"redis://:a\x00@h":               "a control character",
		"http://h":                       "unknown scheme",
		"embedded://10.0.0.1:6379":       "loopback address only",
		"embedded://0.0.0.0:6379":        "loopback address only",
		"embedded://redis:6379":          "loopback address only",
		"embedded://127.0.0.1,127.0.0.2": "loopback address only",
		"embedded://:6379":               "host 1 is empty",
		"embedded://u:p@":                "no user",
		"embedded:///1":                  "no path",
		"redis://":                       "host 1 is empty",
		"redis://:6379":                  "host 1 is empty",
		"redis://a,,b/m":                 "host 2 is empty",
		"redis://h:0":                    "port of host 1",
		"redis://h:65536":                "port of host 1",
		"redis://h:":                     "port of host 1",
		"redis://h:x1":                   "port of host 1",
		"redis://fd00::1":                "host 1 is not",
		"redis://[h]:1":                  "host 1 is not",
		"redis://h/-1":                   `database number "-1"`,
		"redis://h/99999999999":          "database number",
		"redis://a,b":                    "several hosts",
		"redis://a,b/0":                  "several hosts",
		"redis://a/m/n":                  "name of a Sentinel master",
		"redis://pa#ss@h":                "%23",
		"redis://u:pa/ss@h":              "%2F",
		"redis://u:100%@h":               "%25",
		"redis://u:p@a,u:p@b/m":          "once, before the first host",
		"redis+cluster://h/1":            "database 0 only",
		"redis+cluster://h/name":         "database 0 only",
		"unix://relative/path":           "absolute",
		"unix://":                        "absolute",
		"unix:///":                       "absolute",
	})
}

func TestURL_ABadParameterIsRefusedWithTheReason(t *testing.T) {
	t.Parallel()
	wantRefused(t, map[string]string{
		"embedded://?db=1":                    "unknown parameter db; allowed for this form (embedded): none is",
		"redis://h?db=x":                      `database number "x"`,
		"redis://h/1?db=2":                    "in the path and in parameter db",
		"redis://h?db=1&db=1":                 "parameter db stands twice",
		"redis://h?db=":                       "parameter db is empty",
		"redis://h?read_timeout=1":            "unknown parameter read_timeout; allowed for this form (single server): db",
		"redis://h?ca_file=/ca":               "parameter ca_file needs TLS",
		"redis://h/m?x=1":                     "allowed for this form (Sentinel): db, sentinel_username, sentinel_password",
		"rediss://h?x=1":                      "db, ca_file, cert_file, key_file, server_name",
		"redis://h?sentinel_password=x":       "unknown parameter sentinel_password",
		"redis://h?db":                        "parameter db is empty",
		"redis://h?pieceofsecret":             "not of the form name=value",
		"redis://h?x-y=1":                     "not of the form name=value",
		"redis://h/m?sentinel_password=a&b=c": "unknown parameter beside sentinel_password",
		"redis://u:pa?ss=x@h":                 "%3F",
		"redis+cluster://h?db=1":              "unknown parameter db",
		"unix:///s?ca_file=/x":                "needs TLS",
		"rediss://h?ca_file=/no%zzescape":     "%25",
	})
}

func TestURL_IsShownWithoutItsSecrets(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"embedded://":                     "embedded://",
		"redis://app:s3cret@h:1/2":        "redis://app:***@h:1/2",
		"redis://:s3cret@h":               "redis://:***@h:6379",
		"redis://u:s3@cret@[::1]/0":       "redis://u:***@[::1]:6379",
		"redis://s3%23:cret@h":            "redis://***@h:6379",
		"unix://u:s3cret@/run/r?db=1":     "unix://u:***@/run/r?db=1",
		"redis://a:1,b/m?db=3":            "redis://a:1,b:26379/m?db=3",
		"rediss+cluster://a,b?ca_file=/c": "rediss+cluster://a:6379,b:6379",
		"redis://h/m?sentinel_username=su&sentinel_password=s3cret": "redis://h:26379/m",
	} {
		if got, err := parseURL(raw); err != nil || got.String() != want {
			t.Errorf("%q is shown as %q, want %q; %v", raw, got.String(), want, err)
		}
	}
	for raw, want := range map[string]string{
		"s3cret":                                 `redis url "***": no scheme`,
		"user:s3cret@h":                          `redis url "***": no scheme`,
		"my s3cret://h":                          `redis url "***": a space`,
		"s3cret://h":                             `redis url "***": unknown scheme`,
		"redis://u:s3@cr/e?t#x@h/1":              `redis url "redis://": a '#'`,
		"redis://u:s3cret":                       `redis url "redis://": the port of host 1`,
		"redis://:12345":                         `redis url "redis://": host 1 is empty`,
		"redis://u:s3/cret":                      `redis url "redis://": the port of host 1`,
		"redis://u:s3cret@h/a/b":                 `redis url "redis://u:***@": the path`,
		"redis://h/m?sentinel_password=s3:c@ret": `redis url "redis://": an '@'`,
		"rediss://u:p@h?ca_file=/ca&password=s3cret&s3cret": `redis url "rediss://u:***@h:6379": unknown parameter password`,
	} {
		if _, err := parseURL(raw); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v, want %q", raw, err, want)
		}
	}
	if _, err := Open(t.Context(), "redis://s3cret@h", Options{}); err == nil || !strings.HasPrefix(err.Error(), `redis url "redis://***@h:6379": a user without`) {
		t.Errorf("a user alone, which may be a token: %v", err)
	}
}

// Whatever the secret, and wherever it is, neither a Conn nor an error shows it.
func TestURL_NeverShowsASecret(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		// Capital letters occur nowhere else in these URLs.
		secret := "SEC" + rapid.StringMatching(`[A-Z0-9@:/?#%&=,;+.\[\] -]{0,12}`).Draw(t, "secret") + "RET"
		form := rapid.SampledFrom([]string{
			"redis://user:%s@host:6379/0", "redis://:%s@host", "rediss://user:%s@host?ca_file=/ca",
			"unix://user:%s@/run/r.sock", "redis+cluster://user:%s@a,b", "redis://user:%s@a:1,b:2/mymaster",
			"redis://a:1,b:2/mymaster?sentinel_password=%s", "redis://user:%s", "%s", "user:%s@host",
			"redis://user:%s@host/x y",
		}).Draw(t, "form")
		if form == "redis://user:%s" {
			secret = strings.ReplaceAll(secret, "@", "") // what follows it reads as a host
		}
		raw := strings.Replace(form, "%s", secret, 1)
		parsed, err := parseURL(raw)
		shown := []string{parsed.String()}
		if err != nil {
			shown = append(shown, err.Error())
		}
		if c, err := Open(t.Context(), raw, Options{}); err == nil {
			shown = append(shown, c.Display)
			_ = c.Close()
		} else {
			shown = append(shown, err.Error())
		}
		for _, s := range shown {
			if strings.Contains(s, "SEC") || strings.Contains(s, "RET") {
				t.Fatalf("%q shows the secret of %q", s, raw)
			}
		}
	})
}
