package gateway_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/breakerd/breakerd/internal/gateway"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// guarded is an API behind a guard. The path of a request selects the answer.
func guarded(t *testing.T, o gateway.InboundOptions) (f *fixture, calls *atomic.Int64) {
	t.Helper()
	calls = &atomic.Int64{}
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		switch {
		case strings.Contains(r.URL.Path, "bad"):
			http.Error(w, "quarantined", http.StatusUnprocessableEntity)
		case strings.Contains(r.URL.Path, "broken"):
			http.Error(w, "our own fault", http.StatusInternalServerError)
		}
	}))
	t.Cleanup(api.Close)
	f = &fixture{t: t, manager: newManager(t)}
	base := gateway.NewBase(0)
	t.Cleanup(base.CloseIdleConnections)
	o.URL, o.Manager, o.Base = api.URL, f.manager, base
	guard, err := gateway.NewInbound(o)
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(guard)
	t.Cleanup(front.Close)
	f.url = front.URL
	return f, calls
}

func TestInbound_RefusesTheCallingAgentAndNobodyElse(t *testing.T) {
	t.Parallel()
	f, calls := guarded(t, gateway.InboundOptions{Agent: "header:X-Agent-ID"})
	for range 5 {
		if r := f.do(http.MethodPost, "/v1/assert/bad", "{}", "X-Agent-ID", "Flooder"); r.StatusCode != http.StatusUnprocessableEntity {
			t.Fatalf("got %d %s", r.StatusCode, r.text)
		}
	}
	before := calls.Load()
	r := f.do(http.MethodPost, "/v1/assert", "{}", "X-Agent-ID", "Flooder")
	r.problem(t, http.StatusTooManyRequests, "circuit_breaker_open")
	if r.Header.Get("X-Circuit-Breaker-State") != "OPEN" || r.Header.Get("Retry-After") == "" || calls.Load() != before {
		t.Errorf("headers %v; the API was called %d times more", r.Header, calls.Load()-before)
	}
	if r := f.do(http.MethodPost, "/v1/assert", "{}", "X-Agent-ID", "Honest"); r.StatusCode != http.StatusOK {
		t.Errorf("another agent got %d", r.StatusCode)
	}
	for range 10 {
		f.do(http.MethodPost, "/v1/broken", "{}", "X-Agent-ID", "Honest")
	}
	if state, failures, _ := f.counted("Honest"); state != breaker.Closed || failures != 0 {
		t.Errorf("the API's own faults made it %s with %d failures", state, failures)
	}
	for _, name := range []string{"", "-x", "a b", strings.Repeat("x", 129)} {
		f.do(http.MethodPost, "/v1/assert", "{}", "X-Agent-ID", name).problem(t, http.StatusBadRequest, "invalid_agent_name")
	}
	f.do(http.MethodGet, "/v1/../admin", "", "X-Agent-ID", "Honest").problem(t, http.StatusBadRequest, "invalid_path")
}

func TestInbound_PathNamesTheAgent(t *testing.T) {
	t.Parallel()
	f, _ := guarded(t, gateway.InboundOptions{Agent: "path:2"})
	for range 5 {
		f.do(http.MethodGet, "/v1/Flooder/bad", "")
	}
	f.do(http.MethodGet, "/v1/Flooder/x", "").problem(t, http.StatusTooManyRequests, "circuit_breaker_open")
	if r := f.do(http.MethodGet, "/v1/Honest/x", ""); r.StatusCode != http.StatusOK {
		t.Errorf("another agent got %d", r.StatusCode)
	}
	f.do(http.MethodGet, "/v1", "").problem(t, http.StatusBadRequest, "invalid_agent_name")
}

// signer makes bearer tokens.
func signer(t *testing.T) func(method jwt.SigningMethod, key any, claims jwt.MapClaims) string {
	return func(method jwt.SigningMethod, key any, claims jwt.MapClaims) string {
		text, err := jwt.NewWithClaims(method, claims).SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return "Bearer " + text
	}
}

