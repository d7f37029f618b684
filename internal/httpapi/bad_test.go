package httpapi

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/breakerd/breakerd/internal/problem"
)

// operationsOf lists what the API serves, from its own document.
func operationsOf(f *fixture) (ops []operation) {
	for _, op := range f.api.doc.operations() {
		if strings.HasPrefix(op.Path, gatewayPath) || strings.HasPrefix(op.Path, gatePath) {
			continue // these judge their own paths and bodies
		}
		o := operation{method: op.Method, path: op.Path, body: op.RequestBody != nil}
		if o.body {
			example, _ := op.RequestBody.Content["application/json"].Example.(json.RawMessage)
			o.good = string(example)
		}
		ops = append(ops, o)
	}
	return ops
}

type operation struct {
	method, path string
	body         bool
	good         string // a body that it takes
}

// named is the operation's path with this name in it; ok: it has a place for one.
func (o operation) named(name string) (path string, ok bool) {
	for _, what := range pathNames(o.path) {
		path, ok = strings.Replace(o.path, "{"+what+"}", name, 1), true
	}
	if !ok {
		path = o.path
	}
	return path, ok
}

func (f *fixture) dial() net.Conn {
	f.t.Helper()
	var d net.Dialer
	conn, err := d.DialContext(f.t.Context(), "tcp", strings.TrimPrefix(f.url, "http://"))
	if err != nil {
		f.t.Fatal(err)
	}
	return conn
}

// raw sends bytes that net/http's client would refuse, and reads one answer.
func (f *fixture) raw(request string) got {
	f.t.Helper()
	conn := f.dial()
	defer conn.Close()
	go func() { _, _ = io.WriteString(conn, request) }() // the server may answer and close before it has read everything
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		f.t.Fatalf("%.200q: %v", request, err)
	}
	return f.read(res)
}

