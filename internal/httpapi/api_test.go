package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/breakerd/breakerd/pkg/breaker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fixture is the API on a breaker in memory, under a clock that the test sets.
type fixture struct {
	t       testing.TB
	url     string
	api     *api
	nowMs   atomic.Int64
	keeper  *keeper
	log     *syncBuffer
	manager *breaker.Manager
}

// startMs is 2026-02-11T09:00:00Z, the runbook's moment.
const startMs = 1770800400000

func newFixture(t testing.TB, change ...func(*Options)) *fixture {
	t.Helper()
	f := &fixture{t: t, log: &syncBuffer{}}
	f.nowMs.Store(startMs)
	memory := breaker.NewMemory(f.nowMs.Load, 0)
	f.keeper = &keeper{
		Memory: memory, seen: map[string]bool{}, configs: map[string]string{}, profiles: map[string]string{},
		items: map[string][]string{}, now: f.nowMs.Load,
	}
	logger := slog.New(slog.NewTextHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	manager, err := breaker.NewManager(breaker.Options{Store: f.keeper, Policy: f.keeper.policy, Reporter: "replica-1", Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	f.manager = manager
	latency := 0.4
	o := Options{
		Manager: manager, Directory: f.keeper, Policies: f.keeper, Version: "1.2.3", ReplicaID: "replica-1", Logger: logger,
		Health: func(context.Context) Health {
			return Health{Status: Healthy, Checks: map[string]Check{"redis": {Status: Healthy, LatencyMs: &latency}}}
		},
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "up 1\n") }),
	}
	for _, c := range change {
		c(&o)
	}
	if f.api, err = newAPI(o); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(f.api.handler())
	t.Cleanup(server.Close)
	f.url = server.URL
	return f
}

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

// do sends a request; header pairs follow the body.
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
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		f.t.Fatal(err)
	}
	return f.read(res)
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
func (g got) wantProblem(status int, c code) got {
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

// keeper is store, directory and policies in memory. With away set it answers like a Redis that is away.
type keeper struct {
	*breaker.Memory
	now func() int64

	mu       sync.Mutex
	away     error
	seen     map[string]bool
	configs  map[string]string
	profiles map[string]string
	items    map[string][]string
	lenient  bool // Apply and Inspect answer, degraded, even while away
	lastOp   breaker.Op
	panics   bool
}

func (k *keeper) Apply(ctx context.Context, agent string, p breaker.Policy, op breaker.Op) (breaker.Result, error) {
	k.mu.Lock()
	away, lenient, panics := k.away, k.lenient, k.panics
	k.lastOp = op
	k.mu.Unlock()
	if panics {
		panic("the store panics")
	}
	if away != nil && (!lenient || op.Verb == breaker.VerbForce) {
		return breaker.Result{}, away
	}
	r, err := k.Memory.Apply(ctx, agent, p, op)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.seen[agent] = true
	r.Degraded = away != nil
	return r, err
}

func (k *keeper) Inspect(ctx context.Context, agent string, p breaker.Policy) (breaker.View, error) {
	k.mu.Lock()
	away, lenient := k.away, k.lenient
	k.mu.Unlock()
	if away != nil && !lenient {
		return breaker.View{}, away
	}
	v, err := k.Memory.Inspect(ctx, agent, p)
	v.Degraded = away != nil
	return v, err
}

func (k *keeper) policy(ctx context.Context, agent string) breaker.Policy {
	p, _, _ := k.Describe(ctx, agent)
	return p
}

func (k *keeper) setAway(lenient bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.away, k.lenient = &breaker.StoreError{Verb: "test", Err: io.ErrUnexpectedEOF}, lenient
}

// keys are the names that anything was written under.
func (k *keeper) keys() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	all := maps.Clone(k.seen)
	for _, m := range []map[string]string{k.configs, k.profiles} {
		for name := range m {
			all[name] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

func (k *keeper) Agents(context.Context) ([]string, error) {
	k.mu.Lock()
	away := k.away
	k.mu.Unlock()
	return k.keys(), away
}

func (k *keeper) States(ctx context.Context, agents []string) ([]breaker.State, error) {
	out := make([]breaker.State, len(agents))
	for i, a := range agents {
		v, _ := k.Memory.Inspect(ctx, a, breaker.DefaultPolicy())
		out[i] = v.State
	}
	return out, nil
}

func (k *keeper) Known(_ context.Context, agent string) (bool, error) {
	k.mu.Lock()
	away := k.away
	k.mu.Unlock()
	return slices.Contains(k.keys(), agent), away
}

func (k *keeper) Saw(_ context.Context, agents []string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, a := range agents {
		k.seen[a] = true
	}
	return k.away
}

func (k *keeper) Seen(context.Context, string) (time.Time, error) {
	return time.UnixMilli(k.now()), nil
}

func (k *keeper) get(m map[string]string, agent string) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return m[agent], k.away
}

func (k *keeper) put(m map[string]string, agent, expected, text string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.away != nil {
		return k.away
	}
	if m[agent] != expected {
		return ErrConflict
	}
	if m[agent] = text; text == "" {
		delete(m, agent)
	}
	k.seen[agent] = true
	return nil
}

func (k *keeper) Override(_ context.Context, agent string) (string, error) {
	return k.get(k.configs, agent)
}

func (k *keeper) Profile(_ context.Context, agent string) (string, error) {
	return k.get(k.profiles, agent)
}

func (k *keeper) PutOverride(_ context.Context, agent, expected, text, _ string) error {
	return k.put(k.configs, agent, expected, text)
}

func (k *keeper) PutProfile(_ context.Context, agent, expected, text, _ string) error {
	return k.put(k.profiles, agent, expected, text)
}

func (k *keeper) Quarantine(_ context.Context, agent string) ([]string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.items[agent], k.away
}

func (k *keeper) Forget(ctx context.Context, agent, _ string, force bool) error {
	v, _ := k.Memory.Inspect(ctx, agent, breaker.DefaultPolicy())
	if v.Hold.Protected == 1 && !force {
		return breaker.ErrHoldProtected
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.seen, agent)
	delete(k.configs, agent)
	delete(k.profiles, agent)
	return k.away
}

func (k *keeper) resolve(layers ...breaker.Layer) (breaker.Policy, map[string]string, error) {
	return breaker.Resolve(breaker.DefaultPolicy(), nil, layers...)
}

func (k *keeper) Describe(_ context.Context, agent string) (breaker.Policy, map[string]string, error) {
	k.mu.Lock()
	text := k.configs[agent]
	k.mu.Unlock()
	if text == "" {
		return k.resolve()
	}
	o, err := breaker.ParseOverride([]byte(text))
	if err != nil {
		return k.resolve()
	}
	return k.resolve(breaker.Layer{Origin: "redis", Override: o})
}

func (k *keeper) Check(_ context.Context, _ string, o breaker.Override) error {
	_, _, err := k.resolve(breaker.Layer{Origin: "redis", Override: o})
	return err
}

func (k *keeper) Refresh(context.Context, string) {}
