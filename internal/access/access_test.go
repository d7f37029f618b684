package access

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/breakerd/breakerd/internal/problem"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func digest(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// entryOf is an entry of a file.
func entryOf(name, role, token, more string) string {
	return fmt.Sprintf("- name: %s\n  role: %s\n  sha256: %s\n%s", name, role, digest(token), more)
}

func write(t testing.TB, path, text string) {
	t.Helper()
	next := path + ".next"
	if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, path); err != nil {
		t.Fatal(err)
	}
}

func newGuard(t testing.TB, text string) (*Guard, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "auth.yaml")
	write(t, path, text)
	g, err := New(Options{File: path, Certificates: true})
	if err != nil {
		t.Fatal(err)
	}
	return g, path
}

func request(method string, header ...string) *http.Request {
	r := httptest.NewRequest(method, "http://example.com/v1/x", nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	return r
}

func bearer(token string) *http.Request { return request("GET", "Authorization", "Bearer "+token) }

// code is that of a refusal; "": none.
func code(p *problem.Problem) problem.Code {
	if p == nil {
		return ""
	}
	return p.Code
}

func TestParse_BadFilesAreRefusedWithoutAValueOfTheirs(t *testing.T) {
	t.Parallel()
	good := entryOf("a", "read", "t", "")
	const secret = "breakerd_ffff"
	for text, want := range map[string]string{
		"": "empty", "# nothing\n": "empty", "a: b\n": "list", "- a\n": "name, role", "text": "list", "- [\n": "no YAML",
		good + "---\n" + good:                                        "one document",
		good + "  token: " + secret + "\n":                           "no fields but",
		good + "  role: admin\n":                                     "role is given twice",
		good + "  agents:\n":                                         "agents: want a list",
		good + "  agents: []\n":                                      "agents: want a list",
		good + "  agents: [\"[\"]\n":                                 "agents: want patterns",
		good + "  agents: [null]\n":                                  "agents: want patterns",
		good + "  agents: " + secret + "\n":                          "agents: want a list",
		good + "  expires: tomorrow\n":                               "expires: want a time",
		good + "  expires: 2027-02-11\n":                             "expires: want a time",
		good + "  subject: ''\n":                                     "subject: want",
		entryOf("a", "root", "t", ""):                                "role: want read",
		entryOf("'-'", "read", "t", ""):                              "name: want",
		entryOf("api", "read", "t", ""):                              "name: want",
		entryOf("'a b'", "read", "t", ""):                            "name: want",
		"- {name: a, role: read}\n":                                  "sha256 is missing",
		"- {role: read, sha256: " + digest("t") + "}\n":              "name is missing",
		"- {name: a, sha256: " + digest("t") + "}\n":                 "role is missing",
		"- {name: a, role: read, sha256: " + secret + "}\n":          "sha256: want",
		"- {name: a, role: read, sha256: " + digest("")[:62] + "}\n": "sha256: want",
		good + entryOf("b", "read", "t", ""):                         "has the sha256 of entry 1",
		good + entryOf("a", "admin", "u", ""):                        "another role",
		good + entryOf("a", "read", "u", "  agents: [x]\n"):          "another role or other agents",
		"- {name: a, role: read, subject: CN=a}\n- {name: b, role: read, subject: CN=a}\n": "has the subject of entry 1",
		good + "  subject: &x CN=a\n- {name: b, role: read, subject: *x}\n":                "subject: want",
		"- {name: a, role: read, <<: {sha256: x}}\n":                                       "no fields but",
		"- '" + secret:                   "no YAML",
		strings.Repeat(good, maxLines+1): "1000 entries at most",
	} {
		_, err := parse([]byte(text))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "ffff") {
			t.Errorf("%.80q: %v, want %q", text, err, want)
		}
	}
	if f, err := parse([]byte("[]")); err != nil || len(f.lines) != 0 {
		t.Errorf("nobody: %v", err)
	}
	if f, err := parse([]byte(good + entryOf("a", "read", "u", ""))); err != nil || len(f.lines) != 2 {
		t.Errorf("two tokens of one name: %v", err)
	}
}

