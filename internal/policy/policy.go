// Package policy parses and shows a [breaker.Policy] as text: in variables of the environment, circuit_breaker_config
// in agents.json, overrides in Redis, the HTTP API. It works from [breaker.Knobs], and names no knob but enabled.
package policy

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/breakerd/breakerd/internal/jsondoc"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// Field is one value of a policy as JSON shows it.
type Field struct {
	Name    string // as in an Override's JSON
	Value   any    // bool, int, float64 (of _seconds: seconds) or string
	Allowed string // the values that it may have, in words
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

// shown returns a knob's value for encoding/json.
func shown(k breaker.Knob, p breaker.Policy) any {
	v := k.Value(p)
	if d, is := v.(time.Duration); is {
		return float64(d) / float64(time.Second) // d.Seconds() adds two parts, and does not make 0.3 of 0.3 s
	}
	return v
}

// kindOf returns the JSON type of the knob.
func kindOf(k breaker.Knob) jsondoc.Kind {
	switch k.Value(breaker.Policy{}).(type) {
	case bool:
		return jsondoc.Boolean
	case string:
		return jsondoc.Text
	}
	return jsondoc.Number
}

// parse parses a text as the knob's type.
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

// parseDecimal parses a JSON number, which may also begin with a plus or a point, but no NaN, Inf, hexadecimal or
// underscores.
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

// ParseSeconds parses decimal seconds ("60", "0.25"), to 1 ms, within [breaker.MaxDuration] on either side of 0. ok is
// false for anything else, also for finer fractions and units.
func ParseSeconds(text string) (d time.Duration, ok bool) {
	v, ok := parseDecimal(text)
	if !ok || math.Abs(v) > breaker.MaxDuration.Seconds() {
		return 0, false
	}
	ms := math.Round(v * 1000)
	return time.Duration(ms) * time.Millisecond, ms/1000 == v
}
