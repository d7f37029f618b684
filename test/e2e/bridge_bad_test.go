package e2e

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/breakerd/breakerd/internal/testkit"
)

// raw sends bytes that no client library would send, and reads one response. The server may close before it has read
// all of them.
func raw(t testing.TB, addr, text string) reply {
	t.Helper()
	conn := dial(t, addr)
	defer func() { _ = conn.Close() }()
	go func() { _, _ = io.WriteString(conn, text) }()
	r := reply{t: t, what: fmt.Sprintf("%.150q", text)}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Errorf("%s: no answer: %v", r.what, err)
		return r
	}
	defer func() { _ = res.Body.Close() }()
	r.status, r.header = res.StatusCode, res.Header
	if r.body, err = io.ReadAll(res.Body); err != nil {
		t.Errorf("%s: half an answer: %v", r.what, err)
	}
	return r
}

// bad wants a 4xx: a problem of ours with a stable code, or net/http's own text.
func (r reply) bad(codes ...string) {
	r.t.Helper()
	var p struct {
		Code string `json:"code"`
	}
	err := json.Unmarshal(r.body, &p)
	own := slices.Contains([]int{400, 431, 505}, r.status) && strings.HasPrefix(string(r.body), strconv.Itoa(r.status)) ||
		r.status == 501 && string(r.body) == "Unsupported transfer encoding"
	ours := err == nil && p.Code != "" && r.status >= 400 && r.status < 500 && r.header.Get("Content-Type") == "application/problem+json"
	if len(codes) > 0 {
		ours, own = ours && slices.Contains(codes, p.Code), false
	}
	if !ours && !own || len(r.body) > 8000 {
		r.t.Errorf("%s: status %d, want %q: %.400s", r.what, r.status, codes, r.body)
	}
}

// message builds a request as text, with a Content-Length if there is a body.
func message(method, target, body string, header ...string) string {
	lines := append([]string{method + " " + target + " HTTP/1.1", "Host: localhost", "Connection: close"}, header...)
	if body != "" {
		lines = append(lines, "Content-Length: "+strconv.Itoa(len(body)))
		if !slices.ContainsFunc(header, func(h string) bool { return strings.HasPrefix(h, "Content-Type") }) {
			lines = append(lines, "Content-Type: application/json")
		}
	}
	return strings.Join(lines, "\r\n") + "\r\n\r\n" + body
}

// badSegments are path segments that are no valid name, as a request line has them.
func badSegments() []string {
	return []string{
		"", "a b", "a%20b", "a%00", "a\x00", "a\r\nX: y", "a%0d%0ab", "*", "%2A", "{}", "a}b", "a%2Fb", strings.Repeat("a", 129), strings.Repeat("a", 60_000),
		"a%ff", "a\xff", "a%E2%80%8Bb", ".", "..", "%2e%2e", "-a", "a%5Cb", "%25", "%zz", "a+b", "a;b", "\u00e4", "%c0%ae%c0%ae",
	}
}

