package demo

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// demoAgent is a demo agent on a TCP port of its own.
type demoAgent struct {
	t      testing.TB
	url    string
	client *http.Client
	h2c    *http.Client
	log    *testkit.Buffer
}

// start runs a demo agent until the test ends; list is DEMO_AGENTS.
func start(t testing.TB, list string) *demoAgent {
	t.Helper()
	p := &demoAgent{t: t, log: &testkit.Buffer{}, client: newClient(t, false), h2c: newClient(t, true)}
	a, err := newAgents(list)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(&server{a, slog.New(slog.NewJSONHandler(p.log, nil))})
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	p.url = s.URL
	t.Cleanup(func() {
		p.client.CloseIdleConnections()
		p.h2c.CloseIdleConnections()
		s.CloseClientConnections()
		s.Close()
	})
	return p
}

func newClient(t testing.TB, h2c bool) *http.Client {
	transport := &http.Transport{Protocols: new(http.Protocols), ExpectContinueTimeout: time.Minute}
	transport.Protocols.SetHTTP1(!h2c)
	transport.Protocols.SetUnencryptedHTTP2(h2c)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// got is one answer.
type got struct {
	t      testing.TB
	status int
	header http.Header
	text   string
	json   map[string]any
}

func (p *demoAgent) request(method, path string, body io.Reader, header ...string) *http.Request {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), method, p.url+path, body)
	if err != nil {
		p.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return req
}

// do sends a request and reads the whole answer. A body is JSON unless header says otherwise.
func (p *demoAgent) do(method, path, body string, header ...string) got {
	p.t.Helper()
	res, err := p.client.Do(p.request(method, path, strings.NewReader(body), append([]string{"Content-Type", "application/json"}, header...)...))
	if err != nil {
		p.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	g := got{t: p.t, status: res.StatusCode, header: res.Header, text: string(text)}
	_ = json.Unmarshal(text, &g.json)
	return g
}

// want checks the status, and fields given as name=JSON.
func (g got) want(status int, fields ...string) got {
	g.t.Helper()
	if g.status != status {
		g.t.Fatalf("status %d, want %d: %s", g.status, status, g.text)
	}
	for _, f := range fields {
		name, want, _ := strings.Cut(f, "=")
		if have, err := json.Marshal(g.json[name]); err != nil || string(have) != want {
			g.t.Errorf("%s is %s, want %s in %s", name, have, want, g.text)
		}
	}
	return g
}

func (g got) wantProblem(status int, c problem.Code) {
	g.t.Helper()
	g.want(status, fmt.Sprintf("code=%q", c), fmt.Sprintf("status=%d", status), fmt.Sprintf("type=%q", "urn:breakerd:problem:"+c))
	if g.header.Get("Content-Type") != "application/problem+json" || g.json["detail"] == "" || g.json["title"] == "" {
		g.t.Errorf("not a problem: %v %s", g.header, g.text)
	}
}

// mode switches an agent.
func (p *demoAgent) mode(agent, body string) got {
	p.t.Helper()
	return p.do(http.MethodPut, "/modes/"+agent, body).want(http.StatusOK)
}

// wantInFlight waits until so many calls of the agent are under way.
func (p *demoAgent) wantInFlight(agent string, n int) {
	p.t.Helper()
	testkit.Eventually(p.t, "calls under way", 20*time.Second, func() error {
		if have := p.do(http.MethodGet, "/modes/"+agent, "").json["in_flight"]; have != float64(n) {
			return fmt.Errorf("%v in flight, want %d", have, n)
		}
		return nil
	})
}

// dial opens a TCP connection, for requests that no client sends.
func (p *demoAgent) dial() net.Conn {
	p.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = conn.Close() })
	return conn
}
