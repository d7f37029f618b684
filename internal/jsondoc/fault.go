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

// Bounds of what a hopeless text can make us say.
const (
	mostFaults = 20
	mostText   = 64 // characters of foreign text
)

// Fault is one thing that is wrong with a text.
type Fault struct {
	File    string // "": the text came from elsewhere
	Line    int    // from 1
	Column  int    // from 1, in characters; 0: what the path names, wherever it stands in the line
	Path    string // of the value, agents[1].url or steps["a.b"].path; "": the whole
	Message string
}

// String is the fault as people read it: agents.json:12: agents[1].url: want …
func (f Fault) String() string {
	var b strings.Builder
	if f.File != "" {
		b.WriteString(f.File + ":" + strconv.Itoa(f.Line))
	} else if f.Column > 0 { // else the path is all that there is to go by
		b.WriteString("line " + strconv.Itoa(f.Line))
	}
	if f.Column > 0 {
		b.WriteString(":" + strconv.Itoa(f.Column))
	}
	if b.Len() > 0 {
		b.WriteString(": ")
	}
	if f.Path != "" {
		b.WriteString(f.Path + ": ")
	}
	return b.String() + f.Message
}

// Faults is an error: what is wrong with a text, in the order of the text, at most 20 faults.
type Faults struct { //nolint:errname // it is what it lists; a single Fault is no error
	Faults []Fault
	More   int // faults beyond those
}

// Error is a line for each fault.
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

// found is a fault that has no path and no line yet.
type found struct {
	at      int    // byte of the text; -1: the text was not looked at
	ofText  bool   // of the text as a whole
	field   string // of the value, which lacks it; "": of the value itself
	message string
}

// Addf notes a fault of a value, or of a name.
func (d *Doc) Addf(v Value, format string, args ...any) { d.add(v, "", format, args) }

// Missingf notes a fault of a field that the object lacks.
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
	if len(d.found) == mostFaults {
		if d.more++; i == mostFaults {
			return
		}
		d.found = d.found[:mostFaults-1]
	}
	d.found = slices.Insert(d.found, i, found{at: v.at, field: field, message: fmt.Sprintf(format, args...)})
}

// Err is what was found, a *Faults; nil: nothing.
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

// Under sets what the paths of faults begin with.
func (d *Doc) Under(root string) { d.o.Root = root }

// Path is where the value stands, from what Options.Root says.
func (v Value) Path() string { return v.d.path(v.at) }

// path is that of the value, or the name, that begins at a byte.
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

// Field is the path of an object's field; a name that could be taken for something else is quoted.
func Field(path, name string) string {
	switch {
	case !Plain(name):
		return path + "[" + text.Quote(name) + "]"
	case path == "":
		return text.Short(name)
	}
	return path + "." + text.Short(name)
}

// Plain says whether a name needs no quotes in a path.
func Plain(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return strings.ContainsRune(`.[]"\`, r) || unicode.IsSpace(r) || !unicode.IsPrint(r)
	})
}

// Item is the path of an array's item.
func Item(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }
