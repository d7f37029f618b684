package breakerhttp

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// answer is one shape of answer, and what a classifier makes of it.
type answer struct {
	name  string
	kind  string // Content-Type
	body  string
	want  string // kind and class of the error; "": none
	flows bool   // before the end
}

const (
	asJSON  = "application/json"
	asSSE   = "text/event-stream"
	asLines = "application/x-ndjson"
)

// verdict is what c makes of an answer whose body passes in those parts.
func verdict(c BodyClassifier, h http.Header, parts ...string) (want string, flows bool) {
	r := newReading(c, Statuses{}, &http.Response{StatusCode: http.StatusOK, Header: h})
	for _, part := range parts {
		r.read([]byte(part))
		if o, ok := r.found(); ok != (o.Kind == breaker.Failure) {
			return fmt.Sprintf("decides before the end: %v %s", ok, o.Kind), false
		}
	}
	flows = r.flowing()
	r.finish()
	return described(r), flows
}

func described(r *reading) string {
	o, ok := r.found()
	if ok != (o.Kind == breaker.Failure || o.Kind == breaker.Ignored) {
		return fmt.Sprintf("%q is found: %v", o.Kind, ok)
	}
	return strings.TrimSpace(string(o.Kind) + " " + o.Class)
}

// conform checks each answer whole, cut in two at every byte, byte by byte, and compressed.
func conform(t *testing.T, c BodyClassifier, answers []answer) {
	t.Helper()
	seen := map[string]bool{}
	for _, a := range answers {
		if seen[a.name] {
			t.Errorf("two are named %q", a.name)
		}
		seen[a.name] = true
		t.Run(a.name, func(t *testing.T) {
			t.Parallel()
			check := func(how string, h http.Header, parts ...string) {
				h.Set("Content-Type", a.kind)
				if got, flows := verdict(c, h, parts...); got != a.want || flows != a.flows {
					t.Errorf("%s: %q, flows %v; want %q, %v", how, got, flows, a.want, a.flows)
				}
			}
			check("whole", http.Header{}, a.body)
			for i := range len(a.body) {
				check(fmt.Sprint("cut at ", i), http.Header{}, a.body[:i], a.body[i:])
			}
			check("byte by byte", http.Header{}, strings.Split(a.body, "")...)
			if formOf(mediaType(http.Header{"Content-Type": {a.kind}})) == opaque {
				return
			}
			for coding, text := range compressions(t, a.body) {
				name, _, _ := strings.Cut(coding, " ")
				check(coding, http.Header{"Content-Encoding": {name}}, text)
				check(coding+" byte by byte", http.Header{"Content-Encoding": {name}}, strings.Split(text, "")...)
			}
		})
	}
	if len(answers) < 40 && c != GRPC {
		t.Errorf("%d answers", len(answers))
	}
}

// compressions are a body in each coding.
func compressions(t *testing.T, body string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for coding, open := range map[string]func(io.Writer) (io.WriteCloser, error){
		"gzip":        func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil },
		"deflate":     func(w io.Writer) (io.WriteCloser, error) { return zlib.NewWriter(w), nil },
		"deflate raw": func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, 6) },
	} {
		var b bytes.Buffer
		w, err := open(&b)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(w, body)
		_ = w.Close()
		all[coding] = b.String()
	}
	return all
}

const (
	rpcFine   = `{"jsonrpc":"2.0","id":1,"result":{"content":[],"isError":false}}`
	rpcBroken = `{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"no"}}`
	rpcCaller = `{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"bad parameters"}}`
	rpcTool   = `{"jsonrpc":"2.0","id":1,"result":{"content":[],"isError":true}}`
)

func rpcCode(code string) string {
	return `{"jsonrpc":"2.0","id":1,"error":{"code":` + code + `,"message":"x"}}`
}

func sse(messages ...string) string {
	var b strings.Builder
	for _, m := range messages {
		b.WriteString("data: " + m + "\n\n")
	}
	return b.String()
}

