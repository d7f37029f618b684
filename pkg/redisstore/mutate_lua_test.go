//go:build mutate

package redisstore_test

import (
	"fmt"
	"strconv"
	"strings"
)

// token is one word of Lua. A string is one; a comment is none.
type token struct {
	text  string
	start int
}

// luaTokens takes Lua apart. It knows the subset that lua/*.lua is written in: no long strings, no long comments.
func luaTokens(src string) []token {
	var out []token
	for i := 0; i < len(src); {
		n := tokenLength(src[i:])
		if t := src[i : i+n]; strings.TrimSpace(t) != "" && !strings.HasPrefix(t, "--") {
			out = append(out, token{t, i})
		}
		i += n
	}
	return out
}

func tokenLength(s string) int {
	word := func(c byte) bool {
		return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
	}
	run := func(more func(byte) bool) int {
		n := 1
		for n < len(s) && more(s[n]) {
			n++
		}
		return n
	}
	switch c := s[0]; {
	case strings.HasPrefix(s, "--"):
		return run(func(c byte) bool { return c != '\n' })
	case c == '\'' || c == '"':
		n := 1
		for n < len(s) && s[n] != c {
			if s[n] == '\\' {
				n++
			}
			n++
		}
		return n + 1
	case word(c):
		return run(word)
	}
	for _, op := range []string{"...", "..", "==", "~=", "<=", ">="} {
		if strings.HasPrefix(s, op) {
			return len(op)
		}
	}
	return 1
}

// mutant is one small fault in one script file.
type mutant struct {
	file string
	key  string // its name: the text of its line, so that lines may move
	text string // the whole file with the fault
}

// mutants lists every fault of one file.
func mutants(file, src string) []mutant {
	var out []mutant
	tokens := luaTokens(src)
	keys := newLineKeys(src)
	for i, t := range tokens {
		for _, to := range replacements(tokens, i) {
			text := src[:t.start] + to + src[t.start+len(t.text):]
			out = append(out, mutant{file, file + " | " + keys.at(t) + " -> " + to, text})
		}
	}
	return out
}

// replacements are the faults that the i-th token may suffer.
func replacements(tokens []token, i int) []string {
	t := tokens[i].text
	next := ""
	if i+1 < len(tokens) {
		next = tokens[i+1].text
	}
	switch t {
	case "<", ">", "<=", ">=":
		flipped := map[string]string{"<": ">=", ">": "<=", "<=": ">", ">=": "<"}[t]
		shifted := map[string]string{"<": "<=", ">": ">=", "<=": "<", ">=": ">"}[t]
		out := []string{flipped, shifted}
		// With whole numbers, a shift is a step of the right operand. A literal has mutants of its own.
		if _, err := strconv.Atoi(next); err != nil {
			out = append(out, map[string]string{"<": "< -1 +", ">": "> 1 +", "<=": "<= 1 +", ">=": ">= -1 +"}[t])
		}
		return out
	case "==":
		return []string{"~="}
	case "~=":
		return []string{"=="}
	case "and":
		return []string{"or"}
	case "or":
		return []string{"and"}
	case "heal_and":
		if next == "(" && i > 0 && tokens[i-1].text != "function" {
			return []string{"tostring"} // takes anything, does nothing
		}
	case "call", "pcall":
		if isWrite(tokens, i) {
			return []string{"breakpoint"} // outside the debugger: takes anything, does nothing, answers false
		}
	}
	if n, err := strconv.Atoi(t); err == nil {
		return []string{strconv.Itoa(n + 1), fmt.Sprintf("(%d)", n-1)}
	}
	return nil
}

// isWrite says whether the i-th token is the call of redis.call('SET', … and its like.
func isWrite(tokens []token, i int) bool {
	if i < 2 || i+2 >= len(tokens) || tokens[i-1].text != "." || tokens[i-2].text != "redis" {
		return false
	}
	switch strings.Trim(tokens[i+2].text, "'") {
	case "SET", "HSET", "HINCRBY", "HDEL", "DEL", "UNLINK", "PEXPIRE", "PEXPIREAT", "PERSIST", "LPUSH", "LTRIM", "PUBLISH":
		return true
	}
	return false
}

// lineKeys names a token by its line's text and its number there; the second line of the same text is marked "~2".
type lineKeys struct {
	src   string
	names map[int]string // start of the line -> name
}

func newLineKeys(src string) lineKeys {
	k := lineKeys{src, map[int]string{}}
	seen := map[string]int{}
	start := 0
	for line := range strings.Lines(src) {
		name := strings.TrimSpace(line)
		seen[name]++
		if n := seen[name]; n > 1 {
			name += fmt.Sprintf(" ~%d", n)
		}
		k.names[start] = name
		start += len(line)
	}
	return k
}

func (k lineKeys) at(t token) string {
	start := strings.LastIndexByte(k.src[:t.start], '\n') + 1
	nth := 1
	for _, before := range luaTokens(k.src[start:t.start]) {
		if before.text == t.text {
			nth++
		}
	}
	return fmt.Sprintf("%s | %s#%d", k.names[start], t.text, nth)
}
