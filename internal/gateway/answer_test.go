package gateway_test

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/breakerd/breakerd/internal/framing"
	"github.com/breakerd/breakerd/internal/gateway"
	"github.com/breakerd/breakerd/internal/registry"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// front serves the fixture's gateway as the bridge does, and counts its connections.
type front struct {
	addr           string
	opened, closed chan struct{}
}

func (f *fixture) front() front {
	f.t.Helper()
	s := httptest.NewUnstartedServer(f.gate)
	l := framing.NewListener(s.Listener)
	s.Listener = l
	fr := front{s.Listener.Addr().String(), make(chan struct{}, 5000), make(chan struct{}, 5000)}
	s.Config.ConnState = func(c net.Conn, state http.ConnState) {
		framing.ConnState(c, state)
		switch state {
		case http.StateNew:
			fr.opened <- struct{}{}
		case http.StateClosed, http.StateHijacked:
			fr.closed <- struct{}{}
		default:
		}
	}
	s.Start()
	f.t.Cleanup(func() {
		l.Hurry()
		s.Close()
	})
	return fr
}

func (f *fixture) hold(agent string) {
	f.t.Helper()
	if _, err := f.manager.Force(f.t.Context(), agent, breaker.Force{Target: breaker.HoldOpen, Actor: "test"}); err != nil {
		f.t.Fatal(err)
	}
}

func TestGateway_AnswersOfOursKeepTheConnection(t *testing.T) {
	t.Parallel()
	f := newFixture(t, http.NotFoundHandler())
	fr := f.front()
	f.hold("Agent")
	client := &http.Transport{MaxConnsPerHost: 1}
	defer client.CloseIdleConnections()
	n := 0
	send := func(path string, body io.Reader, status int) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+fr.addr+path, body)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != status || resp.Close {
			t.Fatalf("%s: got %d, close %v", path, resp.StatusCode, resp.Close)
		}
		n++
	}
	for range 300 {
		send("/agents/Agent/x", strings.NewReader(`{"a":1}`), http.StatusTooManyRequests)
		send("/agents/Agent/x", io.LimitReader(strings.NewReader("chunked"), 7), http.StatusTooManyRequests)
		send("/agents/Nobody/x", strings.NewReader(`{"a":1}`), http.StatusNotFound)
		send("/agents/NoURL", strings.NewReader("x"), http.StatusNotFound)
		send("/agents/-/x", strings.NewReader("x"), http.StatusBadRequest)
		send("/agents/Away", strings.NewReader("x"), http.StatusServiceUnavailable)
	}
	for range 4 { // before its breaker opens
		send("/agents/Gone/x", strings.NewReader(strings.Repeat("x", 50_000)), http.StatusBadGateway)
	}
	send("/agents/Agent/x", strings.NewReader(strings.Repeat("x", 200_000)), http.StatusTooManyRequests)
	if got := len(fr.opened); got != 1 {
		t.Errorf("%d connections for %d answers", got, n)
	}
}

// A client that reads only once it has sent everything, as Python's http.client does.
func TestGateway_ALargeUploadFindsItsAnswer(t *testing.T) {
	t.Parallel()
	f := newFixture(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close")
		http.Error(w, strings.Repeat("x", 100), http.StatusRequestEntityTooLarge)
	}))
	fr := f.front()
	f.hold("Gone")
	for path, want := range map[string]int{
		"/agents/Gone/x": http.StatusTooManyRequests, "/agents/Nobody/x": http.StatusNotFound,
		"/agents/Agent/x": http.StatusRequestEntityTooLarge,
	} {
		for _, size := range []int{1 << 20, 5 << 20, 30 << 20} {
			c, err := net.Dial("tcp", fr.addr)
			if err != nil {
				t.Fatal(err)
			}
			_ = c.SetDeadline(time.Now().Add(time.Minute))
			if _, err := fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", path, size); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Write(make([]byte, size)); err != nil {
				t.Errorf("%s %d: %v", path, size, err)
			}
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatalf("%s %d: %v", path, size, err)
			}
			body, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if resp.StatusCode != want || err != nil || len(body) == 0 || want == http.StatusTooManyRequests && resp.Header.Get("Retry-After") == "" {
				t.Errorf("%s %d: got %d %v %q, %v", path, size, resp.StatusCode, resp.Header, body, err)
			}
			_ = c.Close()
		}
	}
}

