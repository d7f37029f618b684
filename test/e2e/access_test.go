package e2e

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
)

// holder is who has a token.
type holder struct{ token, entry string }

// newHolder has breakerd make a token.
func newHolder(t *testing.T, args ...string) holder {
	t.Helper()
	out, err := exec.Command(breakerd.binary(), append([]string{"token", "new"}, args...)...).Output()
	if err != nil {
		t.Fatalf("%v %s", err, out)
	}
	token, entry, _ := strings.Cut(string(out), "\n")
	return holder{token, entry}
}

// writeAuth puts entries in the place of a file, as one who edits it should.
func writeAuth(t *testing.T, path string, entries ...holder) {
	t.Helper()
	var text strings.Builder
	for _, e := range entries {
		text.WriteString(e.entry)
	}
	if err := os.WriteFile(path+".next", []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".next", path); err != nil {
		t.Fatal(err)
	}
}

func (h holder) header(more ...string) []string {
	return append(more, "Authorization", "Bearer "+h.token)
}

func TestAccess_BadFileIsABadConfiguration(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.yaml")
	writeAuth(t, bad, holder{entry: "- name: a\n  role: root\n  sha256: breakerd_secret\n"})
	for _, p := range []program{breakerd, bridge} {
		for _, env := range []string{"AUTH_FILE=" + bad, "AUTH_FILE=" + dir + "/absent", "AUTH_FILE=" + dir} {
			d := p.launch(t, nil, env)
			if code := d.ExitCode(); code != 2 || !strings.Contains(d.Stderr(), "AUTH_FILE") || strings.Contains(d.Stderr(), "breakerd_secret") {
				t.Errorf("%s with %s: exit code %d: %s", p.name, env, code, d.Stderr())
			}
		}
	}
}

