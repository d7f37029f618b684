package config

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"github.com/breakerd/breakerd/internal/policy"
	"github.com/breakerd/breakerd/internal/text"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// policyPrefix begins the name of every variable of the policy; the rest is the knob's name in capitals.
const policyPrefix = "CIRCUIT_BREAKER_"

// Error names one bad variable: its value, what is allowed, and the file it came from ("": the environment). It never
// holds a secret.
type Error struct{ Name, Value, Allowed, File string }

func (e *Error) Error() string {
	s := fmt.Sprintf("%s=%s is not allowed: want %s", e.Name, text.Quote(e.Value), e.Allowed)
	if e.File != "" {
		s += " (in " + e.File + ")"
	}
	return s
}

// variable is one row of the table of variables.
type variable struct {
	name, def, check, doc, clause string
	secret                        bool
	field                         string // the knob of the policy; "": none
	allow                         string // what the knob may be, in words
}

// variables lists every variable, the knobs of the policy first, without the _FILE twins of secrets.
func variables() []variable {
	var list []variable
	for _, f := range policy.Fields(breaker.DefaultPolicy()) {
		list = append(list, variable{
			name: policyPrefix + strings.ToUpper(f.Name), field: f.Name, def: fmt.Sprint(f.Value), allow: f.Allowed,
			doc: f.Doc, clause: f.Clause,
		})
	}
	return append(list, tagged(reflect.TypeFor[Config]())...)
}

// tagged lists the variables of a struct, in the order of its fields, those of embedded structs included.
func tagged(t reflect.Type) (list []variable) {
	for f := range t.Fields() {
		tag := f.Tag
		if name, ok := tag.Lookup("env"); ok {
			list = append(list, variable{
				name: name, def: tag.Get("envDefault"), check: tag.Get("check"),
				doc: tag.Get("doc"), clause: tag.Get("clause"), secret: tag.Get("secret") == "true",
			})
		} else if f.Anonymous {
			list = append(list, tagged(f.Type)...)
		}
	}
	return list
}

// documented lists every variable, each secret followed by its _FILE twin.
func documented() []variable {
	var list []variable
	for _, v := range variables() {
		list = append(list, v)
		if v.secret {
			list = append(list, variable{
				name: v.name + "_FILE", check: "text the path of a file", clause: v.clause,
				doc: "file that holds " + v.name + " instead; its final newline does not count",
			})
		}
	}
	return list
}

// parts are the kind of a check, its bounds and all that follows the kind.
func (v variable) parts() (kind, low, high, rest string) {
	kind, rest, _ = strings.Cut(v.check, " ")
	low, high, _ = strings.Cut(rest, " ")
	return kind, low, high, rest
}

var wordPattern = regexp.MustCompile(`^[A-Za-z0-9._:@-]+$`)

// problem says what is allowed if s is not, else "".
func (v variable) problem(s string) string {
	ok := true
	switch kind, low, high, rest := v.parts(); kind {
	case "": // a knob of the policy
		if bad, is := errors.AsType[*breaker.PolicyError](new(policy.Override).Set(v.field, s)); is {
			return bad.Allowed
		}
	case "whole", "ms":
		n, err := strconv.Atoi(s)
		ok = err == nil && n >= number(low) && n <= number(high)
	case "seconds":
		d, parsed := policy.ParseSeconds(s)
		ok = parsed && d.Seconds() >= float64(number(low)) && d.Seconds() <= float64(number(high))
	case "oneof":
		ok = false
		for w := range strings.FieldsSeq(rest) {
			ok = ok || strings.EqualFold(w, s)
		}
	case "word":
		ok = len(s) <= number(rest) && wordPattern.MatchString(s)
	case "labels":
		ok = labelsAllowed(s, number(low))
	}
	if ok {
		return ""
	}
	return v.allowed()
}

// labelsAllowed reports whether s is at most so many labels.
func labelsAllowed(s string, most int) bool {
	seen := map[string]bool{}
	for label := range strings.SplitSeq(s, ",") {
		name, value, _ := strings.Cut(label, "=")
		if seen[name] || !breaker.ValidWord(name) || !breaker.ValidWord(value) {
			return false
		}
		seen[name] = true
	}
	return len(seen) <= most
}

// allowed is what the variable may be, in words.
func (v variable) allowed() string {
	kind, low, high, rest := v.parts()
	switch kind {
	case "":
		return v.allow
	case "whole", "ms":
		return "a whole number from " + low + " to " + high
	case "seconds":
		return "seconds from " + low + " to " + high + ", to 0.001"
	case "oneof":
		return fmt.Sprintf("one of %q", strings.Fields(rest))
	case "word":
		return "at most " + rest + " of A-Z a-z 0-9 . _ : @ -"
	case "labels":
		return "at most " + low + " of NAME=VALUE with commas between, each name once, " +
			"names and values of 1 to 64 of A-Z a-z 0-9 . _ : @ -"
	}
	return rest
}

// parsed is a checked text as caarlos0/env parses it: a duration with its unit, a choice in lower case.
func (v variable) parsed(s string) string {
	switch kind, _, _, _ := v.parts(); kind {
	case "ms":
		return s + "ms"
	case "seconds":
		d, _ := policy.ParseSeconds(s)
		return d.String()
	case "oneof":
		return strings.ToLower(s)
	}
	return s
}

// number reads a bound out of a tag of [Config].
func number(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}
