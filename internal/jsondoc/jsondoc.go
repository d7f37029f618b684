// Package jsondoc reads JSON texts of people, and names the faults that it and its callers find by file, line and
// path. [Parse] checks the whole text; a value is decoded when it is asked for, and a path is found when its fault is
// shown.
package jsondoc

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// Options says what a text may be.
type Options struct {
	File   string // named in faults; "": the text came from elsewhere
	Root   string // what the paths of faults begin with
	Bytes  int    // at most; 0: no bound
	Depth  int    // arrays and objects within each other, at most; 0: 10,000
	Values int    // at most; 0: no bound
	Mark   bool   // the text may begin with a byte order mark
	Names  Names
}

// Names says which names of an object are the same, and whether that is a fault.
type Names int

// Exact refuses a name that is given twice, Folded also one that differs only in case. Free allows both.
const (
	Exact Names = iota
	Folded
	Free
)

// key is equal for names that are the same.
func (n Names) key(name string) string {
	if n == Folded {
		return strings.ToLower(name)
	}
	return name
}

// Doc is a text and its faults. It is for one goroutine at a time.
type Doc struct {
	o     Options
	text  []byte
	found []found
	more  int // faults that are not in found
}

// Parse checks a text. ok is false if the text is not JSON or exceeds a bound; [Doc.Err] says which, and the Doc has no
// value. A duplicate name is a fault too, but leaves ok true.
func Parse(text []byte, o Options) (d *Doc, ok bool) {
	d = &Doc{o: o, text: text}
	switch {
	case o.Bytes > 0 && len(text) > o.Bytes:
		d.addTextf(-1, "larger than %d bytes", o.Bytes)
		return d, false
	case bytes.HasPrefix(text, []byte{0xff, 0xfe}) || bytes.HasPrefix(text, []byte{0xfe, 0xff}):
		d.addTextf(0, "the text is UTF-16: save it as UTF-8")
		return d, false
	case o.Mark:
		d.text = bytes.TrimPrefix(text, []byte("\ufeff"))
	}
	for i, r := range string(d.text) {
		if r == utf8.RuneError && !bytes.HasPrefix(d.text[i:], []byte("\ufffd")) {
			d.addTextf(i, "not UTF-8 text")
			return d, false
		}
	}
	return d, d.check()
}

const blank = " \t\r\n"

// decoder decodes a part of the text.
func (d *Doc) decoder(at, end int) *jsontext.Decoder {
	return jsontext.NewDecoder(bytes.NewBuffer(d.text[at:end]), jsontext.AllowDuplicateNames(true))
}

// skip is where the value or bracket after byte i begins.
func (d *Doc) skip(i int) int {
	return len(d.text) - len(bytes.TrimLeft(d.text[i:], blank+",:"))
}

// check reads the whole text.
func (d *Doc) check() (ok bool) {
	dec := d.decoder(0, len(d.text))
	names := []map[string]bool{nil} // of each array and object that is being read; nil: an array
	for values := 0; values == 0 || dec.StackDepth() > 0; {
		at, depth := d.skip(int(dec.InputOffset())), dec.StackDepth()
		_, n := dec.StackIndex(depth)
		name := names[depth] != nil && n%2 == 0
		token, err := dec.ReadToken()
		if err != nil {
			return d.syntax(err)
		}
		v := Value{d, at, int(dec.InputOffset())}
		switch kind := token.Kind(); {
		case kind == '}' || kind == ']':
			names = names[:depth]
			continue
		case name:
			if key := d.o.Names.key(token.String()); !names[depth][key] {
				names[depth][key] = true
			} else if d.o.Names != Free {
				d.Addf(v, "given twice: want each field once")
			}
			continue
		case kind == '{':
			names = append(names, map[string]bool{})
		case kind == '[':
			names = append(names, nil)
		}
		if values++; d.o.Values > 0 && values > d.o.Values {
			d.Addf(v, "more than %d values", d.o.Values)
			return false
		}
		if d.o.Depth > 0 && dec.StackDepth() > d.o.Depth {
			d.Addf(v, "nested deeper than %d levels", d.o.Depth)
			return false
		}
	}
	rest := bytes.TrimLeft(d.text[dec.InputOffset():], blank)
	if len(rest) > 0 {
		d.addTextf(len(d.text)-len(rest), "want nothing after the value")
	}
	return len(rest) == 0
}

// syntax adds the fault of a text that is no JSON. If a comma stands before a closing bracket, the fault is at the
// bracket.
func (d *Doc) syntax(err error) (ok bool) {
	bad, is := errors.AsType[*jsontext.SyntacticError](err)
	if !is || errors.Is(err, io.ErrUnexpectedEOF) {
		d.addTextf(len(bytes.TrimRight(d.text, blank)), "unexpected end of JSON input")
		return false
	}
	at, message := int(bad.ByteOffset), bad.Err.Error()
	if next := d.skip(at); d.text[at] == ',' && next < len(d.text) && (d.text[next] == ']' || d.text[next] == '}') {
		at, message = next, fmt.Sprintf("invalid character %q after a comma", d.text[next])
	}
	d.addTextf(at, "%s", message)
	return false
}
