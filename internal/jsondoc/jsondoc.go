// Package jsondoc reads a JSON text into values that know where they stand, so that whoever checks them can tell each fault with its
// file, line and path. Reading takes time and memory in proportion to the text, whatever is in it; a value is decoded when it is asked
// for, and a path is put together when a fault is told.
package jsondoc

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"unicode/utf8"
)

// Options says what a text may be.
type Options struct {
	File   string // named in faults; "": the text came from elsewhere
	Root   string // what the paths of faults begin with
	Bytes  int    // the most; 0: no bound
	Depth  int    // the most arrays and objects within each other; 0: the bound of encoding/json, 10,000
	Values int    // the most, of any kind; 0: no bound
	Mark   bool   // a byte order mark may stand before the text
	Names  Names
}

// Names says which names of one object are the same, and whether that is a fault.
type Names int

// Exact refuses a name that is spelt as one before it, Folded also one that differs in case. Free lets both pass.
const (
	Exact Names = iota
	Folded
	Free
)

// Doc is a text and what is wrong with it. It is for one goroutine at a time.
type Doc struct {
	o     Options
	text  string
	nodes []node
	count int // of values
	found []found
	more  int // faults that are not in found
}

// node is a value, or a name, which stands before its value.
type node struct {
	at, end int32 // its bytes; end is 0 of an array or object in which the reading stopped
	next    int32 // the node after it and all within it
	name    bool
	twice   bool // a name that stands before in the same object
}

// Parse reads a text. ok is false where there is no value to look at: the text is no JSON, or goes beyond a bound. Then, and where a
// name is given twice, Err says why.
func Parse(text []byte, o Options) (d *Doc, ok bool) {
	d = &Doc{o: o}
	switch {
	case o.Bytes > 0 && len(text) > o.Bytes:
		d.addTextf(-1, "larger than %d bytes", o.Bytes)
		return d, false
	case bytes.HasPrefix(text, []byte{0xff, 0xfe}) || bytes.HasPrefix(text, []byte{0xfe, 0xff}):
		d.addTextf(0, "the text is UTF-16: save it as UTF-8")
		return d, false
	case o.Mark:
		text = bytes.TrimPrefix(text, []byte("\ufeff"))
	}
	d.text = string(text)
	if !utf8.ValidString(d.text) {
		d.addTextf(firstBad(d.text), "not UTF-8 text")
		return d, false
	}
	if !json.Valid(text) {
		d.syntax(text)
		return d, false
	}
	_, ok = d.scan(0, 0)
	return d, ok
}

// syntax is the fault of a text that is not one JSON value.
func (d *Doc) syntax(text []byte) {
	var whole json.RawMessage // all of it is one value: what trails is an error
	err := json.Unmarshal(text, &whole)
	at := len(strings.TrimRight(d.text, blank))
	if bad, is := errors.AsType[*json.SyntaxError](err); is && !strings.HasPrefix(bad.Error(), "unexpected end") {
		at = int(bad.Offset) - 1
	}
	d.addTextf(at, "%v", err)
}

// firstBad is where a text ceases to be UTF-8.
func firstBad(text string) (at int) {
	for at < len(text) {
		r, size := utf8.DecodeRuneInString(text[at:])
		if r == utf8.RuneError && size == 1 {
			break
		}
		at += size
	}
	return at
}

const blank = " \t\r\n"

// skip is the first byte from i on that is neither blank nor punctuation between values.
func (d *Doc) skip(i int) int {
	for strings.IndexByte(blank+",:", d.text[i]) >= 0 {
		i++
	}
	return i
}

// scan enters the value that begins at or after byte i, and all within it. The text is known to be well-formed. end is where it ends;
// ok is false when a bound was met.
func (d *Doc) scan(i, depth int) (end int, ok bool) {
	i = d.skip(i)
	at := len(d.nodes)
	d.nodes = append(d.nodes, node{at: int32(i), next: int32(at + 1)}) //nolint:gosec // a text of 2 GB is beyond any bound of ours
	v := Value{d, at}
	if d.count++; d.o.Values > 0 && d.count > d.o.Values {
		d.Addf(v, "more than %d values", d.o.Values)
		return i, false
	}
	switch v.Kind() {
	case Object, Array:
		if d.o.Depth > 0 && depth >= d.o.Depth {
			d.Addf(v, "nested deeper than %d levels", d.o.Depth)
			return i, false
		}
		end, ok = d.within(i+1, depth+1, v.Kind() == Object)
	case Text:
		end, ok = d.endOfText(i), true
	default:
		for end = i; end < len(d.text) && strings.IndexByte(blank+",]}", d.text[end]) < 0; {
			end++
		}
		ok = true
	}
	d.nodes[at].end, d.nodes[at].next = int32(end), int32(len(d.nodes)) //nolint:gosec // see above
	return end, ok
}

// within scans what an array or object holds.
func (d *Doc) within(i, depth int, object bool) (end int, ok bool) {
	var room [8]string
	seen := names{few: room[:0]}
	for {
		if i = d.skip(i); d.text[i] == ']' || d.text[i] == '}' {
			return i + 1, true
		}
		if object {
			i = d.scanName(i, &seen)
		}
		if i, ok = d.scan(i, depth); !ok {
			return i, false
		}
	}
}

// scanName enters the name that begins at byte i, and gives where it ends.
func (d *Doc) scanName(i int, seen *names) (end int) {
	end = d.endOfText(i)
	at := len(d.nodes)
	d.nodes = append(d.nodes, node{at: int32(i), end: int32(end), next: int32(at + 1), name: true}) //nolint:gosec // see above
	name := Value{d, at}.name()
	if d.o.Names == Folded {
		name = strings.ToLower(name)
	}
	if d.nodes[at].twice = seen.add(name); d.nodes[at].twice && d.o.Names != Free {
		d.Addf(Value{d, at}, "given twice: want each field once")
	}
	return end
}

// endOfText is where the text that begins at byte i ends.
func (d *Doc) endOfText(i int) int {
	for i++; d.text[i] != '"'; i++ {
		if d.text[i] == '\\' {
			i++
		}
	}
	return i + 1
}

// names are those of one object.
type names struct {
	few  []string
	many map[string]bool // of all, when they are more than a few
}

// add says whether the name was there.
func (s *names) add(name string) (twice bool) {
	if s.many == nil {
		if slices.Contains(s.few, name) {
			return true
		}
		if len(s.few) < cap(s.few) {
			s.few = append(s.few, name)
			return false
		}
		s.many = map[string]bool{}
		for _, other := range s.few {
			s.many[other] = true
		}
	}
	twice = s.many[name]
	s.many[name] = true
	return twice
}
