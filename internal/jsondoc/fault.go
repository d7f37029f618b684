package jsondoc

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/breakerd/breakerd/internal/text"
)

// maxFaults bounds Faults.
const maxFaults = 20

// Fault is one fault of a text.
type Fault struct {
	File    string // "": the text is not from a file
	Line    int    // from 1
	Column  int    // from 1, in characters; 0: the path says where
	Path    string // of the value: agents[1].url, or steps["a.b"].path; "": the whole
	Message string
}

// String is the fault in one line: agents.json:12: agents[1].url: want …
func (f Fault) String() string {
	var place string
	switch {
	case f.File != "":
		place = f.File + ":" + strconv.Itoa(f.Line)
	case f.Column > 0:
		place = "line " + strconv.Itoa(f.Line)
	}
	if f.Column > 0 {
		place += ":" + strconv.Itoa(f.Column)
	}
	parts := slices.DeleteFunc([]string{place, f.Path, f.Message}, func(part string) bool { return part == "" })
	return strings.Join(parts, ": ")
}

// Faults is an error that lists the first 20 faults of a text, in the order of the text.
type Faults struct { //nolint:errname // its name says what it lists
	Faults []Fault
	More   int // faults that are not listed
}

// Error implements [error]: a line for each fault.
func (e *Faults) Error() string {
	lines := make([]string, 0, len(e.Faults)+1)
	for _, f := range e.Faults {
		lines = append(lines, f.String())
	}
	if e.More > 0 {
		lines = append(lines, fmt.Sprintf("and %d more faults", e.More))
	}
	return strings.Join(lines, "\n")
}

// found is a fault without its line and path, which Err finds.
type found struct {
	at      int    // byte of the text; -1: the text was not read
	ofText  bool   // of the text as a whole
	field   string // that the value lacks; "": the fault is of the value itself
	message string
}

// Addf adds a fault of a value, or of a name.
func (d *Doc) Addf(v Value, format string, args ...any) { d.add(v, "", format, args) }

// Missingf adds a fault of an object that lacks a field.
func (d *Doc) Missingf(v Value, field, format string, args ...any) { d.add(v, field, format, args) }

func (d *Doc) addTextf(at int, format string, args ...any) {
	d.found = append(d.found, found{at: at, ofText: true, message: fmt.Sprintf(format, args...)})
}

// add keeps the first faults in the order of the text, and counts the others.
func (d *Doc) add(v Value, field, format string, args []any) {
	i := slices.IndexFunc(d.found, func(f found) bool { return f.at > v.at })
	if i < 0 {
		i = len(d.found)
	}
	if len(d.found) == maxFaults {
		if d.more++; i == maxFaults {
			return
		}
		d.found = d.found[:maxFaults-1]
	}
	d.found = slices.Insert(d.found, i, found{at: v.at, field: field, message: fmt.Sprintf(format, args...)})
}

// Err is the faults so far, a [Faults]; nil: none.
func (d *Doc) Err() error {
	if len(d.found) == 0 {
		return nil
	}
	e := &Faults{More: d.more}
	for _, x := range d.found {
		before := d.text[:min(max(0, x.at), len(d.text))]
		f := Fault{File: d.o.File, Line: 1 + bytes.Count(before, []byte("\n")), Message: x.message}
		switch {
		case !x.ofText:
			f.Path = d.path(x.at)
			if x.field != "" {
				f.Path = Field(f.Path, x.field)
			}
		case x.at >= 0:
			f.Column = 1 + utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:])
		}
		e.Faults = append(e.Faults, f)
	}
	return e
}

// Under sets Options.Root.
func (d *Doc) Under(root string) { d.o.Root = root }

// Path is the value's path, beginning with Options.Root.
func (v Value) Path() string { return v.d.path(v.at) }

// path is the path of the value, or of the name, that begins at a byte.
func (d *Doc) path(at int) string {
	dec := d.decoder(0, len(d.text))
	for int(dec.InputOffset()) <= at {
		if _, err := dec.ReadToken(); err != nil {
			break // it was reported
		}
	}
	path, level := d.o.Root, 0
	for token := range dec.StackPointer().Tokens() {
		level++
		if within, _ := dec.StackIndex(level); within == '[' {
			path += "[" + token + "]"
		} else {
			path = Field(path, token)
		}
	}
	return path
}

// Field is the path of an object's field. A name that is not plain is quoted.
func Field(path, name string) string {
	switch {
	case !Plain(name):
		return path + "[" + text.Quote(name) + "]"
	case path == "":
		return text.Short(name)
	}
	return path + "." + text.Short(name)
}

// Plain reports whether a name needs no quotes in a path.
func Plain(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return strings.ContainsRune(`.[]"\`, r) || unicode.IsSpace(r) || !unicode.IsPrint(r)
	})
}

// Item is the path of an array's item.
func Item(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }
