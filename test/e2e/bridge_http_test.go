package e2e

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// request is a request as the agent received it.
type request struct {
	Method string      `json:"method"`
	URI    string      `json:"uri"`
	Host   string      `json:"host"`
	Body   string      `json:"body"`
	Header http.Header `json:"header"`
}

// answering is an agent whose path says how it responds.
func answering() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/base/file", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"v1"`)
		http.ServeContent(w, r, "file.txt", time.Unix(1_700_000_000, 0), strings.NewReader("0123456789abcdef"))
	})
	mux.HandleFunc("/base/empty", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("/base/hints", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		_, _ = io.WriteString(w, "done")
	})
	mux.HandleFunc("/base/gzip", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		w.Header().Set("X-Accepted", r.Header.Get("Accept-Encoding"))
		_, _ = w.Write(gzipped())
	})
	mux.HandleFunc("/base/cookies", func(w http.ResponseWriter, r *http.Request) {
		for i := range 100 {
			w.Header().Add("Set-Cookie", fmt.Sprintf("c%d=%d; Path=/; HttpOnly", i, i))
		}
		w.Header().Set("X-Got", r.Header.Get("Cookie"))
	})
	mux.HandleFunc("/base/huge", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Huge", strings.Repeat("r", 60_000))
		w.Header().Set("X-Got", strconv.Itoa(len(r.Header.Get("X-Huge"))))
	})
	mux.HandleFunc("/base/redirect", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "/elsewhere?x=1")
		w.WriteHeader(http.StatusFound)
	})
	mux.HandleFunc("/base/teapot", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "short and stout", http.StatusTeapot) })
	return mux
}

// show responds with the request.
func show(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	showWith(w, r, body)
}

func showWith(w http.ResponseWriter, r *http.Request, body []byte) {
	text, err := json.Marshal(request{r.Method, r.RequestURI, r.Host, string(body), r.Header})
	if err != nil {
		panic(err)
	}
	_, _ = w.Write(text)
}

func gzipped() []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = io.WriteString(z, strings.Repeat("as it is ", 100))
	_ = z.Close()
	return b.Bytes()
}

func TestGateway_PassesRequestAndResponseUnchanged(t *testing.T) {
	t.Parallel()
	h := behind(t, answering())
	for _, proto := range protocols() {
		get := func(path string, args ...string) curled { return curl(t, append(args, proto, h.url+path)...) }

		r := get("/file").ok(t, 200).one(t, "Content-Length", "16").one(t, "ETag", `"v1"`)
		if string(r.body) != "0123456789abcdef" {
			t.Errorf("body %q", r.body)
		}
		if r = get("/file", "--head").ok(t, 200).one(t, "Content-Length", "16"); len(r.header("Transfer-Encoding")) != 0 {
			t.Errorf("HEAD: %s", r.head)
		}
		r = get("/file", "--range", "4-7").ok(t, 206).one(t, "Content-Range", "bytes 4-7/16")
		if string(r.body) != "4567" {
			t.Errorf("range %q", r.body)
		}
		get("/file", "--range", "99-").ok(t, 416).one(t, "Content-Range", "bytes */16")
		r = get("/file", "-H", `If-None-Match: "v1"`).ok(t, 304)
		if len(r.body) != 0 || len(r.header("Content-Length")) != 0 {
			t.Errorf("304: %s%q", r.head, r.body)
		}
		if r = get("/empty").ok(t, 204); len(r.body) != 0 || len(r.header("Content-Length")) != 0 {
			t.Errorf("204: %s%q", r.head, r.body)
		}
		r = get("/hints").ok(t, 200).one(t, "Link", "</style.css>; rel=preload")
		if !strings.Contains(r.head, " 103 ") || string(r.body) != "done" {
			t.Errorf("early hints: %s%q", r.head, r.body)
		}
		r = get("/gzip").ok(t, 200).one(t, "Content-Encoding", "gzip")
		if !bytes.Equal(r.body, gzipped()) {
			t.Errorf("a compressed body was touched: %q", r.body)
		}
		if got := r.header("X-Accepted"); len(got) != 1 || got[0] != "" {
			t.Errorf("the agent was told Accept-Encoding: %q, which nobody said", got)
		}
		get("/gzip", "-H", "Accept-Encoding: gzip, br;q=0.5").ok(t, 200).one(t, "X-Accepted", "gzip, br;q=0.5")
		get("/redirect").ok(t, 302).one(t, "Location", "/agents/Agent/elsewhere?x=1")
		get("/teapot", "-X", "BREW", "-d", "").ok(t, 418)

		r = get("/cookies", "-H", "Cookie: a=1; b=2; c="+strings.Repeat("x", 4000)).ok(t, 200).one(t, "X-Got", "a=1; b=2; c="+strings.Repeat("x", 4000))
		if set := r.header("Set-Cookie"); len(set) != 100 || set[0] != "c0=0; Path=/agents/Agent; HttpOnly" ||
			set[99] != "c99=99; Path=/agents/Agent; HttpOnly" {
			t.Errorf("%d cookies: %.300q", len(set), set)
		}
		get("/huge", "-H", "X-Huge: "+strings.Repeat("q", 60_000)).ok(t, 200).one(t, "X-Got", "60000").one(t, "X-Huge", strings.Repeat("r", 60_000))
	}
	h.outcomes("ignored", 4) // 416 and 418
	if v := h.breakerOf("Agent", "totals.failures"); v != 0.0 {
		t.Errorf("%v failures were counted", v)
	}
}

