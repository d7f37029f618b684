package breakerhttp_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
	"github.com/breakerd/breakerd/pkg/breakerhttp"
)

// inbound is a Middleware that names its callers by X-Agent, and all that it reports.
type inbound struct {
	*breakerhttp.Middleware

	log  *bytes.Buffer
	seen *recorder
}

func newInbound(t *testing.T, edit func(*breaker.Policy)) *inbound {
	t.Helper()
	g := &inbound{log: &bytes.Buffer{}, seen: &recorder{settled: make(chan breaker.Outcome, 100)}}
	g.Middleware = &breakerhttp.Middleware{
		Manager: newManager(t, breaker.NewMemory(nil, 0), g.seen, edit), Agent: breakerhttp.FromHeader("X-Agent"),
		Logger: slog.New(slog.NewTextHandler(g.log, nil)),
	}
	return g
}

// call sends a request of agent "a" through h, without a network.
func (g *inbound) call(t *testing.T, h http.HandlerFunc) *http.Response {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody)
	r.Header.Set("X-Agent", "a")
	g.Wrap(h).ServeHTTP(w, r)
	return w.Result()
}

func (g *inbound) settledOnce(t *testing.T, kind breaker.OutcomeKind, class string) {
	t.Helper()
	select {
	case o := <-g.seen.settled:
		if o.Kind != kind || o.Class != class || o.Duration != 0 {
			t.Errorf("settled with %+v, want %s %q", o, kind, class)
		}
	default:
		t.Error("not settled")
	}
	if len(g.seen.settled) > 0 || g.log.Len() > 0 {
		t.Errorf("settled %d more times; logged %s", len(g.seen.settled), g.log)
	}
}

func TestMiddleware_OutcomeFollowsStatus(t *testing.T) {
	t.Parallel()
	for _, status := range []int{0, 200, 201, 304, 400, 401, 404, 409, 422, 429, 500, 503} {
		g := newInbound(t, nil)
		resp := g.call(t, func(w http.ResponseWriter, _ *http.Request) {
			if status > 0 {
				w.Header().Set("Link", "</x.css>")
				w.WriteHeader(http.StatusEarlyHints) // is not final
				w.WriteHeader(status)
			}
			_, _ = io.WriteString(w, "text")
		})
		want := breakerhttp.InboundOutcome(max(status, 200))
		g.settledOnce(t, want.Kind, want.Class)
		_ = resp.Body.Close()
	}
	g := newInbound(t, nil)
	_ = g.call(t, func(http.ResponseWriter, *http.Request) {}).Body.Close()
	g.settledOnce(t, breaker.Success, "")
	g.Classify = func(status int) breaker.Outcome {
		return breaker.Outcome{Kind: breaker.Failure, Class: "own_" + strconv.Itoa(status)}
	}
	_ = g.call(t, func(http.ResponseWriter, *http.Request) {}).Body.Close()
	g.settledOnce(t, breaker.Failure, "own_200")
}

// The answer is compared as it is on the wire.
func TestMiddleware_KeepsOutFloodingAgentOnly(t *testing.T) {
	t.Parallel()
	g := newInbound(t, func(p *breaker.Policy) { p.Timeout = time.Hour })
	calls := 0
	srv := httptest.NewServer(g.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls++
		if r.Header.Get("X-Agent") == "flooder" {
			http.Error(w, "bad assertion", http.StatusUnprocessableEntity)
		}
	})))
	defer srv.Close()
	ask := func(agent string) string {
		var d net.Dialer
		conn, err := d.DialContext(t.Context(), "tcp", srv.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Agent: "+agent+"\r\n\r\n")
		text, err := io.ReadAll(conn)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	for range 5 {
		if text := ask("flooder"); !strings.HasPrefix(text, "HTTP/1.1 422 ") {
			t.Fatalf("answered %s", text)
		}
	}
	text := ask("flooder")
	for _, want := range []string{
		"HTTP/1.1 429 Too Many Requests\r\n", "\r\nx-circuit-breaker-state: OPEN\r\n", "\r\nretry-after: 3600\r\n", `"agent":"flooder"`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("answered %s\nwithout %q", text, want)
		}
	}
	if text := ask("other"); !strings.HasPrefix(text, "HTTP/1.1 200 ") || calls != 6 {
		t.Errorf("answered %s, %d calls reached the API", text, calls)
	}
}

func TestMiddleware_SettlesFailureBeforeCallerSeesIt(t *testing.T) {
	t.Parallel()
	g := newInbound(t, nil)
	more := make(chan struct{})
	srv := startAgent(t, g.Wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		_ = http.NewResponseController(w).Flush()
		<-more
		panic(http.ErrAbortHandler) // changes nothing: the call is settled
	})).ServeHTTP)
	req := request(t.Context(), t, http.MethodGet, srv.URL)
	req.Header.Set("X-Agent", "a")
	resp, err := newBase(t, false).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	g.settledOnce(t, breaker.Failure, "http_400")
	close(more)
	_, _ = io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	srv.Close() // waits for the handler
	if len(g.seen.settled) > 0 || g.log.Len() > 0 {
		t.Errorf("settled once more; logged %s", g.log)
	}
}

func TestMiddleware_PanicIsIgnoredAndGoesOn(t *testing.T) {
	t.Parallel()
	g := newInbound(t, nil)
	func() {
		defer func() {
			if v := recover(); v != "boom" {
				t.Errorf("recovered %v", v)
			}
		}()
		g.call(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK); panic("boom") }) //nolint:bodyclose // there is none
	}()
	g.settledOnce(t, breaker.Ignored, "panic")
}

func TestMiddleware_CallerThatLeftIsIgnored(t *testing.T) {
	t.Parallel()
	g := newInbound(t, nil)
	done := make(chan struct{})
	h := g.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	srv := startAgent(t, func(w http.ResponseWriter, r *http.Request) {
		defer close(done)
		h.ServeHTTP(w, r)
	})
	ctx, cancel := context.WithCancel(t.Context())
	req := request(ctx, t, http.MethodGet, srv.URL)
	req.Header.Set("X-Agent", "a")
	resp, err := newBase(t, false).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	_ = resp.Body.Close()
	<-done
	g.settledOnce(t, breaker.Ignored, "cancelled")
}

func TestMiddleware_StreamsUnbuffered(t *testing.T) {
	t.Parallel()
	for _, h2 := range []bool{false, true} {
		for name, flush := range map[string]func(w http.ResponseWriter){
			"Flusher":    func(w http.ResponseWriter) { w.(http.Flusher).Flush() },
			"controller": func(w http.ResponseWriter) { _ = http.NewResponseController(w).Flush() },
		} {
			g := newInbound(t, nil)
			more := make(chan struct{})
			srv := startAgent(t, g.Wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Hour)); err != nil {
					t.Errorf("deadline: %v", err) // works by Unwrap
				}
				_, _ = io.WriteString(w, "first")
				flush(w)
				<-more
			})).ServeHTTP)
			req := request(t.Context(), t, http.MethodGet, srv.URL)
			req.Header.Set("X-Agent", "a")
			resp, err := newBase(t, h2).RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			first := make([]byte, 5)
			if _, err := io.ReadFull(resp.Body, first); err != nil || string(first) != "first" {
				t.Errorf("%s: read %q, %v", name, first, err)
			}
			if len(g.seen.settled) > 0 {
				t.Errorf("%s: settled before the end", name)
			}
			close(more)
			_, _ = io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			srv.Close()
			g.settledOnce(t, breaker.Success, "")
		}
	}
}

func TestMiddleware_HijackedConnectionIsSuccess(t *testing.T) {
	t.Parallel()
	g := newInbound(t, nil)
	srv := startAgent(t, g.Wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		g.settledOnce(t, breaker.Success, "") // while the connection lasts
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nhello\n")
		_ = conn.Close()
	})).ServeHTTP)
	req := request(t.Context(), t, http.MethodGet, srv.URL)
	req.Header = http.Header{"X-Agent": {"a"}, "Connection": {"Upgrade"}, "Upgrade": {"x"}}
	resp, err := newBase(t, false).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(resp.Body).ReadString('\n'); err != nil || line != "hello\n" {
		t.Errorf("read %q, %v", line, err)
	}
	_ = resp.Body.Close()
	srv.Close()
	if len(g.seen.settled) > 0 || g.log.Len() > 0 {
		t.Errorf("settled once more; logged %s", g.log)
	}
	_ = g.call(t, func(w http.ResponseWriter, _ *http.Request) {
		if _, _, err := w.(http.Hijacker).Hijack(); !errors.Is(err, http.ErrNotSupported) {
			t.Errorf("hijack without support gave %v", err)
		}
	}).Body.Close()
	g.settledOnce(t, breaker.Success, "")
}

func TestMiddleware_RenewsLeaseWhileHandlerWorks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newInbound(t, func(p *breaker.Policy) { p.HalfOpenMaxCalls, p.ProbeTimeout = 1, 3*time.Second })
		for range 5 {
			_ = g.call(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadRequest) }).Body.Close()
			g.settledOnce(t, breaker.Failure, "http_400")
		}
		<-time.After(time.Minute)
		_ = g.call(t, func(http.ResponseWriter, *http.Request) {
			<-time.After(5 * time.Minute) // many times the lease
			busy := g.call(t, func(http.ResponseWriter, *http.Request) { t.Error("second probe admitted") })
			if busy.StatusCode != http.StatusTooManyRequests || busy.Header["x-circuit-breaker-state"][0] != "HALF_OPEN" { //nolint:staticcheck // as on the wire
				t.Errorf("second probe answered %d %v", busy.StatusCode, busy.Header)
			}
			_ = busy.Body.Close()
		}).Body.Close()
		g.settledOnce(t, breaker.Success, "")
		v, _, err := g.Manager.Inspect(t.Context(), "a")
		if err != nil || v.State != breaker.Closed {
			t.Errorf("state %s, %v", v.State, err)
		}
	})
}

func TestMiddleware_AnswersBadName(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		agent  func(*http.Request) (string, error)
		detail string
		logged string
	}{
		"header": {breakerhttp.FromHeader("X-Who"), "header X-Who: " + breaker.ErrBadName.Error(), ""},
		"path":   {breakerhttp.FromPath(9), "segment 9 of the path: " + breaker.ErrBadName.Error(), ""},
		"own":    {func(*http.Request) (string, error) { return "a b", nil }, breaker.ErrBadName.Error(), ""},
		"secret": {func(*http.Request) (string, error) { return "", errors.New("token xyz is bad") }, breaker.ErrBadName.Error(), "xyz"},
	} {
		g := newInbound(t, nil)
		g.Agent = c.agent
		resp := g.call(t, func(http.ResponseWriter, *http.Request) { t.Error("called") })
		text, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		want := `{"type":"urn:breakerd:problem:invalid_agent_name","title":"Bad Request","status":400,"detail":"` + c.detail +
			`","code":"invalid_agent_name","errors":[]}` + "\n"
		if resp.StatusCode != http.StatusBadRequest || string(text) != want || resp.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: answered %d %s\nwant %s", name, resp.StatusCode, text, want)
		}
		if !strings.Contains(g.log.String(), c.logged) || c.logged == "" && g.log.Len() > 0 {
			t.Errorf("%s: logged %q", name, g.log)
		}
	}
}

func TestFromHeaderAndPath_NameTheCaller(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		namer func(*http.Request) (string, error)
		path  string
		who   []string
		want  string // "": an error
	}{
		{breakerhttp.FromHeader("x-agent"), "/", []string{"reader"}, "reader"},
		{breakerhttp.FromHeader("X-Agent"), "/", nil, ""},
		{breakerhttp.FromHeader("X-Agent"), "/", []string{""}, ""},
		{breakerhttp.FromHeader("X-Agent"), "/", []string{"a b"}, ""},
		{breakerhttp.FromHeader("X-Agent"), "/", []string{"a", "b"}, ""}, // ambiguous
		{breakerhttp.FromPath(2), "/agents/reader/ask", nil, "reader"},
		{breakerhttp.FromPath(1), "/reader", nil, "reader"},
		{breakerhttp.FromPath(2), "/agents/a%3Ab", nil, "a:b"},
		{breakerhttp.FromPath(2), "/agents/a%2Fb", nil, ""},
		{breakerhttp.FromPath(2), "/agents//x", nil, ""},
		{breakerhttp.FromPath(2), "/agents", nil, ""},
		{breakerhttp.FromPath(0), "/agents", nil, ""},
		{breakerhttp.FromPath(-1), "/agents", nil, ""},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, c.path, http.NoBody)
		r.Header["X-Agent"] = c.who
		got, err := c.namer(r)
		if got != c.want || (err == nil) != (c.want != "") || err != nil && !errors.Is(err, breaker.ErrBadName) {
			t.Errorf("%s %q: %q, %v; want %q", c.path, c.who, got, err, c.want)
		}
	}
}

// downStore is a store that never answers.
type downStore struct{ breaker.Store }

func (downStore) Apply(_ context.Context, agent string, _ breaker.Policy, op machine.Op) (machine.Result, error) {
	return machine.Result{}, &breaker.StoreError{Verb: op.Verb, Agent: agent, Err: errors.New("cable cut")}
}

func TestMiddleware_AnswersStoreUnavailable(t *testing.T) {
	t.Parallel()
	g := newInbound(t, nil)
	g.Manager = newManager(t, downStore{}, g.seen, nil)
	resp := g.call(t, func(http.ResponseWriter, *http.Request) { t.Error("called") })
	text, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	want := `{"type":"urn:breakerd:problem:store_unavailable","title":"Service Unavailable","status":503,` +
		`"detail":"the store of the circuit breakers does not answer; nothing was done","code":"store_unavailable","errors":[]}` + "\n"
	if resp.StatusCode != http.StatusServiceUnavailable || string(text) != want ||
		fmt.Sprint(resp.Header["retry-after"]) != "[1]" { //nolint:staticcheck // as on the wire
		t.Errorf("answered %d %v %s\nwant %s", resp.StatusCode, resp.Header, text, want)
	}
	if !strings.Contains(g.log.String(), "cable cut") {
		t.Errorf("logged %q", g.log)
	}
	g.Logger = nil
	_ = g.call(t, func(http.ResponseWriter, *http.Request) { t.Error("called") }).Body.Close()
}
