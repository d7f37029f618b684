package clientgen

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// TypeScript is the document as types for the page's scripts: an interface for each schema, Reads with the answer of
// each GET by its path, and Writes with body and answer of each other operation by its method and path.
func TypeScript(t testing.TB, d Document) []byte {
	t.Helper()
	out := bytes.NewBufferString(
		"// Made from breakerd's OpenAPI document by go test ./internal/clientgen -update. DO NOT EDIT.\n")
	schemas := d.Components.Schemas
	for _, name := range slices.Sorted(maps.Keys(schemas)) {
		fmt.Fprintf(out, "export interface %s %s\n", name, typeScript(t, schemas[name], ""))
	}
	reads, writes := map[string]string{}, map[string]string{}
	for _, item := range d.Paths {
		for _, op := range item {
			answer := "void"
			if s := op.Answer(); s != nil {
				answer = typeScript(t, s, "  ")
			}
			if strings.EqualFold(op.Method, http.MethodGet) {
				if answer != "void" {
					reads[op.Path] = answer
				}
				continue
			}
			body := "undefined"
			if s := op.Body(); s != nil {
				body = typeScript(t, s, "  ")
			}
			writes[strings.ToUpper(op.Method)+" "+op.Path] = "{body: " + body + "; answer: " + answer + "}"
		}
	}
	writeMap(out, "Reads", reads)
	writeMap(out, "Writes", writes)
	return out.Bytes()
}

func writeMap(out *bytes.Buffer, name string, of map[string]string) {
	fmt.Fprintf(out, "export interface %s {\n", name)
	for _, key := range slices.Sorted(maps.Keys(of)) {
		fmt.Fprintf(out, "  %q: %s;\n", key, of[key])
	}
	out.WriteString("}\n")
}

// typeScript is the type of a schema.
func typeScript(t testing.TB, s *Schema, indent string) string {
	t.Helper()
	if s.Ref != "" {
		return s.Ref[strings.LastIndexByte(s.Ref, '/')+1:]
	}
	kind, nullable := s.kind()
	of := "any"
	switch kind {
	case "string":
		of = "string"
		if len(s.Enum) > 0 {
			words := make([]string, 0, len(s.Enum))
			for _, w := range s.Enum {
				if w != nil {
					words = append(words, fmt.Sprintf("%q", w))
				}
			}
			of = strings.Join(words, " | ")
		}
	case "integer", "number":
		of = "number"
	case "boolean":
		of = "boolean"
	case "array":
		of = "any[]"
		if s.Items != nil {
			if of = typeScript(t, s.Items, indent); strings.Contains(of, " ") && of[0] != '{' {
				of = "(" + of + ")"
			}
			of += "[]"
		}
	case "object":
		of = typeScriptObject(t, s, indent)
	}
	if nullable {
		of += " | null"
	}
	return of
}

func typeScriptObject(t testing.TB, s *Schema, indent string) string {
	t.Helper()
	if len(s.Properties) == 0 {
		of := "any"
		if v := s.values(t); v != nil {
			of = typeScript(t, v, indent)
		}
		return "{[name: string]: " + of + "}"
	}
	var out strings.Builder
	out.WriteString("{\n")
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		optional := "?"
		if slices.Contains(s.Required, name) {
			optional = ""
		}
		fmt.Fprintf(&out, "%s  %s%s: %s;\n", indent, name, optional, typeScript(t, s.Properties[name], indent+"  "))
	}
	return out.String() + indent + "}"
}
