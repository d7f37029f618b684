package gateway_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/breakerd/breakerd/internal/gateway"
	"github.com/breakerd/breakerd/internal/registry"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breakerhttp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// agents are Agents in memory.
type agents map[string]registry.Agent

func (a agents) Agent(_ context.Context, name string) (registry.Agent, error) {
	if name == "Away" {
		return registry.Agent{}, &breaker.StoreError{Verb: "read profile", Agent: name, Err: io.ErrUnexpectedEOF}
	}
	agent, ok := a[name]
	if !ok {
		return agent, registry.ErrUnknown
	}
	return agent, nil
}

// fixture is a gateway over TCP with a breaker in memory, in front of one agent named Agent.
type fixture struct {
	t       *testing.T
	url     string // of the gateway
	gate    *gateway.Gateway
	manager *breaker.Manager
	agents  agents
	mu      sync.Mutex
	timings []breakerhttp.Timing
}

func newManager(t *testing.T) *breaker.Manager {
	t.Helper()
	m, err := breaker.NewManager(breaker.Options{Store: breaker.NewMemory(func() int64 { return time.Now().UnixMilli() }, 0)})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func newFixture(t *testing.T, upstream http.Handler, change ...func(*registry.Agent)) *fixture {
	t.Helper()
	f := &fixture{t: t, manager: newManager(t)}
	agent := httptest.NewServer(upstream)
	t.Cleanup(agent.Close)
	to, err := url.Parse(agent.URL + "/base/")
	if err != nil {
		t.Fatal(err)
	}
	known := agents{
		"Agent": {Name: "Agent", URL: to, Timeout: 5 * time.Second, Classify: breakerhttp.StatusOnly},
		"NoURL": {Name: "NoURL"},
		"Gone":  {Name: "Gone", URL: &url.URL{Scheme: "http", Host: "127.0.0.1:1"}, Timeout: time.Second},
	}
	for _, c := range change {
		a := known["Agent"]
		c(&a)
		known["Agent"] = a
	}
	f.agents = known
	base := gateway.NewBase(0)
	t.Cleanup(base.CloseIdleConnections)
	f.gate, err = gateway.New(gateway.Options{Agents: known, Manager: f.manager, Base: base, Observe: f.observe})
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(f.gate)
	t.Cleanup(front.Close)
	f.url = front.URL
	return f
}

func (f *fixture) observe(t breakerhttp.Timing) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.timings = append(f.timings, t)
}

// reply is an answer with its whole body.
type reply struct {
	*http.Response
	text string
}

func (f *fixture) do(method, path, body string, header ...string) reply {
	f.t.Helper()
	req, err := http.NewRequestWithContext(f.t.Context(), method, f.url, strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	raw, query, _ := strings.Cut(path, "?")
	req.URL.Opaque, req.URL.RawQuery = "//"+req.URL.Host+raw, query
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	transport := &http.Transport{} // each httptest.Server that ends closes idle connections of the default one
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		f.t.Fatalf("%s %s: %v", method, path, err)
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		f.t.Fatalf("%s %s: %v", method, path, err)
	}
	_ = resp.Body.Close()
	return reply{resp, string(text)}
}

// raw sends bytes, and returns the beginning of the answer.
func (f *fixture) raw(request string) string {
	f.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(f.url, "http://"))
	if err != nil {
		f.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second)) // or a bug would make it hang
	if _, err := io.WriteString(conn, request); err != nil {
		f.t.Fatal(err)
	}
	buf := make([]byte, 4096)
	n, err := conn.Read(buf)
	if err != nil {
		f.t.Fatalf("%q: %v", request, err)
	}
	return string(buf[:n])
}

// problem compares the status and code of a problem.
func (r reply) problem(t *testing.T, status int, code string) {
	t.Helper()
	var p struct {
		Code   string `json:"code"`
		Status int    `json:"status"`
	}
	if err := json.Unmarshal([]byte(r.text), &p); err != nil {
		t.Fatalf("%v: %s", err, r.text)
	}
	if r.StatusCode != status || p.Status != status || p.Code != code || r.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("got %d %s, want %d %s: %s", r.StatusCode, p.Code, status, code, r.text)
	}
}

// counted returns the state of the agent's breaker and the outcomes in its window.
func (f *fixture) counted(agent string) (state breaker.State, failures, calls int64) {
	f.t.Helper()
	v, _, err := f.manager.Inspect(f.t.Context(), agent)
	if err != nil {
		f.t.Fatal(err)
	}
	for _, c := range v.Buckets {
		failures, calls = failures+c.Failures, calls+c.Failures+c.Successes
	}
	return v.State, failures, calls
}