func TestBridge_RefusesBadPaths(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := s.bridge()
	for _, name := range badSegments() {
		for _, target := range []string{"/agents/" + name, "/agents/" + name + "/x", "/api/v1/agents/" + name, "/api/v1/workflows/" + name, "/api/v1/executions/" + name} {
			if name == "" && strings.HasPrefix(target, "/api") {
				continue // the list's path with a slash at its end
			}
			raw(t, b.addr, message("GET", target, "")).bad()
		}
		raw(t, b.addr, message("POST", "/api/v1/workflows/"+name+"/execute", `{"input":{}}`)).bad()
		raw(t, b.addr, message("PUT", "/api/v1/agents/"+name, `{"url":"http://127.0.0.1:1"}`)).bad()
		raw(t, b.addr, message("DELETE", "/api/v1/agents/"+name, "")).bad()
	}
	for _, rest := range []string{
		"/..", "/../x", "/./x", "/a/..", "/%2e%2e/x", "/%2E./x", "/a%2f..%2fb", "/a%5c..%5cb", "/\\..\\x", "/%00", "/a%0d%0ab", "/a%7f", "/%ff", "/%c0%ae/", "/..?q=1",
	} {
		raw(t, b.addr, message("GET", "/agents/Other"+rest, "")).bad("invalid_path")
	}
	for _, target := range []string{
		"//agents/Other", "/agents/../api/v1/agents", "/agents%2FOther/x", "/AGENTS/Other", "/api/v1//agents", "/api/v1/../v1/agents", "/api/v1/agents/", "/", "//",
		"/api/v1/workflows/" + guide + "/execute/", "/api/v1/workflows/" + guide + "/run", "http://evil.example/agents/..", "*",
	} {
		raw(t, b.addr, message("POST", target, "")).bad()
	}
	for _, target := range []string{"/api/v1/workflows/" + guide + "/execute", "/api/v1/agents", "/api/v1/executions/" + strings.Repeat("0", 32), "/health"} {
		for _, method := range []string{"PATCH", "TRACE", "OPTIONS", "BREW", "CONNECT"} {
			raw(t, b.addr, message(method, target, "")).bad("method_not_allowed", "not_found", "cross_origin")
		}
	}
	raw(t, b.addr, "GET /agents/Other/ HTTP/1.1\r\nHost: evil.example\r\n\r\n").bad() // 421: DNS rebinding
	s.called("Other", 0)
	s.unharmed(b)
}

// unharmed checks that nothing panicked, no agent or workflow came into being, and the next call works.
func (s *site) unharmed(b *daemon) {
	s.t.Helper()
	s.called("FailingAgent", 0)
	for _, event := range []string{"http.panic", "http.failed"} {
		if line, ok := b.logged(event); ok {
			s.t.Errorf("bad input made it say %s", line)
		}
	}
	b.through("Other", "/").want(http.StatusOK)
	b.execute(guide).failed()
	b.call(http.MethodGet, "/health", "").want(http.StatusOK).has("status", "healthy")
	if keys := redisCLI(s.t, s.redis, "KEYS", "*:profile"); keys != "" {
		s.t.Errorf("something was registered: %s", keys)
	}
	if list := b.call(http.MethodGet, "/api/v1/workflows", "").array("workflows"); len(list) != 1 {
		s.t.Errorf("there are workflows that nobody made: %v", list)
	}
}

