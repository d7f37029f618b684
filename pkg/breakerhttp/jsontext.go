package breakerhttp

import (
	"bytes"
	"encoding/json"
	"iter"
	"strconv"
)

// These walk a JSON text without a copy of it. The text must be valid, as json.Valid says, and without space around it.

// members yields the members of an object: each name, and the text of its value. Other texts have none. It is short
// enough to be inlined, so that a range over it allocates nothing.
func members(text []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func([]byte, []byte) bool) { walkMembers(text, yield) }
}

// elements yields the elements of an array. Other texts have none.
func elements(text []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) { walkElements(text, yield) }
}

// messages yields the elements of an array, or the text itself.
func messages(text []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		if isArray(text) {
			walkElements(text, yield)
		} else {
			yield(text)
		}
	}
}

// member is the value of an object's member; nil if there is none. Of several, the last counts.
func member(text []byte, name string) (value []byte) {
	for n, v := range members(text) {
		if string(n) == name {
			value = v
		}
	}
	return value
}

// stringOf is the value of a string; "" of other texts.
func stringOf(text []byte) string {
	if !isString(text) {
		return ""
	}
	return string(unquote(text))
}

// numberOf is the value of a number.
func numberOf(text []byte) (n float64, ok bool) {
	if len(text) == 0 || text[0] != '-' && (text[0] < '0' || text[0] > '9') {
		return 0, false
	}
	n, err := strconv.ParseFloat(string(text), 64)
	return n, err == nil
}

func isObject(text []byte) bool { return len(text) > 0 && text[0] == '{' }
func isArray(text []byte) bool  { return len(text) > 0 && text[0] == '[' }
func isString(text []byte) bool { return len(text) > 0 && text[0] == '"' }
func isBool(text []byte) bool   { return string(text) == "true" || string(text) == "false" }

func walkMembers(text []byte, yield func(name, value []byte) bool) {
	if !isObject(text) {
		return
	}
	for i := skipSpace(text, 1); text[i] != '}'; i = next(text, i) {
		nameEnd := stringEnd(text, i)
		colon := skipSpace(text, nameEnd)
		from := skipSpace(text, colon+1)
		end := valueEnd(text, from)
		if !yield(unquote(text[i:nameEnd]), text[from:end]) {
			return
		}
		i = end
	}
}

func walkElements(text []byte, yield func(value []byte) bool) {
	if !isArray(text) {
		return
	}
	for i := skipSpace(text, 1); text[i] != ']'; i = next(text, i) {
		end := valueEnd(text, i)
		if !yield(text[i:end]) {
			return
		}
		i = end
	}
}

// next returns where, behind a value that ends at i, the next one begins, or what holds them ends.
func next(text []byte, i int) int {
	if i = skipSpace(text, i); text[i] == ',' {
		return skipSpace(text, i+1)
	}
	return i
}

func skipSpace(text []byte, i int) int {
	for text[i] == ' ' || text[i] == '\n' || text[i] == '\r' || text[i] == '\t' {
		i++
	}
	return i
}

// valueEnd returns where the value that begins at i ends.
func valueEnd(text []byte, i int) int {
	depth := 0
	for ; i < len(text); i++ {
		switch text[i] {
		case '"':
			i = stringEnd(text, i) - 1
		case '{', '[':
			depth++
			continue
		case '}', ']':
			if depth == 0 { // of what holds a number or a word
				return i
			}
			depth--
		case ',', ' ', '\n', '\r', '\t':
			if depth == 0 {
				return i
			}
			continue
		default:
			continue
		}
		if depth == 0 {
			return i + 1
		}
	}
	return i
}

// stringEnd returns where the string that begins at i ends.
func stringEnd(text []byte, i int) int {
	for i++; text[i] != '"'; i++ {
		if text[i] == '\\' {
			i++
		}
	}
	return i + 1
}

// unquote is the value of a string; a part of text if it has no escapes.
func unquote(text []byte) []byte {
	if bytes.IndexByte(text, '\\') < 0 {
		return text[1 : len(text)-1]
	}
	var s string
	_ = json.Unmarshal(text, &s) // it is valid
	return []byte(s)
}
