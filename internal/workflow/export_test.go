package workflow

import (
	"encoding/json"
	"strings"
)

// DecodeNumbers decodes an object with numbers as json.Number.
func DecodeNumbers(text string) (v map[string]any, err error) {
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	return v, dec.Decode(&v)
}

// ParseFile parses a file.
func ParseFile(name, text string) (Definition, error) { return parse(name, []byte(text), nil) }

// EntrySize is what a cached workflow counts beside its text.
const EntrySize = entrySize
