package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/pkg/breaker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fixture is an API on a breaker in memory, under a clock that the test sets.
type fixture struct {
	t       testing.TB
	url     string
	api     *server
	nowMs   atomic.Int64
	keeper  *keeper
	log     *syncBuffer
	logger  *slog.Logger
	manager *breaker.Manager
}

// startMs is 2026-02-11T09:00:00Z, the runbook's moment.
const startMs = 1770800400000

func newFixture(t testing.TB, change ...func(*Options)) *fixture {
	t.Helper()
	f := newParts(t)
	o := Options{
		Manager: f.manager, Directory: f.keeper, Policies: f.keeper, Version: "1.2.3", ReplicaID: "replica-1", Logger: f.logger,
		Health: healthy, Metrics: http.HandlerFunc(up),
	}
	for _, c := range change {
		c(&o)
	}
	a, err := newAPI(o)
	if err != nil {
		t.Fatal(err)
	}
	return f.serve(a.server)
}

// newParts is a fixture without a server.
func newParts(t testing.TB) *fixture {
	t.Helper()
	f := &fixture{t: t, log: &syncBuffer{}}
	f.nowMs.Store(startMs)
	f.keeper = &keeper{
		Memory: breaker.NewMemory(f.nowMs.Load, 0), now: f.nowMs.Load, seen: map[string]bool{}, configs: map[string]string{},
		profiles: map[string]string{}, items: map[string][]string{}, texts: map[string]string{}, entries: map[string]string{}, records: map[string]string{},
	}
	f.logger = slog.New(slog.NewTextHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	f.manager, err = breaker.NewManager(breaker.Options{Store: f.keeper, PerAgent: f.keeper.policy, Reporter: "replica-1", Logger: f.logger})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fixture) serve(s *server) *fixture {
	f.api = s
	server := httptest.NewServer(s.handler())
	f.t.Cleanup(server.Close)
	f.url = server.URL
	return f
}

func healthy(context.Context) Health {
	return Health{Status: Healthy, Checks: map[string]Check{"redis": {Status: Healthy, LatencyMs: new(0.4)}}}
}

func up(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "up 1\n") }

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// got is one answer.
type got struct {
	t      testing.TB
	status int
	header http.Header
	text   string
	json   map[string]any
}

// do sends a request; header pairs follow the body. Every answer must be one that the document has.
func (f *fixture) do(method, path, body string, header ...string) got {
	f.t.Helper()
	var in io.Reader
	if body != "" {
		in = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(f.t.Context(), method, f.url+path, in)
	if err != nil {
		f.t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	if host := req.Header.Get("Host"); host != "" {
		req.Host = host
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		f.t.Fatal(err)
	}
	g := f.read(res)
	_, pattern := f.api.mux.Handler(req)
	if f.api.gate != nil && strings.HasPrefix(path, gatePath) {
		f.api.doc.asDocumented(f.api.doc.gateAt(path), g)
		return g
	}
	if at, path, _ := strings.Cut(pattern, " "); at == method {
		f.api.doc.asDocumented(f.api.doc.operationAt(method, path), g)
	}
	return g
}

func (f *fixture) read(res *http.Response) got {
	f.t.Helper()
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	g := got{t: f.t, status: res.StatusCode, header: res.Header, text: string(text)}
	_ = json.Unmarshal(text, &g.json)
	return g
}

// want checks the status, and fields given as "name=JSON".
func (g got) want(status int, fields ...string) got {
	g.t.Helper()
	if g.status != status {
		g.t.Fatalf("status %d, want %d: %s", g.status, status, g.text)
	}
	for _, f := range fields {
		name, want, _ := strings.Cut(f, "=")
		var have bytes.Buffer
		enc := json.NewEncoder(&have)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(g.at(name)); err != nil {
			g.t.Fatal(err)
		}
		if strings.TrimSpace(have.String()) != want {
			g.t.Errorf("%s is %s, want %s in %s", name, &have, want, g.text)
		}
	}
	return g
}

// at finds a field by a dotted path.
func (g got) at(path string) any {
	var v any = g.json
	for part := range strings.SplitSeq(path, ".") {
		switch x := v.(type) {
		case map[string]any:
			v = x[part]
		case []any:
			if i := int(part[0] - '0'); i < len(x) {
				v = x[i]
			} else {
				return nil
			}
		default:
			return nil
		}
	}
	return v
}

// wantProblem checks that the answer is a problem of ours.
func (g got) wantProblem(status int, c problem.Code) got {
	g.t.Helper()
	g.want(status, `code="`+string(c)+`"`, `type="urn:breakerd:problem:`+string(c)+`"`)
	for _, name := range []string{"title", "status", "detail", "errors"} {
		if g.json[name] == nil {
			g.t.Errorf("a problem without %s: %s", name, g.text)
		}
	}
	if ct := g.header.Get("Content-Type"); ct != "application/problem+json" {
		g.t.Errorf("Content-Type %q", ct)
	}
	return g
}

func (f *fixture) advance(d time.Duration) { f.nowMs.Add(d.Milliseconds()) }

// fail reports failures without a permit.
func (f *fixture) fail(agent string, times int) {
	f.t.Helper()
	for range times {
		f.do("POST", "/v1/circuit_breakers/"+agent+"/report", `{"outcome":"failure"}`).want(200)
	}
}
