// Package policy is how texts speak of a breaker.Policy: variables of the environment, circuit_breaker_config in
// agents.json, overrides in Redis, the HTTP API. It reads the table breaker.Knobs and knows no knob but enabled by its
// name.
package policy

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// Field is one value of a policy as people write it.
type Field struct {
	Name    string // as in an Override's JSON
	Value   any    // bool, int, float64 (of _seconds: seconds) or string
	Allowed string // what else it could be, in words
	Doc     string // what it does
	Clause  string // as of breaker.Knob
}

// Fields lists the values of p in the order of the documentation. A half_open_success_threshold of 0 means as many as
// half_open_max_calls.
func Fields(p breaker.Policy) []Field {
	var fields []Field
	for _, k := range breaker.Knobs() {
		fields = append(fields, Field{Name: k.Name, Value: shown(k, p), Allowed: k.Allowed(), Doc: k.Doc, Clause: k.Clause})
	}
	return fields
}

// shown is a knob's value as encoding/json should see it.
func shown(k breaker.Knob, p breaker.Policy) any {
	v := k.Value(p)
	if d, is := v.(time.Duration); is {
		return float64(d) / float64(time.Second) // divided, not d.Seconds(), which adds: this way 0.3 s is again 0.3
	}
	return v
}

// kindOf is what the knob is in JSON: boolean, number or text.
func kindOf(k breaker.Knob) string {
	switch k.Value(breaker.Policy{}).(type) {
	case bool:
		return "boolean"
	case string:
		return "text"
	}
	return "number"
}

func jsonKind(raw json.RawMessage) string {
	switch raw[0] {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "text"
	case 't', 'f':
		return "boolean"
	case 'n':
		return "null"
	}
	return "number"
}

// parse reads a text as a value of the knob's type.
func parse(k breaker.Knob, text string) (v any, ok bool) {
	var err error
	switch k.Value(breaker.Policy{}).(type) {
	case bool:
		v, err = strconv.ParseBool(text)
	case int:
		v, err = strconv.Atoi(text)
	case float64:
		v, ok = parseDecimal(text)
		return v, ok
	case time.Duration:
		v, ok = ParseSeconds(text)
		return v, ok
	default:
		v = text
	}
	return v, err == nil
}

// parseDecimal takes what JSON calls a number, and a leading plus or point: no NaN, Inf, hexadecimal or underscores.
func parseDecimal(text string) (float64, bool) {
	if strings.Trim(text, "0123456789+-.eE") != "" {
		return 0, false
	}
	v, err := strconv.ParseFloat(text, 64)
	if v == 0 {
		v = 0 // not -0
	}
	return v, err == nil
}

// ParseSeconds takes decimal seconds ("60", "0.25"), to 1 ms, within breaker.MaxDuration on either side of 0. It is how
// every _seconds of a user is read; ok is false for anything else, finer fractions, NaN and units included.
func ParseSeconds(text string) (d time.Duration, ok bool) {
	v, ok := parseDecimal(text)
	if !ok || math.Abs(v) > breaker.MaxDuration.Seconds() {
		return 0, false
	}
	ms := math.Round(v * 1000)
	return time.Duration(ms) * time.Millisecond, ms/1000 == v
}
