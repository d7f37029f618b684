package breakerhttp

import (
	"strings"
	"testing"
)

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
		"data: {}\n\n", "data: x\r\ndata: y\r\r\n\n", "\ufeffdata\n\n:\n", "data:\r", "\r\n\r\n", "event: a\rdata:  b\r\n\r\n",
	} {
		f.Add(text, 3, 7)
	}
	f.Fuzz(func(t *testing.T, text string, one, two int) {
		if len(text) > maxMessage {
			return
		}
		one, two = cut(one, len(text)), cut(two, len(text))
		var got []string
		e := &eventLexer{limit: maxMessage, show: func(m message) bool { got = append(got, string(m.text)); return true }}
		one, two = min(one, two), max(one, two)
		for _, part := range []string{text[:one], text[one:two], text[two:]} {
			e.read([]byte(part))
		}
		e.finish()
		same(t, nonEmpty(got), nonEmpty(plainEvents(text)))
	})
}

func cut(at, length int) int { return int(uint(at) % uint(length+1)) }

// nonEmpty drops events without data: every empty line is one to plainEvents.
func nonEmpty(all []string) (some []string) {
	for _, s := range all {
		if strings.Trim(s, "\n") != "" {
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
