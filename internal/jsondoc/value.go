package jsondoc

import (
	"bytes"
	"iter"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/breakerd/breakerd/internal/text"
)

// Value is one value of a Doc, or a name.
type Value struct {
	d       *Doc
	at, end int // its bytes; in check, of an array or object, those of its bracket
}

// Kind is the kind of a value.
type Kind byte

// The kinds.
const (
	Object  Kind = '{'
	Array   Kind = '['
	Text    Kind = '"'
	Number  Kind = '0'
	Boolean Kind = 't'
	Null    Kind = 'n'
)

// String is the kind in words.
func (k Kind) String() string {
	switch k {
	case Object:
		return "an object"
	case Array:
		return "an array"
	case Text:
		return "text"
	case Boolean:
		return "a boolean"
	case Null:
		return "null"
	}
	return "a number"
}

// Root is the whole text, if Parse was ok.
func (d *Doc) Root() Value {
	return Value{d, d.skip(0), len(bytes.TrimRight(d.text, blank))}
}

// Kind is the value's kind.
func (v Value) Kind() Kind {
	switch c := v.d.text[v.at]; c {
	case '{', '[', '"', 't', 'n':
		return Kind(c)
	case 'f':
		return Boolean
	}
	return Number
}

// Raw is the value in JSON, as it is in the text.
func (v Value) Raw() string { return string(v.d.text[v.at:v.end]) }

// Text is the content of a text; "" for another value.
func (v Value) Text() string {
	if v.Kind() != Text {
		return ""
	}
	plain, _ := jsontext.AppendUnquote(nil, v.d.text[v.at:v.end]) // it is well-formed
	return string(plain)
}

// Show is the value as a message shows it.
func (v Value) Show() string {
	switch v.Kind() {
	case Object, Array:
		return v.Kind().String()
	case Text:
		return text.Quote(v.Text())
	default:
		return text.Short(v.Raw())
	}
}

// Line is the line on which the value begins, from 1.
func (v Value) Line() int { return 1 + bytes.Count(v.d.text[:v.at], []byte("\n")) }

// Member is a field of an object, or an item of an array, which has no name.
type Member struct {
	Value

	Name  string
	Key   Value // the name, for faults; in an array the value
	Twice bool  // the object has the name before; only with Free
}

// Members are the fields of an object, or the items of an array; another value has none. Except with Free, only the
// first field of a name is a member.
func (v Value) Members() iter.Seq[Member] {
	return func(yield func(Member) bool) {
		kind := v.Kind()
		if kind != Object && kind != Array {
			return
		}
		dec, seen := v.d.decoder(v.at, v.end), map[string]bool{}
		_, _ = dec.ReadToken() // its bracket
		for dec.PeekKind() != '}' && dec.PeekKind() != ']' {
			m := Member{Key: v.next(dec)}
			if m.Value = m.Key; kind == Object {
				m.Name, m.Value = m.Key.Text(), v.next(dec)
				key := v.d.o.Names.key(m.Name)
				m.Twice, seen[key] = seen[key], true
			}
			if (!m.Twice || v.d.o.Names == Free) && !yield(m) {
				return
			}
		}
	}
}

// next is the next value of dec, a decoder of v.
func (v Value) next(dec *jsontext.Decoder) Value {
	raw, _ := dec.ReadValue() // it was checked
	end := v.at + int(dec.InputOffset())
	return Value{v.d, end - len(raw), end}
}

// Leaves are the values within v that are no arrays and no objects, in the order of the text.
func (v Value) Leaves() iter.Seq[Value] {
	return func(yield func(Value) bool) {
		dec := v.d.decoder(v.at, v.end)
		for {
			within, n := dec.StackIndex(dec.StackDepth())
			switch kind := dec.PeekKind(); {
			case kind == jsontext.KindInvalid: // the end
				return
			case strings.IndexByte("{}[]", byte(kind)) >= 0, within == '{' && n%2 == 0:
				_, _ = dec.ReadToken() // it was checked
			default:
				if !yield(v.next(dec)) {
					return
				}
			}
		}
	}
}