func TestBridge_RefusesBadBodies(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := s.bridge()
	nested := strings.Repeat(`{"a":`, 40) + "1" + strings.Repeat("}", 40)
	flow := func(step string) string { return `{"workflow_id":"w","steps":{"s":` + step + `}}` }
	agents, flows, run := "POST /api/v1/agents", "POST /api/v1/workflows", "POST /api/v1/workflows/"+guide+"/execute"
	for where, bodies := range map[string][]string{
		"": { // everywhere
			"\x00", "{\"a\":\"\x00\"}", "{\"name\":\"\xff\"}", "\xef\xbb\xbf{}", `{"input":{},"input":{}}`, `{"name":"a","name":"b"}`, strings.Repeat("[", 100_000),
			strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000), nested, `{"input":` + nested + `}`, `{} {}`, `{}]`, `{`, "nul", `{'a':1}`, `{"a":01}`, `{"a":1e999}`,
			`[]`, `"x"`, `1`, `{"nonsense":1}`, `{"":1}`, `{"a":"` + strings.Repeat("x", 2<<20) + `"}`, " ", "\r\n",
		},
		agents: {
			`{}`, `null`, `{"name":"a b","url":"http://h"}`, `{"name":"A","url":"ftp://h"}`, `{"name":"A","url":"http://u:p@h"}`, `{"name":"A","url":"http://"}`, `{"name":"A","url":"/x"}`,
			`{"name":"A","url":"http://h\u0000"}`, `{"name":"A","url":7}`, `{"name":"A","url":"http://h","timeout_seconds":-1}`, `{"name":"A","url":"http://h","timeout_seconds":1e9}`,
			`{"name":"A","url":"http://h","classify":"soap"}`, `{"name":"A","url":"http://h","labels":{"a":1}}`, `{"name":"A","url":"http://h","circuit_breaker_config":{"failure_threshold":-1}}`,
			`{"name":"A","url":"http://h","circuit_breaker_config":{"nonsense":1}}`, `{"name":"A","url":"http://h","contact":"a\nb"}`, `{"Name":"A","url":"http://h"}`,
			`{"name":"A","URL":"http://h","url":"http://h"}`, `{"name":"` + strings.Repeat("a", 129) + `","url":"http://h"}`, s.agent("Other", ""),
		},
		flows: {
			`{}`, `null`, `{"workflow_id":"w"}`, `{"workflow_id":"w","steps":{}}`, `{"workflow_id":"a b","steps":{"s":{"agent_name":"Other"}}}`, flow(`{}`), flow(`null`), flow(`{"agent_name":"Nobody"}`),
			flow(`{"agent_name":"Other","id":"t"}`), flow(`{"agent_name":"Other","depends_on":["s"]}`), flow(`{"agent_name":"Other","depends_on":["x"]}`),
			flow(`{"agent_name":"Other","input_mapping":{"a":"$.steps.x.output"}}`), flow(`{"agent_name":"Other","input_mapping":{"a":"$.nonsense"}}`),
			flow(`{"agent_name":"Other","path":"/../x"}`), flow(`{"agent_name":"Other","path":"http://h"}`), flow(`{"agent_name":"Other","timeout_seconds":0}`),
			flow(`{"agent_name":"Other","agent_name":"Other"}`), flow(`{"agent_name":"Other","nonsense":1}`), guideWorkflow,
		},
		run: {`{"input":[]}`, `{"input":"x"}`, `{"Input":{}}`, `{"input":{"a":1,"a":2}}`, `{"input":{"a":1e999}}`, `{"input":` + strings.Repeat(`[`, 50) + strings.Repeat(`]`, 50) + `}`},
	} {
		for _, at := range []string{agents, "PUT /api/v1/agents/New", flows, run} {
			if where != "" && where != at {
				continue
			}
			method, target, _ := strings.Cut(at, " ")
			for _, body := range bodies {
				raw(t, b.addr, message(method, target, body)).bad("invalid_json", "invalid_value", "body_required", "body_too_large", "agent_in_file", "workflow_in_directory")
			}
			for _, kind := range []string{"text/plain", "", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/json; charset"} {
				raw(t, b.addr, message(method, target, `{"a":1}`, "Content-Type: "+kind)).bad("unsupported_media_type")
			}
		}
	}
	for _, file := range []string{"agents/Other", "workflows/" + guide} { // what stands in a file
		raw(t, b.addr, message("DELETE", "/api/v1/"+file, "")).bad("agent_in_file", "workflow_in_directory")
	}
	s.called("Other", 0)
	s.unharmed(b)
}