func TestAdmit_KnowsTokensInEachPlace(t *testing.T) {
	t.Parallel()
	g, _ := newGuard(t, entryOf("ann", "operate", "right", "")+entryOf("old", "admin", "stale", "  expires: 2020-01-01T00:00:00Z\n"))
	long := strings.Repeat("x", maxToken+1)
	for what, c := range map[string]struct {
		r    *http.Request
		ways Ways
		want problem.Code
	}{
		"bearer":             {bearer("right"), API, ""},
		"scheme in any case": {request("GET", "Authorization", "bEARER right"), API, ""},
		"our header":         {request("GET", TokenHeader, "right"), API, ""},
		"our header wins":    {request("GET", TokenHeader, "right", "Authorization", "Bearer wrong"), API, ""},
		"our header of two":  {request("GET", TokenHeader, "right", TokenHeader, "right"), API, problem.Unauthenticated},
		"none":               {request("GET"), API, problem.Unauthenticated},
		"wrong":              {bearer("righ"), API, problem.Unauthenticated},
		"longer":             {bearer("right1"), API, problem.Unauthenticated},
		"too long":           {bearer(long), API, problem.Unauthenticated},
		"empty":              {bearer(""), API, problem.Unauthenticated},
		"the hash itself":    {bearer(digest("right")), API, problem.Unauthenticated},
		"basic":              {request("GET", "Authorization", "Basic right"), API, problem.Unauthenticated},
		"two":                {request("GET", "Authorization", "Bearer right", "Authorization", "Bearer right"), API, problem.Unauthenticated},
		"expired":            {bearer("stale"), API, problem.Unauthenticated},
		"bearer at the gate": {bearer("right"), Gate, ""},
		"bearer at an agent": {bearer("right"), Gateway, problem.Unauthenticated},
		"ours at an agent":   {request("GET", TokenHeader, "right", "Authorization", "Bearer theirs"), Gateway, ""},
		"query is no place":  {httptest.NewRequest(http.MethodGet, "/?access_token=right", nil), API, problem.Unauthenticated},
	} {
		who, p := g.Admit(c.r, Report, c.ways)
		if code(p) != c.want || (p == nil) != (who != nil) {
			t.Errorf("%s: %v", what, p)
		}
		if p == nil && (who.Name != "ann" || who.By != knownByToken) {
			t.Errorf("%s: %+v", what, who)
		}
	}
}

func TestAdmit_ANilGuardAsksNobody(t *testing.T) {
	t.Parallel()
	var g *Guard
	who, p := g.Admit(request("POST"), Admin, API)
	if p != nil || !who.Has(Admin) || who.CheckAgent("a") != nil || who.Name != "" {
		t.Errorf("%+v %v", who, p)
	}
	var stranger *Caller
	if stranger.Has(Read) || !stranger.Has(Open) || stranger.CheckAgent("a") == nil {
		t.Error("a stranger may do something")
	}
}

func TestCheckAgent_GoesByPatterns(t *testing.T) {
	t.Parallel()
	g, _ := newGuard(t, entryOf("a", "report", "t", "  agents: [pay-*, exact, \"x[0-9]\"]\n"))
	who, _ := g.Admit(bearer("t"), Report, API)
	for agent, want := range map[string]bool{"pay-": true, "pay-1": true, "pa": false, "exact": true, "exact1": false, "x7": true, "xa": false, "PAY-1": false} {
		err := who.CheckAgent(agent)
		if p, _ := problem.Of(err); (err == nil) != want || err != nil && p.Code != problem.ForbiddenAgent {
			t.Errorf("%s: %v", agent, err)
		}
	}
}

func TestAdmit_AnExpiredTokenEndsAtItsMoment(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		until := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
		g, _ := newGuard(t, entryOf("a", "read", "t", "  expires: "+until.Format(time.RFC3339)+"\n"))
		time.Sleep(time.Until(until) - time.Nanosecond)
		if _, p := g.Admit(bearer("t"), Read, API); p != nil {
			t.Error(p)
		}
		time.Sleep(time.Nanosecond)
		if _, p := g.Admit(bearer("t"), Read, API); code(p) != problem.Unauthenticated {
			t.Error(p)
		}
	})
}

