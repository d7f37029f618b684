package e2e

import (
	"bufio"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/breakerd/breakerd/internal/testkit"
)

// python is Debian's own, which has the modules of Debian's packages.
const python = "/usr/bin/python3"

// needPython fails the test if one of these modules is missing.
func needPython(t testing.TB, modules ...string) {
	t.Helper()
	for _, module := range modules {
		if out, err := exec.CommandContext(t.Context(), python, "-c", "import "+module).CombinedOutput(); err != nil {
			t.Fatalf("%s has no module %s; run: apt-get install python3-%s (%v: %s)", python, module, module, err, out)
		}
	}
}

// script is the path of a program in testdata.
func script(t testing.TB, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// pythonAgent starts testdata/agent.py and returns its address.
func pythonAgent(t testing.TB) string {
	t.Helper()
	p := spawn(t, []string{python, script(t, "agent.py")}, nil)
	testkit.Eventually(t, "agent.py to listen", startTimeout, func() error {
		if !strings.HasSuffix(p.Stdout(), "\n") {
			return errors.New(p.Stderr())
		}
		return nil
	})
	return strings.TrimSpace(p.Stdout())
}

// saw is what a client of testdata/client.py saw.
type saw struct {
	Connections int   `json:"connections"`
	Statuses    []int `json:"statuses"`
	Answers     []any `json:"answers"`
}

// clientPy runs one case of testdata/client.py to its end.
func clientPy(t testing.TB, args ...string) (s saw) {
	t.Helper()
	p := spawn(t, append([]string{python, script(t, "client.py")}, args...), nil)
	if code := p.ExitCode(); code != 0 {
		t.Errorf("client.py %q: exit code %d: %s", args, code, p.Stderr())
		return s
	}
	if err := json.Unmarshal([]byte(p.Stdout()), &s); err != nil {
		t.Fatalf("client.py %q: %v: %s", args, err, p.Stdout())
	}
	return s
}

// pythonClients are the clients of testdata/client.py that need no TLS.
func pythonClients() []string { return []string{"http.client", "requests", "httpx", "httpx-h2c"} }

// goAgent does what testdata/agent.py does.
func goAgent() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := strings.TrimSuffix(r.URL.Path, "/")
		switch path[strings.LastIndex(path, "/")+1:] {
		case "early": // does not read what is sent
			_ = http.NewResponseController(w).EnableFullDuplex()
			w.Header().Set("Connection", "close")
			http.Error(w, `{"code":"too_large"}`, http.StatusRequestEntityTooLarge)
		case "ws":
			switches(func(net.Conn, *bufio.ReadWriter) {})(w, r)
		case "fail":
			_, _ = io.Copy(io.Discard, r.Body)
			http.Error(w, `{"code":"broken"}`, http.StatusInternalServerError)
		case "mcp":
			if strings.HasSuffix(r.URL.Path, "/") {
				n, _ := io.Copy(io.Discard, r.Body)
				_, _ = fmt.Fprintf(w, `{"length":%d}`, n)
				return
			}
			scheme := "http://"
			if r.TLS != nil {
				scheme = "https://"
			}
			w.Header().Set("Location", scheme+r.Host+r.RequestURI+"/") // as the client has it: the test serves it below a prefix
			w.WriteHeader(http.StatusTemporaryRedirect)
		case "login":
			http.SetCookie(w, &http.Cookie{Name: "sid", Value: "1", Path: strings.TrimSuffix(r.RequestURI, "/login"), HttpOnly: true})
			_, _ = io.WriteString(w, "{}")
		case "whoami":
			_, _ = fmt.Fprintf(w, `{"cookie": %q}`, r.Header.Get("Cookie"))
		case "sse":
			w.Header().Set("Content-Type", "text/event-stream")
			w.Header().Set("Trailer", "X-Sum")
			for i := range 100 {
				flush(w, fmt.Sprintf("data: %d\n\n", i))
			}
			w.Header().Set("X-Sum", "100")
		default:
			n, _ := io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Type", "application/json")
			_, _ = fmt.Fprintf(w, `{"length":%d}`, n)
		}
	})
}

// served is the agents of this file: the same on several servers. The bridge trusts the one with TLS.
type served struct {
	*field

	agents []string
}