// rpcAnswers are those that jsonrpc, mcp and mcp_strict judge alike; FIELD G6.
func rpcAnswers() []answer {
	const fails, callers = "failure jsonrpc_error", "ignored jsonrpc_error"
	return []answer{
		{"fine", asJSON, rpcFine, "", false},
		{"error", asJSON, rpcBroken, fails, false},
		{"spaces", asJSON, "\r\n " + rpcBroken + "\n", fails, false},
		{"parameters of the type", "Application/JSON; charset=utf-8", rpcBroken, fails, false},
		{"a type of JSON", "application/vnd.agent+json", rpcBroken, fails, false},
		{"-32700", asJSON, rpcCode("-32700"), callers, false},
		{"-32600", asJSON, rpcCode("-32600"), callers, false},
		{"-32601", asJSON, rpcCode("-32601"), callers, false},
		{"-32602", asJSON, rpcCode("-32602"), callers, false},
		{"-32002", asJSON, rpcCode("-32002"), callers, false},
		{"-32603", asJSON, rpcCode("-32603"), fails, false},
		{"-32001", asJSON, rpcCode("-32001"), fails, false},
		{"code of the application", asJSON, rpcCode("42"), fails, false},
		{"code zero", asJSON, rpcCode("0"), fails, false},
		{"code with an exponent", asJSON, rpcCode("-3.2602e4"), callers, false},
		{"code is a text", asJSON, rpcCode(`"-32000"`), "", false},
		{"code is null", asJSON, rpcCode("null"), "", false},
		{"error is empty", asJSON, `{"jsonrpc":"2.0","id":1,"result":1,"error":{}}`, "", false},
		{"error is null", asJSON, `{"jsonrpc":"1.0","id":1,"result":1,"error":null}`, "", false},
		{"error is false", asJSON, `{"error":false}`, "", false},
		{"error is true", asJSON, `{"error":true}`, "", false},
		{"error is an empty text", asJSON, `{"error":""}`, "", false},
		{"error is a text", asJSON, `{"error":"no"}`, "", false},
		{"error is an array", asJSON, `{"error":[{"code":1}]}`, "", false},
		{"wrong case", asJSON, `{"Error":{"code":1},"result":{"IsError":true}}`, "", false},
		{"name with an escape", asJSON, `{"\u0065rror":{"code":1}}`, fails, false},
		{"of two, the last counts", asJSON, `{"error":{"code":1},"error":null}`, "", false},
		{"deeper", asJSON, `{"result":{"error":{"code":1},"isError":"true"}}`, "", false},
		{"a text with braces", asJSON, `{"a":"}\"{\\","error":{"message":"]}","code":1}}`, fails, false},
		{"batch, fine", asJSON, "[" + rpcFine + "]", "", false},
		{"batch, one fails", asJSON, "[" + rpcCaller + " , " + rpcBroken + "," + rpcFine + "]", fails, false},
		{"batch, the caller's", asJSON, "[" + rpcFine + "," + rpcCaller + "]", callers, false},
		{"batch, empty", asJSON, "[ ]", "", false},
		{"batch of nonsense", asJSON, "[1, null, [" + rpcBroken + "]]", "", false},
		{"half a batch", asJSON, "[" + rpcBroken, "", false},
		{"half", asJSON, rpcBroken[:40], "", false},
		{"two", asJSON, rpcBroken + rpcBroken, "", false},
		{"no object", asJSON, `"error"`, "", false},
		{"empty", asJSON, "", "", false},
		{"other type", "text/plain", rpcBroken, "", true},
		{"no type", "", rpcBroken, "", true},
		{"not a type", ";;", rpcBroken, "", true},
		{"events, fine", asSSE, sse(rpcFine), "", true},
		{"events, error", asSSE, sse(rpcFine, rpcBroken), fails, false},
		{"events, error first", asSSE, sse(rpcBroken, rpcFine), fails, false},
		{"events, the caller's", asSSE, sse(rpcCaller), callers, false},
		{"events, fine and the caller's", asSSE, sse(rpcFine, rpcCaller), callers, true},
		{"events, the caller's and fine", asSSE, sse(rpcCaller, rpcFine), callers, true},
		{"events, the caller's does not hide a failure", asSSE, sse(rpcCaller, rpcBroken), fails, false},
		{"events, batch", asSSE, sse("[" + rpcFine + "," + rpcBroken + "]"), fails, false},
		{"events, only comments", asSSE, ": hello\n\n: ping\n\n", "", false},
		{"events, named, with id", asSSE, ": hello\n\nevent: message\nid: 7\n" + sse(rpcFine) + sse(rpcBroken), fails, false},
		{"events, CR LF", asSSE, "data: " + rpcFine + "\r\n\r\ndata: " + rpcBroken + "\r\n\r\n", fails, false},
		{"events, CR", asSSE, "data: " + rpcFine + "\r\rdata: " + rpcBroken + "\r\r", fails, false},
		{"events, mark of bytes", asSSE, "\ufeffdata: " + rpcBroken + "\n\n", fails, false},
		{"events, in lines", asSSE, "data: " + strings.Replace(rpcBroken, `,"`, ",\ndata:\"", 1) + "\n\n", fails, false},
		{"events, no blank line at the end", asSSE, sse(rpcFine) + "data: " + rpcBroken, fails, true},
		{"events, other fields", asSSE, "date: " + rpcBroken + "\n\n: data: " + rpcBroken + "\n\ndata\ndata: 1\n\n", "", true},
		{"events, two texts in one", asSSE, "data: " + rpcFine + "\ndata: " + rpcBroken + "\n\n", "", true},
		{"events, primed", asSSE, "id: 1\ndata:\n\n" + sse(rpcBroken), fails, false},
		{"events, nothing", asSSE, "", "", false},
		{"a document for events", asSSE, "\n" + rpcBroken, fails, false},
		{"events for a document", asJSON, "\nevent: message\ndata: " + rpcBroken + "\n\n", fails, false},
		{"lines", asLines, rpcFine + "\n" + rpcBroken + "\n", fails, false},
		{"sequence", "application/json-seq", "\x1e" + rpcFine + "\n\x1e{\n" + rpcBroken[1:] + "\n", fails, true},
	}
}

