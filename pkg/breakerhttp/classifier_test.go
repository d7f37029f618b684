package breakerhttp

import (
	"bytes"
	"net/http"
	"strings"
	"testing"
)

const (
	fine      = `{"jsonrpc":"2.0","id":1,"result":{"content":[],"isError":false}}`
	rpcError  = `{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"no"}}`
	toolError = `{"jsonrpc":"2.0","id":1,"result":{"content":[],"isError":true}}`
)

func TestBodyClassifier_Judge(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, jsonrpc, mcp string }{
		{fine, "", ""},
		{rpcError, "jsonrpc_error", "jsonrpc_error"},
		{toolError, "", "tool_error"},
		{"\r\n " + rpcError + "\n", "jsonrpc_error", "jsonrpc_error"},
		{"[" + fine + "," + toolError + "," + rpcError + "]", "jsonrpc_error", "tool_error"},
		{"[" + fine + ", " + rpcError + " ]", "jsonrpc_error", "jsonrpc_error"},
		{"[]", "", ""},
		{"[1, null, [" + rpcError + "]]", "", ""},
		{"[" + rpcError, "", ""}, // half a batch
		{rpcError[:40], "", ""},
		{rpcError + rpcError, "", ""},
		{`{"error": null, "result": 1}`, "", ""},
		{`{"error": false}`, "jsonrpc_error", "jsonrpc_error"},
		{`{"Error": {}, "result": {"IsError": true}}`, "", ""}, // in the wrong case
		{`{"result": {"error": {}, "isError": "true"}}`, "", ""},
		{`{"result": [true]}`, "", ""},
		{`{"result": null}`, "", ""},
		{`{"method": "notifications/x", "params": {"error": {}, "isError": true}}`, "", ""},
		{"", "", ""},
		{"null", "", ""},
		{"error", "", ""},
	} {
		if got := JSONRPC.judge([]byte(c.text)); got != c.jsonrpc {
			t.Errorf("jsonrpc: %s: %q, want %q", c.text, got, c.jsonrpc)
		}
		if got := MCP.judge([]byte(c.text)); got != c.mcp {
			t.Errorf("mcp: %s: %q, want %q", c.text, got, c.mcp)
		}
	}
}

func TestBodyClassifier_ReadsJSONAndEventsOnly(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		classifier   BodyClassifier
		kind, coding string
		want         bool
	}{
		{MCP, "application/json", "", true},
		{JSONRPC, "Application/JSON; charset=utf-8", "identity", true},
		{MCP, "text/event-stream", "", true},
		{MCP, "application/json", "gzip", false},
		{MCP, "text/plain", "", false},
		{MCP, "", "", false},
		{MCP, ";;", "", false},
		{StatusOnly, "application/json", "", false},
		{"", "application/json", "", false},
	} {
		h := http.Header{"Content-Type": {c.kind}, "Content-Encoding": {c.coding}}
		if got := c.classifier.inspector(&http.Response{Header: h}) != nil; got != c.want {
			t.Errorf("%s of %q %q: %v", c.classifier, c.kind, c.coding, got)
		}
	}
}

// inspect has i read text in parts that end at cuts, and finish.
func inspect(i inspector, text string, cuts ...int) string {
	from := 0
	for _, to := range append(cuts, len(text)) {
		if class := i.read([]byte(text[from:to])); class != "" {
			return class
		}
		from = to
	}
	return i.finish()
}

func TestEvents_ReadWhateverTheCuts(t *testing.T) {
	t.Parallel()
	split := strings.Replace(toolError, `,"`, ",\ndata:\"", 1) // the data of one event in two lines
	for name, c := range map[string]struct{ text, want string }{
		"last":        {": hello\n\nevent: message\nid: 7\ndata: " + fine + "\n\ndata: " + toolError + "\n\n", "tool_error"},
		"first":       {"data:" + rpcError + "\n\ndata: " + fine + "\n\n", "jsonrpc_error"},
		"CR LF":       {"data: " + fine + "\r\n\r\ndata: " + toolError + "\r\n\r\n", "tool_error"},
		"CR":          {"data: " + fine + "\r\rdata: " + toolError + "\r\r", "tool_error"},
		"mark":        {"\ufeffdata: " + toolError + "\n\n", "tool_error"},
		"lines":       {"data: " + split + "\n\n", "tool_error"},
		"unfinished":  {"data: " + toolError, "tool_error"},
		"one line":    {"data: " + toolError + "\n", "tool_error"},
		"other field": {"date: " + toolError + "\n\n: data: " + toolError + "\n\ndata\ndata: " + fine + "\n\n", ""},
		"fine":        {"data: " + fine + "\n\ndata: [DONE]\n\n", ""},
		"two as one":  {"data: " + fine + "\ndata: " + toolError + "\n\n", ""}, // no JSON text
		"nothing":     {"", ""},
	} {
		for i := range len(c.text) + 1 {
			if got := inspect(&events{judge: MCP.judge}, c.text, i); got != c.want {
				t.Errorf("%s cut at %d: %q, want %q", name, i, got, c.want)
			}
		}
		every := make([]int, len(c.text))
		for i := range every {
			every[i] = i
		}
		if got := inspect(&events{judge: MCP.judge}, c.text, every...); got != c.want {
			t.Errorf("%s byte by byte: %q, want %q", name, got, c.want)
		}
	}
}

