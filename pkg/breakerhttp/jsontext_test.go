package breakerhttp

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
	"unicode/utf8"
)

// walked is what members and elements make of a text, with values as encoding/json decodes them.
func walked(t *testing.T, text []byte) any {
	t.Helper()
	switch {
	case isObject(text):
		all := map[string]any{}
		for name, value := range members(text) {
			all[string(name)] = walked(t, value)
		}
		return all
	case isArray(text):
		all := []any{}
		for value := range elements(text) {
			all = append(all, walked(t, value))
		}
		return all
	case isString(text):
		return stringOf(text)
	case isBool(text):
		return string(text) == "true"
	case string(text) == "null":
		return nil
	}
	n, ok := numberOf(text)
	if !ok {
		t.Errorf("%q is no number", text)
	}
	return n
}

// A text is walked as encoding/json decodes it.
func FuzzJSONText(f *testing.F) {
	for _, text := range []string{
		"{}", " [ ] ", `{"a":1,"b":[true,false,null,-1.5e3],"c":{"d":"e\"}"}}`, `[{"a":{}},[[]],"\\"]`, "{ \"a\" :\n1 ,\t\"\\u0062\"\r: [ 1 , 2 ] }",
		`{"a":1,"a":2}`, `"x"`, "0", `{"":""}`, "\"\xff\"",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		text = bytes.TrimSpace(text)
		var want any
		if !utf8.Valid(text) || json.Unmarshal(text, &want) != nil { // encoding/json replaces bad UTF-8
			return
		}
		if got := walked(t, text); !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	})
}