func TestReading_JSONRPC(t *testing.T) {
	t.Parallel()
	conform(t, JSONRPC, append(rpcAnswers(),
		answer{"tool", asJSON, rpcTool, "", false},
		answer{"events, tool", asSSE, sse(rpcTool), "", true},
	))
}

func TestReading_MCP(t *testing.T) {
	t.Parallel()
	for c, kind := range map[BodyClassifier]string{MCP: "ignored", MCPStrict: "failure"} {
		worst := "failure tool_error"
		if c == MCP {
			worst = "failure jsonrpc_error"
		}
		conform(t, c, append(rpcAnswers(),
			answer{"tool", asJSON, rpcTool, kind + " tool_error", false},
			answer{"tool, events", asSSE, sse(rpcTool), kind + " tool_error", false},
			answer{"tool, after progress", asSSE, sse(`{"method":"notifications/progress"}`, rpcTool), kind + " tool_error", c == MCP},
			answer{"tool, a text", asJSON, `{"result":{"isError":"true"}}`, "", false},
			answer{"tool, a number", asJSON, `{"result":{"isError":1}}`, "", false},
			answer{"tool, no object", asJSON, `{"result":[true]}`, "", false},
			answer{"tool, a request", asJSON, `{"method":"x","params":{"isError":true}}`, "", false},
			answer{"tool, batch", asJSON, "[" + rpcFine + "," + rpcTool + "]", kind + " tool_error", false},
			answer{"tool, and an error", asJSON, "[" + rpcTool + "," + rpcBroken + "]", worst, false},
		))
	}
}

func TestReading_SaysWhatIsData(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		by    BodyClassifier
		kind  string
		parts []string
		want  string // a letter for each part: d for data
	}{
		{StatusOnly, asSSE, []string{": a", "b\n", "\n", "data", ": x\n", "\n", "\r\n:", "c\r", "\n", "id: 1\n"}, "---dd----d"},
		{LLM, asSSE, []string{": a", "b\n", "\n", "data", ": x\n", "\n", "\r\n:", "c\r", "\n", "id: 1\n"}, "---dd----d"},
		{LLM, asSSE, []string{"\xef", "\xbb", "\xbf", ": a", "\n"}, "-----"},
		{MCP, asSSE, []string{"\xef\xbb\xbfd", "\n\n"}, "d-"},
		{StatusOnly, asSSE, []string{": a\n: b\n\n", ": a\ndata: x\n\n:", " b\ndata"}, "-dd"},
		{StatusOnly, asLines, []string{"\n", " ", "\r\n", "{", "}\n", "\n\n1"}, "---ddd"},
		{LLM, asLines, []string{"\n", " ", "\r\n", "{", "}\n", "\n\n1"}, "---ddd"},
		{StatusOnly, asJSON, []string{" ", "{"}, "dd"},
		{LLM, asJSON, []string{" ", "{"}, "dd"},
		{LLM, "", []string{" ", "\n"}, "dd"},
		{GRPC, "application/grpc", []string{"\x00"}, "d"},
	} {
		r := newReading(c.by, Statuses{}, &http.Response{Header: http.Header{"Content-Type": {c.kind}}})
		got := []byte(strings.Repeat("-", len(c.parts)))
		for i, part := range c.parts {
			if r.read([]byte(part)) {
				got[i] = 'd'
			}
		}
		if string(got) != c.want || r.read(nil) {
			t.Errorf("%s, %s: %s, want %s", c.by, c.kind, got, c.want)
		}
	}
}

