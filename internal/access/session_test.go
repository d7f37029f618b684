package access

import (
	"crypto/tls"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakerd/breakerd/internal/problem"
)

func withCookie(method, value string) *http.Request {
	return request(method, "Cookie", "theme=dark; "+Cookie+"="+value)
}

// open opens a session by a token.
func open(t *testing.T, g *Guard, token string) *http.Cookie {
	t.Helper()
	cookie, _ := OpenSession(must(g.Admit(bearer(token), Known, API)), request("POST"), time.Now())
	if cookie == nil {
		t.Fatal("no session")
	}
	return cookie
}

func TestSession_LastsTwelveHoursAtMost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		soon := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
		g, path := newGuard(t, entryOf("a.b", "operate", "t", "")+entryOf("c", "read", "u", "  expires: "+soon+"\n"))
		// Another replica has the file alone.
		other, err := New(Options{File: path})
		if err != nil {
			t.Fatal(err)
		}
		long, short := open(t, g, "t"), open(t, g, "u")
		if !long.HttpOnly || long.SameSite != http.SameSiteStrictMode || long.Path != "/v1" || long.Secure || long.MaxAge != 12*3600 || short.MaxAge != 3600 {
			t.Errorf("%+v %+v", long, short)
		}
		right := func(value string) bool {
			who, p := other.Admit(withCookie("GET", value), Read, API)
			if p == nil && who.By != knownBySession {
				t.Errorf("%+v", who)
			}
			return p == nil
		}
		if who, p := other.Admit(withCookie("POST", long.Value), Operate, API); p != nil || who.Name != "a.b" || who.Role != Operate {
			t.Errorf("%+v %v", who, p)
		}
		if cookie, _ := OpenSession(must(other.Admit(withCookie("POST", long.Value), Known, API)), request("POST"), time.Now()); cookie != nil {
			t.Error("a session opens another")
		}
		for what, value := range map[string]string{
			"another name": strings.Replace(long.Value, "a.b", "c", 1), "another time": strings.Replace(long.Value, ".946", ".956", 1),
			"no mac": long.Value[:strings.LastIndexByte(long.Value, '.')+1], "garbage": "x", "dots": "...", "cut": long.Value[:len(long.Value)-1], "empty": "",
		} {
			if right(value) {
				t.Errorf("%s: %s", what, value)
			}
		}
		if _, p := g.Admit(withCookie("GET", long.Value), Read, Gate); code(p) != problem.Unauthenticated {
			t.Errorf("at the gate: %v", p)
		}
		if _, p := g.Admit(withCookie("GET", long.Value), Read, Gateway); code(p) != problem.Unauthenticated {
			t.Errorf("at the gateway: %v", p)
		}
		time.Sleep(time.Hour)
		if right(short.Value) || !right(long.Value) {
			t.Error("after an hour")
		}
		time.Sleep(11*time.Hour - time.Second)
		if !right(long.Value) {
			t.Error("before the end")
		}
		time.Sleep(time.Second)
		if right(long.Value) {
			t.Error("after the end")
		}
	})
}

func TestSession_EndsWithItsLine(t *testing.T) {
	t.Parallel()
	g, path := newGuard(t, entryOf("a", "read", "one", "")+entryOf("a", "read", "two", ""))
	one, two := open(t, g, "one"), open(t, g, "two")
	write(t, path, entryOf("a", "read", "two", ""))
	settle(t, g)
	if _, p := g.Admit(withCookie("GET", one.Value), Read, API); code(p) != problem.Unauthenticated {
		t.Errorf("of the line that is gone: %v", p)
	}
	if _, p := g.Admit(withCookie("GET", two.Value), Read, API); p != nil {
		t.Errorf("of the other: %v", p)
	}
}

func TestSession_APageOfAnotherSiteChangesNothing(t *testing.T) {
	t.Parallel()
	g, _ := newGuard(t, entryOf("a", "admin", "t", ""))
	value := open(t, g, "t").Value
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "QUERY"} {
		for _, header := range [][2]string{{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.example"}, {"Origin", "null"}} {
			r := withCookie(method, value)
			r.Header.Set(header[0], header[1])
			if _, p := g.Admit(r, Admin, API); code(p) != problem.CrossOrigin {
				t.Errorf("%s with %v: %v", method, header, p)
			}
		}
		if _, p := g.Admit(withCookie(method, value), Admin, API); p != nil {
			t.Errorf("%s of its own page: %v", method, p)
		}
	}
}

func TestSession_CookieIsSecureUnderTLS(t *testing.T) {
	t.Parallel()
	overTLS, behind := request("POST"), request("POST", "X-Forwarded-Proto", "https")
	overTLS.TLS = &tls.ConnectionState{}
	if !CloseSession(overTLS).Secure || !CloseSession(behind).Secure || CloseSession(request("POST")).Secure || CloseSession(overTLS).MaxAge >= 0 {
		t.Error(CloseSession(overTLS), CloseSession(behind), CloseSession(request("POST")))
	}
}

func TestStripSession_LeavesOtherCookies(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ in, want []string }{
		{nil, nil},
		{[]string{"a=1; b=2"}, []string{"a=1; b=2"}},
		{[]string{Cookie + "=x"}, nil},
		{[]string{"a=1;" + Cookie + "=x; b=\"2\""}, []string{"a=1; b=\"2\""}},
		{[]string{"a=1", " " + Cookie + " =x; " + Cookie + "=y", "c"}, []string{"a=1", "c"}},
		{[]string{"my_" + Cookie + "=1"}, []string{"my_" + Cookie + "=1"}},
	} {
		h := http.Header{"Cookie": slices.Clone(c.in)}
		StripSession(h)
		if !slices.Equal(h["Cookie"], c.want) {
			t.Errorf("%q: %q, want %q", c.in, h["Cookie"], c.want)
		}
	}
}