func TestGateway_AnUploadThatNobodyReadsEnds(t *testing.T) {
	t.Parallel()
	f := newFixture(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex() // or it waits for the request
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusTeapot)
	}))
	fr := f.front()
	f.hold("Gone")
	heads := []string{"Content-Length: 1000", "Content-Length: 100000000", "Transfer-Encoding: chunked", "Expect: 100-continue\r\nContent-Length: 5"}
	n := 0
	for _, path := range []string{"/agents/Gone/x", "/agents/Nobody/x", "/agents/Agent/x"} {
		for _, head := range heads {
			for range 8 {
				c, err := net.Dial("tcp", fr.addr)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = c.Close() }()
				if _, err := fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n", path, head); err != nil {
					t.Fatal(err)
				}
				n++
			}
		}
	}
	for range n { // else the test times out
		<-fr.closed
	}
}

func TestGateway_AnAgentsWordIsNotTakenForOurs(t *testing.T) {
	t.Parallel()
	f := newFixture(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Trailer", "X-Circuit-Breaker-State, X-Sum")
		h.Set("X-Circuit-Breaker-Permit", "forged")
		h["x-circuit-breaker-reason"] = []string{"open"}
		h.Set("Proxy-Status", "theirs; error=dns_error")
		h.Set("Alt-Svc", `h3="agent.internal:443"`)
		w.WriteHeader(http.StatusTooManyRequests)
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "body")
		h.Set("X-Circuit-Breaker-State", "OPEN")
		h.Set("X-Sum", "7")
		h.Set(http.TrailerPrefix+"X-Circuit-Breaker-Late", "1")
	}))
	for range 3 {
		r := f.do(http.MethodPost, "/agents/Agent/x", "{}")
		for _, h := range []http.Header{r.Header, r.Trailer} {
			for name := range h {
				if strings.HasPrefix(strings.ToLower(name), "x-circuit-breaker") {
					t.Errorf("passed on: %s", name)
				}
			}
		}
		if r.Header.Get("X-Agent-Circuit-Breaker-Permit") != "forged" || r.Header.Get("X-Agent-Circuit-Breaker-Reason") != "open" ||
			r.Header.Get("Proxy-Status") != "theirs; error=dns_error" || r.Header.Get("Alt-Svc") != "" ||
			r.Trailer.Get("X-Agent-Circuit-Breaker-State") != "OPEN" || r.Trailer.Get("X-Agent-Circuit-Breaker-Late") != "1" || r.Trailer.Get("X-Sum") != "7" {
			t.Errorf("header %v, trailer %v", r.Header, r.Trailer)
		}
	}
}

func TestGateway_MarksItsOwnAnswers(t *testing.T) {
	t.Parallel()
	f := newFixture(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "cut") {
			panic(http.ErrAbortHandler)
		}
		<-r.Context().Done()
	}), func(a *registry.Agent) { a.Timeout, a.Contact = 50*time.Millisecond, "#agents" })
	for path, want := range map[string]string{
		"/agents/Nobody/x":     "404 destination_not_found",
		"/agents/NoURL/x":      "404 destination_not_found",
		"/agents/-":            "400 http_request_error",
		"/agents/Agent/%2e%2e": "400 http_request_error",
		"/agents/Away":         "503 proxy_internal_error",
		"/agents/Gone/x":       "502 connection_refused",
		"/agents/Agent/slow":   "504 http_response_timeout",
		"/agents/Agent/cut":    "502 connection_terminated",
	} {
		r := f.do(http.MethodGet, path, "")
		if got := fmt.Sprint(r.StatusCode, " ", strings.TrimPrefix(r.Header.Get("Proxy-Status"), "breakerd; error=")); got != want {
			t.Errorf("%s: got %s, want %s", path, got, want)
		}
	}
	f.hold("Agent")
	r := f.do(http.MethodGet, "/agents/Agent/x", "")
	r.problem(t, http.StatusTooManyRequests, "circuit_breaker_open")
	if r.Header.Get("Proxy-Status") != "breakerd; error=destination_unavailable" || !strings.Contains(r.text, "#agents") || !strings.Contains(r.text, "no way out") {
		t.Errorf("%v %s", r.Header, r.text)
	}
}