// rawHeader is an answer as it stands on the wire.
func (f *fixture) rawHeader(method, target string) string {
	f.t.Helper()
	conn := f.dial()
	defer conn.Close()
	_, _ = io.WriteString(conn, method+" "+target+" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
	text, err := io.ReadAll(conn)
	if err != nil {
		f.t.Fatal(err)
	}
	return string(text)
}

func (f *fixture) rawRequest(method, target, body string) got {
	f.t.Helper()
	head := method + " " + target + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
	if body != "" {
		head += "Content-Type: application/json\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n"
	}
	return f.raw(head + "\r\n" + body)
}

// badNames are names as they stand in a request line; ours says that this API must answer it, not net/http.
func badNames() map[string]struct {
	text string
	ours bool
} {
	type name = struct {
		text string
		ours bool
	}
	return map[string]name{
		"empty": {"", true}, "encoded space": {"a%20b", true}, "raw space": {"a b", false}, "encoded NUL": {"a%00", true},
		"raw NUL": {"a\x00", false}, "raw CRLF": {"a\r\nX: y", false}, "encoded CRLF": {"a%0d%0ab", true}, "star": {"*", true},
		"encoded star": {"%2A", true}, "class": {"[z-a]", true}, "braces": {"{}", true}, "tail": {"a}b", true}, "slash": {"a/b", true},
		"encoded slash": {"a%2Fb", true}, "129 bytes": {strings.Repeat("a", 129), true}, "1 MB": {strings.Repeat("a", 1<<20), true},
		"3 MB": {strings.Repeat("a", 3<<20), false}, "invalid UTF-8": {"a%ff", true}, "raw invalid UTF-8": {"a\xff", true},
		"zero width": {"a%E2%80%8Bb", true}, "dot": {".", true}, "dots": {"..", true}, "encoded dots": {"%2e%2e", true}, "dash first": {"-a", true},
		"backslash": {"a%5Cb", true}, "percent": {"%25", true}, "bad escape": {"%zz", false}, "plus": {"a+b", true}, "semicolon": {"a;b", true},
		"newline": {"a%0a", true}, "high": {"\u00e4", true}, "two slashes": {"/a", true}, "up": {"a/../b", true},
	}
}

var logLine = regexp.MustCompile(`^time=\S+ level=\w+ msg=[\x20-\x7e]*$`)

// unharmed checks that nothing was written and no log line broken.
func (f *fixture) unharmed(what string) {
	f.t.Helper()
	if keys := f.keeper.keys(); len(keys) > 0 || len(f.keeper.texts) > 0 || len(f.keeper.records) > 0 {
		f.t.Errorf("%s: wrote %.200q %.200q %.200q", what, keys, f.keeper.texts, f.keeper.records)
	}
	for line := range strings.Lines(f.log.String()) {
		if !logLine.MatchString(strings.TrimSuffix(line, "\n")) || len(line) > 4000 {
			f.t.Errorf("%s: log line %.300q", what, line)
		}
	}
}

// refusesBadNames sends bad names to each operation whose path has one.
func (f *fixture) refusesBadNames() {
	f.t.Helper()
	ours := []any{string(problem.InvalidAgentName), string(problem.InvalidWorkflowID), string(problem.InvalidExecutionID), string(problem.NotFound), string(problem.MethodNotAllowed)}
	for _, o := range operationsOf(f) {
		for what, name := range badNames() {
			path, ok := o.named(name.text)
			if !ok {
				continue
			}
			g := f.rawRequest(o.method, path, o.good)
			what = fmt.Sprintf("%s %s, name %s: %d %.200s", o.method, o.path, what, g.status, g.text)
			if g.status < 400 || g.status > 499 {
				f.t.Error(what)
			}
			if name.ours && !slices.Contains(ours, g.json["code"]) {
				f.t.Errorf("not ours: %s", what)
			}
			if len(g.text) > 2000 {
				f.t.Errorf("%s: an answer of %d bytes", what, len(g.text))
			}
			f.unharmed(what)
		}
	}
}

func TestBadNamesAreRefusedByEveryEndpoint(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.refusesBadNames()
	for what, name := range badNames() {
		if strings.Contains(name.text, "%") || !name.ours || name.text == "a+b" || len(name.text) > 1000 {
			continue
		}
		g := f.rawRequest("GET", "/v1/admin/quarantine?agent_id="+name.text, "")
		if g.status < 400 || g.status > 499 || g.json["code"] == nil {
			t.Errorf("quarantine of %s: %d %s", what, g.status, g.text)
		}
	}
	f.unharmed("all")
}

func TestOddPathsAreNotRedirected(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for target, want := range map[string]int{
		"//": 404, "/": 404, "/v1//batch": 404, "/v1/./batch": 404, "/v1/x/../batch": 404, "/v1/batch/": 404, "/v1%2Fbatch": 404, "/v1/%2e/batch": 404,
		"/v1/admin/circuit_breakers/": 400, "/v1/admin/circuit_breakers//reset": 400, "/v1/%63ircuit_breakers/a%20b/acquire": 400,
		"/v1/circuit_breakers/a/unknown": 404, "/v1/circuit_breakers/a/": 404, "/v1/circuit_breakers/a/%2e%2e": 404, "/metrics/..": 404,
		"http://other.example/v1/circuit_breakers/a%00/acquire": 400,
	} {
		g := f.rawRequest("POST", target, "")
		if g.status != want || g.json["code"] == nil {
			t.Errorf("%s: %d %s, want %d", target, g.status, g.text, want)
		}
	}
	f.rawRequest("CONNECT", "localhost:80", "").wantProblem(404, problem.NotFound)
	g := f.do("PATCH", "/v1/admin/circuit_breakers/a/config", "").wantProblem(405, problem.MethodNotAllowed)
	if allow := g.header.Get("Allow"); allow != "GET, HEAD, PUT, DELETE" {
		t.Errorf("Allow: %s", allow)
	}
	f.do("HEAD", "/livez", "").want(200)
	f.unharmed("all")
}

// twoCases is one name in two cases: refused as given twice, or where names are the caller's own, as unknown.
const twoCases = `{"reason":"a","Reason":"b"}`

// badBodies are bodies that no operation takes, with the statuses that are fine.
func badBodies() map[string][]string {
	return map[string][]string{
		"413": {`{"reason":"` + strings.Repeat("a", 10<<20) + `"}`},
		"400": {
			strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000), strings.Repeat(`{"a":`, 50) + `1` + strings.Repeat(`}`, 50),
			strings.Repeat("[", 1000), `{"reason":"a","reason":"b"}`, twoCases, `{} {}`, `{}]`, `{"a":1}x`, `{"duration_ms":NaN}`,
			`{"duration_ms":-Infinity}`, `{"duration_ms":0x10}`, `{`, `nul`, "\x00", "{\"reason\":\"\xff\"}", "\xef\xbb\xbf{}", `{'a':1}`, `{"a":01}`,
		},
		"422": {
			`{"nonsense":1}`, `{"Reason":"x"}`, `[]`, `"x"`, `1`, `null`, `{"reason":1e400}`, `{"duration_ms":1e400}`, `{"timeout_seconds":-1e400}`,
			`{"reason":{"a":{}}}`, `{"":1}`, `{"\u200b":1}`,
		},
	}
}