// Under StatusOnly, nothing of a stream is judged or kept; its first event is waited for.
func TestReading_StatusOnly(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 1<<16)
	for _, a := range []answer{
		{"comments", asSSE, ": data: x\n\n", "", false},
		{"half an event", asSSE, "data: x\n", "", false},
		{"event", asSSE, "data: x\n\n", "", true},
		{"event without space", asSSE, "data:x\n\n", "", true},
		{"event without data", asSSE, "event: message\ndata: \n\n", "", false},
		{"long event", asSSE, "data: " + long + "\n\n", "", true},
		{"many lines", asSSE, strings.Repeat("data: x\n", 1<<10) + "\n", "", true},
		{"error", asSSE, "event: error\ndata: {\"error\":{\"code\":500}}\n\n", "", true},
		{"half a line", asLines, `{"error":`, "", false},
		{"line", asLines, `{"error":{"code":500}}` + "\n", "", true},
		{"JSON", asJSON, rpcBroken, "", true},
		{"anything", "", "x", "", true},
		{"nothing", asSSE, "", "", false},
	} {
		for _, c := range []BodyClassifier{StatusOnly, ""} {
			for part := range []int{1, 2} {
				h := http.Header{"Content-Type": {a.kind}}
				parts := []string{a.body}
				if part == 2 {
					parts = strings.Split(a.body, "")
				}
				if got, flows := verdict(c, h, parts...); got != a.want || flows != a.flows {
					t.Errorf("%s: %q, flows %v", a.name, got, flows)
				}
			}
		}
	}
	r := newReading(StatusOnly, Statuses{}, &http.Response{Header: http.Header{"Content-Type": {asSSE}}})
	for range 1000 {
		r.read([]byte("data: x\ndata: " + long + "\n"))
	}
	if e := r.lexer.(*eventLexer); cap(e.line)+cap(e.m.text) > 100 {
		t.Errorf("keeps %d bytes", cap(e.line)+cap(e.m.text))
	}
}

// A response that has no body has no missing end mark either.
func TestReading_OfNoBody(t *testing.T) {
	t.Parallel()
	for _, resp := range []*http.Response{
		{StatusCode: http.StatusNoContent},
		{StatusCode: http.StatusNotModified},
		{StatusCode: http.StatusOK, Request: &http.Request{Method: http.MethodHead}},
	} {
		for _, c := range BodyClassifiers() {
			for _, kind := range []string{asSSE, asLines, "application/grpc"} {
				resp.Header = http.Header{"Content-Type": {kind}}
				r := newReading(c, Statuses{}, resp)
				if r.finish(); described(r) != "" {
					t.Errorf("%s, %s: %q", c, kind, described(r))
				}
			}
		}
	}
}

// padded is a message of that length with an error.
func padded(length int) string {
	return `{"error":{"code":500},"pad":"` + strings.Repeat("x", length-31) + `"}`
}

func TestReading_LeavesMessagesOfMoreThan1MiBToTheStatus(t *testing.T) {
	t.Parallel()
	within, beyond := padded(maxMessage-1), padded(maxMessage+1)
	for _, a := range []answer{
		{"document", asJSON, within, "failure llm_error_500", false},
		{"long document", asJSON, beyond, "", true},
		{"event", asSSE, "data: " + within + "\n\n", "failure llm_error_500", false},
		{"long event", asSSE, "data: " + beyond + "\n\n", "", true},
		{"event in long lines", asSSE, strings.Repeat("data: "+strings.Repeat("x", 1<<19)+"\n", 3) + "\n", "", true},
		{"event after a long one", asSSE, "data: " + beyond + "\n\ndata: " + within + "\n\n", "failure llm_error_500", false},
		{"event after a long comment", asSSE, ": " + beyond + "\ndata: 1\n\n", "failure incomplete_stream", true},
		{"long event with a name", asSSE, "event: error\ndata: " + beyond + "\n\n", "failure llm_error", false},
		{"line", asLines, within + "\n", "failure llm_error_500", false},
		{"long line", asLines, beyond + "\n", "", true},
		{"line after a long one", asLines, beyond + "\n" + within, "failure llm_error_500", true},
		{"blanks", asLines, strings.Repeat(" ", maxMessage) + "\n1\n", "failure incomplete_stream", true},
	} {
		h := http.Header{"Content-Type": {a.kind}}
		var parts []string
		for part := range bytesIn([]byte(a.body), 10_000) {
			parts = append(parts, string(part))
		}
		if got, flows := verdict(LLM, h, parts...); got != a.want || flows != a.flows {
			t.Errorf("%s: %q, flows %v; want %q, %v", a.name, got, flows, a.want, a.flows)
		}
	}
}

