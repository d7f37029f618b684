package workflow

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/breakerd/breakerd/internal/jsondoc"
	"github.com/breakerd/breakerd/internal/text"
)

// maxReference bounds a reference, in bytes.
const maxReference = 1024

// reference is a parsed $.input… or $.steps.<id>.output….
type reference struct {
	text string
	step string // whose output; "": the execution's input
	path []segment
}

// segment is one element of a path into a value: a field's name or an index.
type segment struct {
	name  string
	index int // -1: it is a name
}

// isReference reports whether a string of an input_mapping is a reference.
func isReference(s string) bool { return strings.HasPrefix(s, "$.") }

// literal returns the value of any other string.
func literal(s string) string {
	if strings.HasPrefix(s, "$$.") {
		return s[1:]
	}
	return s
}

// parseReference parses a string for which isReference holds.
func parseReference(ref string) (reference, error) {
	if len(ref) > maxReference {
		return reference{}, fmt.Errorf("reference of %d bytes; want at most %d", len(ref), maxReference)
	}
	path, err := segments(ref[len("$"):])
	if err != nil {
		return reference{}, fmt.Errorf("malformed reference %s: %w", text.Quote(ref), err)
	}
	switch path[0].name {
	case "input":
		return reference{text: ref, path: path[1:]}, nil
	case "steps":
		if len(path) < 3 || path[1].name == "" || path[2].name != "output" {
			return reference{}, fmt.Errorf("malformed reference %s: want $.steps.<id>.output; "+
				`an id with dots is written $.steps["a.b"].output`, text.Quote(ref))
		}
		return reference{text: ref, step: path[1].name, path: path[3:]}, nil
	}
	return reference{}, fmt.Errorf("malformed reference %s: want $.input or $.steps.<id>.output", text.Quote(ref))
}

// segments parses .name, [0] and ["any name"], one or more, the first a .name.
func segments(text string) ([]segment, error) {
	var out []segment
	for text != "" {
		var s segment
		var err error
		if text[0] == '.' {
			s, text, err = nameSegment(text[1:])
		} else {
			s, text, err = bracketSegment(text)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

func nameSegment(text string) (segment, string, error) {
	end := strings.IndexAny(text, ".[")
	if end < 0 {
		end = len(text)
	}
	if name := text[:end]; jsondoc.Plain(name) {
		return segment{name: name, index: -1}, text[end:], nil
	}
	return segment{}, "", errors.New(`want a name after each dot; others than plain ones are written ["…"]`)
}

// bracketSegment parses [0] or ["any name"] at the beginning of text.
func bracketSegment(text string) (segment, string, error) {
	errWant := errors.New(`want [0], ["a name"] or .name`)
	if strings.HasPrefix(text, `["`) {
		dec := json.NewDecoder(strings.NewReader(text[1:]))
		var name string
		if err := dec.Decode(&name); err != nil {
			return segment{}, "", errWant
		}
		rest, ok := strings.CutPrefix(text[1+dec.InputOffset():], "]")
		if !ok || name == "" {
			return segment{}, "", errWant
		}
		return segment{name: name, index: -1}, rest, nil
	}
	digits, rest, ok := strings.Cut(strings.TrimPrefix(text, "["), "]")
	n, err := strconv.Atoi(digits)
	if !ok || err != nil || strconv.Itoa(n) != digits || n < 0 || n > MaxDefinition*64 {
		return segment{}, "", errWant
	}
	return segment{index: n}, rest, nil
}

// find follows a path into a value that encoding/json decoded.
func find(value any, path []segment) (any, bool) {
	for _, s := range path {
		switch v := value.(type) {
		case map[string]any:
			inner, ok := v[s.name]
			if !ok || s.index >= 0 {
				return nil, false
			}
			value = inner
		case []any:
			if s.index < 0 || s.index >= len(v) {
				return nil, false
			}
			value = v[s.index]
		default:
			return nil, false
		}
	}
	return value, true
}

// references returns those of the step's input_mapping, by their text, without malformed ones.
func (s Step) references() map[string]reference {
	if s.refs != nil {
		return s.refs
	}
	out := map[string]reference{}
	eachReference(s.Input, nil, func(text string, _ []segment) {
		if r, err := parseReference(text); err == nil {
			out[text] = r
		}
	})
	return out
}

// eachReference visits the references of an input_mapping in the order of their paths. A path is valid until visit
// returns.
func eachReference(value any, path []segment, visit func(text string, path []segment)) {
	switch v := value.(type) {
	case string:
		if isReference(v) {
			visit(v, path)
		}
	case []any:
		for i, x := range v {
			eachReference(x, append(path, segment{index: i}), visit)
		}
	case map[string]any:
		for _, name := range sortedKeys(v) {
			eachReference(v[name], append(path, segment{name: name, index: -1}), visit)
		}
	}
}

// join appends a path to one that is written out.
func join(to string, path []segment) string {
	for _, s := range path {
		if s.index >= 0 {
			to = jsondoc.Item(to, s.index)
		} else {
			to = jsondoc.Field(to, s.name)
		}
	}
	return to
}
