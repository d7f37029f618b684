package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"iter"
	"strings"
	"unicode/utf8"
)

// value is a JSON value and the line it begins in. Its text is known to be well-formed.
type value struct {
	data []byte
	line int
}

// whole takes a text that must be one JSON value; a byte order mark before it is allowed.
func whole(data []byte) (value, *Fault) {
	if bytes.HasPrefix(data, []byte{0xff, 0xfe}) || bytes.HasPrefix(data, []byte{0xfe, 0xff}) {
		return value{}, &Fault{Line: 1, Column: 1, Message: "the text is UTF-16: save it as UTF-8"}
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	if !utf8.Valid(data) {
		return value{}, faultAt(data, firstBad(data), "not UTF-8 text")
	}
	var all json.RawMessage // all of it is one value: what trails is an error
	err := json.Unmarshal(data, &all)
	if bad, is := errors.AsType[*json.SyntaxError](err); is {
		at := int(bad.Offset) - 1
		if strings.HasPrefix(bad.Error(), "unexpected end") {
			at = len(data)
		}
		return value{}, faultAt(data, at, bad.Error())
	}
	start := blanks(data)
	return value{data: data[start:], line: 1 + bytes.Count(data[:start], []byte("\n"))}, nil
}

// faultAt is a fault at a place in the text, whose column counts characters.
func faultAt(data []byte, at int, message string) *Fault {
	before := data[:max(0, min(at, len(data)))]
	row := before[bytes.LastIndexByte(before, '\n')+1:]
	return &Fault{Line: 1 + bytes.Count(before, []byte("\n")), Column: 1 + utf8.RuneCount(row), Message: message}
}

// firstBad is where text ceases to be UTF-8.
func firstBad(data []byte) (at int) {
	for at < len(data) {
		r, size := utf8.DecodeRune(data[at:])
		if r == utf8.RuneError && size == 1 {
			break
		}
		at += size
	}
	return at
}

// blanks is how many bytes stand before the next value or name.
func blanks(data []byte) int { return len(data) - len(bytes.TrimLeft(data, " \t\r\n:,")) }

// is says whether it is an object '{', an array '[', a text '"', a number '0', a boolean 't' or null 'n'.
func (v value) is(kind byte) bool { return v.kind() == kind }

func (v value) kind() byte {
	switch c := v.data[0]; c {
	case '{', '[', '"', 't', 'n':
		return c
	case 'f':
		return 't'
	}
	return '0'
}

// text is the content of a text.
func (v value) text() string {
	var s string
	_ = json.Unmarshal(v.data, &s) // well-formed, and its kind is known
	return s
}

// number is a number, a boolean or null as it is written.
func (v value) number() string { return strings.TrimSpace(string(v.data)) }

// show is the value in a message: short and printable.
func (v value) show() string {
	switch v.kind() {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return quote(v.text())
	}
	return clip(v.number())
}

// member is a value within another; in an object it has a name, the same as it is written, and the line of that.
type member struct {
	value

	name     string
	quoted   []byte
	nameLine int
}

// members are the values within an object or an array, in order.
func (v value) members() iter.Seq[member] {
	return func(yield func(member) bool) {
		dec := json.NewDecoder(bytes.NewReader(v.data))
		at, line := 0, v.line
		next := func() { // on to where the next value or name begins
			from := int(dec.InputOffset())
			line += bytes.Count(v.data[at:from], []byte("\n"))
			at = from + blanks(v.data[from:])
			line += bytes.Count(v.data[from:at], []byte("\n"))
		}
		_, _ = dec.Token()
		for dec.More() {
			var m member
			if next(); v.is('{') {
				token, _ := dec.Token()
				m.name, _ = token.(string)
				m.quoted, m.nameLine = v.data[at:dec.InputOffset()], line
				next()
			}
			var raw json.RawMessage
			if dec.Decode(&raw) != nil {
				return // cannot be: the whole is well-formed
			}
			if m.value = (value{data: raw, line: line}); !yield(m) {
				return
			}
		}
	}
}

// quote shows foreign text in a message.
func quote(text string) string { return `"` + clip(text) + `"` }
