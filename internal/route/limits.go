package route

import (
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/text"
)

// limits are what the tags of a body's type promise in the document, kept at run time: enum, minimum, maximum, maxLength, maxItems, and
// which fields have to be there.
type limits []limit

// limit is that of one field.
type limit struct {
	field               int
	name                string
	required            bool
	enum                []string
	minimum, maximum    *float64
	maxLength, maxItems int    // 0: no bound; of characters and of items
	items               limits // of the items, structs
}

// limitsOf reads the tags of a struct; another type has no limits.
func limitsOf(t reflect.Type) (all limits) {
	if t.Kind() != reflect.Struct {
		return nil
	}
	for i := range t.NumField() {
		tag, of := t.Field(i).Tag, t.Field(i).Type
		name, rest, _ := strings.Cut(tag.Get("json"), ",")
		l := limit{field: i, name: name, required: !strings.Contains(rest, "omit"), minimum: number(tag, "minimum"), maximum: number(tag, "maximum")}
		if enum := tag.Get("enum"); enum != "" {
			l.enum = strings.Split(enum, ",")
		}
		l.maxLength, _ = strconv.Atoi(tag.Get("maxLength"))
		l.maxItems, _ = strconv.Atoi(tag.Get("maxItems"))
		if of.Kind() == reflect.Slice {
			l.items = limitsOf(of.Elem())
		}
		if l.required || l.enum != nil || l.minimum != nil || l.maximum != nil || l.maxLength > 0 || l.maxItems > 0 || l.items != nil {
			all = append(all, l)
		}
	}
	return all
}

func number(tag reflect.StructTag, name string) *float64 {
	n, err := strconv.ParseFloat(tag.Get(name), 64)
	if err != nil {
		return nil
	}
	return &n
}

// place is where a value stands: at a path, or as an item of what stands there.
type place struct {
	path string
	item int // -1: none
}

func (p place) field(name string) string {
	if p.item >= 0 {
		return p.path + "[" + strconv.Itoa(p.item) + "]." + name
	}
	return p.path + "." + name
}

// check adds to bad what is beyond the limits in a struct.
func (all limits) check(v reflect.Value, at place, bad []problem.FieldError) []problem.FieldError {
	for i := range all {
		l := &all[i]
		f := v.Field(l.field)
		if f.IsZero() {
			if l.required {
				bad = append(bad, problem.FieldError{Location: at.field(l.name), Message: "missing" + l.oneOf(": want ")})
			}
			continue
		}
		if f.Kind() == reflect.Pointer {
			f = f.Elem()
		}
		if want, value := l.wants(f); want != "" {
			bad = append(bad, problem.FieldError{Location: at.field(l.name), Message: "want " + want, Value: text.Short(value)})
		}
		if l.items == nil {
			continue
		}
		for n, path := 0, at.field(l.name); n < f.Len() && len(bad) < MaxErrors; n++ {
			bad = l.items.check(f.Index(n), place{path, n}, bad)
		}
	}
	return bad
}

// wants says what is wanted where a value is beyond its limits; "": it is not.
func (l *limit) wants(f reflect.Value) (want, value string) {
	switch f.Kind() {
	case reflect.String:
		value = f.String()
		if l.enum != nil && !slices.Contains(l.enum, value) {
			return l.oneOf(""), value
		}
		if l.maxLength > 0 && utf8.RuneCountInString(value) > l.maxLength {
			return "at most " + strconv.Itoa(l.maxLength) + " characters", value
		}
	case reflect.Float64:
		switch n := f.Float(); {
		case l.minimum != nil && n < *l.minimum:
			return "at least " + FormatNumber(*l.minimum), FormatNumber(n)
		case l.maximum != nil && n > *l.maximum:
			return "at most " + FormatNumber(*l.maximum), FormatNumber(n)
		}
	case reflect.Slice:
		if l.maxItems > 0 && f.Len() > l.maxItems {
			return "at most " + strconv.Itoa(l.maxItems) + " items", ""
		}
	}
	return "", ""
}

// oneOf names the words of an enum, if there is one.
func (l *limit) oneOf(before string) string {
	if l.enum == nil {
		return ""
	}
	return before + "one of " + strings.Join(l.enum, ", ")
}

// FormatNumber is a number in a message.
func FormatNumber(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