// Bytes that come one by one cost no more than each a copy, and a large message leaves no large buffer behind.
func TestReading_KeepsWhatItNeeds(t *testing.T) { //nolint:paralleltest // AllocsPerRun counts those of all tests
	large := padded(maxMessage - 1)
	for kind, body := range map[string]string{asJSON: large, asSSE: "data: " + large + "\n\n", asLines: large + "\n"} {
		h := http.Header{"Content-Type": {kind}}
		part := make([]byte, 1)
		allocs := testing.AllocsPerRun(1, func() {
			r := newReading(MCP, Statuses{}, &http.Response{Header: h})
			for i := range len(body) {
				part[0] = body[i]
				r.read(part)
			}
			if kept := keptBy(r); kind != asJSON && kept > maxSpare {
				t.Errorf("%s: keeps %d bytes", kind, kept)
			}
			r.finish()
		})
		if allocs > 1000 {
			t.Errorf("%s: %v allocations", kind, allocs)
		}
	}
}

func keptBy(r *reading) int {
	switch l := r.lexer.(type) {
	case *eventLexer:
		return cap(l.line) + cap(l.m.text)
	case *lineLexer:
		return cap(l.m.text)
	case *documentLexer:
		return cap(l.text)
	}
	return 0
}

// A thousand streams of any length hold no more than what one event needs.
func TestReading_OfAThousandStreams(t *testing.T) {
	t.Parallel()
	event := []byte(sse(openAIChunk))
	h := http.Header{"Content-Type": {asSSE}}
	for range 1000 {
		r := newReading(LLM, Statuses{}, &http.Response{Header: h})
		for range 50 {
			r.read(event)
		}
		if kept := keptBy(r); kept > 4*len(event) {
			t.Fatalf("keeps %d bytes", kept)
		}
	}
}

// However a body is cut and compressed, the verdict is the same.
func FuzzReading(f *testing.F) {
	kinds := []string{asJSON, asSSE, asLines, "application/json-seq", "text/plain", "application/grpc"}
	for _, body := range []string{
		rpcBroken, "[" + rpcCaller + "]", sse(rpcTool, rpcFine), anthropic(overloaded), anthropic(stopOf), sse(openAIChunk, "[DONE]"),
		ollamaChunk + "\n" + ollamaDone + "\n", "\x1e{}\n\x1e1", "\ufeff: \r\rdata\r\n\n", "\n\ufeff{", sse(geminiStop, created),
	} {
		for kind := range kinds {
			f.Add(body, kind, 1, 3, 8)
		}
	}
	f.Fuzz(func(t *testing.T, body string, kind, by, one, two int) {
		if len(body) > maxMessage {
			return
		}
		c := BodyClassifiers()[cut(by, len(BodyClassifiers())-1)]
		contentType := kinds[cut(kind, len(kinds)-1)]
		one, two = cut(one, len(body)), cut(two, len(body))
		one, two = min(one, two), max(one, two)
		whole, flows := verdict(c, http.Header{"Content-Type": {contentType}}, body)
		for how, parts := range map[string][]string{
			"cut": {body[:one], body[one:two], body[two:]}, "byte by byte": strings.Split(body, ""),
		} {
			if got, gotFlows := verdict(c, http.Header{"Content-Type": {contentType}}, parts...); got != whole || gotFlows != flows {
				t.Errorf("%s, %s, %q %s: %q, flows %v; whole %q, %v", c, contentType, body, how, got, gotFlows, whole, flows)
			}
		}
		if formOf(contentType) == opaque || c == StatusOnly || c == GRPC {
			return
		}
		for coding, text := range compressions(t, body) {
			name, _, _ := strings.Cut(coding, " ")
			h := http.Header{"Content-Type": {contentType}, "Content-Encoding": {name}}
			if got, gotFlows := verdict(c, h, text); got != whole || gotFlows != flows {
				t.Errorf("%s, %s, %q, %s: %q, flows %v; whole %q, %v", c, contentType, body, coding, got, gotFlows, whole, flows)
			}
		}
	})
}

func TestFormOf(t *testing.T) {
	t.Parallel()
	for kind, want := range map[string]form{
		"": opaque, "text/plain": opaque, "application/jsonp": opaque, "application/octet-stream": opaque,
		"text/event-stream": events, "application/json": document, "text/json": document, "application/a2a+json": document,
		"application/x-ndjson": lines, "application/ndjson": lines, "application/jsonl": lines, "application/stream+json": lines,
		"application/json-seq": sequence, "application/geo+json-seq": sequence,
	} {
		if got := formOf(kind); got != want {
			t.Errorf("%q: %d, want %d", kind, got, want)
		}
	}
}