func TestGateway_NamesTheCallerToTheAgent(t *testing.T) {
	t.Parallel()
	h := behind(t, http.HandlerFunc(show))
	const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for _, proto := range protocols() {
		r := curl(t, proto, "--path-as-is", "-X", "PUT", "-d", "the body", "-H", "Traceparent: "+trace, "-H", "Tracestate: a=b", "-H", "B3: 1-2-1",
			"-H", "X-Request-Id: r1", "-H", "X-Forwarded-For: 192.0.2.9", "-H", "Authorization: Bearer t", "-H", "X-Empty;",
			"-H", "X-Twice: 1", "-H", "X-Twice: 2", h.url+"/a%2Fb//c%20d/..e/?q=%zz;x&y=a+b&y").ok(t, 200)
		var got request
		if err := json.Unmarshal(r.body, &got); err != nil {
			t.Fatal(err)
		}
		if got.Method != http.MethodPut || got.URI != "/base/a%2Fb//c%20d/..e/?q=%zz;x&y=a+b&y" || got.Body != "the body" {
			t.Errorf("%s: the agent got %+v", proto, got)
		}
		if strings.HasPrefix(got.Host, h.addr) || got.Host == "" {
			t.Errorf("%s: the agent's Host is %q", proto, got.Host)
		}
		for name, want := range map[string]string{
			"Traceparent": trace, "Tracestate": "a=b", "B3": "1-2-1", "X-Request-Id": "r1", "Authorization": "Bearer t",
			"X-Forwarded-For": "192.0.2.9, 127.0.0.1", "X-Forwarded-Host": h.addr, "X-Forwarded-Proto": "http", "X-Twice": "1|2", "X-Empty": "",
		} {
			values, there := got.Header[http.CanonicalHeaderKey(name)]
			if !there || strings.Join(values, "|") != want {
				t.Errorf("%s: %s is %q, want %q", proto, name, values, want)
			}
		}
	}
}

