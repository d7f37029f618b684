package breakerhttp

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"strings"
	"testing"
)

func gzipped(t *testing.T, parts ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	for _, part := range parts { // each a member
		w := gzip.NewWriter(&b)
		_, _ = io.WriteString(w, part)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

func compressed(c BodyClassifier, kind, coding string) *reading {
	h := http.Header{"Content-Type": {kind}, "Content-Encoding": {coding}}
	return newReading(c, Statuses{}, &http.Response{Header: h})
}

func TestReading_JudgesACompressedEventWhenItHasPassed(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	r := compressed(LLM, asSSE, "GZIP")
	send := func(text string) (data bool) {
		_, _ = io.WriteString(w, text)
		_ = w.Flush()
		defer b.Reset()
		return r.read(b.Bytes())
	}
	if send(": ping\n\n") || r.flowing() {
		t.Error("a comment is data")
	}
	if !send(sse(openAIChunk)) || !r.flowing() {
		t.Error("an event is no data")
	}
	send(sse(`{"error":{"code":503}}`))
	if o, ok := r.found(); !ok || o.Class != "llm_error_503" {
		t.Errorf("found %+v", o)
	}
	r.release()
}

func TestReading_LeavesToTheStatusWhatItCannotDecode(t *testing.T) {
	t.Parallel()
	failing := sse(`{"error":{"code":503}}`)
	whole := string(gzipped(t, failing))
	for _, c := range []struct {
		name, coding, body, want string
		flows                    bool
	}{
		{"unknown coding", "br", failing, "", true},
		{"two codings", "gzip, deflate", whole, "", true},
		{"not compressed", "gzip", failing, "", true},
		{"not compressed, deflate", "deflate", failing, "", true},
		{"identity", "identity", failing, "failure llm_error_503", false},
		{"old name", "x-gzip", whole, "failure llm_error_503", false},
		{"bad checksum", "gzip", whole[:len(whole)-5] + "xxxxx", "failure llm_error_503", false},
		{"cut", "gzip", whole[:len(whole)-12], "failure llm_error_503", false},
		{"only a header", "gzip", whole[:10], "failure incomplete_stream", false},
		{"members", "gzip", string(gzipped(t, sse(openAIChunk), "", failing)), "failure llm_error_503", false},
		{"garbage behind", "gzip", string(gzipped(t, sse(openAIChunk))) + "much garbage", "", true},
		{"deflate, more behind", "deflate", compressions(t, sse(openAIChunk))["deflate"] + "more", "failure incomplete_stream", true},
		{"nothing", "gzip", "", "failure incomplete_stream", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for _, parts := range [][]string{{c.body}, strings.Split(c.body, "")} {
				if c.coding == "br" && len(parts) > 1 {
					continue
				}
				h := http.Header{"Content-Type": {asSSE}, "Content-Encoding": {c.coding}}
				if got, flows := verdict(LLM, h, parts...); got != c.want || c.name != "cut" && c.name != "bad checksum" && flows != c.flows {
					t.Errorf("%d parts: %q, flows %v; want %q, %v", len(parts), got, flows, c.want, c.flows)
				}
			}
		})
	}
}

func TestReading_StatusOnlyDecodesNothing(t *testing.T) {
	t.Parallel()
	r := compressed(StatusOnly, asSSE, "gzip")
	if r.decoder != nil || !r.read([]byte("x")) || !r.flowing() {
		t.Error("looks into the body")
	}
}

// A bomb is left to the status once it has grown too much.
func TestDecoder_BoundsWhatABodyGrowsTo(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{asJSON, asSSE, asLines} {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		zeros := []byte(strings.Repeat("data: 0\n", 1<<17))
		for range 8 {
			_, _ = w.Write(zeros)
		}
		_ = w.Close()
		r := compressed(LLM, kind, "gzip")
		d := r.decoder
		for part := range bytesIn(b.Bytes(), 32<<10) {
			r.read(part)
		}
		if most := freeOutput + maxRatio*d.taken + 4<<10; d.given > most || r.decoder != nil {
			t.Errorf("%s: %d bytes of %d", kind, d.given, d.taken)
		}
		if r.finish(); described(r) != "" || !r.flowing() {
			t.Errorf("%s: %s, flows %v", kind, described(r), r.flowing())
		}
	}
}

func bytesIn(text []byte, size int) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(text) > 0 {
			n := min(size, len(text))
			if !yield(text[:n]) {
				return
			}
			text = text[n:]
		}
	}
}

// goleak, in TestMain, would find a coroutine that waits for ever.
func TestReading_ReleaseEndsTheDecoder(t *testing.T) {
	t.Parallel()
	body := gzipped(t, sse(openAIChunk))
	for _, end := range []func(*reading){(*reading).finish, (*reading).release} {
		for _, coding := range []string{"gzip", "deflate"} {
			for n := range 30 {
				r := compressed(LLM, asSSE, coding)
				r.read(body[:n])
				end(r)
				end(r)
				if r.decoder != nil {
					t.Fatal("the decoder is kept")
				}
			}
		}
	}
}

func TestReading_ReleaseJudgesADocumentThatIsWhole(t *testing.T) {
	t.Parallel()
	for _, h := range []http.Header{{}, {"Content-Encoding": {"gzip"}}} {
		h.Set("Content-Type", asJSON)
		for text, want := range map[string]string{rpcBroken: "failure jsonrpc_error", rpcCaller: "ignored jsonrpc_error", rpcBroken[:30]: ""} {
			r := newReading(JSONRPC, Statuses{}, &http.Response{Header: h})
			body := []byte(text)
			if r.decoder != nil {
				body = gzipped(t, text)
				body = body[:len(body)-8] // its reader has not asked for the checksum
			}
			r.read(body)
			if r.release(); described(r) != want {
				t.Errorf("%v: %q, want %q", h, described(r), want)
			}
		}
	}
	r := newReading(LLM, Statuses{}, &http.Response{Header: http.Header{"Content-Type": {asSSE}}})
	r.read([]byte(sse(openAIChunk)))
	if r.release(); described(r) != "" {
		t.Errorf("a stream that was closed early: %q", described(r))
	}
}

func TestBodyClassifier_NarrowsAcceptEncoding(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		by       BodyClassifier
		asks     []string
		wantSent string
	}{
		{MCP, nil, ""},
		{MCP, []string{"gzip, deflate, br, zstd"}, "gzip, deflate"},
		{LLM, []string{"gzip;q=0.5", "BR", "Identity ; q=0.1"}, "gzip;q=0.5, Identity ; q=0.1"},
		{Auto, []string{"br"}, "identity"},
		{Auto, []string{""}, "identity"},
		{JSONRPC, []string{"*"}, "identity"},
		{MCPStrict, []string{"x-gzip, *;q=0.3"}, "x-gzip"},
		{MCP, []string{"gzip, identity;q=0"}, "gzip, identity;q=0"},
		{MCP, []string{"gzip, *; q=0.000"}, "gzip, *; q=0.000"},
		{MCP, []string{"gzip, *;q=0.001"}, "gzip"},
		{GRPC, []string{"br"}, "br"},
		{StatusOnly, []string{"br"}, "br"},
		{"", []string{"br", "zstd"}, "br, zstd"},
	} {
		h := http.Header{}
		if c.asks != nil {
			h["Accept-Encoding"] = c.asks
		}
		c.by.acceptEncoding(h)
		if got := strings.Join(h["Accept-Encoding"], ", "); got != c.wantSent {
			t.Errorf("%s: %q becomes %q, want %q", c.by, c.asks, got, c.wantSent)
		}
	}
}
