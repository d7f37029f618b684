package gateway_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/destination"
	"github.com/breakerd/breakerd/internal/gateway"
	"github.com/breakerd/breakerd/internal/registry"
	"github.com/breakerd/breakerd/internal/workflow"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// based is a fixture whose gateway has a base of its own, in front of agents at the URLs given.
func based(t *testing.T, base interface {
	http.RoundTripper
	CloseIdleConnections()
}, urls map[string]string,
) *fixture {
	t.Helper()
	f := &fixture{t: t, manager: newManager(t), agents: agents{}}
	for name, text := range urls {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		f.agents[name] = registry.Agent{Name: name, URL: u, Timeout: 10 * time.Second}
	}
	t.Cleanup(base.CloseIdleConnections)
	var err error
	if f.gate, err = gateway.New(gateway.Options{Agents: f.agents, Manager: f.manager, Base: base}); err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(f.gate)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	f.url = s.URL
	return f
}

func TestBase_DeniesWhatIsNotAllowed(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	agent := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { calls.Add(1) }))
	t.Cleanup(agent.Close)
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(agent.URL, "http://"))
	for list, denied := range map[string][]string{
		"":              {"169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]", "[fd00:ec2::254]"},
		"localhost":     {"127.0.0.1", "other.invalid", "169.254.169.254"},
		"10.0.0.0/8":    {"localhost", "127.0.0.1"},
		"*.example.com": {"example.com", "localhost", "evilexample.com"},
	} {
		allowed, _, err := destination.Parse(list)
		if err != nil {
			t.Fatal(err)
		}
		for _, host := range denied {
			f := based(t, gateway.NewAgentBase(allowed), map[string]string{"Agent": "http://" + host + ":" + port})
			for range 6 {
				r := f.do(http.MethodPost, "/agents/Agent/x", "{}")
				r.problem(t, http.StatusBadGateway, "agent_address_denied")
				if r.Header.Get("Proxy-Status") != "breakerd; error=destination_ip_prohibited" || strings.Contains(r.text, host) {
					t.Errorf("%q: %s: %v %s", list, host, r.Header, r.text)
				}
			}
			_, err := f.gate.Call(t.Context(), step("Agent"))
			if call, ok := errors.AsType[*workflow.CallError](err); !ok || call.Cause != "agent_address_denied" {
				t.Errorf("%q: %s: step: %v", list, host, err)
			}
			if state, _, counted := f.counted("Agent"); state != breaker.Closed || counted != 0 {
				t.Errorf("%q: %s: %s, %d counted", list, host, state, counted)
			}
		}
	}
	if calls.Load() != 0 {
		t.Errorf("%d calls came through", calls.Load())
	}
	for _, list := range []string{"", "127.0.0.0/8,::1", "localhost"} {
		allowed, _, err := destination.Parse(list)
		if err != nil {
			t.Fatal(err)
		}
		f := based(t, gateway.NewAgentBase(allowed), map[string]string{"Agent": "http://localhost:" + port})
		if r := f.do(http.MethodPost, "/agents/Agent/x", "{}"); r.StatusCode != http.StatusOK {
			t.Errorf("%q: %d %s", list, r.StatusCode, r.text)
		}
	}
}

func TestBase_ChecksTheTargetOfAProxyAndNotTheProxy(t *testing.T) {
	t.Parallel()
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.RequestURI) }))
	t.Cleanup(proxy.Close)
	at, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	allowed, _, err := destination.Parse("agent.invalid,192.0.2.0/24")
	if err != nil {
		t.Fatal(err)
	}
	f := based(t, gateway.NewBaseThrough(allowed, http.ProxyURL(at)), map[string]string{
		"Named": "http://agent.invalid/b", "Addressed": "http://192.0.2.1/b", "Other": "http://other.invalid/b", "Local": "http://169.254.169.254/b",
	})
	for _, name := range []string{"Named", "Addressed"} {
		if r := f.do(http.MethodGet, "/agents/"+name+"/x", ""); r.text != f.agents[name].URL.String()+"/x" {
			t.Errorf("%s: %d %s", name, r.StatusCode, r.text)
		}
	}
	for _, name := range []string{"Other", "Local"} {
		f.do(http.MethodGet, "/agents/"+name+"/x", "").problem(t, http.StatusBadGateway, "agent_address_denied")
	}
}