// settle has the guard read its file, as Run does.
func settle(t *testing.T, g *Guard) {
	t.Helper()
	for range 2 {
		if _, err := g.watched.Look(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRun_FollowsTheFile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		g, path := newGuard(t, entryOf("a", "read", "one", ""))
		g.o.Logger = slog.New(slog.NewTextHandler(&log, nil))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); g.Run(ctx) }()
		settle := func() { time.Sleep(3 * lookEvery); synctest.Wait() }
		right := func(token string) bool { _, p := g.Admit(bearer(token), Read, API); return p == nil }
		stream, end := g.While(ctx, must(g.Admit(bearer("one"), Read, API)))
		defer end()

		write(t, path, entryOf("a", "read", "one", "")+entryOf("a", "read", "two", ""))
		settle()
		if !right("one") || !right("two") || g.Problem() != nil {
			t.Errorf("after an addition: %v", g.Problem())
		}
		time.Sleep(5 * time.Second)
		if stream.Err() != nil {
			t.Error("a stream ended though its line stands")
		}
		write(t, path, "- name: a\n  role: re")
		settle()
		if !right("one") || !right("two") || g.Problem() == nil {
			t.Error("a bad file is in force, or not told of")
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		settle()
		if !right("one") || g.Problem() == nil {
			t.Error("a missing file is in force, or not told of")
		}
		write(t, path, "- name: a\n  role: re")
		settle()
		if g.Problem() == nil {
			t.Error("the same bad file is good")
		}
		write(t, path, entryOf("a", "read", "two", ""))
		settle()
		if right("one") || !right("two") || g.Problem() != nil {
			t.Errorf("after a removal: %v", g.Problem())
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if stream.Err() == nil {
			t.Error("a stream goes on after its line was removed")
		}
		cancel()
		<-done
		if n := strings.Count(log.String(), "AUTH_FILE not taken"); n != 3 {
			t.Errorf("%d faults logged: %s", n, &log)
		}
		if strings.Contains(log.String(), digest("two")) {
			t.Errorf("a hash is logged: %s", &log)
		}
	})
}

func must(c *Caller, p *problem.Problem) *Caller {
	if p != nil {
		panic(p)
	}
	return c
}

// A file that is written in two steps says something else between them: here that a token may name every agent.
func TestRun_WaitsForTheRestOfAFile(t *testing.T) {
	t.Parallel()
	g, path := newGuard(t, entryOf("a", "report", "t", "  agents: [x]\n"))
	half := entryOf("a", "report", "t", "")
	if err := os.WriteFile(path, []byte(half), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := g.watched.Look(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(half+"  agents: [y]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if who, _ := g.Admit(bearer("t"), Report, API); who.CheckAgent("z") == nil {
			t.Fatal("half a file is in force")
		}
		if _, err := g.watched.Look(); err != nil {
			t.Fatal(err)
		}
	}
	if who, _ := g.Admit(bearer("t"), Report, API); who.CheckAgent("y") != nil {
		t.Error("the whole file is not in force")
	}
}

// Callers go over from one token to another while the file goes from the one to both, and to the other.
func TestRun_ATokenIsReplacedWithoutARefusedCall(t *testing.T) {
	t.Parallel()
	one, two := entryOf("a", "report", "one", ""), entryOf("a", "report", "two", "")
	g, path := newGuard(t, one)
	const callers = 4
	var running sync.WaitGroup
	both, enough, moved := make(chan struct{}), make(chan struct{}), make(chan struct{}, callers)
	call := func(token string, until <-chan struct{}) {
		for {
			if _, p := g.Admit(bearer(token), Report, API); p != nil {
				t.Errorf("%s: %v", token, p)
			}
			select {
			case <-until:
				return
			default:
			}
		}
	}
	for range callers {
		running.Go(func() {
			call("one", both)
			moved <- struct{}{}
			call("two", enough)
		})
	}
	write(t, path, one+two)
	settle(t, g)
	close(both)
	for range callers {
		<-moved
	}
	write(t, path, two)
	settle(t, g)
	close(enough)
	running.Wait()
	if _, p := g.Admit(bearer("one"), Report, API); p == nil {
		t.Error("the former token still counts")
	}
}

func withCertificate(subject pkix.Name, until time.Time) *http.Request {
	r := request("POST")
	raw, err := asn1.Marshal(subject.ToRDNSequence())
	if err != nil {
		panic(err)
	}
	r.TLS = &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{{Subject: subject, RawSubject: raw, NotAfter: until}}}}
	return r
}

