package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/breakerd/breakerd/internal/jsondoc"
	"github.com/breakerd/breakerd/internal/text"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// maxOverride bounds the text of an override in bytes. Every field at its longest takes less than 2 KiB.
const maxOverride = 16 << 10

// maxErrors bounds how many bad values of one override are reported.
const maxErrors = 20

// Enabled is the one knob that is the AND of all layers [B21].
const Enabled = "enabled"

// Override is a partial policy: circuit_breaker_config in the agent registry, :config in Redis, the variables
// CIRCUIT_BREAKER_* of the environment. Its fields are those of [breaker.Knobs]. In JSON every _seconds is a decimal
// number of seconds, to 1 ms.
//
// Each of its values is one that [breaker.Knob.Set] accepts. The zero value overrides nothing. Overrides are compared
// with ==.
type Override struct {
	given  uint64         // bit i: the i-th knob of breaker.Knobs
	values breaker.Policy // of the knobs that are given
}

// Parse parses the JSON of an override, strictly. The error joins one [*breaker.PolicyError] for each unknown field,
// field given twice, wrong type and value that no policy may have, unless the text is not a JSON object. [Resolve]
// checks the rules between fields.
func Parse(data []byte) (Override, error) {
	r, err := ParseRecord(data)
	return r.Override, err
}

// ParseRecord is Parse, with what the text says of the override itself: _by, _at, _reason and _until.
func ParseRecord(data []byte) (Record, error) {
	doc, ok := jsondoc.Parse(data, jsondoc.Options{Bytes: maxOverride, Names: jsondoc.Free})
	if ok && doc.Root().Kind() != jsondoc.Object {
		doc.Addf(doc.Root(), `want an object, {"field": value, …}`)
	}
	if err := doc.Err(); err != nil {
		return Record{}, fmt.Errorf("policy override: %w", err)
	}
	var o Record
	var errs []error
	for m := range doc.Root().Members() {
		var err error
		if strings.HasPrefix(m.Name, "_") {
			err = o.set(m.Name, m.Value)
		} else {
			err = o.SetJSON(m.Name, m.Value)
		}
		if m.Twice {
			err = &breaker.PolicyError{Field: text.Short(m.Name), Value: "a second value", Allowed: "each field once"}
		}
		if err != nil {
			errs = append(errs, err)
		}
		if len(errs) == maxErrors {
			break
		}
	}
	if len(errs) > 0 {
		return Record{}, errors.Join(errs...)
	}
	return o, nil
}

// Of returns the override that sets the fields of p that are not zero: in Go a zero field means that another layer
// decides. Set and Of take the same values. The error joins one [*breaker.PolicyError] for each bad one.
func Of(p breaker.Policy) (o Override, err error) {
	var errs []error
	for i, k := range breaker.Knobs() {
		if k.Zero(p) {
			continue
		}
		if err := k.Set(&o.values, k.Value(p)); err != nil {
			errs = append(errs, err)
			continue
		}
		o.given |= 1 << i
	}
	if len(errs) > 0 {
		return Override{}, errors.Join(errs...)
	}
	return o, nil
}

// Set sets the field of that name to the value of a text ("30", "0.5", "true", "observe"). An unknown name, or a
// value that no policy may have, is a [*breaker.PolicyError] and changes nothing.
func (o *Override) Set(name, value string) error {
	i, k, err := find(name)
	if err != nil {
		return err
	}
	v, ok := parse(k, value)
	if !ok {
		return &breaker.PolicyError{Field: name, Value: text.Quote(value), Allowed: k.Allowed()}
	}
	if err := k.Set(&o.values, v); err != nil {
		return err
	}
	o.given |= 1 << i
	return nil
}

// SetJSON is Set with a JSON value, which must have the field's type.
func (o *Override) SetJSON(name string, v jsondoc.Value) error {
	_, k, err := find(name)
	if err != nil {
		return err
	}
	value := v.Raw()
	if v.Kind() == jsondoc.Text {
		value = v.Text()
	}
	if v.Kind() != kindOf(k) || o.Set(name, value) != nil {
		return &breaker.PolicyError{Field: name, Value: v.Show(), Allowed: k.Allowed()}
	}
	return nil
}

// find returns the knob of that name and its index in [breaker.Knobs].
func find(name string) (int, breaker.Knob, error) {
	knobs := breaker.Knobs()
	if i := slices.IndexFunc(knobs, func(k breaker.Knob) bool { return k.Name == name }); i >= 0 {
		return i, knobs[i], nil
	}
	var names []string
	for _, k := range knobs {
		names = append(names, k.Name)
	}
	return 0, breaker.Knob{}, &breaker.PolicyError{
		Field: text.Short(name), Value: "an unknown field", Allowed: "one of " + strings.Join(names, ", "),
	}
}

// UnmarshalJSON is [Parse]; null changes nothing.
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

// MarshalJSON writes the given fields only. [Parse] reads them back.
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

// Value returns a field as JSON shows it (bool, int, float64 or string); nil: it is not given.
func (o Override) Value(name string) any {
	if i, k, err := find(name); err == nil && o.has(i) {
		return shown(k, o.values)
	}
	return nil
}

// With returns o with the field of that name as in other, given or not.
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

// Only returns o with no field but the one of that name.
func (o Override) Only(name string) Override { return Override{}.With(name, o) }

// Apply returns p with the given fields replaced. Enabled is only ever turned off, for it is the AND of all layers
// [B21].
func (o Override) Apply(p breaker.Policy) breaker.Policy {
	for i, k := range breaker.Knobs() {
		if o.has(i) && (k.Name != Enabled || k.Value(p) == true) {
			p = put(k, p, o.values)
		}
	}
	return p
}

// put returns p with the knob as in from.
func put(k breaker.Knob, p, from breaker.Policy) breaker.Policy {
	_ = k.Set(&p, k.Value(from)) // an Override has no value that Set refuses
	return p
}