// TestGateway_UpgradedConnectionGoesBothWays upgrades as a WebSocket does, without its frames.
func TestGateway_UpgradedConnectionGoesBothWays(t *testing.T) {
	t.Parallel()
	h := behind(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "websocket" || !strings.EqualFold(r.Header.Get("Connection"), "upgrade") {
			http.Error(w, "not asked to", http.StatusBadRequest)
			return
		}
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_, _ = io.Copy(conn, rw)
	}))
	conn := dial(t, h.addr)
	if _, err := fmt.Fprintf(conn, "GET /agents/Agent/ws HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", h.addr); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(conn)
	res, err := http.ReadResponse(in, nil) //nolint:bodyclose // the connection is the body
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols || res.Header.Get("Upgrade") != "websocket" {
		t.Fatalf("no upgrade: %+v, %v", res, err)
	}
	for _, line := range []string{"hello\n", "again\n"} { // each waits for the one before
		if _, err := io.WriteString(conn, line); err != nil {
			t.Fatal(err)
		}
		if got, err := in.ReadString('\n'); err != nil || got != line {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	_ = conn.Close()
	h.outcomes("success", 1)
	curl(t, "--http1.1", h.url+"/ws").ok(t, 400)
}

// dial opens a connection with a deadline.
func dial(t testing.TB, addr string) net.Conn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err == nil {
		err = conn.SetDeadline(time.Now().Add(30 * time.Second))
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// TestGateway_AsksForTheBodyWhenTheAgentReadsIt covers HTTP/1.1. In HTTP/2, net/http removes Expect and sends 100
// itself.
func TestGateway_AsksForTheBodyWhenTheAgentReadsIt(t *testing.T) {
	t.Parallel()
	var read, refused atomic.Int64
	h := behind(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/refuse") {
			refused.Add(1)
			http.Error(w, "too large", http.StatusRequestEntityTooLarge)
			return
		}
		n, _ := io.Copy(io.Discard, r.Body)
		read.Add(n)
	}))
	const size = 3 << 20
	// Without --expect100-timeout, curl sends the body after a second.
	args := []string{"--expect100-timeout", "20", "-H", "Expect: 100-continue", "--data-binary", "@" + zeros(t, size)}
	for _, proto := range protocols() {
		r := curl(t, append(args, proto, h.url+"/take")...).ok(t, 200)
		if !strings.Contains(r.head, " 100") || r.uploaded != size { // net/http may send it twice: for the agent, and for the read
			t.Errorf("%s: sent %d bytes on\n%s", proto, r.uploaded, r.head)
		}
	}
	r := curl(t, append(args, "--http1.1", h.url+"/refuse")...)
	if r.status != http.StatusRequestEntityTooLarge || strings.Contains(r.head, " 100") || r.uploaded != 0 {
		t.Errorf("an agent that refused was sent %d bytes: exit code %d, %s\n%s", r.uploaded, r.exit, r.stderr, r.head)
	}
	if read.Load() != 2*size || refused.Load() != 1 {
		t.Errorf("the agent read %d bytes, and refused %d times", read.Load(), refused.Load())
	}
	h.outcomes("ignored", 1)
}

// TestGateway_TrailersGoBothWays uses a Go client, for curl sends no trailers.
func TestGateway_TrailersGoBothWays(t *testing.T) {
	t.Parallel()
	h := behind(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		n, _ := io.Copy(w, r.Body)
		w.Header().Set("X-Sum", strconv.FormatInt(n, 10))
		w.Header().Set(http.TrailerPrefix+"X-Late", r.Trailer.Get("X-Client"))
	}))
	for _, two := range []bool{false, true} {
		var p http.Protocols
		p.SetHTTP1(!two)
		p.SetUnencryptedHTTP2(two)
		transport := &http.Transport{Protocols: &p}
		t.Cleanup(transport.CloseIdleConnections)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.url+"/trailers", io.MultiReader(strings.NewReader("some"), strings.NewReader("thing")))
		if err != nil {
			t.Fatal(err)
		}
		req.Trailer = http.Header{"X-Client": {"at the end"}}
		res, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(res.Body)
		err = errors.Join(err, res.Body.Close())
		if string(text) != "something" || res.Trailer.Get("X-Sum") != "9" || res.Trailer.Get("X-Late") != "at the end" {
			t.Errorf("HTTP/2 %v: got %q, trailers %v, %v", two, text, res.Trailer, err)
		}
	}
}
