package routetest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"

	"github.com/breakerd/breakerd/internal/testkit/promised"
)

// Promised compares an API's document with what was promised of it: operations, parameters, fields of bodies and
// answers, and codes of problems.
func (c *Client) Promised(t *testing.T) {
	t.Helper()
	var names []string
	for _, op := range c.Operations() {
		where := op.Method + " " + op.Path
		names = append(names, where)
		for _, p := range op.Parameters {
			names = append(names, fmt.Sprintf("%s %s %s", where, p.In, p.Name))
		}
		if op.RequestBody != nil {
			for _, m := range op.RequestBody.Content {
				names = append(names, c.fields(where+" takes ", m.Schema, nil)...)
			}
		}
		for status, r := range op.Responses {
			names = append(names, where+" "+status)
			for media, m := range r.Content {
				if media == "application/problem+json" {
					for code := range strings.SplitSeq(r.Description, ", ") {
						names = append(names, where+" "+status+" "+code)
					}
					continue
				}
				names = append(names, c.fields(where+" "+status+" gives ", m.Schema, nil)...)
			}
		}
	}
	promised.Names(t, "promised.txt", slices.Compact(slices.Sorted(slices.Values(names))))
}

// fields are the names of a schema's fields, each with its type.
func (c *Client) fields(prefix string, s *huma.Schema, within []string) (names []string) {
	if s == nil {
		return nil
	}
	if s.Ref != "" {
		if slices.Contains(within, s.Ref) {
			return nil
		}
		return c.fields(prefix, c.Doc.Components.Schemas.SchemaFromRef(s.Ref), append(slices.Clip(within), s.Ref))
	}
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		field := s.Properties[name]
		names = append(names, prefix+name+" "+field.Type)
		names = append(names, c.fields(prefix+name+".", field, within)...)
	}
	if s.Items != nil {
		names = append(names, c.fields(prefix+"[].", s.Items, within)...)
	}
	return names
}
