// Package text makes text from outside fit for an error, an answer or a log line: short, printable, on one line.
package text

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxShort bounds Short and Quote, in characters.
const maxShort = 64

// Short is s as a message shows a name or a value: at most 64 characters, all printable.
func Short(s string) string { return Clip(s, maxShort) }

// Clip cuts s to most characters, marks the cut with "…", and replaces what is not printable by U+FFFD.
func Clip(s string, most int) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return utf8.RuneError
	}, cut(s, most))
}

// Quote is s cut to 64 characters, in quotes, with escapes for what is not printable.
func Quote(s string) string { return strconv.Quote(cut(s, maxShort)) }

func cut(s string, most int) string {
	n := 0
	for i := range s {
		if n == most {
			return s[:i] + "…"
		}
		n++
	}
	return s
}

// Line returns s as one line of at most most bytes. Each run of blanks and unprintable characters becomes one space,
// and no character is cut in two. Line is for text that is stored: [Clip] may make a text longer.
func Line(s string, most int) string {
	words := strings.FieldsFunc(s[:min(len(s), 4*most)], func(r rune) bool { return r == ' ' || !unicode.IsPrint(r) })
	if s = strings.ToValidUTF8(strings.Join(words, " "), "?"); len(s) > most {
		s = strings.ToValidUTF8(s[:most], "")
	}
	return strings.TrimSpace(s)
}

// Printable reports whether s is at most most bytes of printable text.
func Printable(s string, most int) bool {
	return len(s) <= most && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// Edits is the Levenshtein distance in bytes.
func Edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
