package app

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/breakerd/breakerd/internal/guard"
	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/route/routetest"
)

// echo answers with who it is and what it was asked.
func echo(who string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, who+" "+r.RequestURI) })
}

func serveAgents(t *testing.T, gate http.Handler, loopbackOnly bool) *routetest.Client {
	t.Helper()
	c := &routetest.Client{TB: t, Doc: &huma.OpenAPI{}}
	c.Serve(underAgents(gate, echo("api"), loopbackOnly, slog.New(slog.DiscardHandler)))
	return c
}

func TestAgents_URLThatLeadsBackIsNoticed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		url, listen string
		want        bool
	}{
		{"http://127.0.0.1:8000/agents/a", "127.0.0.1:8000", true},
		{"http://localhost:8000", "127.0.0.1:8000", true},
		{"http://[::1]:8000/api/v1/workflows/w", "0.0.0.0:8000", true},
		{"http://127.0.0.2:8000/x", ":8000", true},
		{"http://bridge.internal/x", "bridge.internal:80", true},
		{"https://127.0.0.1/x", "0.0.0.0:443", true},
		{"http://127.0.0.1:8001", "127.0.0.1:8000", false},
		{"http://10.0.0.1:8000", "127.0.0.1:8000", false},
		{"http://agent:8000", "0.0.0.0:8000", false}, // nobody knows
		{"http://127.0.0.1:8000", "unix", false},
	} {
		u, err := url.Parse(c.url)
		if err != nil {
			t.Fatal(err)
		}
		if got := leadsTo(u, c.listen); got != c.want {
			t.Errorf("%s, listening at %s: %v", c.url, c.listen, got)
		}
	}
	if leadsTo(nil, "127.0.0.1:8000") {
		t.Error("an agent without a url leads back")
	}
}

func TestUnderAgents_GatewayGetsPathsAsSent(t *testing.T) {
	t.Parallel()
	c := serveAgents(t, echo("gateway"), false)
	for target, who := range map[string]string{
		"/agents": "gateway", "/agents/": "gateway", "/agents/a": "gateway", "/agents/a/": "gateway", "/agents//": "gateway", "/agents/a/../b": "gateway",
		"/agents/a//b/./c": "gateway", "/agents/a%2Fb/c": "gateway", "/agents/a%20b": "gateway", "/agents/%2e%2e/x": "gateway",
		"/agents/../api/v1/agents": "gateway", "/agents/a?x=%zz;y": "gateway", "/agents/a/b?q=1#": "gateway", "/agents/" + strings.Repeat("a", 5000): "gateway",
		"/": "api", "//agents/a": "api", "/%61gents/a": "api", "/agents%2Fa": "api", "/agentsx": "api", "/api/v1/agents": "api", "/Agents/a": "api",
	} {
		for _, method := range []string{"GET", "POST", "DELETE", "PATCH", "OPTIONS", "BREW"} {
			if g := c.RawRequest(method, target, ""); g.Status != 200 || g.Text != who+" "+target {
				t.Errorf("%s %s: %d %s", method, target, g.Status, g.Text)
			}
		}
	}
	g := c.Do("GET", "/agents/a", "", "Sec-Fetch-Site", "cross-site").Want(200)
	if g.Header.Get("Cache-Control") != "" || g.Header.Get("X-Content-Type-Options") != "" {
		t.Errorf("headers were added to an agent's answer: %v", g.Header)
	}
	c.Do("POST", "/agents/a", "{}", "Origin", "https://another.example").Want(200)
}

func TestUnderAgents_LoopbackIsClosedToOtherSites(t *testing.T) {
	t.Parallel()
	c := serveAgents(t, echo("gateway"), true)
	c.Do("GET", "/agents/a", "", "Host", "evil.example").WantProblem(421, problem.HostNotAllowed)
	c.Do("POST", "/agents/a", "{}", "Host", "evil.example:8000").WantProblem(421, problem.HostNotAllowed)
	c.Do("POST", "/agents/a", "{}", "Origin", "https://evil.example").WantProblem(403, problem.CrossOrigin)
	c.Do("POST", "/agents/a", "{}", "Sec-Fetch-Site", "cross-site").WantProblem(403, problem.CrossOrigin)
	c.Do("POST", "/agents/a", "{}").Want(200)
	c.Do("GET", "/agents/a", "").Want(200)
	c.Do("GET", "/agents/a", "", "Sec-Fetch-Site", "cross-site").Want(200)
	upgrade := []string{"Connection", "Upgrade", "Upgrade", "websocket"} // no browser keeps its answer from a page
	c.Do("GET", "/agents/a", "", append(upgrade, "Origin", "https://evil.example")...).WantProblem(403, problem.CrossOrigin)
	c.Do("GET", "/agents/a", "", append(upgrade, "Sec-Fetch-Site", "cross-site")...).WantProblem(403, problem.CrossOrigin)
	c.Do("GET", "/agents/a", "", append(upgrade, "Origin", c.URL)...).Want(200)
	c.Do("GET", "/agents/a", "", upgrade...).Want(200)
}

// pipe is a listener of one connection.
type pipe struct {
	net.Listener
	conns chan net.Conn
}

func (p pipe) Accept() (net.Conn, error) {
	conn, ok := <-p.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}

func (p pipe) Close() error { return nil }

// One connection serves the API and the gateway in turn.
func TestUnderAgents_DeadlineOfAnAnswerDoesNotOutliveIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		gate := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-time.After(time.Hour) })
		api := guard.Chain(echo("api"), guard.Deadlines(30*time.Second, time.Minute))
		listener := pipe{conns: make(chan net.Conn, 1)}
		ours, theirs := net.Pipe()
		listener.conns <- theirs
		web := &http.Server{Handler: underAgents(gate, api, true, slog.New(slog.DiscardHandler)), ReadHeaderTimeout: time.Minute}
		go func() { _ = web.Serve(listener) }()
		in := bufio.NewReader(ours)
		for _, path := range []string{"/own", "/agents/a", "/own"} {
			_, _ = io.WriteString(ours, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\n\r\n")
			res, err := http.ReadResponse(in, nil)
			if err != nil || res.StatusCode != http.StatusOK {
				t.Fatalf("%s: %v", path, err)
			}
			_, _ = io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
		ours.Close()
		close(listener.conns)
		_ = web.Close()
	})
}

func TestUnderAgents_GatewayReachesTheConnectionAndItsPanicsAreCaught(t *testing.T) {
	t.Parallel()
	f := serveAgents(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := http.NewResponseController(w)
		switch r.URL.Path {
		case "/agents/panics":
			panic("the gateway panics")
		case "/agents/flushes":
			w.WriteHeader(http.StatusOK)
			if err := c.Flush(); err != nil {
				_, _ = io.WriteString(w, err.Error())
			}
		case "/agents/hijacks":
			conn, _, err := c.Hijack()
			if err != nil {
				panic(err)
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 299 Mine\r\nContent-Length: 0\r\n\r\n")
			conn.Close()
		}
	}), false)
	f.RawRequest("GET", "/agents/panics", "").WantProblem(500, problem.Internal)
	if g := f.RawRequest("GET", "/agents/flushes", "").Want(200); g.Text != "" {
		t.Error(g.Text)
	}
	f.RawRequest("GET", "/agents/hijacks", "").Want(299)
}