// keyPair returns a private key, and its public key in PEM.
func keyPair(t *testing.T) (key *ecdsa.PrivateKey, public []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return key, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func TestInbound_OnlyAVerifiedTokenNamesTheAgent(t *testing.T) {
	t.Parallel()
	key, public := keyPair(t)
	other, _ := keyPair(t)
	f, calls := guarded(t, gateway.InboundOptions{Agent: "jwt:sub", KeyFile: write(t, string(public))})
	sign, later := signer(t), time.Now().Add(time.Hour).Unix()
	mine := jwt.MapClaims{"sub": "Flooder", "exp": later}
	good := sign(jwt.SigningMethodES256, key, mine)
	for _, token := range []string{good, strings.Replace(good, "Bearer", "bearer", 1)} {
		if r := f.do(http.MethodGet, "/x", "", "Authorization", token); r.StatusCode != http.StatusOK {
			t.Fatalf("got %d %s", r.StatusCode, r.text)
		}
	}
	for name, token := range map[string]string{
		"none": "", "basic": "Basic eDp5", "text": "Bearer x", "another key": sign(jwt.SigningMethodES256, other, mine),
		"the public key as a secret": sign(jwt.SigningMethodHS256, public, mine),
		"unsigned":                   sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, mine),
		"expired":                    sign(jwt.SigningMethodES256, key, jwt.MapClaims{"sub": "Flooder", "exp": 1000}),
		"without end":                sign(jwt.SigningMethodES256, key, jwt.MapClaims{"sub": "Flooder"}),
	} {
		r := f.do(http.MethodGet, "/x", "", "Authorization", token)
		if r.problem(t, http.StatusUnauthorized, "invalid_token"); t.Failed() {
			t.Fatal(name)
		}
		if r.Header.Get("WWW-Authenticate") != "Bearer" {
			t.Errorf("%s: headers %v", name, r.Header)
		}
	}
	f.do(http.MethodGet, "/x", "", "Authorization", good, "Authorization", "Basic eDp5").problem(t, http.StatusUnauthorized, "invalid_token")
	f.do(http.MethodGet, "/x", "", "Authorization", sign(jwt.SigningMethodES256, key, jwt.MapClaims{"sub": 7, "exp": later})).
		problem(t, http.StatusBadRequest, "invalid_agent_name")
	if calls.Load() != 2 {
		t.Errorf("the API was called %d times", calls.Load())
	}
}

func TestInbound_TokenVerifiesByASecretToo(t *testing.T) {
	t.Parallel()
	secret := strings.Repeat("s", 32)
	f, _ := guarded(t, gateway.InboundOptions{Agent: "jwt:agent", SecretFile: write(t, secret+"\n")})
	claims := jwt.MapClaims{"agent": "A", "exp": time.Now().Add(time.Hour).Unix()}
	if r := f.do(http.MethodGet, "/x", "", "Authorization", signer(t)(jwt.SigningMethodHS256, []byte(secret), claims)); r.StatusCode != http.StatusOK {
		t.Errorf("got %d %s", r.StatusCode, r.text)
	}
}

