package breakerhttp

import (
	"bytes"
	"compress/gzip"
	"net/http"
	"strings"
	"testing"
)

func BenchmarkReading(b *testing.B) {
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, _ = w.Write([]byte(strings.Repeat(sse(openAIChunk), 100)))
	_ = w.Close()
	stream := []byte(sse(openAIChunk))
	for _, c := range []struct {
		name, kind, coding string
		parts              [][]byte
	}{
		{"document", asJSON, "", [][]byte{[]byte(rpcFine)}},
		{"stream of 100 events", asSSE, "", append(slicesOf(stream, 100), []byte("data: [DONE]\n\n"))},
		{"body of 32 KiB", "application/octet-stream", "", [][]byte{make([]byte, 32<<10)}},
		{"stream of 100 events, gzip", asSSE, "gzip", [][]byte{packed.Bytes()}},
	} {
		for _, by := range []BodyClassifier{StatusOnly, MCP, LLM, Auto} {
			b.Run(c.name+"/"+string(by), func(b *testing.B) {
				resp := &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {c.kind}}}
				if c.coding != "" {
					resp.Header.Set("Content-Encoding", c.coding)
				}
				b.ReportAllocs()
				for b.Loop() {
					r := newReading(by, Statuses{}, resp)
					for _, part := range c.parts {
						r.read(part)
					}
					r.finish()
				}
			})
		}
	}
}

func slicesOf(part []byte, n int) (parts [][]byte) {
	for range n {
		parts = append(parts, part)
	}
	return parts
}

// A body that nobody looks into costs one allocation, and its parts none.
func TestReading_OfOpaqueBodyIsCheap(t *testing.T) { //nolint:paralleltest // AllocsPerRun counts those of all tests
	resp := &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json; charset=utf-8"}}}
	part := []byte("{}")
	if n := testing.AllocsPerRun(1000, func() {
		r := newReading(StatusOnly, Statuses{}, resp)
		r.read(part)
		r.finish()
	}); n > 1 {
		t.Errorf("%v allocations", n)
	}
}
