package config

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/breakerd/breakerd/internal/policy"
	"github.com/breakerd/breakerd/internal/text"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// Error names one bad variable: its value, what is allowed, and the file it came from ("": the environment).
// It never carries a secret.
type Error struct{ Name, Value, Allowed, File string }

func (e *Error) Error() string {
	said := fmt.Sprintf("%s=%s is not allowed: want %s", e.Name, text.Quote(e.Value), e.Allowed)
	if e.File != "" {
		said += " (in " + e.File + ")"
	}
	return said
}

var wordPattern = regexp.MustCompile(`^[A-Za-z0-9._:@-]+$`)

// problem says what is allowed if text is not, else "".
func (v variable) problem(text string) string {
	ok := true
	kind, rest, _ := strings.Cut(v.check, " ")
	switch kind {
	case "": // a knob of the policy
		if bad, is := errors.AsType[*breaker.PolicyError](new(policy.Override).Set(v.field, text)); is {
			return bad.Allowed
		}
	case "whole":
		low, high, _ := strings.Cut(rest, " ")
		n, err := strconv.Atoi(text)
		ok = err == nil && n >= number(low) && n <= number(high)
	case "seconds":
		low, high, _ := strings.Cut(rest, " ")
		d, parsed := policy.ParseSeconds(text)
		ok = parsed && d.Seconds() >= float64(number(low)) && d.Seconds() <= float64(number(high))
	case "oneof":
		ok = false
		for w := range strings.FieldsSeq(rest) {
			ok = ok || strings.EqualFold(w, text)
		}
	case "word":
		ok = len(text) <= number(rest) && wordPattern.MatchString(text)
	}
	if ok {
		return ""
	}
	return v.allowed()
}

// allowed is what the variable may be, in words.
func (v variable) allowed() string {
	kind, rest, _ := strings.Cut(v.check, " ")
	low, high, _ := strings.Cut(rest, " ")
	switch kind {
	case "":
		return v.allow
	case "whole":
		return "a whole number from " + low + " to " + high
	case "seconds":
		return "seconds from " + low + " to " + high + ", to 0.001"
	case "oneof":
		return fmt.Sprintf("one of %q", strings.Fields(rest))
	case "word":
		return "at most " + rest + " of A-Z a-z 0-9 . _ : @ -"
	}
	return rest
}

// number reads a bound out of a tag of vars.
func number(text string) int {
	n, _ := strconv.Atoi(text)
	return n
}
