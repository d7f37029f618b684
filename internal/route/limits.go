package route

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"github.com/breakerd/breakerd/internal/jsondoc"
	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/text"
)

// limits are what the schema of a struct promises and its Go type does not keep, by field: enum, minimum, maximum,
// maxLength, maxItems, and whether the field is required. A required field that may be empty is a pointer.
type limits []limit

type limit struct {
	field    int
	name     string
	required bool
	*huma.Schema
	items limits // of each item of a slice of structs
}

// limitsOf finds the limits of a type in its schema; a type that is no struct has none.
func (a *API) limitsOf(t reflect.Type, s *huma.Schema) (all limits) {
	if s != nil && s.Ref != "" {
		s = a.schemas().SchemaFromRef(s.Ref)
	}
	if s == nil || t.Kind() != reflect.Struct {
		return nil
	}
	for i := range t.NumField() {
		if t.Field(i).Anonymous {
			continue // who embeds a struct checks it
		}
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		l := limit{field: i, name: name, required: slices.Contains(s.Required, name), Schema: s.Properties[name]}
		if of := t.Field(i).Type; of.Kind() == reflect.Slice {
			l.items = a.limitsOf(of.Elem(), l.Items)
		}
		all = append(all, l)
	}
	return all
}

// place is the place of a value: a path, or an item of the array at the path.
type place struct {
	path string
	item int // -1: none
}

func (p place) field(name string) string {
	if p.item >= 0 {
		return jsondoc.Item(p.path, p.item) + "." + name
	}
	return p.path + "." + name
}

// check adds to bad what is beyond the limits in a struct. A path is put together for a fault only.
func (all limits) check(v reflect.Value, at place, bad []problem.FieldError) []problem.FieldError {
	for i := range all {
		l, f := &all[i], v.Field(all[i].field)
		switch {
		case f.IsZero() && l.required:
			want := "a value"
			if l.Enum != nil {
				want = l.oneOf()
			}
			bad = append(bad, problem.FieldError{Location: at.field(l.name), Message: "missing: want " + want})
		case f.IsZero():
		default:
			f = reflect.Indirect(f)
			if want := l.wants(f); want != "" {
				value := text.Short(fmt.Sprint(f))
				bad = append(bad, problem.FieldError{Location: at.field(l.name), Message: "want " + want, Value: value})
			}
			if l.items == nil {
				continue
			}
			for n, path := 0, at.field(l.name); n < f.Len() && len(bad) < maxFaults; n++ {
				bad = l.items.check(f.Index(n), place{path, n}, bad)
			}
		}
	}
	return bad
}

// wants is what is wanted in place of a value beyond its limits; "": nothing.
func (l *limit) wants(f reflect.Value) string {
	switch f.Kind() {
	case reflect.String:
		s := f.String()
		if l.Enum != nil && !slices.ContainsFunc(l.Enum, func(word any) bool { return word == s }) {
			return l.oneOf()
		}
		if l.MaxLength != nil && utf8.RuneCountInString(s) > *l.MaxLength {
			return "at most " + strconv.Itoa(*l.MaxLength) + " characters"
		}
	case reflect.Float64:
		if l.Minimum != nil && f.Float() < *l.Minimum {
			return "at least " + FormatNumber(*l.Minimum)
		}
		if l.Maximum != nil && f.Float() > *l.Maximum {
			return "at most " + FormatNumber(*l.Maximum)
		}
	case reflect.Slice:
		if l.MaxItems != nil && f.Len() > *l.MaxItems {
			return "at most " + strconv.Itoa(*l.MaxItems) + " items"
		}
	}
	return ""
}

func (l *limit) oneOf() string {
	return "one of " + strings.ReplaceAll(strings.Trim(fmt.Sprint(l.Enum), "[]"), " ", ", ")
}

// FormatNumber is a number in a message.
func FormatNumber(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
