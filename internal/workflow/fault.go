package workflow

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxFaults bounds how much a hopeless definition can make us say.
const maxFaults = 20

// Fault is one thing that is wrong with a definition.
type Fault struct {
	File    string // name of the file; "" when it came from elsewhere
	Line    int    // in the text, from 1
	Path    string // of the value, steps.step-2.input_mapping.text; "": the whole
	Message string
}

// String is the fault as people read it: f.json:9: steps.step-2.path: want …
func (f Fault) String() string {
	text := f.Message
	if f.Path != "" {
		text = f.Path + ": " + text
	}
	if f.File != "" {
		text = f.File + ":" + strconv.Itoa(f.Line) + ": " + text
	}
	return text
}

// DefinitionError is all that is wrong with a definition, in the order of its text, at most 20 faults.
type DefinitionError struct {
	Faults []Fault
	More   int // faults beyond those
}

func (e *DefinitionError) Error() string {
	lines := make([]string, 0, len(e.Faults)+1)
	for _, f := range e.Faults {
		lines = append(lines, f.String())
	}
	if e.More > 0 {
		lines = append(lines, fmt.Sprintf("and %d more faults", e.More))
	}
	return strings.Join(lines, "\n")
}

// faults collects what is wrong with one text.
type faults struct {
	file  string
	text  []byte
	found []foundFault
}

type foundFault struct {
	at      int // byte of the text
	path    string
	message string
}

func (f *faults) addf(at int, path, format string, args ...any) {
	f.found = append(f.found, foundFault{at, path, fmt.Sprintf(format, args...)})
}

// err is nil when nothing was found.
func (f *faults) err() error {
	if len(f.found) == 0 {
		return nil
	}
	slices.SortStableFunc(f.found, func(a, b foundFault) int { return a.at - b.at })
	e := &DefinitionError{}
	line, counted := 1, 0
	for i, x := range f.found {
		if i == maxFaults {
			e.More = len(f.found) - i
			break
		}
		line += bytes.Count(f.text[counted:x.at], []byte{'\n'})
		counted = x.at
		e.Faults = append(e.Faults, Fault{File: f.file, Line: line, Path: x.path, Message: x.message})
	}
	return e
}

// clip makes foreign text fit for an error, an answer or a log line: short and printable.
func clip(text string, most int) string {
	out := make([]rune, 0, most)
	for _, r := range text {
		if len(out) == most {
			return string(out) + "…"
		}
		if !unicode.IsPrint(r) {
			r = utf8.RuneError
		}
		out = append(out, r)
	}
	return string(out)
}

// quoted is foreign text in an error.
func quoted(text string) string { return strconv.Quote(clip(text, 64)) }

// field is the path of an object's field; a name that could be taken for something else is quoted, as in a reference.
func field(path, name string) string {
	if !plainName(name) {
		return path + "[" + quoted(name) + "]"
	}
	if path == "" {
		return clip(name, 64)
	}
	return path + "." + clip(name, 64)
}

// item is the path of an array's item.
func item(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }
