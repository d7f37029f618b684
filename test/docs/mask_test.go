package docs

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"regexp"
	"strings"
	"testing"
)

// volatile are the parts that differ from run to run, and what replaces them before a comparison.
var volatile = []struct {
	pattern *regexp.Regexp
	stand   string
}{
	{regexp.MustCompile(`\b[0-9a-f]{16}\b`), "<16 hex>"},
	{regexp.MustCompile(`\b[0-9a-f]{32}\b`), "<32 hex>"},
	{regexp.MustCompile(`\b20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ`), "<time>"},
	{regexp.MustCompile(`(?m)^(Date|Content-Length): .*$`), "$1: <any>"},
	{regexp.MustCompile(`\b([sfw]?)1\d{12}\b`), "$1<ms>"},
	{regexp.MustCompile(`\b1\d{9}(\.\d{3})?\b`), "<s>"},
	{regexp.MustCompile(`("retry_after_seconds": ?|Retry-After: )\d+`), "$1<seconds>"},
	{regexp.MustCompile(`try again in \d+ s`), "try again in <seconds> s"},
	{regexp.MustCompile(`("version": ?|"replica_id": ?|"replica": ?)"[^"]*"`), `$1"<any>"`},
	{regexp.MustCompile(`("latency_ms": ?|"uptime_seconds": ?)[0-9.e-]+`), "$1<any>"},
}

// same compares what a document shows with what was printed.
func same(lang, shown, printed string) bool {
	if lang == "json" {
		a, errA := compact(shown)
		b, errB := compact(printed)
		return errA == nil && errB == nil && mask(a) == mask(b)
	}
	return mask(shown) == mask(printed)
}

func mask(text string) string {
	text = strings.TrimSpace(strings.ReplaceAll(text, "\r", ""))
	for _, v := range volatile {
		text = v.pattern.ReplaceAllString(text, v.stand)
	}
	return text
}

// compact writes a stream of JSON values one a line, with sorted names.
func compact(text string) (string, error) {
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	for {
		var v any
		err := dec.Decode(&v)
		if errors.Is(err, io.EOF) {
			return out.String(), nil
		}
		if err == nil {
			err = enc.Encode(v)
		}
		if err != nil {
			return "", err
		}
	}
}

func TestSame_OnlyVolatilePartsMayDiffer(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		lang, a, b string
		want       bool
	}{
		{"json", `{"epoch":"0123456789abcdef","n":1}`, "{ \"n\": 1,\n\"epoch\":\"fedcba9876543210\" }\n", true},
		{"json", `{"n":1}`, `{"n":2}`, false},
		{"json", `{"n":1}`, `{"n":1} {"n":1}`, false},
		{"json", `{"at":"2026-02-11T09:00:00Z"}`, `{"at":null}`, false},
		{"json", `not JSON`, `not JSON`, false},
		{"text", "Retry-After: 60\nX: a", "Retry-After: 59\r\nX: a\r\n", true},
		{"text", "X: a", "X: b", false},
		{"text", "s1767225600000 3", "s1767225610000 3", true},
		{"text", "s1767225600000 3", "f1767225610000 3", false},
	} {
		if got := same(c.lang, c.a, c.b); got != c.want {
			t.Errorf("%s: %q and %q: same %v, want %v", c.lang, c.a, c.b, got, c.want)
		}
	}
}
