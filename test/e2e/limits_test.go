package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/breakerd/breakerd/internal/testkit"
)

// send sends one request with a token, "" for none.
func (d *daemon) send(method, path, token, body string) (status int, text string) {
	d.t.Helper()
	req, err := http.NewRequestWithContext(d.t.Context(), method, "http://"+d.addr+path, strings.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := d.client.Do(req)
	if err != nil {
		d.t.Fatal(err)
	}
	got, err := io.ReadAll(res.Body)
	if err := errors.Join(err, res.Body.Close()); err != nil {
		d.t.Fatal(err)
	}
	return res.StatusCode, string(got)
}

// authFile is a file with one entry for each token, each of the role report.
func authFile(t *testing.T, tokens ...string) string {
	t.Helper()
	var text strings.Builder
	for _, token := range tokens {
		sum := sha256.Sum256([]byte(token))
		fmt.Fprintf(&text, "- name: %s\n  role: report\n  sha256: %s\n", token[:3], hex.EncodeToString(sum[:]))
	}
	path := filepath.Join(t.TempDir(), "auth.yaml")
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const annsToken, bobsToken = "ann-0123456789abcdef0123456789abcdef", "bob-0123456789abcdef0123456789abcdef"

// A client that sends more than its share is refused, by name or by address; the health routes answer all the same.
func TestLimits_RateOfAClient(t *testing.T) {
	t.Parallel()
	const acquire = dataPath + "a/acquire"
	for _, c := range []struct {
		program program
		path    string
		tokens  []string // each is a client
	}{
		{breakerd, acquire, []string{annsToken, bobsToken}},
		{breakerd, "/v1/gate/a", []string{annsToken, bobsToken}},
		{breakerd, acquire, []string{""}},
		{bridge, "/agents/nobody/x", []string{""}},
		{bridge, "/api/v1/workflows", []string{""}},
	} {
		env := []string{"CLIENT_RATE_PER_SECOND=1"}
		if c.tokens[0] != "" {
			env = append(env, "AUTH_FILE="+authFile(t, c.tokens...))
		}
		d := c.program.start(t, env...)
		method := http.MethodPost
		if c.path == "/v1/gate/a" || c.program.name == "bridge" {
			method = http.MethodGet
		}
		for _, token := range c.tokens {
			refused, passed := 0, 0
			for range 20 {
				req, err := http.NewRequestWithContext(t.Context(), method, "http://"+d.addr+c.path, http.NoBody)
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("X-Breaker-Gate", "1")
				if token != "" {
					req.Header.Set("Authorization", "Bearer "+token)
				}
				res, err := d.client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				text, err := io.ReadAll(res.Body)
				if err := errors.Join(err, res.Body.Close()); err != nil {
					t.Fatal(err)
				}
				ours := strings.HasPrefix(c.path, "/agents/")
				switch {
				case res.StatusCode == http.StatusTooManyRequests:
					refused++
					if !strings.Contains(string(text), `"rate_limited"`) || res.Header.Get("Retry-After") != "1" || (res.Header.Get("Proxy-Status") != "") != ours {
						t.Errorf("%s: %v %s", c.path, res.Header, text)
					}
				case res.StatusCode == http.StatusOK, ours && res.StatusCode == http.StatusNotFound:
					passed++
				default:
					t.Errorf("%s: %d %s", c.path, res.StatusCode, text)
				}
			}
			if passed == 0 || refused == 0 {
				t.Errorf("%s %s: %d passed, %d refused", c.program.name, c.path, passed, refused)
			}
		}
		for range 20 {
			for _, path := range []string{"/livez", "/readyz", "/health"} {
				if status, text := d.send(http.MethodGet, path, "", ""); status != http.StatusOK {
					t.Errorf("%s: %d %s", path, status, text)
				}
			}
		}
		if c.tokens[0] == "" {
			if _, text := d.send(http.MethodGet, "/metrics", "", ""); !strings.Contains(text, `circuit_breaker_requests_refused_total{reason="rate_limited"} `) {
				t.Errorf("no count of what was refused in\n%s", text)
			}
		}
	}
}

// A permit that one replica gave is good at another one, and nobody can make one up. A replica that is not there when
// the key changes learns it.
func TestPermits_AreGoodAtEveryReplicaAndCannotBeMadeUp(t *testing.T) {
	t.Parallel()
	s := testkit.Start(t)
	file := authFile(t, annsToken)
	one := breakerd.start(t, "REDIS_URL="+s.URL(), "AUTH_FILE="+file)
	other := breakerd.start(t, "REDIS_URL="+s.URL(), "AUTH_FILE="+file)
	acquire := func(d *daemon) string {
		t.Helper()
		status, text := d.send(http.MethodPost, dataPath+"a/acquire", annsToken, "")
		var reply struct {
			Permit string `json:"permit"`
		}
		if err := json.Unmarshal([]byte(text), &reply); err != nil || status != http.StatusOK {
			t.Fatalf("%d %s", status, text)
		}
		return reply.Permit
	}
	report := func(d *daemon, permit, want string) {
		t.Helper()
		status, text := d.send(http.MethodPost, dataPath+"a/report", annsToken, `{"outcome":"success","permit":"`+permit+`"}`)
		if !strings.Contains(text, want) {
			t.Errorf("%s: %d %s, want %s", permit, status, text, want)
		}
	}
	permit := acquire(one)
	report(other, permit, `"counted":true`)
	without := permit[:strings.LastIndexByte(permit, '.')]
	report(other, without, `"code":"invalid_permit"`)
	report(other, without+".0123456789abcdef", `"code":"invalid_permit"`)
	if err := s.Client(t).Del(t.Context(), "circuit_breaker:permit_key").Err(); err != nil {
		t.Fatal(err)
	}
	third := breakerd.start(t, "REDIS_URL="+s.URL(), "AUTH_FILE="+file) // it makes another key
	renewed := acquire(third)
	if renewed == permit {
		t.Fatal("the key is the same")
	}
	report(one, renewed, `"counted":true`)
	report(other, permit, `"counted":true`)
	for _, d := range []*daemon{one, other, third} {
		if key := s.Client(t).HGet(t.Context(), "circuit_breaker:permit_key", "current").Val(); len(key) != 64 || strings.Contains(d.Stderr(), key) {
			t.Errorf("the key %q is in the log", key)
		}
	}
}
