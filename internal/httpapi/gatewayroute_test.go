package httpapi

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakerd/breakerd/internal/problem"
)

func TestTheGatewayGetsItsPathsAsTheyWereSent(t *testing.T) {
	t.Parallel()
	f := newBridgeFixture(t)
	for _, target := range []string{
		"/agents", "/agents/", "/agents/a", "/agents/a/", "/agents//", "/agents/a/../b", "/agents/a//b/./c", "/agents/a%2Fb/c", "/agents/a%20b", "/agents/%2e%2e/x",
		"/agents/../api/v1/agents", "/agents/a?x=%zz;y", "/agents/a/b?q=1#", "/agents/" + strings.Repeat("a", 5000),
	} {
		for _, method := range []string{"GET", "POST", "DELETE", "PATCH", "OPTIONS", "BREW"} {
			if g := f.rawRequest(method, target, ""); g.status != 200 || g.text != "gateway "+target {
				t.Errorf("%s %s: %d %s", method, target, g.status, g.text)
			}
		}
	}
	g := f.do("GET", "/agents/a", "", "Sec-Fetch-Site", "cross-site").want(200)
	if g.header.Get("Cache-Control") != "" || g.header.Get("X-Content-Type-Options") != "" {
		t.Errorf("headers were added to an agent's answer: %v", g.header)
	}
	f.do("POST", "/agents/a", "{}", "Origin", "https://another.example").want(200)
}

func TestALoopbackGatewayIsClosedToOtherSites(t *testing.T) {
	t.Parallel()
	f := newBridgeFixture(t, func(o *BridgeOptions) { o.LoopbackOnly = true })
	f.do("GET", "/agents/a", "", "Host", "evil.example").wantProblem(421, problem.HostNotAllowed)
	f.do("POST", "/agents/a", "{}", "Host", "evil.example:8000").wantProblem(421, problem.HostNotAllowed)
	f.do("POST", "/agents/a", "{}", "Origin", "https://evil.example").wantProblem(403, problem.CrossOrigin)
	f.do("POST", "/agents/a", "{}", "Sec-Fetch-Site", "cross-site").wantProblem(403, problem.CrossOrigin)
	f.do("POST", "/agents/a", "{}").want(200)
	f.do("GET", "/agents/a", "").want(200)
	f.do("GET", "/agents/a", "", "Sec-Fetch-Site", "cross-site").want(200)
	upgrade := []string{"Connection", "Upgrade", "Upgrade", "websocket"} // no browser keeps its answer from a page
	f.do("GET", "/agents/a", "", append(upgrade, "Origin", "https://evil.example")...).wantProblem(403, problem.CrossOrigin)
	f.do("GET", "/agents/a", "", append(upgrade, "Sec-Fetch-Site", "cross-site")...).wantProblem(403, problem.CrossOrigin)
	f.do("GET", "/agents/a", "", append(upgrade, "Origin", f.url)...).want(200)
	f.do("GET", "/agents/a", "", upgrade...).want(200)
}

// timed is a writer that tells of its deadlines.
type timed struct {
	*httptest.ResponseRecorder
	read, write []time.Time
}

func (d *timed) SetReadDeadline(at time.Time) error  { d.read = append(d.read, at); return nil }
func (d *timed) SetWriteDeadline(at time.Time) error { d.write = append(d.write, at); return nil }

func TestOnlyTheBridgesOwnAnswersHaveADeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newParts(t)
		s := &server{common: common{readIn: 30 * time.Second, writeIn: time.Minute, logger: f.logger}, mux: http.NewServeMux(), cross: http.NewCrossOriginProtection()}
		s.gateway = http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
		s.mux.HandleFunc("/own", func(http.ResponseWriter, *http.Request) {})
		s.mux.HandleFunc("/long", func(w http.ResponseWriter, r *http.Request) { (&request{Request: r, w: w}).mayTake(time.Hour) })
		for path, want := range map[string][]time.Duration{"/agents/a": nil, "/own": {time.Minute}, "/long": {time.Minute, time.Hour}} {
			w := &timed{ResponseRecorder: httptest.NewRecorder()}
			s.handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
			var got []time.Duration
			for _, at := range w.write {
				got = append(got, time.Until(at))
			}
			if !slices.Equal(got, want) || len(w.read) != len(want) {
				t.Errorf("%s: to write %v, want %v; to read %v", path, got, want, w.read)
			}
		}
	})
	b := newBridgeFixture(t)
	if b.api.writeIn != time.Minute || newFixture(t).api.writeIn != 0 {
		t.Error("the bridge bounds its answers itself, breakerd's server does it for breakerd")
	}
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

// A connection serves the API and the gateway in turn.
func TestADeadlineOfAnAnswerDoesNotOutliveIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &server{common: common{readIn: 30 * time.Second, writeIn: time.Minute}, mux: http.NewServeMux(), cross: http.NewCrossOriginProtection()}
		s.gateway = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-time.After(time.Hour) })
		s.mux.HandleFunc("/own", func(http.ResponseWriter, *http.Request) {})
		listener := pipe{conns: make(chan net.Conn, 1)}
		ours, theirs := net.Pipe()
		listener.conns <- theirs
		web := &http.Server{Handler: s.handler(), ReadHeaderTimeout: time.Minute}
		go func() { _ = web.Serve(listener) }()
		in := bufio.NewReader(ours)
		for _, path := range []string{"/own", "/agents/a", "/own"} {
			_, _ = io.WriteString(ours, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\n\r\n")
			res, err := http.ReadResponse(in, nil)
			if err != nil || res.StatusCode != http.StatusOK {
				t.Fatalf("%s: %v", path, err)
			}
			res.Body.Close()
		}
		ours.Close()
		close(listener.conns)
		_ = web.Close()
	})
}

func TestWithoutAGatewayThereIsNothingUnderAgents(t *testing.T) {
	t.Parallel()
	f := newBridgeFixture(t, func(o *BridgeOptions) { o.Gateway = nil })
	f.do("GET", "/agents/a", "").wantProblem(404, problem.NotFound)
	if doc := f.do("GET", "/openapi.json", "").want(200); strings.Contains(doc.text, "callAgent") {
		t.Error("the document has a gateway")
	}
}

func TestTheGatewayReachesTheConnectionAndItsPanicsAreCaught(t *testing.T) {
	t.Parallel()
	f := newBridgeFixture(t, func(o *BridgeOptions) {
		o.Gateway = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
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
		})
	})
	f.rawRequest("GET", "/agents/panics", "").wantProblem(500, problem.Internal)
	if g := f.rawRequest("GET", "/agents/flushes", "").want(200); g.text != "" {
		t.Error(g.text)
	}
	f.rawRequest("GET", "/agents/hijacks", "").want(299)
}