func TestGateway_AnAnswerNeverLeadsPastTheBreaker(t *testing.T) {
	t.Parallel()
	for _, base := range []string{"/base/", "/base", "", "/a%2Fb/c"} {
		var header http.Header
		f := newFixture(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			maps.Copy(w.Header(), header)
			w.WriteHeader(http.StatusTemporaryRedirect)
		}), func(a *registry.Agent) {
			u, err := url.Parse(strings.Replace(a.URL.String(), "/base/", base, 1))
			if err != nil {
				t.Fatal(err)
			}
			a.URL = u
		})
		agent := f.agents["Agent"].URL
		dir := strings.TrimSuffix(base, "/")
		own, front := "http://"+agent.Host, strings.TrimPrefix(f.url, "http://")
		for location, want := range map[string]string{
			own + dir + "/mcp/":                             "/agents/Agent/mcp/",
			own + dir:                                       "/agents/Agent",
			own + dir + "/x?a=1&b=%2F#frag%20ment":          "/agents/Agent/x?a=1&b=%2F#frag%20ment",
			own + dir + "/a%2Fb/%e2%82%ac":                  "/agents/Agent/a%2Fb/%e2%82%ac",
			own + dir + "/x/../y":                           "/agents/Agent/y",
			"HTTP://" + agent.Host + dir + "/y":             "/agents/Agent/y",
			"https://" + agent.Hostname() + dir + "/y":      "/agents/Agent/y",
			"http://" + agent.Hostname() + ":1" + dir + "/": "/agents/Agent/",
			"http://LocalHost:80" + dir + "/y":              "/agents/Agent/y",
			"http://u:p@" + agent.Host + dir + "/":          "/agents/Agent/",
			"//" + agent.Host + dir + "/y":                  "/agents/Agent/y",
			"http://" + front + "/y":                        "/agents/Agent/y",
			dir + "/y":                                      "/agents/Agent/y",
			"z":                                             "/agents/Agent/in/z",
			"../y":                                          "/agents/Agent/y",
			"?q":                                            "/agents/Agent/in/dir?q",
			"../../../../../api/v1/agents":                  "/agents/Agent/api/v1/agents",
			"/agents/Agent/y":                               "/agents/Agent/y",
			"http://" + front + "/agents/Agent/y":           "http://" + front + "/agents/Agent/y",
			"http://" + front + "/agents/Other/y":           "http://" + front + "/agents/Other/y",
			"https://elsewhere.example/base/x":              "https://elsewhere.example/base/x",
			"//elsewhere.example/x":                         "//elsewhere.example/x",
			"mailto:a@b.example":                            "mailto:a@b.example",
			"http:\\\\" + agent.Host + "\\x":                "",
			own + "/%zz":                                    "",
		} {
			header = http.Header{"Location": {location}, "Content-Location": {location}, "Refresh": {"5; URL='" + location + "'"}}
			r := f.do(http.MethodGet, "/agents/Agent/in/dir", "")
			refresh := ""
			if want != "" {
				refresh = "5; url=" + want
			}
			if r.Header.Get("Location") != want || r.Header.Get("Content-Location") != want || r.Header.Get("Refresh") != refresh {
				t.Errorf("base %q: %s: got %v, want %s", base, location, r.Header, want)
			}
		}
		if base == "" {
			continue
		}
		header = http.Header{"Location": {"/elsewhere"}}
		if r := f.do(http.MethodGet, "/agents/Agent/x", ""); r.Header.Get("Location") != "/agents/Agent/elsewhere" {
			t.Errorf("base %q: %v", base, r.Header)
		}
	}
}

