package workflow

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"unicode/utf8"
)

// Bounds of the text of a definition, beside its size.
const (
	maxDepth  = 32     // levels of nesting
	maxValues = 10_000 // values of any kind
)

// node is a JSON value that knows where it stands.
type node struct {
	at    int // a byte on the line where it begins
	value any // nil, bool, string, json.Number, []node or []member
}

// member is one field of an object.
type member struct {
	at   int
	name string
	node node
}

// errStop ends the reading of a text that goes beyond a bound.
var errStop = errors.New("beyond a bound")

// document reads a text into nodes. Names given twice are faults; the first counts. ok is false when there is nothing to go on with.
func (f *faults) document() (root node, ok bool) {
	if len(f.text) > MaxDefinition {
		f.text = f.text[:MaxDefinition]
		f.addf(0, "", "larger than %d bytes", MaxDefinition)
		return node{}, false
	}
	if !utf8.Valid(f.text) {
		f.addf(badByte(f.text), "", "not UTF-8")
		return node{}, false
	}
	var whole json.RawMessage // all of it is one value: no token below can fail
	if err := json.Unmarshal(f.text, &whole); err != nil {
		at := len(f.text)
		if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
			at = min(at, max(0, int(syntax.Offset)-1))
		}
		f.addf(at, "", "not JSON: %s", clip(err.Error(), 100))
		return node{}, false
	}
	r := nodeReader{faults: f, dec: json.NewDecoder(bytes.NewReader(f.text))}
	r.dec.UseNumber()
	root, err := r.value("", 0)
	return root, err == nil
}

// badByte is the first byte that is not UTF-8.
func badByte(text []byte) int {
	at := 0
	for at < len(text) {
		r, n := utf8.DecodeRune(text[at:])
		if r == utf8.RuneError && n <= 1 {
			break
		}
		at += n
	}
	return at
}

type nodeReader struct {
	*faults

	dec   *json.Decoder
	count int
}

// here is where the last token ended: on the line where it began, for no token has a line break.
func (r *nodeReader) here() int { return int(r.dec.InputOffset()) }

func (r *nodeReader) value(path string, depth int) (node, error) {
	token, err := r.dec.Token()
	if err != nil {
		r.addf(r.here(), path, "not JSON: %s", clip(err.Error(), 100))
		return node{}, err
	}
	n := node{at: r.here(), value: token}
	r.count++
	_, within := token.(json.Delim)
	switch {
	case within && depth >= maxDepth:
		r.addf(n.at, path, "nested deeper than %d levels", maxDepth)
		return n, errStop
	case r.count > maxValues:
		r.addf(n.at, path, "more than %d values in one definition", maxValues)
		return n, errStop
	}
	switch token {
	case json.Delim('{'):
		n.value, err = r.object(path, depth)
	case json.Delim('['):
		n.value, err = r.array(path, depth)
	}
	return n, err
}

func (r *nodeReader) object(path string, depth int) ([]member, error) {
	members, seen := []member{}, map[string]bool{}
	for r.dec.More() {
		token, err := r.dec.Token()
		if err != nil {
			return nil, err
		}
		name, _ := token.(string)
		name = strings.Clone(name)
		m := member{at: r.here(), name: name}
		if m.node, err = r.value(field(path, name), depth+1); err != nil {
			return nil, err
		}
		if seen[name] {
			r.addf(m.at, field(path, name), "given twice")
			continue
		}
		seen[name] = true
		members = append(members, m)
	}
	_, err := r.dec.Token()
	return members, err
}

func (r *nodeReader) array(path string, depth int) ([]node, error) {
	items := []node{}
	for i := 0; r.dec.More(); i++ {
		n, err := r.value(item(path, i), depth+1)
		if err != nil {
			return nil, err
		}
		items = append(items, n)
	}
	_, err := r.dec.Token()
	return items, err
}

// plain is the node without its places, for an input_mapping.
func (n node) plain() any {
	switch v := n.value.(type) {
	case []node:
		out := make([]any, len(v))
		for i, x := range v {
			out[i] = x.plain()
		}
		return out
	case []member:
		out := make(map[string]any, len(v))
		for _, m := range v {
			out[m.name] = m.node.plain()
		}
		return out
	}
	return n.value
}

// kind says in words what a node is.
func (n node) kind() string {
	switch n.value.(type) {
	case nil:
		return "null"
	case bool:
		return "a boolean"
	case string:
		return "text"
	case []node:
		return "an array"
	case []member:
		return "an object"
	}
	return "a number"
}
