package e2e

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
)

// counted is a client that counts the connections that it opens.
func counted(t testing.TB) (client *http.Client, opened *atomic.Int64) {
	t.Helper()
	opened = new(atomic.Int64)
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	transport := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		opened.Add(1)
		return dialer.DialContext(ctx, network, addr)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	client = &http.Client{Transport: transport, Timeout: 30 * time.Second}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return client, opened
}

// nobody is an address at which nobody listens.
func nobody(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return "http://" + l.Addr().String()
}

// TestField_ARefusalKeepsTheConnection is row G4: sledge 389 and capnproto 2831.
func TestField_ARefusalKeepsTheConnection(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{}, 1000)
	f := inFront(t, nil, fieldAgent{name: "open", serve: answer(500, "{}")}, fieldAgent{name: "works", serve: answer(200, "{}")},
		fieldAgent{name: "away", url: nobody(t), policy: `"enabled":false`},
		fieldAgent{name: "late", serve: hangs(arrived), fields: `"timeout_seconds":0.01`, policy: `"enabled":false`})
	for range 5 {
		f.post("open", "/run").want(500)
	}
	f.wantState("open", "OPEN")
	for _, row := range []struct {
		path, method string
		status       int
	}{
		{"/agents/open/run", "POST", 429},
		{"/agents/open/run", "PUT", 429},
		{"/agents/open/run", "PATCH", 429},
		{"/agents/open/run", "DELETE", 429},
		{"/agents/Nobody/run", "POST", 404},
		{"/agents/away/run", "POST", 502},
		{"/agents/late/run", "POST", 504},
		{"/agents/works/a/../b", "POST", 400},
		{"/agents/works/run", "POST", 200},
	} {
		for _, size := range []int{1, 30_000, 200_000} {
			for _, chunked := range []bool{false, true} {
				client, opened := counted(t)
				for range 10 {
					var body io.Reader = strings.NewReader(strings.Repeat("x", size))
					if chunked {
						body = io.MultiReader(body)
					}
					req, err := http.NewRequestWithContext(t.Context(), row.method, "http://"+f.addr+row.path, body)
					if err != nil {
						t.Fatal(err)
					}
					res, err := client.Do(req)
					if err != nil {
						t.Fatalf("%s %s, %d bytes: %v", row.method, row.path, size, err)
					}
					_, _ = io.Copy(io.Discard, res.Body)
					_ = res.Body.Close()
					if res.StatusCode != row.status {
						t.Fatalf("%s %s: status %d, want %d", row.method, row.path, res.StatusCode, row.status)
					}
				}
				if n := opened.Load(); n != 1 {
					t.Errorf("%s %s, %d bytes, chunked %v: 10 calls took %d connections", row.method, row.path, size, chunked, n)
				}
			}
		}
	}
}

// TestField_NothingOfAnAnswerLeadsPastTheBridge is row G8: litellm 23688, mcp-gateway-registry 1606 and
// typescript-sdk 583.
func TestField_NothingOfAnAnswerLeadsPastTheBridge(t *testing.T) {
	t.Parallel()
	redirecting := func(w http.ResponseWriter, r *http.Request) {
		to := r.Header.Get("X-To")
		to = strings.ReplaceAll(to, "HOST", r.Host)
		for _, name := range []string{"Location", "Content-Location"} {
			if to != "" {
				w.Header().Set(name, to)
			}
		}
		if cookie := r.Header.Get("X-Cookie"); cookie != "" {
			w.Header().Add("Set-Cookie", cookie)
		}
		w.Header().Set("X-Got-Prefix", r.Header.Get("X-Forwarded-Prefix"))
		w.WriteHeader(http.StatusTemporaryRedirect)
	}
	f := inFront(t, nil, fieldAgent{name: "Agent", serve: redirecting})
	client, _ := counted(t)
	own := "http://" + f.addr + "/agents/Agent"
	for to, want := range map[string]string{ // HOST is what the agent takes for its own address; the call is of …/mcp
		"http://HOST/Agent/mcp/":     own + "/mcp/",
		"http://HOST/Agent":          own,
		"http://HOST/Agent/a?b=c#d":  own + "/a?b=c#d",
		"//HOST/Agent/mcp/":          own + "/mcp/",
		"/Agent/mcp/":                own + "/mcp/",
		"/Agent/a%2Fb":               own + "/a%2Fb",
		"mcp/":                       own + "/mcp/",
		"?page=2":                    own + "/mcp?page=2",
		"https://elsewhere.example/": "https://elsewhere.example/",
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, own+"/mcp", strings.NewReader(`{}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-To", to)
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		for _, name := range []string{"Location", "Content-Location"} {
			got, err := req.URL.Parse(res.Header.Get(name))
			if err != nil || got.String() != want {
				t.Errorf("%s: %s came back as %s, want %s", name, to, res.Header.Get(name), want)
			}
		}
		if got := res.Header.Get("X-Got-Prefix"); got != "/agents/Agent" {
			t.Errorf("the agent got X-Forwarded-Prefix %q", got)
		}
	}
	for _, cookie := range []string{
		"sid=1; Path=/Agent", "sid=1; Path=/Agent/; HttpOnly", "sid=1; Path=/Agent/a; SameSite=Strict", "sid=1; HttpOnly; path=/Agent", `sid=1; Path="/Agent"`,
		"sid=1; PATH = /Agent ; Secure", "sid=1; Path=/Agent/a=b; Max-Age=60",
	} {
		r := curl(t, "-X", "POST", "-H", "X-Cookie: "+cookie, own+"/login")
		got := r.header("Set-Cookie")
		if len(got) != 1 {
			t.Errorf("%s: cookies %q", cookie, got)
			continue
		}
		parsed, err := http.ParseSetCookie(got[0])
		if err != nil || strings.Contains(cookie, "HttpOnly") != parsed.HttpOnly || strings.Contains(cookie, "Secure") != parsed.Secure {
			t.Errorf("%s came back as %s (%v)", cookie, got[0], err)
			continue
		}
		path := cmp.Or(strings.Trim(parsed.Path, `"`), "/agents/Agent") // without one, the directory of the call's path
		if rest, inside := strings.CutPrefix(path, "/agents/Agent"); !inside || strings.Contains(rest, "Agent") {
			t.Errorf("%s came back as %s", cookie, got[0])
		}
	}
	f.awaitEnded("Agent", 16, "success")
}

// TestField_WhatDoesNotCount is row G10: vector 13918 and mcp-gateway-registry 1668. Health checks keep no breaker
// closed.
func TestField_WhatDoesNotCount(t *testing.T) {
	t.Parallel()
	mixed := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.Method == http.MethodPost {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}
	f := inFront(t, nil, fieldAgent{name: "head", serve: mixed}, fieldAgent{name: "options", serve: mixed},
		fieldAgent{name: "methods", serve: mixed, fields: `"count":{"methods":["POST"]}`},
		fieldAgent{name: "paths", serve: mixed, fields: `"count":{"path_prefixes":["/v1/"]}`},
		fieldAgent{name: "both", serve: mixed, fields: `"count":{"methods":["POST","PUT"],"path_prefixes":["/v1/","/v2"]}`},
		fieldAgent{name: "default", serve: mixed})
	for _, row := range []struct {
		name, method, path string
		open               bool
	}{
		{"head", "HEAD", "/healthz", true},
		{"options", "OPTIONS", "/v1/run", true},
		{"methods", "GET", "/healthz", true},
		{"paths", "GET", "/healthz", true},
		{"both", "GET", "/v1/models", true},
		{"default", "GET", "/healthz", false},
	} {
		check := func() { f.call(row.method, "/agents/"+row.name+row.path, "").want(http.StatusOK) }
		for range 5 {
			f.post(row.name, "/v1/run").want(http.StatusInternalServerError)
			check()
			check()
		}
		if !row.open {
			f.wantState(row.name, "CLOSED")
			continue
		}
		f.wantState(row.name, "OPEN")
		f.post(row.name, "/v1/run").refused("OPEN", "open")
		check() // what does not count is not refused
		f.halfOpen(row.name)
		for range 4 {
			check()
		}
		f.wantState(row.name, "HALF_OPEN")
	}
	for range 6 { // a failure where nothing counts
		f.post("paths", "/other").want(http.StatusInternalServerError)
	}
	f.wantState("paths", "HALF_OPEN")
	f.post("both", "/v2/run").want(http.StatusInternalServerError)
	f.awaitState("both", "OPEN")
}

// impatient is an agent that serves one request a connection, and closes it as the next one comes.
type impatient struct {
	url         string
	connections atomic.Int64
	requests    atomic.Int64
}

// startImpatient starts one. end closes a connection; quiet closes it as soon as the first answer is out.
func startImpatient(t testing.TB, end func(*net.TCPConn), quiet bool) *impatient {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := &impatient{url: "http://" + l.Addr().String()}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			a.connections.Add(1)
			go a.serve(conn.(*net.TCPConn), end, quiet)
		}
	}()
	return a
}

func (a *impatient) serve(conn *net.TCPConn, end func(*net.TCPConn), quiet bool) {
	defer func() { _ = conn.Close() }()
	in := bufio.NewReader(conn)
	req, err := http.ReadRequest(in)
	if err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, req.Body)
	a.requests.Add(1)
	_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	if !quiet {
		_, _ = in.Peek(1)
	}
	end(conn)
}

// TestField_AStaleConnectionIsNotTheAgents is row G15: caddy 6452 and golang 22158.
func TestField_AStaleConnectionIsNotTheAgents(t *testing.T) {
	t.Parallel()
	reset := func(conn *net.TCPConn) { _ = conn.SetLinger(0) }
	fin := func(conn *net.TCPConn) { _ = conn.CloseWrite() }
	drop := func(*net.TCPConn) {}
	var agents []fieldAgent
	kinds := map[string]*impatient{
		"reset": startImpatient(t, reset, false), "fin": startImpatient(t, fin, false), "drop": startImpatient(t, drop, false),
		"mcp": startImpatient(t, reset, false), "quiet": startImpatient(t, fin, true),
	}
	for name, a := range kinds {
		agents = append(agents, fieldAgent{name: name, url: a.url, fields: `"idle_timeout_seconds":60`})
		if name == "mcp" {
			agents[len(agents)-1].fields += "," + asMCP
		}
	}
	soon := startImpatient(t, fin, false)
	agents = append(agents, fieldAgent{name: "soon", url: soon.url, fields: `"idle_timeout_seconds":0.05`})
	f := inFront(t, nil, agents...)
	for name, a := range kinds {
		// Each is served, or is not the agent's fault.
		refused := 0
		for range 16 {
			switch r := f.post(name, "/run"); r.status {
			case http.StatusOK:
			case http.StatusBadGateway:
				refused++
			default:
				t.Errorf("%s: status %d: %s", name, r.status, r.body)
			}
		}
		testkit.Eventually(t, "the calls of "+name+" to be logged", endTimeout, func() error {
			if n := len(f.ended(name)); n != 16 {
				return fmt.Errorf("%d", n)
			}
			return nil
		})
		stale := 0
		for _, o := range f.ended(name) {
			switch o {
			case "success":
			case "ignored stale_connection":
				stale++
			default:
				t.Errorf("%s: a call ended as %q", name, o)
			}
		}
		if stale != refused {
			t.Errorf("%s: %d calls were answered 502, %d were stale", name, refused, stale)
		}
		f.wantState(name, "CLOSED")
		if v := f.breakerOf(name, "totals.failures"); v != 0.0 {
			t.Errorf("%s: %v failures were counted", name, v)
		}
		// What may be sent twice is.
		before := a.requests.Load()
		for _, method := range []string{"GET", "PUT", "DELETE", "GET", "PUT"} {
			f.call(method, "/agents/"+name+"/run", "").want(http.StatusOK)
		}
		for range 4 {
			f.call(http.MethodPost, "/agents/"+name+"/run", "", "Idempotency-Key", "k1").want(http.StatusOK)
		}
		if n := a.requests.Load() - before; n != 9 {
			t.Errorf("%s: 9 calls were %d at the agent", name, n)
		}
		for _, method := range []string{"GET", "PUT", "DELETE"} { // whose connection breaks while the body is written
			if r := f.call(method, "/agents/"+name+"/run", `{}`); r.status != http.StatusOK && r.status != http.StatusBadGateway {
				t.Errorf("%s: status %d: %s", name, r.status, r.body)
			}
		}
		f.wantState(name, "CLOSED")
		if v := f.breakerOf(name, "totals.failures"); v != 0.0 {
			t.Errorf("%s: %v failures were counted", name, v)
		}
	}
	// The bridge closes first, where it is told how long the agent keeps a connection.
	for i := range 4 {
		testkit.Eventually(t, "the connection to be idle for too long", endTimeout, func() error {
			if n := soon.connections.Load(); n != int64(i) {
				return fmt.Errorf("%d connections", n)
			}
			return nil
		})
		f.post("soon", "/run").want(http.StatusOK)
		awaitNoConnection(t, f, soon)
	}
}