// openssl req -subj '/CN=proxy/O=Example, Inc./C=DE', printed by openssl x509 -subject -nameopt RFC2253.
func TestSubjectOf_KeepsTheOrderOfTheCertificate(t *testing.T) {
	t.Parallel()
	part := func(id asn1.ObjectIdentifier, value string) pkix.RelativeDistinguishedNameSET {
		return pkix.RelativeDistinguishedNameSET{{Type: id, Value: value}}
	}
	raw, err := asn1.Marshal(pkix.RDNSequence{
		part(asn1.ObjectIdentifier{2, 5, 4, 3}, "proxy"), part(asn1.ObjectIdentifier{2, 5, 4, 10}, "Example, Inc."),
		part(asn1.ObjectIdentifier{2, 5, 4, 6}, "DE"),
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := subjectOf(&x509.Certificate{RawSubject: raw}); got != `C=DE,O=Example\, Inc.,CN=proxy` {
		t.Error(got)
	}
	if got := subjectOf(&x509.Certificate{}); got != "" {
		t.Error(got)
	}
}

func TestAdmit_KnowsCertificatesBySubject(t *testing.T) {
	t.Parallel()
	g, _ := newGuard(t, "- {name: proxy, role: report, subject: 'CN=proxy,O=Example', agents: [a]}\n")
	tomorrow := time.Now().Add(24 * time.Hour)
	ours := pkix.Name{CommonName: "proxy", Organization: []string{"Example"}}
	who, p := g.Admit(withCertificate(ours, tomorrow), Report, Gateway)
	if p != nil || who.Name != "proxy" || who.By != knownByCertificate || !who.Until.Equal(tomorrow) || who.CheckAgent("b") == nil {
		t.Errorf("%+v %v", who, p)
	}
	if _, p := g.Admit(withCertificate(ours, tomorrow), Admin, API); code(p) != problem.Forbidden {
		t.Errorf("another role: %v", p)
	}
	for what, r := range map[string]*http.Request{
		"another subject": withCertificate(pkix.Name{CommonName: "proxy"}, tomorrow),
		"ended":           withCertificate(ours, time.Now().Add(-time.Second)),
		"not verified":    {Header: http.Header{}, TLS: &tls.ConnectionState{PeerCertificates: []*x509.Certificate{{Subject: ours}}}},
	} {
		if _, p := g.Admit(r, Report, API); code(p) != problem.Unauthenticated {
			t.Errorf("%s: %v", what, p)
		}
	}
}

func TestAdmit_WithoutAFileEachCertificateIsAdmin(t *testing.T) {
	t.Parallel()
	g, err := New(Options{Certificates: true})
	if err != nil {
		t.Fatal(err)
	}
	tomorrow := time.Now().Add(24 * time.Hour)
	for common, want := range map[string]string{"ops": "ops", "Ann Öl": "Ann--l", "": "certificate", "api": "certificate", strings.Repeat("x", 99): strings.Repeat("x", 64)} {
		if who, p := g.Admit(withCertificate(pkix.Name{CommonName: common}, tomorrow), Admin, API); p != nil || who.Name != want {
			t.Errorf("%q: %+v %v", common, who, p)
		}
	}
	if _, p := g.Admit(bearer("x"), Read, API); code(p) != problem.Unauthenticated {
		t.Error(p)
	}
	if _, err := New(Options{}); err == nil {
		t.Error("a guard by nothing")
	}
}

func TestWrongTokens_AreSlowedAndRightOnesNot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g, _ := newGuard(t, entryOf("a", "read", "right", ""))
		from := func(address, token string) *problem.Problem {
			r := bearer(token)
			r.RemoteAddr = address
			_, p := g.Admit(r, Read, API)
			return p
		}
		for i := range 3 * wrongAtOnce {
			want := problem.Unauthenticated
			if i >= wrongAtOnce {
				want = problem.RateLimited
			}
			if p := from("10.0.0.1:1", "wrong"); code(p) != want {
				t.Fatalf("%d: %v", i, p)
			}
			if p := from("10.0.0.1:2", "right"); p != nil {
				t.Fatalf("%d, right: %v", i, p)
			}
		}
		if p := from("10.0.0.2:1", "wrong"); code(p) != problem.Unauthenticated {
			t.Errorf("another address: %v", p)
		}
		if _, p := g.Admit(request("GET"), Read, API); code(p) != problem.Unauthenticated {
			t.Errorf("no token: %v", p)
		}
		time.Sleep(wrongEvery)
		if p := from("10.0.0.1:1", "wrong"); code(p) != problem.Unauthenticated {
			t.Errorf("after a while: %v", p)
		}
		w := httptest.NewRecorder()
		from("10.0.0.1:1", "wrong").Write(w)
		if w.Code != 429 || !strings.Contains(fmt.Sprint(w.Header()), "retry-after:[1]") {
			t.Errorf("%d %v", w.Code, w.Header())
		}
		if network("[2001:db8::1]:1") != network("[2001:db8::2]:9") || network("[::ffff:10.0.0.1]:1") != network("10.0.0.1:2") || network("@") != "" {
			t.Error("one network is several")
		}
	})
}