func TestInbound_BadSettingsAreNamed(t *testing.T) {
	t.Parallel()
	const api = "http://127.0.0.1:1"
	_, public := keyPair(t)
	tests := []struct{ url, agent, key, secret, want string }{
		{"ftp://x", "header:X", "", "", `INBOUND_URL="ftp://x" is not allowed`},
		{"http://", "header:X", "", "", "INBOUND_URL"},
		{"http://u:p@h", "header:X", "", "", "INBOUND_URL"},
		{api, "cookie:x", "", "", `INBOUND_AGENT="cookie:x" is not allowed: want header:NAME`},
		{api, "header:", "", "", "INBOUND_AGENT"},
		{api, "path:0", "", "", "INBOUND_AGENT"},
		{api, "path:x", "", "", "INBOUND_AGENT"},
		{api, "jwt:sub", "", "", "needs INBOUND_JWT_KEY_FILE or INBOUND_JWT_SECRET_FILE"},
		{api, "jwt:sub", "a", "b", "one of them"},
		{api, "jwt:sub", "/nonexistent", "", "INBOUND_JWT_KEY_FILE"},
		{api, "jwt:sub", "", "/nonexistent", "INBOUND_JWT_SECRET_FILE"},
		{api, "jwt:sub", "", write(t, "short\n"), "holds 5 bytes: want 32"},
		{api, "jwt:sub", write(t, "-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----\n"), "", "holds no public key"},
		{api, "jwt:sub", write(t, "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHUmFXxTdHe"), "", "holds no public key"},
		{api, "jwt:sub", write(t, string(public[30:])), "", "holds no public key"},
	}
	for _, tt := range tests {
		_, err := gateway.NewInbound(gateway.InboundOptions{URL: tt.url, Agent: tt.agent, KeyFile: tt.key, SecretFile: tt.secret, Manager: newManager(t)})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: got %v", tt, err)
		}
	}
}

func TestInbound_MakesNoTunnels(t *testing.T) {
	t.Parallel()
	f, calls := guarded(t, gateway.InboundOptions{Agent: "header:X-Agent-ID"})
	for request, status := range map[string]string{
		"CONNECT evil:80 HTTP/1.1\r\nHost: evil:80\r\nX-Agent-ID: A\r\n\r\n": "405",
		"OPTIONS * HTTP/1.1\r\nHost: x\r\nX-Agent-ID: A\r\n\r\n":             "200", // net/http's own answer
	} {
		if got := f.raw(request); !strings.HasPrefix(got, "HTTP/1.1 "+status) {
			t.Errorf("%q: %s", request, got)
		}
	}
	if calls.Load() != 0 {
		t.Errorf("the API was called %d times", calls.Load())
	}
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestInbound_MarksItsAnswersAndHidesTheAPI(t *testing.T) {
	t.Parallel()
	var via string
	api := httptest.NewServer(nil)
	api.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		via = r.Header.Get("Via")
		h := w.Header()
		h.Set("Location", api.URL+"/base/next")
		h.Set("Content-Location", "//"+api.Listener.Addr().String()+"/elsewhere")
		h.Set("X-Circuit-Breaker-State", "OPEN")
		h.Set("Set-Cookie", "a=b; Path=/base; Domain=127.0.0.1")
		w.WriteHeader(http.StatusUnprocessableEntity)
	})
	t.Cleanup(api.Close)
	base := gateway.NewBase(0)
	t.Cleanup(base.CloseIdleConnections)
	f := &fixture{t: t, manager: newManager(t)}
	guard, err := gateway.NewInbound(gateway.InboundOptions{URL: api.URL + "/base", Agent: "header:X-Agent-ID", Manager: f.manager, Base: base, ID: "replica"})
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(guard)
	t.Cleanup(front.Close)
	f.url = front.URL
	r := f.do(http.MethodPost, "/x", "{}", "X-Agent-ID", "A")
	if r.Header.Get("Location") != "/next" || r.Header.Get("Content-Location") != "/elsewhere" || r.Header.Get("Set-Cookie") != "a=b; Path=/" ||
		r.Header.Get("X-Circuit-Breaker-State") != "" || r.Header.Get("X-Agent-Circuit-Breaker-State") != "OPEN" || r.Header.Get("Proxy-Status") != "" {
		t.Errorf("got %v", r.Header)
	}
	f.do(http.MethodPost, "/x", "{}", "X-Agent-ID", "A", "Via", via).problem(t, http.StatusLoopDetected, "loop_detected")
	f.hold("A")
	for agent, want := range map[string]string{"A": "429 breakerd; error=http_request_denied", "-": "400 breakerd; error=http_request_denied"} {
		r := f.do(http.MethodPost, "/x", "{}", "X-Agent-ID", agent)
		if got := strconv.Itoa(r.StatusCode) + " " + r.Header.Get("Proxy-Status"); got != want {
			t.Errorf("%s: got %s", agent, got)
		}
	}
}