// awaitNoConnection waits until a bridge keeps no connection to an agent.
func awaitNoConnection(t testing.TB, f *field, a *impatient) {
	t.Helper()
	u, err := url.Parse(a.url)
	if err != nil {
		t.Fatal(err)
	}
	remote := hexAddress(t, u.Host)
	testkit.Eventually(t, "the bridge to close its connection", endTimeout, func() error {
		table := string(readFile(t, fmt.Sprintf("/proc/%d/net/tcp", f.PID())))
		for line := range strings.Lines(table) {
			fields := strings.Fields(line)
			if len(fields) > 3 && fields[2] == remote && fields[3] == "01" { // established
				return errors.New(line)
			}
		}
		return nil
	})
}

// hexAddress is an address as /proc/net/tcp shows it.
func hexAddress(t testing.TB, addr string) string {
	t.Helper()
	a, err := net.ResolveTCPAddr("tcp4", addr)
	if err != nil {
		t.Fatal(err)
	}
	ip := a.IP.To4()
	return fmt.Sprintf("%02X%02X%02X%02X:%04X", ip[3], ip[2], ip[1], ip[0], a.Port)
}

// TestField_ALoopEndsAtOnce is row H3: an agent whose url leads back to the bridge.
func TestField_ALoopEndsAtOnce(t *testing.T) {
	t.Parallel()
	var target atomic.Pointer[url.URL]
	var passed atomic.Int64
	balancer := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		passed.Add(1)
		r.SetURL(target.Load())
	}})
	t.Cleanup(balancer.Close)
	f := inFront(t, nil, fieldAgent{name: "ok", serve: answer(200, "{}")},
		fieldAgent{name: "balanced", url: balancer.URL + "/agents/balanced"})
	second := bridge.start(t, "REDIS_URL=embedded://")
	base, err := url.Parse("http://" + f.addr)
	if err != nil {
		t.Fatal(err)
	}
	target.Store(base)
	register := func(d *daemon, name, url string) {
		d.call(http.MethodPost, "/api/v1/agents", `{"name":"`+name+`","url":"`+url+`"}`).want(http.StatusCreated)
	}
	_, port, _ := net.SplitHostPort(f.addr)
	register(f.daemon, "itself", f.at("itself", ""))
	register(f.daemon, "by-name", "http://localhost:"+port+"/agents/by-name")
	register(f.daemon, "crossed", f.at("crossed-2", ""))
	register(f.daemon, "crossed-2", f.at("crossed", ""))
	register(f.daemon, "there", "http://"+second.addr+"/agents/back")
	register(second, "back", f.at("there", ""))
	register(f.daemon, "twice", "http://"+second.addr+"/agents/through")
	register(second, "through", f.at("ok", ""))
	for _, name := range []string{"itself", "by-name", "crossed", "there", "balanced"} {
		for _, method := range []string{"GET", "POST", "PUT"} {
			for range 3 {
				body := ""
				if method != "GET" {
					body = `{}`
				}
				f.call(method, "/agents/"+name+"/x", body).want(http.StatusLoopDetected).has("code", "loop_detected")
			}
		}
		f.wantState(name, "CLOSED")
		if v := f.breakerOf(name, "totals.failures"); v != 0.0 {
			t.Errorf("%s: %v failures were counted", name, v)
		}
	}
	if n := passed.Load(); n != 9 {
		t.Errorf("9 calls passed the balancer %d times", n)
	}
	f.awaitText("loop_detected")
	f.call(http.MethodPost, "/api/v1/workflows", `{"workflow_id":"loop","steps":{"s":{"id":"s","agent_name":"itself"}}}`).want(http.StatusCreated)
	f.execute("loop").want(http.StatusLoopDetected).has("code", "loop_detected")
	// The way back into a bridge that the call has passed is a loop too, wherever it would end.
	f.call(http.MethodGet, "/agents/twice/", "").want(http.StatusLoopDetected)
	// A Via of others is none.
	f.call(http.MethodGet, "/agents/ok/", "", "Via", "1.1 varnish, 1.1 google, 2.0 fly.io").want(http.StatusOK)
	second.call(http.MethodGet, "/agents/through/", "").want(http.StatusOK) // two bridges in a row are none
}