// One file guards both programs, and no secret of it is shown by anything that they say.
func TestAccess_OneFileGuardsBothAndNothingShowsASecret(t *testing.T) {
	t.Parallel()
	redis := testkit.Start(t)
	ann, ci := newHolder(t, "--name", "ann", "--role", "admin"), newHolder(t, "--name", "ci", "--role", "report", "--agents", "pay-*")
	file := filepath.Join(t.TempDir(), "auth.yaml")
	writeAuth(t, file, ann, ci)
	env := []string{"REDIS_URL=" + redis.URL(), "AUTH_FILE=" + file, "LOG_LEVEL=debug", "BRIDGE_AGENTS_AUTH=required"}
	b, g := start(t, append(env, "BREAKERD_LISTEN=0.0.0.0:0")...), bridge.start(t, append(env, "BRIDGE_LISTEN=0.0.0.0:0")...)
	agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Header.Get("Authorization"), "|", r.Header.Get("Cookie"), "|", r.Header.Get("X-Breaker-Token"))
	}))
	t.Cleanup(agent.Close)

	g.call("POST", "/api/v1/agents", `{"name":"pay-card","url":"`+agent.URL+`"}`).want(401)
	g.call("POST", "/api/v1/agents", `{"name":"pay-card","url":"`+agent.URL+`"}`, ci.header()...).want(403)
	g.call("POST", "/api/v1/agents", `{"name":"pay-card","url":"`+agent.URL+`"}`, ann.header()...).want(201)
	g.call("GET", "/agents/pay-card/x", "", ci.header()...).want(401) // Authorization is the agent's
	session := b.call("POST", "/v1/session", "", ann.header()...).want(200)
	cookie, _, _ := strings.Cut(session.header.Get("Set-Cookie"), ";")
	got := g.call("GET", "/agents/pay-card/x", "", "Authorization", "Bearer theirs", "Cookie", "a=1; "+cookie, "X-Breaker-Token", ci.token).want(200)
	if string(got.body) != "Bearer theirs|a=1|" {
		t.Errorf("the agent saw %s", got.body)
	}
	g.call("GET", "/agents/other/x", "", "X-Breaker-Token", ci.token).want(403)
	b.call("POST", "/v1/circuit_breakers/pay-card/acquire", "", ci.header()...).want(200)
	b.call("POST", "/v1/circuit_breakers/other/acquire", "", ci.header()...).want(403)
	b.call("POST", "/v1/circuit_breakers/pay-card/acquire", "", "Authorization", "Bearer "+ci.token[:len(ci.token)-1]).want(401)
	b.call("POST", "/v1/admin/circuit_breakers/pay-card/open", `{"reason":"fire"}`, ci.header()...).want(403)
	b.call("POST", "/v1/admin/circuit_breakers/pay-card/open", `{"reason":"fire"}`, ann.header("X-Actor", "mallory")...).want(200)
	b.call("POST", "/v1/admin/circuit_breakers/pay-card/close", `{"reason":"x"}`, "Cookie", cookie, "Origin", "https://evil.example").want(403)

	audit := b.call("GET", "/v1/admin/audit?agent=pay-card", "", ann.header()...).want(200)
	if !strings.Contains(string(audit.body), `"actor":"ann"`) || strings.Contains(string(audit.body), "mallory") {
		t.Errorf("the audit: %s", audit.body)
	}
	b.call("GET", "/health", "").want(200)
	b.call("GET", "/health/checks", "").want(401)
	var said strings.Builder
	for _, d := range []*daemon{b, g} {
		for _, path := range []string{"/health", "/health/checks", "/metrics", "/openapi.json", "/docs"} {
			said.Write(d.call("GET", path, "", ann.header()...).want(200).body)
		}
		said.WriteString(d.Stderr() + d.Stdout())
	}
	said.Write(audit.body)
	_, mac, _ := strings.Cut(cookie, "ann.")
	for _, secret := range []string{ann.token, ci.token, ann.token[:30], sha256Of(ann), sha256Of(ci), mac} {
		if strings.Contains(said.String(), secret) {
			t.Errorf("%q is shown", secret)
		}
	}
	if !strings.Contains(b.Stderr(), `"event":"access.claim"`) || !strings.Contains(b.Stderr(), "mallory") {
		t.Error("the log does not say whom ann claimed to act for")
	}
}

// sha256Of is what the file has of a token.
func sha256Of(h holder) string {
	_, rest, _ := strings.Cut(h.entry, "sha256: ")
	sum, _, _ := strings.Cut(rest, "\n")
	return sum
}

// Callers go over to another token while breakerd runs: no call of theirs is refused, and the former token ends. A bad
// file in between changes nothing, and health says so.
func TestAccess_TokensAreReplacedUnderLoad(t *testing.T) {
	t.Parallel()
	former, next := newHolder(t, "--name", "ci", "--role", "report"), newHolder(t, "--name", "ci", "--role", "report")
	file := filepath.Join(t.TempDir(), "auth.yaml")
	writeAuth(t, file, former)
	d := start(t, "AUTH_FILE="+file)
	var now atomic.Pointer[holder]
	now.Store(&former)
	var calls, refused atomic.Int64
	stop, ended := make(chan struct{}), make(chan struct{})
	const callers = 4
	for range callers {
		go func() {
			defer func() { ended <- struct{}{} }()
			for {
				select {
				case <-stop:
					return
				default:
				}
				r, err := d.try("POST", "/v1/circuit_breakers/a/acquire", "", now.Load().header()...)
				if calls.Add(1); err != nil || r.status != 200 {
					refused.Add(1)
				}
			}
		}()
	}
	status := func(h holder, want int) func() error {
		return func() error {
			r, err := d.try("POST", "/v1/circuit_breakers/a/acquire", "", h.header()...)
			if err == nil && r.status != want {
				err = errors.New(string(r.body))
			}
			return err
		}
	}
	await := func(what string, f func() error) { testkit.Eventually(t, what, 5*time.Second, f) }
	more := func() {
		from := calls.Load()
		await("calls", func() error {
			if calls.Load() < from+100 {
				return errors.New("too few")
			}
			return nil
		})
	}
	more()
	writeAuth(t, file, former, next)
	await("the next token", status(next, 200))
	now.Store(&next)
	more() // none of the callers has the former one in hand any more
	writeAuth(t, file, holder{entry: "- name: ci\n  role"})
	await("a bad file to show", func() error {
		if r, err := d.try("GET", "/health", ""); err != nil || r.text("status") != "degraded" {
			return fmt.Errorf("%s %w", r.body, err)
		}
		return nil
	})
	more()
	writeAuth(t, file, next)
	await("the former token to end", status(former, 401))
	more()
	close(stop)
	for range callers {
		<-ended
	}
	if refused.Load() > 0 {
		t.Errorf("%d of %d calls were refused", refused.Load(), calls.Load())
	}
	if r := d.call("GET", "/health", ""); r.text("status") != "healthy" {
		t.Errorf("%s", r.body)
	}
}

