package workflow

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// MaxInput bounds the input of one step, in bytes of JSON, once its references are filled in.
const MaxInput = 8 << 20

// CheckInput says which parts of the input the references of d lack: an *InputError, or nil. Input is as encoding/json decodes it
// (with UseNumber, so that numbers survive).
func (d Definition) CheckInput(input map[string]any) error {
	var missing []MissingInput
	told := map[string]bool{}
	for _, id := range sortedKeys(d.Steps) {
		eachReference(field(field("steps", id), "input_mapping"), d.Steps[id].Input, func(path string, r reference) {
			if r.step != "" || told[r.text] {
				return
			}
			if _, ok := find(object(input), r.path); !ok {
				told[r.text] = true
				missing = append(missing, MissingInput{Reference: r.text, UsedBy: path})
			}
		})
	}
	if len(missing) > 0 {
		return &InputError{Missing: missing}
	}
	return nil
}

// object makes nil an empty object.
func object(m map[string]any) any {
	if m == nil {
		return map[string]any{}
	}
	return m
}

// values are what references may refer to. For one goroutine.
type values struct {
	input   map[string]any
	outputs map[string]json.RawMessage
	decoded map[string]any // outputs that were looked into
}

// rendering writes the input of one step.
type rendering struct {
	values *values
	out    bytes.Buffer
}

// render fills in the references of a step's input_mapping. An error is a *CallError.
func (v *values) render(s Step) (json.RawMessage, error) {
	r := rendering{values: v}
	if err := r.value("input_mapping", object(s.Input)); err != nil {
		return nil, err
	}
	return r.out.Bytes(), nil
}

func (r *rendering) value(path string, value any) error {
	if r.out.Len() > MaxInput {
		return &CallError{CauseInputTooLarge, fmt.Errorf("%s: the step's input is larger than %d bytes", path, MaxInput)}
	}
	switch v := value.(type) {
	case string:
		if isReference(v) {
			return r.reference(path, v)
		}
		return r.literal(path, literal(v))
	case []any:
		return r.array(path, v)
	case map[string]any:
		return r.object(path, v)
	}
	return r.literal(path, value)
}

func (r *rendering) array(path string, items []any) error {
	r.out.WriteByte('[')
	for i, x := range items {
		if i > 0 {
			r.out.WriteByte(',')
		}
		if err := r.value(item(path, i), x); err != nil {
			return err
		}
	}
	r.out.WriteByte(']')
	return nil
}

func (r *rendering) object(path string, fields map[string]any) error {
	r.out.WriteByte('{')
	for i, name := range sortedKeys(fields) {
		if i > 0 {
			r.out.WriteByte(',')
		}
		if err := r.literal(path, name); err != nil {
			return err
		}
		r.out.WriteByte(':')
		if err := r.value(field(path, name), fields[name]); err != nil {
			return err
		}
	}
	r.out.WriteByte('}')
	return nil
}

// literal writes a value as it is.
func (r *rendering) literal(path string, value any) error {
	text, err := encode(value)
	if err != nil {
		return &CallError{CauseBadDefinition, fmt.Errorf("%s: %w", path, err)}
	}
	return r.raw(path, text)
}

func (r *rendering) raw(path string, text []byte) error {
	if r.out.Len()+len(text) > MaxInput {
		return &CallError{CauseInputTooLarge, fmt.Errorf("%s: the step's input is larger than %d bytes", path, MaxInput)}
	}
	r.out.Write(text)
	return nil
}

func (r *rendering) reference(path, text string) error {
	ref, err := parseReference(text)
	if err != nil {
		return &CallError{CauseBadDefinition, fmt.Errorf("%s: %w", path, err)}
	}
	if ref.step == "" {
		value, ok := find(object(r.values.input), ref.path)
		if !ok {
			return &CallError{CauseReference, fmt.Errorf("%s: %s is not in the input", path, text)}
		}
		return r.literal(path, value)
	}
	if len(ref.path) == 0 { // to the letter
		return r.raw(path, r.values.outputs[ref.step])
	}
	output, err := r.values.output(ref.step)
	value, ok := find(output, ref.path)
	if err != nil || !ok {
		return &CallError{CauseReference, fmt.Errorf("%s: %s is not in the output of step %s", path, text, ref.step)}
	}
	return r.literal(path, value)
}

// output is a step's output, decoded; numbers stay as they are written.
func (v *values) output(step string) (any, error) {
	if value, ok := v.decoded[step]; ok {
		return value, nil
	}
	dec := json.NewDecoder(bytes.NewReader(v.outputs[step]))
	dec.UseNumber()
	var value any
	if err := dec.Decode(&value); err != nil {
		return nil, err
	}
	v.decoded[step] = value
	return value, nil
}