func TestEvents_JudgesEventWhenItEnds(t *testing.T) {
	t.Parallel()
	e := &events{judge: MCP.judge}
	if got := e.read([]byte("data: " + toolError + "\n\n")); got != "tool_error" {
		t.Errorf("%q", got)
	}
}

func TestInspectors_BoundMemory(t *testing.T) {
	t.Parallel()
	part := bytes.Repeat([]byte("x"), 1<<16)
	d, e := &document{judge: MCP.judge}, &events{judge: MCP.judge}
	e.read([]byte("data: "))
	for range 40 {
		d.read(part)
		e.read(part)
		if cap(d.text) > 2*maxMessage || cap(e.line)+cap(e.data) > 3*maxMessage {
			t.Fatalf("keeps %d and %d bytes", cap(d.text), cap(e.line)+cap(e.data))
		}
	}
	if got := inspect(d, rpcError); got != "" {
		t.Errorf("document: %q", got)
	}
	if got := inspect(e, rpcError+"\n\n"); got != "" {
		t.Errorf("the long event: %q", got)
	}
	if got := inspect(e, "data: "+rpcError+"\n\n"); got != "jsonrpc_error" {
		t.Errorf("the event after it: %q", got)
	}
	many := &events{judge: MCP.judge} // long by its number of lines
	for range 40 {
		many.read([]byte("data: "))
		many.read(part)
		many.read([]byte("\n"))
	}
	if len(many.line)+len(many.data) > maxMessage {
		t.Errorf("keeps %d bytes", len(many.line)+len(many.data))
	}
	long := `{"result":{"isError":true,"text":"` + strings.Repeat("x", maxMessage-100) + `"}}`
	if got := inspect(&document{judge: MCP.judge}, long, 1000, 70000); got != "tool_error" {
		t.Errorf("just within the bound: %q", got)
	}
}

// plainEvents parses the whole stream at once, as the model of events.
func plainEvents(text string) []string {
	text = strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "\n")
	var all []string
	data := ""
	for i, line := range strings.Split(text, "\n") {
		if line == "" {
			all, data = append(all, data), ""
			continue
		}
		if i == 0 {
			line = strings.TrimPrefix(line, "\ufeff")
		}
		if value, ok := strings.CutPrefix(line, "data:"); ok {
			data += strings.TrimPrefix(value, " ") + "\n"
		} else if line == "data" {
			data += "\n"
		}
	}
	return append(all, data)
}

func FuzzEvents(f *testing.F) {
	for _, text := range []string{
		"data: " + toolError + "\n\n", "data: x\r\ndata: y\r\r\n\n", "\ufeffdata\n\n:\n", "data:\r", "\r\n\r\n", "event: a\rdata:  b\r\n\r\n",
	} {
		f.Add(text, 3, 7)
	}
	f.Fuzz(func(t *testing.T, text string, one, two int) {
		if len(text) > maxMessage {
			return
		}
		one, two = cut(one, len(text)), cut(two, len(text))
		var got []string
		e := &events{judge: func(data []byte) string { got = append(got, string(data)); return "" }}
		inspect(e, text, min(one, two), max(one, two))
		same(t, nonEmpty(got), nonEmpty(plainEvents(text)))
	})
}

func cut(at, length int) int { return int(uint(at) % uint(length+1)) }

// nonEmpty drops events without data: every empty line is one.
func nonEmpty(all []string) (some []string) {
	for _, s := range all {
		if s != "" {
			some = append(some, s)
		}
	}
	return some
}

func same(t *testing.T, got, want []string) {
	t.Helper()
	if strings.Join(got, "\x00") != strings.Join(want, "\x00") {
		t.Errorf("events %q, want %q", got, want)
	}
}

func FuzzJudge(f *testing.F) {
	for _, text := range []string{fine, rpcError, toolError, "[" + fine + "]", "[", "{}", `{"error":}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		jsonrpc, mcp := JSONRPC.judge(text), MCP.judge(text)
		if jsonrpc != "" && mcp == "" {
			t.Errorf("%q fails as JSON-RPC and not as MCP", text)
		}
		if batch := MCP.judge([]byte("[" + string(text) + "]")); !bytes.HasPrefix(bytes.TrimSpace(text), []byte("[")) && mcp != "" && batch != mcp {
			t.Errorf("%q is %q alone and %q in a batch", text, mcp, batch)
		}
	})
}

// countingInspector counts how often it finishes.
type countingInspector struct{ finished int }

func (*countingInspector) read([]byte) string { return "" }

func (c *countingInspector) finish() string { c.finished++; return "" }

func TestBody_InspectorFinishesOnce(t *testing.T) {
	t.Parallel()
	c := &countingInspector{}
	b := &body{inspector: c}
	for range 2 { // at the end and at Close
		b.finish()
	}
	if c.finished != 1 || b.inspector != nil {
		t.Errorf("finished %d times, inspector %v", c.finished, b.inspector)
	}
}