func TestGateway_CookiesAreTheAgentsOwn(t *testing.T) {
	t.Parallel()
	var cookie string
	f := newFixture(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Add("Set-Cookie", cookie) }))
	host := f.agents["Agent"].URL.Hostname()
	for in, want := range map[string]string{
		"a=b; Path=/":                                      "a=b; Path=/agents/Agent",
		"a=b; Path=/base":                                  "a=b; Path=/agents/Agent",
		"a=b; Path=/base/; HttpOnly":                       "a=b; Path=/agents/Agent/; HttpOnly",
		"a=b; path=/base/v1; Secure":                       "a=b; Path=/agents/Agent/v1; Secure",
		"a=b; Path=/other":                                 "a=b; Path=/agents/Agent/other",
		"a=b; Path=/agents/Agent/v1":                       "a=b; Path=/agents/Agent/v1",
		"a=b;PATH=/base;Max-Age=1":                         "a=b; Path=/agents/Agent;Max-Age=1",
		"a=b; Domain=" + host + "; Path=/":                 "a=b; Path=/agents/Agent",
		"a=b; domain=." + host:                             "a=b",
		"a=b; Domain=elsewhere.example":                    "a=b; Domain=elsewhere.example",
		"a=b; Path=relative; SameSite=Lax":                 "a=b; SameSite=Lax",
		"a=\"x=y\"; Expires=Thu, 01 Jan 2099 00:00:00 GMT": "a=\"x=y\"; Expires=Thu, 01 Jan 2099 00:00:00 GMT",
	} {
		cookie = in
		if r := f.do(http.MethodGet, "/agents/Agent/v1/x", ""); r.Header.Get("Set-Cookie") != want {
			t.Errorf("%s: got %q, want %q", in, r.Header["Set-Cookie"], want)
		}
	}
	cookie = "a=b"
	if r := f.do(http.MethodGet, "/agents/Agent", ""); r.Header.Get("Set-Cookie") != "a=b; Path=/agents/Agent" {
		t.Errorf("got %q: all agents would get it", r.Header["Set-Cookie"])
	}
}

func TestGateway_TellsTheAgentWhereItIs(t *testing.T) {
	t.Parallel()
	headers := make(chan http.Header, 1)
	f := newFixture(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		headers <- r.Header
		w.Header().Set("Location", "/base/y")
	}))
	for in, want := range map[string]string{
		"": "/agents/Agent", "/bridge": "/bridge/agents/Agent", "/bridge/": "/bridge/agents/Agent",
		"//evil": "/agents/Agent", "evil": "/agents/Agent", "/a/../b": "/agents/Agent", "/a, /b": "/agents/Agent",
	} {
		r := f.do(http.MethodGet, "/agents/Agent/x", "", "X-Forwarded-Prefix", in)
		if got := (<-headers)["X-Forwarded-Prefix"]; len(got) != 1 || got[0] != want || r.Header.Get("Location") != want+"/y" {
			t.Errorf("%q: the agent got %q, the caller %q", in, got, r.Header["Location"])
		}
	}
}

// deadlines is an HTTP/2 stream's ResponseWriter, as far as the deadline of the request's body goes.
type deadlines struct {
	*httptest.ResponseRecorder

	mu   sync.Mutex
	read time.Time
}

// SetReadDeadline serves [http.ResponseController].
func (d *deadlines) SetReadDeadline(t time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.read = t
	return nil
}

func (d *deadlines) readBy() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.read
}

// taking is an agent that takes a part of the request, looks, and takes the rest.
type taking struct{ look func() }

func (a taking) RoundTrip(r *http.Request) (*http.Response, error) {
	_, _ = io.ReadFull(r.Body, make([]byte, 4))
	a.look()
	_, err := io.Copy(io.Discard, r.Body)
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody, Request: r}, err
}

// A deadline that passes ends the body of an HTTP/2 request for good, also while nobody reads it: an upload of which an
// agent takes the rest after more than a minute was answered 408, as if its caller had stalled.
func TestGateway_AnAgentMayTakeItsTimeForAnUpload(t *testing.T) {
	t.Parallel()
	w := &deadlines{ResponseRecorder: httptest.NewRecorder()}
	var bounded bool
	g, err := gateway.New(gateway.Options{
		Agents:  agents{"Agent": {Name: "Agent", URL: &url.URL{Scheme: "http", Host: "agent.example"}}},
		Manager: newManager(t),
		Base:    taking{func() { bounded = !w.readBy().IsZero() }},
	})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/agents/Agent/x", iotest.OneByteReader(strings.NewReader("upload")))
	r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/2.0", 2, 0
	g.ServeHTTP(w, r)
	if w.Code != http.StatusOK || bounded {
		t.Errorf("got %d; bounded while nobody reads: %v", w.Code, bounded)
	}
}
