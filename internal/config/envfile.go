package config

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"
)

// maxEnvFile bounds the size of ENV_FILE, in bytes.
const maxEnvFile = 1 << 20

var namePattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// line is one KEY=VALUE of an ENV_FILE, number its place in the file, from 1.
type line struct {
	name, text string
	number     int
}

// parseEnvFile reads the text of the file called path: KEY=VALUE lines, with or without "export ", comments, values bare
// (up to " #"), in 'single quotes' (as they are) or in "double quotes" (\n \r \t \" \\ \$). A $ is never expanded: it is
// part of a password, and nothing but the file decides what the file says. Every broken line is an error that names file
// and number, and shows nothing of the line, which may hold a secret; the other lines are returned all the same.
func parseEnvFile(path string, data []byte) (lines []line, errs []error) {
	if bytes.HasPrefix(data, []byte{0xff, 0xfe}) || bytes.HasPrefix(data, []byte{0xfe, 0xff}) {
		return nil, []error{fmt.Errorf("%s: line 1: the file is UTF-16: save it as UTF-8", path)}
	}
	text := strings.TrimPrefix(string(data), "\ufeff")
	for i, raw := range strings.Split(text, "\n") {
		l, err := parseLine(strings.TrimSpace(raw))
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("%s: line %d: %w", path, i+1, err))
		case l.name != "":
			l.number = i + 1
			lines = append(lines, l)
		}
	}
	return lines, errs
}

// parseLine reads one line; a blank one and a comment have no name.
func parseLine(raw string) (line, error) {
	if raw == "" || raw[0] == '#' {
		return line{}, nil
	}
	if strings.ContainsRune(raw, 0) || !utf8.ValidString(raw) {
		return line{}, errors.New("not UTF-8 text")
	}
	if rest, ok := strings.CutPrefix(raw, "export"); ok && strings.TrimLeft(rest, " \t") != rest {
		raw = strings.TrimLeft(rest, " \t")
	}
	name, rest, ok := strings.Cut(raw, "=")
	name = strings.TrimRight(name, " \t")
	switch {
	case !ok:
		return line{}, errors.New("no '=': want KEY=VALUE")
	case !namePattern.MatchString(name):
		return line{}, errors.New("what stands before the '=' is no name: want letters, digits and _")
	}
	text, err := parseValue(rest)
	if err != nil {
		return line{}, fmt.Errorf("%s: %w", name, err)
	}
	return line{name: name, text: text}, nil
}

func parseValue(rest string) (string, error) {
	value := strings.TrimLeft(rest, " \t")
	var end int
	switch {
	case strings.HasPrefix(value, "'"):
		end = 1 + strings.IndexByte(value[1:], '\'')
	case strings.HasPrefix(value, `"`):
		end = closingQuote(value)
	default:
		return bareValue(rest), nil
	}
	if end <= 0 {
		return "", errors.New("the quote is not closed on the same line")
	}
	after := strings.TrimLeft(value[end+1:], " \t")
	switch {
	case after != "" && (after[0] != '#' || after == value[end+1:]):
		return "", errors.New("text after the closing quote")
	case value[0] == '"':
		unescape := strings.NewReplacer(`\n`, "\n", `\r`, "\r", `\t`, "\t", `\"`, `"`, `\\`, `\`, `\$`, `$`)
		return unescape.Replace(value[1:end]), nil
	}
	return value[1:end], nil
}

// closingQuote is the place of the double quote that ends value, 0 if none does.
func closingQuote(value string) int {
	for i := 1; i < len(value); i++ {
		switch value[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return 0
}

// bareValue ends at a # that follows a blank.
func bareValue(rest string) string {
	for i := 1; i < len(rest); i++ {
		if rest[i] == '#' && (rest[i-1] == ' ' || rest[i-1] == '\t') {
			rest = rest[:i]
			break
		}
	}
	return strings.TrimSpace(rest)
}