// refusesBadBodies sends bad bodies to each operation that takes one.
func (f *fixture) refusesBadBodies() {
	f.t.Helper()
	for _, o := range operationsOf(f) {
		if !o.body {
			continue
		}
		path, _ := o.named("a")
		for status, bodies := range badBodies() {
			for _, body := range bodies {
				g := f.rawRequest(o.method, path, body)
				ok := strconv.Itoa(g.status) == status || g.status == 422 && body == twoCases
				if !ok || g.json["code"] == nil || len(g.text) > 8000 {
					f.t.Errorf("%s %s %.60q: %d %.300s, want %s", o.method, path, body, g.status, g.text, status)
				}
			}
		}
		for _, ct := range []string{"text/plain", "application/x-www-form-urlencoded", "", "application/json; charset", "multipart/form-data"} {
			f.do(o.method, path, o.good, "Content-Type", ct).wantProblem(415, problem.UnsupportedMediaType)
		}
		cut := f.raw(o.method + " " + path + " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
		if cut.status != 400 {
			f.t.Errorf("bad chunk: %d %s", cut.status, cut.text)
		}
		f.unharmed(o.path)
	}
}

// Not parallel: what other tests allocate would count.
func TestABodyTakesMemoryInProportion(t *testing.T) { //nolint:paralleltest // see above
	name, free := `{"`+strings.Repeat("x", 100)+`":`, []byte(nil)
	free = append(free, strings.Repeat(name, 29)+"["+strings.Repeat("0,", 499_000)+"0]"+strings.Repeat("}", 29)...)
	bad := []byte(strings.Repeat(name, 12) + "[" + strings.Repeat(`{"a":1,"A":1},`, 70_000) + "0]" + strings.Repeat("}", 12))
	for text, want := range map[*[]byte]bool{&free: true, &bad: false} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		p := checkJSON(*text, want)
		runtime.ReadMemStats(&after)
		if (p == nil) != want {
			t.Errorf("got %v", p)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 100<<20 {
			t.Errorf("%d bytes are allocated", n)
		}
	}
}

func TestBadBodiesAreRefusedByEveryEndpoint(t *testing.T) {
	t.Parallel()
	newFixture(t).refusesBadBodies()
}

func TestBadValuesAreRefused(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for verb, bodies := range map[string][]string{
		"circuit_breakers/a/report": {
			`{"outcome":"great"}`, `{}`, `{"outcome":null}`, `{"outcome":"failure","duration_ms":-1}`, `{"outcome":"failure","duration_ms":1e300}`,
			`{"outcome":"failure","duration_ms":"NaN"}`, `{"outcome":"failure","retry_after_seconds":-0.5}`, `{"outcome":"failure","retry_after_seconds":1e18}`,
			`{"outcome":"failure","retry_after_seconds":9223372036854775808}`, `{"outcome":"failure","reporter":"a b"}`, `{"outcome":"failure","permit":"v1.closed"}`,
			`{"outcome":"failure","permit":"` + strings.Repeat("p", 300) + `"}`, `{"outcome":"failure","error":7}`,
		},
		"circuit_breakers/a/renew":       {`{}`, `{"permit":""}`, `{"permit":"v2.closed.0000000000000000.-.00000000"}`, `{"permit":7}`},
		"circuit_breakers/a/acquire":     {`{"parent":7}`, `{"parent":"` + strings.Repeat("p", 300) + `"}`},
		"batch":                          {`{}`, `{"operations":null}`, `{"operations":[null]}`, `{"operations":[{"op":"steal","agent":"a"}]}`, `{"operations":[{"op":"acquire"}]}`, `{"operations":[{"op":"acquire","agent":"a","Agent":"b"}]}`},
		"admin/circuit_breakers/a/reset": {`{}`, `{"target_state":"OPEN"}`, `{"target_state":"closed"}`, `{"target_state":"CLOSED","gradual_seconds":-1}`, `{"target_state":"CLOSED","gradual_seconds":1e12}`, `{"target_state":"CLOSED","gradual_seconds":1e-9}`, `{"target_state":"HALF_OPEN","gradual_seconds":1}`, `{"target_state":"CLOSED","reason":"a\nb"}`, `{"target_state":"CLOSED","force":"yes"}`, `{"target_state":"CLOSED","actor":"a b"}`},
		"admin/circuit_breakers/a/open":  {`{"timeout_seconds":-1}`, `{"timeout_seconds":0}`, `{"timeout_seconds":1e308}`, `{"timeout_seconds":"1"}`, `{"reason":"` + strings.Repeat("r", 501) + `"}`, `{"reason":"a\u202eb"}`, `{"reason":"a\u200bb"}`, `{"protected":1}`, `{"actor":"\r\n"}`},
		"admin/circuit_breakers/a/close": {`{"timeout_seconds":2592000.001}`, `{"reason":"\u0000"}`},
	} {
		for _, body := range bodies {
			g := f.do("POST", "/v1/"+verb, body)
			if g.status == 400 && strings.Contains(body, `"Agent"`) { // the same field twice
				g.wantProblem(400, problem.InvalidJSON)
				continue
			}
			if g.status != 422 || g.json["code"] == nil {
				t.Errorf("%s %.80s: %d %s", verb, body, g.status, g.text)
			}
		}
	}
	f.do("POST", "/v1/admin/circuit_breakers/a/open", "", "X-Actor", "a b").wantProblem(422, problem.InvalidValue)
	f.do("DELETE", "/v1/admin/circuit_breakers/a?force=yes", "").wantProblem(422, problem.InvalidValue)
	f.do("PUT", "/v1/admin/agents/a", "{}", "If-None-Match", `"x"`).wantProblem(422, problem.InvalidValue)
	f.unharmed("all")
}