// unread is an agent that answers at once, whatever is sent.
func unread(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex() // else net/http waits for the rest of the body
		w.Header().Set("Connection", "close")
		w.WriteHeader(status)
		flush(w, "{}")
	}
}

// TestField_AnUploadThatNobodyReadsEnds is row H7: a request that announces a body and does not send it.
func TestField_AnUploadThatNobodyReadsEnds(t *testing.T) {
	t.Parallel()
	f := inFront(t, nil, fieldAgent{name: "open", serve: answer(500, "{}")},
		fieldAgent{name: "early", serve: unread(http.StatusOK)}, fieldAgent{name: "too-large", serve: unread(http.StatusRequestEntityTooLarge)},
		fieldAgent{name: "away", url: nobody(t), policy: `"enabled":false`})
	for range 5 {
		f.post("open", "/run").want(500)
	}
	f.wantState("open", "OPEN")
	// In turns, so that a connection that stays is waited for once.
	type upload struct {
		what string
		conn net.Conn
		in   *bufio.Reader
	}
	var uploads []upload
	for _, row := range []struct {
		path   string
		status int
	}{{"/agents/open/x", 429}, {"/agents/Nobody/x", 404}, {"/agents/early/x", 200}, {"/agents/too-large/x", 413}, {"/agents/away/x", 502}, {"/agents/early/a/../b", 400}} {
		for _, rest := range []string{
			"Content-Length: 1000\r\n\r\n", "Content-Length: 1000\r\n\r\nthe beginning", "Content-Length: 50000000\r\n\r\n" + strings.Repeat("x", 100_000),
			"Transfer-Encoding: chunked\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
		} {
			conn := dial(t, f.addr)
			text := "POST " + row.path + " HTTP/1.1\r\nHost: " + f.addr + "\r\n" + rest
			go func() { _, _ = io.WriteString(conn, text) }()
			in := bufio.NewReader(conn)
			res, err := http.ReadResponse(in, nil)
			what := fmt.Sprintf("%.100q", text)
			if err != nil {
				t.Errorf("%s: no answer: %v", what, err)
				continue
			}
			_, _ = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
			if res.StatusCode != row.status {
				t.Errorf("%s: status %d, want %d", what, res.StatusCode, row.status)
			}
			uploads = append(uploads, upload{what, conn, in})
		}
	}
	for _, u := range uploads {
		_ = u.conn.SetReadDeadline(time.Now().Add(endTimeout))
		if _, err := u.in.ReadByte(); errors.Is(err, context.DeadlineExceeded) || err == nil {
			t.Errorf("%s: the connection stays: %v", u.what, err)
		} else if late, ok := err.(net.Error); ok && late.Timeout() { //nolint:errorlint // as it comes
			t.Errorf("%s: the connection stays", u.what)
		}
	}
	if line, ok := f.logged("panic"); ok {
		t.Error(line)
	}
}

// TestField_AnAgentCannotSpeakForTheBreaker is row H12: an agent that answers with x-circuit-breaker-*.
func TestField_AnAgentCannotSpeakForTheBreaker(t *testing.T) {
	t.Parallel()
	lies := []string{
		"x-circuit-breaker-state", "OPEN", "X-Circuit-Breaker-Permit", "v1.x", "X-CIRCUIT-BREAKER-REASON", "open",
		"X-Circuit-Breaker-Anything", "1", "x-circuit-breaker-until", "never",
	}
	trailer := func(w http.ResponseWriter, _ *http.Request) {
		flush(w, "{}")
		w.Header().Set(http.TrailerPrefix+"X-Circuit-Breaker-State", "OPEN")
	}
	f := inFront(t, nil, fieldAgent{name: "lies", serve: answer(200, "{}", lies...)}, fieldAgent{name: "lies-429", serve: answer(429, "{}", lies...)},
		fieldAgent{name: "lies-503", serve: answer(503, "{}", lies...)}, fieldAgent{name: "trailer", serve: trailer},
		fieldAgent{name: "proxy-status", serve: answer(502, "{}", "Proxy-Status", "bridge; error=connection_refused")},
		fieldAgent{name: "open", serve: answer(500, "{}"), fields: `"contact":"#agents"`})
	for name, status := range map[string]int{"lies": 200, "lies-429": 429, "lies-503": 503, "trailer": 200} {
		r := f.post(name, "/run").want(status)
		for key := range r.header {
			if strings.HasPrefix(key, "X-Circuit-Breaker-") {
				t.Errorf("%s: the agent's %s: %s came through", name, key, r.header.Get(key))
			}
		}
		s := f.open(name, "/run")
		_, _ = io.Copy(io.Discard, s.res.Body)
		for key := range s.res.Trailer {
			if strings.HasPrefix(key, "X-Circuit-Breaker-") {
				t.Errorf("%s: the agent's trailer %s came through", name, key)
			}
		}
		s.leave()
	}
	for range 5 {
		if r := f.post("open", "/run").want(500); r.header.Get("Proxy-Status") != "" {
			t.Errorf("an answer of the agent has Proxy-Status %q", r.header.Get("Proxy-Status"))
		}
	}
	r := f.post("open", "/run").refused("OPEN", "open")
	if got := r.header.Get("Proxy-Status"); got == "" {
		t.Error("a refusal has no Proxy-Status")
	}
	// It says until when, and whom to ask.
	if text := string(r.body); !regexp.MustCompile(`\d\d:\d\d:\d\d`).MatchString(text) || !strings.Contains(text, "#agents") {
		t.Errorf("the refusal says %s", text)
	}
}

// TestField_HostileInputOfOurOwn is row H15.
func TestField_HostileInputOfOurOwn(t *testing.T) {
	t.Parallel()
	f := inFront(t, nil, fieldAgent{name: "ok", serve: answer(200, "{}")})
	core := start(t)
	for _, d := range []*daemon{f.daemon, core} {
		targets := []string{"/api/v1/agents", "/agents/ok/x", "/api/v1/workflows"}
		if d == core {
			targets = []string{dataPath + "a/acquire", adminPath + "a/open", "/v1/batch"}
		}
		for _, target := range targets {
			head := "POST " + target + " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
			for _, text := range []string{
				head + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
				head + "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
				head + "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
				head + "content-length: 60\r\ntransfer-encoding: Chunked\r\n\r\n0\r\n\r\nGET /secret HTTP/1.1\r\nHost: localhost\r\n\r\n",
				"PUT" + head[4:] + "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
				strings.Replace(head, "HTTP/1.1", "HTTP/1.0", 1) + "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
			} {
				conn := dial(t, d.addr)
				go func() { _, _ = io.WriteString(conn, text) }()
				in := bufio.NewReader(conn)
				res, err := http.ReadResponse(in, nil)
				if err != nil {
					t.Errorf("%.120q: no answer: %v", text, err)
					continue
				}
				_, _ = io.Copy(io.Discard, res.Body)
				_ = res.Body.Close()
				if res.StatusCode != http.StatusBadRequest {
					t.Errorf("%.120q: status %d, want 400", text, res.StatusCode)
				}
				if _, err := in.ReadByte(); err == nil {
					t.Errorf("%.120q: the connection has another answer", text)
				}
			}
		}
	}
	// Text that a terminal would obey, or show as another.
	for i, evil := range []string{"a\u2028b", "a\u2029b", "a\u202eb", "a\u009bb", "a\u200bb", "a\ufeffb", "a\u2066b"} {
		agent := fmt.Sprintf("Evil-%d", i)
		permit := core.acquire(agent).want(http.StatusOK).text("permit")
		core.call(http.MethodPost, dataPath+agent+"/report", `{"permit":"`+permit+`","outcome":"failure","error":"`+evil+`"}`).want(http.StatusOK)
	}
	for i := range 7 {
		page := string(core.call(http.MethodGet, fmt.Sprintf("/v1/admin/quarantine?agent_id=Evil-%d", i), "").want(http.StatusOK).body)
		if strings.ContainsAny(page, "\u2028\u2029\u202e\u009b\u200b\ufeff\u2066") || regexp.MustCompile(`\\u20(2[89e]|0b|66)|\\u009b|\\ufeff`).MatchString(page) {
			t.Errorf("the quarantine shows %q", page)
		}
	}
}
