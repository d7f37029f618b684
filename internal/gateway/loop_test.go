package gateway_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/gateway"
	"github.com/breakerd/breakerd/internal/registry"
	"github.com/breakerd/breakerd/internal/workflow"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// loops returns a gateway that finds its own agents, at the URLs given, and its server.
func loops(t *testing.T, urls map[string]func() string) (*gateway.Gateway, *breaker.Manager, *httptest.Server) {
	t.Helper()
	manager := newManager(t)
	base := gateway.NewBase(0)
	t.Cleanup(base.CloseIdleConnections)
	gate, err := gateway.New(gateway.Options{Agents: lazy(urls), Manager: manager, Base: base})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(gate)
	t.Cleanup(s.Close)
	return gate, manager, s
}

type lazy map[string]func() string

func (l lazy) Agent(_ context.Context, name string) (registry.Agent, error) {
	at, ok := l[name]
	if !ok {
		return registry.Agent{}, registry.ErrUnknown
	}
	u, err := url.Parse(at())
	return registry.Agent{Name: name, URL: u, Timeout: 10 * time.Second}, err
}

func TestLoop_EndsAtTheFirstBridgeThatIsPassedTwice(t *testing.T) {
	t.Parallel()
	var one, two *httptest.Server
	var calls atomic.Int64
	counted := func(s **httptest.Server, path string) func() string {
		return func() string { calls.Add(1); return (*s).URL + path }
	}
	balancer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
			u, _ := url.Parse(two.URL)
			r.SetURL(u)
		}}
		p.ServeHTTP(w, r)
	}))
	t.Cleanup(balancer.Close)
	gate, manager, s1 := loops(t, map[string]func() string{
		"Self": counted(&one, "/agents/Self"), "Pair": counted(&two, "/agents/Pair"), "Far": counted(&balancer, "/agents/Far"),
	})
	_, _, s2 := loops(t, map[string]func() string{"Pair": counted(&one, "/agents/Pair"), "Far": counted(&one, "/agents/Far")})
	one, two = s1, s2
	for name, most := range map[string]int64{"Self": 1, "Pair": 2, "Far": 2} {
		for range 10 { // none of which counts
			calls.Store(0)
			resp, err := http.Post(one.URL+"/agents/"+name+"/x", "application/json", strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusLoopDetected || resp.Header.Get("Proxy-Status") != "breakerd; error=proxy_loop_detected" || calls.Load() > most {
				t.Fatalf("%s: %d %v after %d calls", name, resp.StatusCode, resp.Header, calls.Load())
			}
		}
		if v, _, err := manager.Inspect(t.Context(), name); err != nil || v.State != breaker.Closed {
			t.Errorf("%s: %v, %v", name, v.State, err)
		}
		for range 6 {
			_, err := gate.Call(t.Context(), step(name))
			if call, ok := errors.AsType[*workflow.CallError](err); !ok || call.Cause != "loop_detected" {
				t.Fatalf("step %s: %v", name, err)
			}
		}
	}
}

func TestLoop_ViaIsKeptAndBounded(t *testing.T) {
	t.Parallel()
	headers := make(chan http.Header, 1)
	f := newFixture(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { headers <- r.Header }))
	mine := regexp.MustCompile(`^1\.1 breakerd-[0-9a-f]{16}$`)
	bridges := func(n int) string { return strings.TrimSuffix(strings.Repeat("1.1 breakerd-other, ", n), ", ") }
	var own string
	for _, via := range []string{"", "1.0 fred, 1.1 p.example.net (Apache/1.1)", bridges(10), strings.Repeat("1.1 other,", 50) + "2 last"} {
		if r := f.do(http.MethodGet, "/agents/Agent/x", "", "Via", via); r.StatusCode != http.StatusOK {
			t.Fatalf("%q: %d", via, r.StatusCode)
		}
		got := (<-headers)["Via"]
		if own = got[len(got)-1]; !mine.MatchString(own) || len(got) != 2 || got[0] != via {
			t.Errorf("%q: the agent got %q", via, got)
		}
	}
	for _, via := range []string{bridges(11), own, strings.ToUpper(own), "1.1 a,\t2 " + strings.Fields(own)[1] + " (x), 1.1 b"} {
		r := f.do(http.MethodPost, "/agents/Agent/x", "{}", "Via", "1.1 before", "Via", via)
		r.problem(t, http.StatusLoopDetected, "loop_detected")
	}
	keep := func(via string) (err error) {
		gateway.KeepTrace(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			_, err = f.gate.Call(r.Context(), step("Agent"))
		})).ServeHTTP(nil, &http.Request{Header: http.Header{"Via": {via}}})
		return err
	}
	if err := keep("1.1 first"); err != nil {
		t.Fatal(err)
	}
	if got := (<-headers)["Via"]; len(got) != 2 || got[0] != "1.1 first" || got[1] != own {
		t.Errorf("the step's agent got %q", got)
	}
	if call, ok := errors.AsType[*workflow.CallError](keep(own)); !ok || call.Cause != "loop_detected" {
		t.Errorf("got %v", call)
	}
}

func TestLoop_OnlyABridgesWordIsTaken(t *testing.T) {
	t.Parallel()
	var status string
	f := newFixture(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if status != "" {
			w.Header().Set("Proxy-Status", status)
		}
		w.WriteHeader(http.StatusLoopDetected)
	}))
	for _, status = range []string{"", "other; error=proxy_loop_detected", "breakerd; error=dns_error"} {
		if r := f.do(http.MethodGet, "/agents/Agent/x", ""); r.StatusCode != http.StatusLoopDetected || r.Header.Get("Content-Type") == "application/problem+json" {
			t.Errorf("%q: %d %s", status, r.StatusCode, r.text)
		}
	}
	if _, failures, _ := f.counted("Agent"); failures != 3 {
		t.Errorf("%d failures", failures)
	}
	status = "breakerd; error=proxy_loop_detected"
	f.do(http.MethodGet, "/agents/Agent/x", "").problem(t, http.StatusLoopDetected, "loop_detected")
	if _, failures, calls := f.counted("Agent"); failures != 3 || calls != 3 {
		t.Errorf("%d failures in %d calls", failures, calls)
	}
}
