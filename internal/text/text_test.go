package text_test

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/breakerd/breakerd/internal/text"
)

func TestClip_IsShortAndPrintable(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("é", 65)
	for got, want := range map[string]string{
		text.Clip("a\x1b\nb", 9): "a��b", text.Clip(long, 64): long[:128] + "…", text.Clip(long, 65): long, text.Clip("ab", 1): "a…",
		text.Short(long): long[:128] + "…", text.Short("é"): "é",
		text.Quote("a\x1b\"\n"): `"a\x1b\"\n"`, text.Quote(long): `"` + long[:128] + `…"`,
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestLine_IsCutAtAWholeCharacter(t *testing.T) {
	t.Parallel()
	for got, want := range map[string]string{
		text.Line(" a\r\n\x1b[1mb\u2028c ", 20): "a [1mb c", text.Line("aéé", 4): "aé", text.Line("aéé", 5): "aéé", text.Line("", 4): "",
		text.Line("a\xff", 9): "a?",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestPrintable_BoundsBytesAndRefusesControls(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]bool{"": true, "é é": true, "ééé": false, "a\nb": false, "a\u2028": false, "a\u00a0": false} {
		if got := text.Printable(s, 5); got != want {
			t.Errorf("%q: %v", s, got)
		}
	}
}

// What a terminal, or who reads it, takes for something else: controls, also of C1; direction marks, blanks of no width,
// tags, soft hyphens; the separators of lines and paragraphs.
func TestText_HasNoControlsAndNoFormatCharacters(t *testing.T) {
	t.Parallel()
	n := 0
	for _, table := range []*unicode.RangeTable{unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp} {
		for r := range unicode.MaxRune + 1 {
			if !unicode.Is(table, r) {
				continue
			}
			n++
			s := "a" + string(r) + "b"
			if line, clip := text.Line(s, 9), text.Clip(s, 9); line != "a b" || clip != "a\ufffdb" {
				t.Errorf("%U: Line %q, Clip %q", r, line, clip)
			}
			if text.Printable(s, 9) || strings.ContainsRune(text.Quote(s), r) || strings.ContainsRune(text.Short(s), r) {
				t.Errorf("%U passes", r)
			}
		}
	}
	if n < 200 { // 65 of Cc, 170 of Cf, two separators
		t.Errorf("%d characters", n)
	}
}

// FuzzLine: whatever comes in, what goes out is bounded and printable.
func FuzzLine(f *testing.F) {
	f.Add("a\x1b\xff\u2028é", 3)
	f.Fuzz(func(t *testing.T, s string, most int) {
		most = max(0, min(most, 1000))
		line, clipped := text.Line(s, most), text.Clip(s, most)
		if len(line) > most || !utf8.ValidString(line) {
			t.Errorf("Line(%q, %d) = %q", s, most, line)
		}
		if n := utf8.RuneCountInString(clipped); n > most+1 {
			t.Errorf("Clip(%q, %d) = %q", s, most, clipped)
		}
		for _, out := range []string{line, clipped} {
			if strings.ContainsFunc(out, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("%q is not printable", out)
			}
		}
	})
}
