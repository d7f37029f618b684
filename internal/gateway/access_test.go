package gateway_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/breakerd/breakerd/internal/access"
	"github.com/breakerd/breakerd/internal/gateway"
	"github.com/breakerd/breakerd/internal/route/routetest"
)

// withTokens has the gateway of a fixture ask for tokens.
func withTokens(t *testing.T, f *fixture) {
	t.Helper()
	gate, err := gateway.New(gateway.Options{Agents: f.agents, Manager: f.manager, Access: routetest.Guard(t)})
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(gate)
	t.Cleanup(front.Close)
	f.url = front.URL
}

func TestGateway_ATokenIsAskedForInAHeaderOfItsOwn(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	f := newFixture(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { calls.Add(1); echo(w, r) }))
	withTokens(t, f)
	for name, want := range map[string]int{
		"": 401, "wrong": 401, "expired": 401, "read": 403, routetest.Elsewhere: 403, "report": 200, "operate": 200, "admin": 200,
	} {
		before := calls.Load()
		var header []string
		if name != "" {
			header = []string{access.TokenHeader, routetest.TokenOf(name)}
		}
		r := f.do("POST", "/agents/Agent/x", "body", append(header, "Authorization", "Bearer "+routetest.TokenOf("admin"))...)
		if r.StatusCode != want || (calls.Load() > before) != (want == 200) {
			t.Errorf("%q: %d %s, want %d", name, r.StatusCode, r.text, want)
		}
		if want != 200 && (!strings.Contains(r.Header.Get("Proxy-Status"), "http_request_denied") || strings.Contains(r.text, "token-of")) {
			t.Errorf("%q: %v %s", name, r.Header, r.text)
		}
	}
	if r := f.do("GET", "/agents/Unknown/x", ""); r.StatusCode != http.StatusUnauthorized {
		t.Errorf("which agents there are is told to strangers: %d %s", r.StatusCode, r.text)
	}
}

// An agent sees what is its own: neither our token nor our session, whether a token is asked for or not.
func TestGateway_KeepsOurCredentialsFromAgents(t *testing.T) {
	t.Parallel()
	for _, asked := range []bool{false, true} {
		f := newFixture(t, http.HandlerFunc(echo))
		if asked {
			withTokens(t, f)
		}
		r := f.do("GET", "/agents/Agent/x", "", access.TokenHeader, routetest.TokenOf("report"), "Authorization", "Bearer theirs",
			"Cookie", "a=1; "+access.Cookie+"=report.1.mac; b=2")
		var got seen
		if err := json.NewDecoder(io.NopCloser(strings.NewReader(r.text))).Decode(&got); err != nil {
			t.Fatal(err, r.text)
		}
		if got.Header.Get(access.TokenHeader) != "" || got.Header.Get("Cookie") != "a=1; b=2" || got.Header.Get("Authorization") != "Bearer theirs" {
			t.Errorf("asked %v: %v", asked, got.Header)
		}
	}
}
