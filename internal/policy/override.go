package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/breakerd/breakerd/internal/text"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// maxOverride bounds the text of an override in bytes; every field at its longest takes less than 2 KiB.
const maxOverride = 16 << 10

// maxErrors bounds how many bad values of one override are reported.
const maxErrors = 20

// Enabled is the one knob that is the AND of all layers [B21].
const Enabled = "enabled"

// Override is a partial policy: circuit_breaker_config in the agent registry, :config in Redis, the variables
// CIRCUIT_BREAKER_* of the environment. Its fields are the knobs of breaker.Knobs. In JSON every _seconds is a decimal
// number of seconds, to 1 ms.
//
// Every value in it is one that texts may give. The zero value overrides nothing. Overrides are compared with ==.
// Methods with a value receiver may be called concurrently.
type Override struct {
	given  uint64         // bit i: the i-th knob of breaker.Knobs
	values breaker.Policy // of the knobs that are given
}

// Parse reads the JSON of an override, strictly. Text that is not one JSON object is an error that wraps
// encoding/json's. An unknown field, a field given twice, a wrong type and a value that no policy may have are
// *breaker.PolicyErrors, all of them joined. Rules between fields are left to Resolve.
func Parse(data []byte) (Override, error) {
	if len(data) > maxOverride {
		return Override{}, fmt.Errorf("policy override: %d bytes; want at most %d", len(data), maxOverride)
	}
	var object json.RawMessage // checks the whole text, what trails included: no token below can fail
	if err := json.Unmarshal(data, &object); err != nil {
		return Override{}, fmt.Errorf("policy override: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(object))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return Override{}, errors.New("policy override: want a JSON object, {\"field\": value, …}")
	}
	var o Override
	var errs []error
	knobs, seen := breaker.Knobs(), map[string]bool{}
	for dec.More() && len(errs) < maxErrors {
		key, err := dec.Token()
		if err != nil {
			return Override{}, fmt.Errorf("policy override: %w", err)
		}
		name, _ := key.(string)
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return Override{}, fmt.Errorf("policy override: %s: %w", text.Short(name), err)
		}
		if seen[name] {
			err = &breaker.PolicyError{Field: text.Short(name), Value: "a second value", Allowed: "each field once"}
		} else {
			err = o.setJSON(knobs, name, raw)
		}
		seen[name] = true
		if err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return Override{}, errors.Join(errs...)
	}
	return o, nil
}

// Set gives the field of that name the value that text spells ("30", "0.5", "true", "observe"): the same words in a
// variable, on a command line and in JSON. An unknown name, or a value that no policy may have, is a
// *breaker.PolicyError and changes nothing.
func (o *Override) Set(name, value string) error { return o.set(breaker.Knobs(), name, value) }

func (o *Override) set(knobs []breaker.Knob, name, value string) error {
	i := index(knobs, name)
	if i < 0 {
		return unknownField(knobs, name)
	}
	v, ok := parse(knobs[i], value)
	if !ok {
		return &breaker.PolicyError{Field: name, Value: text.Quote(value), Allowed: knobs[i].Allowed()}
	}
	if err := knobs[i].Set(&o.values, v); err != nil {
		return err
	}
	o.given |= 1 << i
	return nil
}

// setJSON is set for one JSON value, whose type must be the field's.
func (o *Override) setJSON(knobs []breaker.Knob, name string, raw json.RawMessage) error {
	i := index(knobs, name)
	if i < 0 {
		return unknownField(knobs, name)
	}
	kind, value := jsonKind(raw), string(raw)
	if kind == "text" {
		if err := json.Unmarshal(raw, &value); err != nil {
			return fmt.Errorf("policy override: %s: %w", name, err)
		}
	}
	if kind == kindOf(knobs[i]) {
		return o.set(knobs, name, value)
	}
	switch kind {
	case "text":
		kind = "the text " + text.Quote(value)
	case "number", "boolean":
		kind = "the " + kind + " " + text.Short(value)
	}
	return &breaker.PolicyError{Field: name, Value: kind, Allowed: knobs[i].Allowed()}
}

// index is where the knob of that name stands; -1: there is none.
func index(knobs []breaker.Knob, name string) int {
	for i, k := range knobs {
		if k.Name == name {
			return i
		}
	}
	return -1
}

func unknownField(knobs []breaker.Knob, name string) error {
	var names []string
	for _, k := range knobs {
		names = append(names, k.Name)
	}
	return &breaker.PolicyError{Field: text.Short(name), Value: "an unknown field", Allowed: "one of " + strings.Join(names, ", ")}
}

// UnmarshalJSON is Parse; null changes nothing.
func (o *Override) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		return nil
	}
	parsed, err := Parse(data)
	if err == nil {
		*o = parsed
	}
	return err
}

// MarshalJSON writes the given fields only, so that Parse reads back what it wrote.
func (o Override) MarshalJSON() ([]byte, error) {
	var out bytes.Buffer
	for i, k := range breaker.Knobs() {
		if !o.has(i) {
			continue
		}
		text, err := json.Marshal(shown(k, o.values))
		if err != nil {
			return nil, fmt.Errorf("policy override: %s: %w", k.Name, err)
		}
		fmt.Fprintf(&out, ",%q:%s", k.Name, text)
	}
	return append(append([]byte{'{'}, bytes.TrimPrefix(out.Bytes(), []byte{','})...), '}'), nil
}

func (o Override) has(i int) bool { return o.given>>i&1 == 1 }

// Value is a field as JSON shows it (bool, int, float64 or string); nil: it is not given.
func (o Override) Value(name string) any {
	knobs := breaker.Knobs()
	if i := index(knobs, name); i >= 0 && o.has(i) {
		return shown(knobs[i], o.values)
	}
	return nil
}

// With is o with the field of that name as other has it, given or not.
func (o Override) With(name string, other Override) Override {
	var out Override
	for i, k := range breaker.Knobs() {
		from := o
		if k.Name == name {
			from = other
		}
		if from.has(i) {
			out.given |= 1 << i
			out.values = put(k, out.values, from.values)
		}
	}
	return out
}

// Only is o with no field but the one of that name.
func (o Override) Only(name string) Override { return Override{}.With(name, o) }

// Apply returns p with the given fields replaced; but enabled, which is the AND of all layers, is only ever turned off
// [B21].
func (o Override) Apply(p breaker.Policy) breaker.Policy {
	for i, k := range breaker.Knobs() {
		if o.has(i) && (k.Name != Enabled || k.Value(p) == true) {
			p = put(k, p, o.values)
		}
	}
	return p
}

// put is p with the knob as from has it.
func put(k breaker.Knob, p, from breaker.Policy) breaker.Policy {
	_ = k.Set(&p, k.Value(from)) // an Override holds no value that Set refuses
	return p
}
