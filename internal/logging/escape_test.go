package logging

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"unicode"
)

// hostile are texts that a terminal, or who reads it, would take for something else.
func hostile() []string {
	return []string{
		"a\x1b[31mred", `a \x1b[31mred`, `"quoted \x1b]0;title\x07"`, "a\x9b31m", "a\x7f", "a\r\nlevel=ERROR", "a\u0085b", "a \u009b31m",
		"a \u2028line", "a \u2029b", "a \u202eltr", "a\u2066b", "a\u200bb", "a\u200d b", "a\ufeffb", "a\u00adb", "a\U000e0001b", "a \U000e0041b", "a\ufff9b", "a\xff\x1b",
	}
}

// onTerminal are the characters of a log that a terminal would not show as they are, colours of our own aside.
func onTerminal(log string) []rune {
	for _, colour := range []string{"\x1b[0m", "\x1b[2m", "\x1b[22m", "\x1b[91m", "\x1b[92m", "\x1b[93m", "\x1b[2;91m", "\x1b[22;91m"} {
		log = strings.ReplaceAll(log, colour, "")
	}
	var bad []rune
	for _, r := range strings.TrimSuffix(log, "\n") {
		if !unicode.IsPrint(r) {
			bad = append(bad, r)
		}
	}
	return bad
}

func TestLogger_TerminalsGetNothingUnprintable(t *testing.T) { //nolint:paralleltest // it sets NO_COLOR
	for _, noColour := range []string{"", "1"} {
		t.Setenv("NO_COLOR", noColour)
		for _, format := range []string{"auto", "json", "text"} {
			for _, s := range hostile() {
				var out bytes.Buffer
				l := newLogger(&out, slog.LevelDebug, format, true)
				l.With("with", s).WithGroup("g").Error("hello", "text", s, "error", errors.New(s), "list", []string{s}, slog.Group("in", "group", s))
				slog.NewLogLogger(l.Handler(), slog.LevelError).Print("http: " + s)
				for line := range strings.Lines(out.String()) {
					if bad := onTerminal(line); len(bad) > 0 {
						t.Errorf("%s, NO_COLOR=%s: %q: %q in %q", format, noColour, s, bad, line)
					}
				}
				if n := strings.Count(out.String(), "\n"); n != 2 {
					t.Errorf("%s: %q: %d lines: %q", format, s, n, out.String())
				}
			}
		}
	}
}

// In JSON nothing is lost.
func TestLogger_JSONSaysWhatWasSaid(t *testing.T) {
	t.Parallel()
	for _, s := range append(hostile(), "é 語 😀 plain", "") {
		var out bytes.Buffer
		newLogger(&out, slog.LevelInfo, "json", false).Info("hello", "text", s)
		var line struct {
			Text string `json:"text"`
		}
		if err := json.Unmarshal(out.Bytes(), &line); err != nil || line.Text != strings.ToValidUTF8(s, "\ufffd") {
			t.Errorf("%q became %q, %v", s, line.Text, err)
		}
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("full") }

func TestEscaping_CountsWhatItWasGiven(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"plain\n", "\"\u202e\"\n", "\U000e0001", ""} {
		if n, err := (escaping{&bytes.Buffer{}}).Write([]byte(s)); n != len(s) || err != nil {
			t.Errorf("%q: %d, %v", s, n, err)
		}
		if n, err := (escaping{failing{}}).Write([]byte(s)); n != 0 || err == nil {
			t.Errorf("%q: %d, %v", s, n, err)
		}
	}
}