func TestBase_GRPCGoesOverHTTP2WithoutTLS(t *testing.T) {
	t.Parallel()
	agent := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Trailer", "Grpc-Status")
		w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
		_, _ = fmt.Fprintf(w, "%s %s %s %q", r.Proto, r.URL.Path, r.Header.Get("TE"), body)
		w.Header().Set("Grpc-Status", "0")
		w.Header().Set(http.TrailerPrefix+"Grpc-Message", "fine")
	}))
	agent.Config.Protocols = new(http.Protocols)
	agent.Config.Protocols.SetHTTP1(true)
	agent.Config.Protocols.SetUnencryptedHTTP2(true)
	agent.Start()
	t.Cleanup(agent.Close)
	f := based(t, gateway.NewAgentBase(destination.Allowed{}), map[string]string{"Agent": agent.URL})
	client := &http.Transport{Protocols: new(http.Protocols)}
	client.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(client.CloseIdleConnections)
	for kind, proto := range map[string]string{
		"application/grpc": "HTTP/2.0", "application/grpc+proto": "HTTP/2.0", "Application/GRPC; x=y": "HTTP/2.0",
		"application/grpc-web": "HTTP/1.1", "application/json": "HTTP/1.1", "": "HTTP/1.1",
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.url+"/agents/Agent/pkg.Svc/Do", strings.NewReader("\x00message"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header = http.Header{"Content-Type": {kind}, "Te": {"trailers"}}
		resp, err := client.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if want := proto + ` /pkg.Svc/Do trailers "\x00message"`; err != nil || string(text) != want {
			t.Errorf("%s: got %s, %v; want %s", kind, text, err, want)
		}
		if resp.Trailer.Get("Grpc-Status") != "0" || resp.Trailer.Get("Grpc-Message") != "fine" {
			t.Errorf("%s: trailer %v", kind, resp.Trailer)
		}
	}
}

func TestStep_FollowsRedirectsWithinItsAgent(t *testing.T) {
	t.Parallel()
	var elsewhere atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	t.Cleanup(other.Close)
	var own string
	var hops atomic.Int64
	f := newFixture(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		to := map[string]string{
			"/base/slash": own + "/base/slash/", "/base/relative": "done", "/base/absolute": "/base/done", "/base/permanent": own + "/base/done?q=1#f",
			"/base/upper": strings.ToUpper(own[:7]) + own[7:] + "/base/done", "/base/twice": "/base/slash", "/base/failing": "/base/500",
			"/base/out": "/other/done", "/base/dots": "/base/../other/done", "/base/escaped": "/base/%2e%2e/other", "/base/foreign": other.URL + "/base/done",
			"/base/tls": "https" + own[4:] + "/base/done", "/base/user": "http://u:p@" + own[7:] + "/base/done", "/base/around": "/base/around",
			"/base/see": "/base/done", "/base/nowhere": "", "/base/bad": "http://%zz",
		}
		if to, ok := to[r.URL.Path]; ok {
			hops.Add(1)
			if to != "" {
				w.Header().Set("Location", to)
			}
			status := http.StatusTemporaryRedirect
			switch r.URL.Path {
			case "/base/permanent":
				status = http.StatusPermanentRedirect
			case "/base/see":
				status = http.StatusSeeOther
			}
			w.WriteHeader(status)
			_, _ = io.WriteString(w, "moved")
			return
		}
		if r.URL.Path == "/base/500" {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		echo(w, r)
	}))
	own = "http://" + f.agents["Agent"].URL.Host
	call := func(path string) (json.RawMessage, error) {
		c := step("Agent")
		c.Path = path
		return f.gate.Call(t.Context(), c)
	}
	n := int64(0)
	for path, uri := range map[string]string{
		"/slash": "/base/slash/", "/relative": "/base/done", "/absolute": "/base/done", "/permanent": "/base/done?q=1", "/upper": "/base/done", "/twice": "/base/slash/",
	} {
		out, err := call(path)
		var got seen
		if err != nil || json.Unmarshal(out, &got) != nil {
			t.Fatalf("%s: %s, %v", path, out, err)
		}
		if got.URI != uri || got.Method != http.MethodPost || got.Body != `{"text":"test"}` || got.Header.Get("X-Step-Id") != "st" || got.Header.Get("Via") == "" {
			t.Errorf("%s: the agent got %+v", path, got)
		}
		n++
	}
	if _, failures, calls := f.counted("Agent"); failures != 0 || calls != n {
		t.Errorf("%d failures in %d calls, want 0 in %d: each is one call", failures, calls, n)
	}
	for path, cause := range map[string]string{
		"/out": "status_307", "/dots": "status_307", "/escaped": "status_307", "/foreign": "status_307", "/tls": "status_307", "/user": "status_307",
		"/see": "status_303", "/nowhere": "status_307", "/bad": "status_307", "/around": "status_307", "/failing": "status_500",
	} {
		hops.Store(0)
		_, err := call(path)
		if c, ok := errors.AsType[*workflow.CallError](err); !ok || c.Cause != cause {
			t.Errorf("%s: got %v, want %s", path, err, cause)
		}
		if want := map[string]int64{"/around": 6}[path]; want != 0 && hops.Load() != want {
			t.Errorf("%s: %d hops", path, hops.Load())
		}
	}
	if _, failures, _ := f.counted("Agent"); failures != 1 || elsewhere.Load() != 0 {
		t.Errorf("%d failures, %d calls elsewhere", failures, elsewhere.Load())
	}
}
