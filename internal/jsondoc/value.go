package jsondoc

import (
	"encoding/json"
	"iter"
	"strings"

	"github.com/breakerd/breakerd/internal/text"
)

// Value is one value of a Doc, or a name.
type Value struct {
	d *Doc
	i int
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
func (d *Doc) Root() Value { return Value{d, 0} }

// Kind is what the value is.
func (v Value) Kind() Kind {
	switch c := v.d.text[v.node().at]; c {
	case '{', '[', '"', 't', 'n':
		return Kind(c)
	case 'f':
		return Boolean
	}
	return Number
}

func (v Value) node() *node { return &v.d.nodes[v.i] }

// Raw is the value as it is written.
func (v Value) Raw() string { return v.d.text[v.node().at:v.node().end] }

// Text is the content of a text; "" of another value. It does not hold the whole document in memory.
func (v Value) Text() string {
	if v.Kind() != Text {
		return ""
	}
	return strings.Clone(v.name())
}

// name is the content of a text, and a part of the document where that is possible.
func (v Value) name() (s string) {
	raw := v.Raw()
	if strings.IndexByte(raw, '\\') < 0 {
		return raw[1 : len(raw)-1]
	}
	_ = json.Unmarshal([]byte(raw), &s) // it is well-formed, and a text
	return s
}

// Show is the value in a message: short and printable.
func (v Value) Show() string {
	switch v.Kind() {
	case Object, Array:
		return v.Kind().String()
	case Text:
		return text.Quote(v.name())
	default:
		return text.Short(v.Raw())
	}
}

// Line is where the value begins, from 1.
func (v Value) Line() int { return 1 + strings.Count(v.d.text[:v.node().at], "\n") }

// Member is a value within an object or an array. In an object it has a name, which is part of the document: who keeps it clones it.
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
		for i := v.i + 1; i < int(v.node().next); i = int(v.d.nodes[i].next) {
			m := Member{Value: Value{v.d, i}, Key: Value{v.d, i}}
			if kind == Object {
				i++
				m.Value, m.Name, m.Twice = Value{v.d, i}, m.Key.name(), m.Key.node().twice
			}
			if (!m.Twice || v.d.o.Names == Free) && !yield(m) {
				return
			}
		}
	}
}

// All are the value and all within it, in the order of the text, without names.
func (v Value) All() iter.Seq[Value] {
	return func(yield func(Value) bool) {
		for i := v.i; i < int(v.node().next); i++ {
			if !v.d.nodes[i].name && !yield(Value{v.d, i}) {
				return
			}
		}
	}
}