// TestBridge_RefusesBrokenHTTP sends what is not HTTP, what is ambiguous, and what never ends.
func TestBridge_RefusesBrokenHTTP(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := s.bridge()
	begin := func(target string) string {
		return "POST " + target + " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
	}
	for _, target := range []string{"/agents/Other/x", "/api/v1/agents", "/api/v1/workflows", "/api/v1/workflows/" + guide + "/execute"} {
		p := begin(target)
		for _, text := range []string{
			p + "Transfer-Encoding: chunked\r\n\r\nzz\r\n",
			p + "Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
			p + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
			p + "Transfer-Encoding: chunked\r\n\r\n2\r\n{}garbage\r\n0\r\n\r\n",
			p + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
			p + "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
			p + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
			p + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
			p + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
			p + "Content-Length: +2\r\n\r\n{}",
			p + "Content-Length: -1\r\n\r\n{}",
			p + "Content-Length: 2, 2\r\n\r\n{}",
			p + "Content-Length: 99999999999999999999\r\n\r\n{}",
			p + "Content-Length : 2\r\n\r\n{}",
			p + "X-Bad: a\x00b\r\n\r\n",
			p + "X Bad: a\r\n\r\n",
			p + ": a\r\n\r\n",
			p + "Host: other\r\n\r\n",
			p + "X-Large: " + strings.Repeat("x", 80<<10) + "\r\n\r\n",
			p + strings.Repeat("X-Many: x\r\n", 10_000) + "\r\n",
			"POST " + target + " HTTP/1.1\r\n\r\n", // no Host
			"POST " + target + "\r\n\r\n",
			"POST " + target + " HTTP/9.9\r\nHost: localhost\r\n\r\n",
			" POST " + target + " HTTP/1.1\r\nHost: localhost\r\n\r\n",
			"PO\x00ST " + target + " HTTP/1.1\r\nHost: localhost\r\n\r\n",
		} {
			raw(t, b.addr, text).bad()
		}
	}
	if v := b.breakerOf("Other", "totals.failures"); v != 0.0 {
		t.Errorf("bodies that broke count as %v failures of the agent", v)
	}
	s.unharmed(b)
}

// TestGateway_SmugglesNoRequestToAnAgent sends two framings, which are refused, and headers that would hide one from the
// next hop. The agent gets one request, and bridge parses the rest.
func TestGateway_SmugglesNoRequestToAnAgent(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var got []string
	h := behind(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		got = append(got, fmt.Sprintf("%s %s %s %d %v", r.Method, r.RequestURI, body, r.ContentLength, r.TransferEncoding))
	}))
	const hidden = "GET /secret HTTP/1.1\r\nHost: localhost\r\n\r\n"
	head := "POST /agents/Agent/x HTTP/1.1\r\nHost: localhost\r\n"
	for _, text := range []string{
		"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
		"Transfer-Encoding: chunked\r\nContent-Length: 60\r\n\r\n0\r\n\r\n",
	} {
		raw(t, h.addr, head+text+hidden).want(http.StatusBadRequest)
		mu.Lock()
		if len(got) > 0 {
			t.Errorf("%.160q: the agent got %q", text, got)
		}
		mu.Unlock()
	}
	for text, want := range map[string]string{
		head + "Content-Length: 2\r\nConnection: Content-Length\r\n\r\nok" + hidden:                                 "POST /base/x ok 2 []",
		head + "Content-Length: 2\r\nConnection: close, Host, Content-Length, Transfer-Encoding\r\n\r\nok" + hidden: "POST /base/x ok 2 []",
	} {
		raw(t, h.addr, text).want(http.StatusOK)
		mu.Lock()
		if len(got) != 1 || got[0] != want {
			t.Errorf("%.160q: the agent got %q, want %q", text, got, want)
		}
		got = nil
		mu.Unlock()
	}
	if line, ok := h.logged("http.panic"); ok {
		t.Error(line)
	}
}

// TestGateway_RefusalDoesNotWaitForTheBody covers refusals by a breaker and by the gateway itself.
func TestGateway_RefusalDoesNotWaitForTheBody(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := s.bridge()
	for range 5 {
		b.through("FailingAgent", "/").want(http.StatusInternalServerError)
	}
	const rest = " HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nthe beginning"
	raw(t, b.addr, "POST /agents/FailingAgent/x"+rest).refused("OPEN", "open")
	raw(t, b.addr, "POST /agents/Nobody/x"+rest).bad("agent_unknown")
	raw(t, b.addr, "POST /agents/Other/../x"+rest).bad("invalid_path")
	s.called("FailingAgent", 5)
	testkit.Eventually(t, "nothing to be under way", 10e9, func() error {
		if r := s.demo.call(http.MethodGet, "/modes/Other", ""); r.get("in_flight") != 0.0 {
			return errors.New(string(r.body))
		}
		return nil
	})
}
