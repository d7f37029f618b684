package logging

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"math"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/breakerd/breakerd/internal/text"
)

// escaping is a writer of lines in which every character that is not printable is escaped as in JSON: a terminal would
// act on it. A line of slog's JSON has such characters in strings alone, so it says the same as before. One of slog's
// text has none but DEL, which is not quoted there.
type escaping struct{ io.Writer }

// Write implements [io.Writer].
func (w escaping) Write(line []byte) (int, error) {
	body, end := bytes.CutSuffix(line, []byte("\n"))
	if bytes.IndexFunc(body, unprintable) < 0 {
		return w.Writer.Write(line)
	}
	out := make([]byte, 0, 2*len(line))
	for len(body) > 0 {
		r, size := utf8.DecodeRune(body)
		switch {
		case !unprintable(r):
			out = append(out, body[:size]...)
		case r > 0xffff:
			r -= 0x10000
			out = fmt.Appendf(out, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
		body = body[size:]
	}
	if end {
		out = append(out, '\n')
	}
	if _, err := w.Writer.Write(out); err != nil {
		return 0, err
	}
	return len(line), nil
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) }

// withoutEscapes keeps from tint what it would write as it is: DEL; where it has colours, escape sequences, and the
// text \x1b as if it were one; and whatever a message holds, which in those of net/http may be text from outside.
func withoutEscapes(_ []string, a slog.Attr) slog.Attr {
	var s string
	switch a.Value.Kind() {
	case slog.KindString:
		s = a.Value.String()
	case slog.KindAny:
		s = fmt.Sprintf("%+v", a.Value.Any())
	default:
		return a
	}
	plain := strings.NewReplacer("\x1b", "\ufffd", "\x7f", "\ufffd", `\x1b`, `\u001b`).Replace(s)
	if a.Key == slog.MessageKey {
		plain = text.Clip(plain, math.MaxInt)
	}
	if plain != s {
		a.Value = slog.StringValue(plain)
	}
	return a
}