// A client certificate does in place of a token: by its subject where there is a file, as admin where there is none.
func TestAccess_CertificatesByTheirSubject(t *testing.T) {
	t.Parallel()
	ca, stranger := testkit.NewCA(t), testkit.NewCA(t)
	server, pair := ca.ServerPair(t, "breakerd.internal"), ca.ClientPair(t)
	cert, err := tls.LoadX509KeyPair(pair.CertFile, pair.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "auth.yaml")
	writeAuth(t, file, holder{entry: "- name: proxy\n  role: report\n  subject: " + cert.Leaf.Subject.String() + "\n"})
	env := []string{"TLS_CERT_FILE=" + server.CertFile, "TLS_KEY_FILE=" + server.KeyFile, "TLS_CLIENT_CA_FILE=" + ca.File, "BREAKERD_LISTEN=0.0.0.0:0"}
	const acquire, list = "POST /v1/circuit_breakers/a/acquire", "GET /v1/admin/circuit_breakers"
	for _, c := range []struct {
		env  []string
		cert testkit.Pair
		want map[string]int
	}{
		{append(env, "AUTH_FILE="+file), pair, map[string]int{acquire: 200, list: 403, "GET /livez": 200}},
		{append(env, "AUTH_FILE="+file), testkit.Pair{}, map[string]int{acquire: 401, list: 401, "GET /livez": 200}},
		{env, pair, map[string]int{acquire: 200, list: 200}},
		{env, testkit.Pair{}, map[string]int{acquire: 401, list: 401, "GET /readyz": 200}},
	} {
		d := start(t, c.env...)
		config := ca.ClientConfig(t, pair, "breakerd.internal")
		if config.Certificates = nil; c.cert.CertFile != "" {
			config.Certificates = []tls.Certificate{cert}
		}
		tr := &http.Transport{TLSClientConfig: config}
		t.Cleanup(tr.CloseIdleConnections)
		for what, want := range c.want {
			method, path, _ := strings.Cut(what, " ")
			req, err := http.NewRequestWithContext(t.Context(), method, "https://"+d.addr+path, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			res, err := tr.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			if _ = res.Body.Close(); res.StatusCode != want {
				t.Errorf("%v, %s: %d, want %d", c.env, what, res.StatusCode, want)
			}
		}
	}
	d := start(t, env...)
	foreign := stranger.ClientPair(t)
	other, err := tls.LoadX509KeyPair(foreign.CertFile, foreign.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	config := ca.ClientConfig(t, pair, "breakerd.internal")
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &other, nil }
	tr := &http.Transport{TLSClientConfig: config}
	t.Cleanup(tr.CloseIdleConnections)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+d.addr+"/v1/whoami", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if res, err := tr.RoundTrip(req); err == nil {
		t.Errorf("another authority's certificate: %d", res.StatusCode)
		_ = res.Body.Close()
	}
}
