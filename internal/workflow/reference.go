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

// segment is one step of the way into a value: a field's name or an index.
type segment struct {
	name  string
	index int // -1: it is a name
}

// isReference says whether a string of an input_mapping refers to something.
func isReference(text string) bool { return strings.HasPrefix(text, "$.") }

// literal is what any other string stands for.
func literal(text string) string {
	if strings.HasPrefix(text, "$$.") {
		return text[1:]
	}
	return text
}

// parseReference reads a text for which isReference holds.
func parseReference(ref string) (reference, error) {
	if len(ref) > maxReference {
		return reference{}, fmt.Errorf("reference of %d bytes; want at most %d", len(ref), maxReference)
	}
	way, err := segments(ref[len("$"):])
	if err != nil {
		return reference{}, fmt.Errorf("malformed reference %s: %w", text.Quote(ref), err)
	}
	switch way[0].name {
	case "input":
		return reference{text: ref, path: way[1:]}, nil
	case "steps":
		if len(way) < 3 || way[1].name == "" || way[2].name != "output" {
			return reference{}, fmt.Errorf(
				`malformed reference %s: want $.steps.<id>.output; an id with dots is written $.steps["a.b"].output`, text.Quote(ref))
		}
		return reference{text: ref, step: way[1].name, path: way[3:]}, nil
	}
	return reference{}, fmt.Errorf("malformed reference %s: want $.input or $.steps.<id>.output", text.Quote(ref))
}

// segments reads .name, [0] and ["any name"], one or more, the first a .name.
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

// bracketSegment reads what begins with [; a name only ever ends before a dot or such a bracket.
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

// find walks into a value as encoding/json decodes it.
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

// references are those of the step's input_mapping, by their text. Malformed ones are left out.
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

// eachReference visits the texts of the references of an input_mapping in the order of their places. way leads there, and is
// good until visit returns.
func eachReference(value any, way []segment, visit func(text string, way []segment)) {
	switch v := value.(type) {
	case string:
		if isReference(v) {
			visit(v, way)
		}
	case []any:
		for i, x := range v {
			eachReference(x, append(way, segment{index: i}), visit)
		}
	case map[string]any:
		for _, name := range sortedKeys(v) {
			eachReference(v[name], append(way, segment{name: name, index: -1}), visit)
		}
	}
}

// place is the path of what a way leads to.
func place(path string, way []segment) string {
	for _, s := range way {
		if s.index >= 0 {
			path = jsondoc.Item(path, s.index)
		} else {
			path = jsondoc.Field(path, s.name)
		}
	}
	return path
}
