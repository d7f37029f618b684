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
	at, end int // its bytes; of an array or object that is being read, of its bracket
}

// Kind is what a value is, by the first byte of its kind.
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

// String says in words what a value of the kind is.
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

// Root is the whole. It is there if Parse said ok.
func (d *Doc) Root() Value {
	return Value{d, d.skip(0), len(bytes.TrimRight(d.text, blank))}
}

// Kind is what the value is.
func (v Value) Kind() Kind {
	switch c := v.d.text[v.at]; c {
	case '{', '[', '"', 't', 'n':
		return Kind(c)
	case 'f':
		return Boolean
	}
	return Number
}

// Raw is the value as it is written.
func (v Value) Raw() string { return string(v.d.text[v.at:v.end]) }

// Text is the content of a text; "" of another value.
func (v Value) Text() string {
	if v.Kind() != Text {
		return ""
	}
	plain, _ := jsontext.AppendUnquote(nil, v.d.text[v.at:v.end]) // it is well-formed
	return string(plain)
}

// Show is the value in a message: short and printable.
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

// Line is where the value begins, from 1.
func (v Value) Line() int { return 1 + bytes.Count(v.d.text[:v.at], []byte("\n")) }

// Member is a value within an object or an array. In an object it has a name.
type Member struct {
	Value

	Name  string
	Key   Value // the name, for faults of it; in an array the value
	Twice bool  // the name stands before in the same object; only with Free
}

// Members are the values within an object or an array, in order; none of another value. Of a name that is given twice, the first counts
// and the others are left out, but with Free.
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

// next is the value that dec, a decoder of v, reads next.
func (v Value) next(dec *jsontext.Decoder) Value {
	raw, _ := dec.ReadValue() // it was checked
	end := v.at + int(dec.InputOffset())
	return Value{v.d, end - len(raw), end}
}

// Leaves are the texts, numbers, booleans and nulls within the value, or itself, in the order of the text, without names.
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
