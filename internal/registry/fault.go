package registry

import (
	"strconv"
	"strings"
)

// mostFaults bounds how much a hopeless file can make us say.
const mostFaults = 20

// Fault is one thing that is wrong with a file or a body.
type Fault struct {
	File    string // "": a body
	Line    int    // from 1
	Column  int    // from 1; 0: what the path names, wherever it stands in the line
	Path    string // agents[1].url; "": the text as a whole
	Message string // never holds a URL, which may carry a password
}

// String is "agents.json:12: agents[1].url: …", without what is not known.
func (f Fault) String() string {
	var b strings.Builder
	if b.WriteString(f.File); f.File == "" {
		b.WriteString("line ")
	} else {
		b.WriteByte(':')
	}
	b.WriteString(strconv.Itoa(f.Line))
	if f.Column > 0 {
		b.WriteByte(':')
		b.WriteString(strconv.Itoa(f.Column))
	}
	b.WriteString(": ")
	if f.Path != "" {
		b.WriteString(f.Path)
		b.WriteString(": ")
	}
	b.WriteString(f.Message)
	return b.String()
}

// Faults is an error: all that is wrong with a file or a body, in the order of the text, at most 20.
type Faults []Fault //nolint:errname // it is what it lists; a single Fault is no error

// Error is a line for each fault.
func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i, one := range f {
		lines[i] = one.String()
	}
	return strings.Join(lines, "\n")
}