func serveClients(t *testing.T) *served {
	t.Helper()
	need(t, "curl")
	needPython(t, "requests", "httpx", "h2")
	secure := httptest.NewUnstartedServer(goAgent())
	secure.EnableHTTP2 = true
	secure.StartTLS()
	t.Cleanup(secure.Close)
	f := inFront(t, []string{"SSL_CERT_FILE=" + certificate(t, secure)},
		fieldAgent{name: "go", serve: goAgent().ServeHTTP}, fieldAgent{name: "go-h2", url: secure.URL + "/base"},
		fieldAgent{name: "python", url: pythonAgent(t) + "/base"},
		fieldAgent{name: "open", serve: answer(500, "{}")})
	for range 5 {
		f.post("open", "/run").want(http.StatusInternalServerError)
	}
	f.wantState("open", "OPEN")
	return &served{f, []string{"go", "go-h2", "python"}}
}

// certificate writes the certificate of a server into a file.
func certificate(t testing.TB, s *httptest.Server) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// front terminates TLS before a bridge, as a proxy with HTTP/2 does.
func (s *served) front() *httptest.Server {
	s.t.Helper()
	to, err := url.Parse("http://" + s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 8}
	s.t.Cleanup(transport.CloseIdleConnections)
	front := httptest.NewUnstartedServer(&httputil.ReverseProxy{FlushInterval: -1, Transport: transport, Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.SetXForwarded()
	}})
	front.EnableHTTP2 = true
	front.StartTLS()
	s.t.Cleanup(front.Close)
	return front
}

// TestClients_RefusalsKeepTheConnection is row G4 with the clients of users: sledge 389 and capnproto 2831.
func TestClients_RefusalsKeepTheConnection(t *testing.T) {
	t.Parallel()
	s := serveClients(t)
	for _, client := range pythonClients() {
		for path, status := range map[string]int{"/agents/open/x": 429, "/agents/Nobody/x": 404, "/agents/go/x": 200, "/agents/python/x": 200, "/agents/go-h2/x": 200} {
			got := clientPy(t, client, "posts", "http://"+s.addr+path)
			if !slices.Equal(got.Statuses, []int{status}) || got.Connections != 1 {
				t.Errorf("%s, %s: 20 calls took %d connections, and were answered %v", client, path, got.Connections, got.Statuses)
			}
		}
	}
	// curl counts the connections of each of its transfers. Over cleartext HTTP/2, 7.88 can make no second one.
	args := []string{"--silent", "--show-error", "--write-out", "%{http_code} %{num_connects}\n"}
	for range 10 {
		args = append(args, "--output", "/dev/null", "--data", `{"a":1}`, "http://"+s.addr+"/agents/open/x")
	}
	out, err := exec.CommandContext(t.Context(), "curl", args...).Output()
	if want := "429 1\n" + strings.Repeat("429 0\n", 9); err != nil || string(out) != want {
		t.Errorf("curl: %q, %v", out, err)
	}
	front := s.front()
	got := clientPy(t, "httpx-h2", "posts", front.URL+"/agents/open/x", certificate(t, front))
	if !slices.Equal(got.Statuses, []int{429}) || got.Connections != 1 {
		t.Errorf("httpx over TLS and HTTP/2: %+v", got)
	}
}

// TestClients_ReadTheRefusalOfALargeUpload is row G5: requests 2422 and aiohttp 927.
func TestClients_ReadTheRefusalOfALargeUpload(t *testing.T) {
	t.Parallel()
	s := serveClients(t)
	for _, client := range []string{"http.client", "requests", "httpx"} { // httpx over HTTP/2 reads no answer before its end
		for _, row := range []struct{ path, size, want string }{
			{"/agents/open/x", "5", "429 circuit_breaker_open"},
			{"/agents/open/x", "30", "429 circuit_breaker_open"},
			{"/agents/Nobody/x", "30", "404 agent_unknown"},
		} {
			got := clientPy(t, client, "upload", "http://"+s.addr+row.path, row.size)
			if len(got.Answers) != 2 {
				t.Errorf("%s, %s MB to %s: %v", client, row.size, row.path, got.Answers)
				continue
			}
			for _, a := range got.Answers {
				fields, _ := a.([]any)
				if text := fmt.Sprintf("%v %v", fields[0], fields[2]); text != row.want || (fields[1] == "") == strings.HasPrefix(text, "429") {
					t.Errorf("%s, %s MB to %s: %v, want %s", client, row.size, row.path, fields, row.want)
				}
			}
		}
	}
	body := zeros(t, 30<<20)
	for _, proto := range protocols() {
		for _, expect := range []string{"Expect:", "Expect: 100-continue"} {
			r := curl(t, proto, "-H", expect, "--data-binary", "@"+body, "http://"+s.addr+"/agents/open/x")
			if r.status != http.StatusTooManyRequests || len(r.header("retry-after")) != 1 {
				t.Errorf("curl %s, %s: exit code %d, status %d: %s%s", proto, expect, r.exit, r.status, r.stderr, r.head)
			}
		}
	}
}

// TestClients_TakeLargeUploadsAndStreamsThrough is for each server behind the bridge.
func TestClients_TakeLargeUploadsAndStreamsThrough(t *testing.T) {
	t.Parallel()
	s := serveClients(t)
	for _, agent := range s.agents {
		for _, client := range pythonClients() {
			if got := clientPy(t, client, "posts", s.at(agent, "/take")); len(got.Answers) != 1 || got.Answers[0] != `{"length":7}` {
				t.Errorf("%s, %s: %v", client, agent, got.Answers)
			}
		}
		for _, proto := range protocols() {
			r := curl(t, proto, "-H", "Expect:", "--data-binary", "@"+zeros(t, 30<<20), s.at(agent, "/take")).ok(t, 200)
			if string(r.body) != fmt.Sprintf(`{"length":%d}`, 30<<20) {
				t.Errorf("curl %s, %s: %s", proto, agent, r.body)
			}
			r = curl(t, proto, "-X", "POST", s.at(agent, "/sse")).ok(t, 200).one(t, "X-Sum", "100") // a trailer
			if got := strings.Count(string(r.body), "data: "); got != 100 {
				t.Errorf("curl %s, %s: %d events", proto, agent, got)
			}
		}
	}
	for _, client := range pythonClients() {
		for _, agent := range s.agents {
			p := spawn(t, []string{python, script(t, "client.py"), client, "stream", s.at(agent, "/sse")}, nil)
			if code, n := p.ExitCode(), strings.Count(p.Stdout(), "data: "); code != 0 || n != 100 {
				t.Errorf("%s, %s: exit code %d, %d events: %s", client, agent, code, n, p.Stderr())
			}
		}
	}
}

// TestClients_ReadEachEventAsItComes holds for the clients that stream.
func TestClients_ReadEachEventAsItComes(t *testing.T) {
	t.Parallel()
	needPython(t, "requests", "httpx", "h2")
	agent := newStepwise()
	f := inFront(t, nil, fieldAgent{name: "steps", serve: agent.ServeHTTP})
	for _, client := range pythonClients() {
		p := spawn(t, []string{python, script(t, "client.py"), client, "stream", f.at("steps", "/sse")}, nil)
		for i := range 3 {
			p.awaitOut(fmt.Sprintf("data: %d\n\n", i)) // the agent has not been asked for the next
			agent.next <- struct{}{}
		}
		p.awaitOut("data: 3\n\n")
		p.signal(syscall.SIGKILL)
		if err := <-agent.ended; err == nil {
			t.Errorf("%s: the agent came to its end", client)
		}
	}
}

// TestClients_StayBehindTheBridge is row G8 with the clients of users: litellm 23688, mcp-gateway-registry 1606 and
// typescript-sdk 583.
func TestClients_StayBehindTheBridge(t *testing.T) {
	t.Parallel()
	s := serveClients(t)
	for _, agent := range s.agents {
		for _, proto := range protocols() {
			jar := filepath.Join(t.TempDir(), "jar")
			follow := "-L"
			if proto != "--http1.1" { // over cleartext HTTP/2, curl 7.88 can make no second call
				follow = "--no-location"
			}
			r := curl(t, proto, follow, "-d", `{"a":1}`, s.at(agent, "/mcp"))
			if follow == "-L" && (r.status != http.StatusOK || string(r.body) != `{"length":7}`) {
				t.Errorf("curl -L, %s: status %d: %s%s", agent, r.status, r.head, r.body)
			}
			if to := r.header("Location"); len(to) != 1 || strings.TrimPrefix(to[0], "http://"+s.addr) != "/agents/"+agent+"/mcp/" {
				t.Errorf("curl %s, %s: Location %q", proto, agent, to)
			}
			curl(t, proto, "-c", jar, "-d", "{}", s.at(agent, "/login")).ok(t, 200)
			if r = curl(t, proto, "-b", jar, "-d", "{}", s.at(agent, "/whoami")).ok(t, 200); !strings.Contains(string(r.body), "sid=1") {
				t.Errorf("curl %s, %s: the cookie did not come back: %s", proto, agent, readFile(t, jar))
			}
			if other := curl(t, proto, "-b", jar, "-d", "{}", s.at("go-h2", "/whoami")).ok(t, 200); agent != "go-h2" && strings.Contains(string(other.body), "sid=1") {
				t.Errorf("curl %s: the cookie of %s went to another agent", proto, agent)
			}
		}
		for _, client := range []string{"requests", "httpx", "httpx-h2c"} {
			got := clientPy(t, client, "follow", s.at(agent, "/mcp"))
			if len(got.Answers) != 1 || fmt.Sprint(got.Answers[0]) != `[200 {"length":7}]` {
				t.Errorf("%s, %s: %+v", client, agent, got)
			}
			if got = clientPy(t, client, "cookies", s.at(agent, "")); len(got.Answers) != 1 || !strings.Contains(fmt.Sprint(got.Answers[0]), "sid=1") {
				t.Errorf("%s, %s: the cookie did not come back: %+v", client, agent, got)
			}
		}
	}
	front := s.front()
	r := curl(t, "--http2", "--cacert", certificate(t, front), "-L", "-d", `{"a":1}`, front.URL+"/agents/go/mcp").ok(t, 200)
	if string(r.body) != `{"length":7}` || !strings.Contains(r.head, "HTTP/2 200") {
		t.Errorf("curl -L over TLS: %s%s", r.head, r.body)
	}
}

// TestClients_GRPCOverCleartextHTTP2 is row G13 as a client of gRPC sees it: the status comes in the trailer, over
// HTTP/2 on both sides.
func TestClients_GRPCOverCleartextHTTP2(t *testing.T) {
	t.Parallel()
	agent := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 || r.Header.Get("TE") != "trailers" {
			http.Error(w, "no gRPC: "+r.Proto+", TE "+r.Header.Get("TE"), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/grpc+proto")
		w.Header().Set("Trailer", "Grpc-Status, Grpc-Message")
		_, _ = io.Copy(flushing{w}, r.Body)
		w.Header().Set("Grpc-Status", r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:])
		w.Header().Set("Grpc-Message", "as it is")
	}))
	agent.EnableHTTP2 = true
	agent.StartTLS()
	t.Cleanup(agent.Close)
	f := inFront(t, []string{"SSL_CERT_FILE=" + certificate(t, agent)}, fieldAgent{name: "grpc", url: agent.URL, fields: asGRPC},
		fieldAgent{name: "auto", url: agent.URL, fields: asAuto})
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: &protocols}
	t.Cleanup(transport.CloseIdleConnections)
	call := func(name, status string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.at(name, "/svc.Method/"+status), strings.NewReader("\x00\x00\x00\x00\x01x"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/grpc+proto")
		req.Header.Set("TE", "trailers")
		res, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil || string(text) != "\x00\x00\x00\x00\x01x" || res.ProtoMajor != 2 || res.Trailer.Get("Grpc-Status") != status || res.Trailer.Get("Grpc-Message") != "as it is" {
			t.Errorf("%s %s: %s %q, trailers %v, %v", name, status, res.Status, text, res.Trailer, err)
		}
	}
	for _, name := range []string{"grpc", "auto"} {
		for _, status := range []string{"0", "5", "3", "16", "1"} {
			call(name, status)
		}
		f.wantState(name, "CLOSED")
		for range 5 {
			call(name, "14")
		}
		f.wantState(name, "OPEN")
		if v := f.breakerOf(name, "totals.successes"); v != 1.0 {
			t.Errorf("%s: %v successes were counted", name, v)
		}
	}
}

// TestClients_ATunnelDroppedAfterThe101 is row G19 with curl, and an agent on Python's http.server: traefik 452.
func TestClients_ATunnelDroppedAfterThe101(t *testing.T) {
	t.Parallel()
	s := serveClients(t)
	for _, agent := range []string{"go", "python"} {
		for range 5 {
			r := curl(t, "--http1.1", "-H", "Connection: Upgrade", "-H", "Upgrade: websocket", s.at(agent, "/ws"))
			if !strings.HasPrefix(r.head, "HTTP/1.1 101 ") {
				t.Errorf("%s: exit code %d: %s%s", agent, r.exit, r.stderr, r.head)
			}
		}
		s.awaitState(agent, "OPEN")
	}
}
