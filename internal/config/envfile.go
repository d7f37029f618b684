package config

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"
)

// maxEnvFile bounds the size of ENV_FILE, in bytes.
const maxEnvFile = 1 << 20

// linePattern matches KEY=VALUE: the name, then a value in single quotes, in double quotes, or bare. A # begins a
// comment after a blank only.
var linePattern = regexp.MustCompile(`^(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*=` +
	`(?:[ \t]*'([^']*)'|[ \t]*"((?:[^"\\]|\\.)*)"|(?:[ \t]*([^'"# \t].*?)|(#.*?))?)` +
	`(?:[ \t]+#.*|[ \t]*)$`)

var errLine = errors.New("want KEY=VALUE in UTF-8; " +
	"a value that begins with a quote ends with the same quote, on the same line")

// line is one KEY=VALUE of an ENV_FILE; number counts lines from 1.
type line struct {
	name, text string
	number     int
}

// parseEnvFile reads the text of the file called path: comments, and KEY=VALUE lines with or without "export ". A bare
// value ends at " #". A value in 'single quotes' is taken as it is. One in "double quotes" may hold the escapes \n \r
// \t \" \\ \$. A $ is never expanded, for it may be part of a password. An error names file and line and shows nothing
// of the line, which may hold a secret. The good lines are returned beside the errors.
func parseEnvFile(path string, data []byte) (lines []line, errs []error) {
	unescape := strings.NewReplacer(`\n`, "\n", `\r`, "\r", `\t`, "\t", `\"`, `"`, `\\`, `\`, `\$`, `$`)
	text := strings.TrimPrefix(string(data), "\ufeff")
	for i, raw := range strings.Split(text, "\n") {
		raw = strings.TrimSpace(raw)
		if raw == "" || raw[0] == '#' {
			continue
		}
		m := linePattern.FindStringSubmatch(raw)
		if m == nil || strings.ContainsRune(raw, 0) || !utf8.ValidString(raw) {
			errs = append(errs, fmt.Errorf("%s: line %d: %w", path, i+1, errLine))
			continue
		}
		lines = append(lines, line{m[1], m[2] + unescape.Replace(m[3]) + m[4] + m[5], i + 1})
	}
	return lines, errs
}
