package workflow

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/breakerd/breakerd/internal/jsondoc"
)

// maxInput bounds the input of one step, in bytes of JSON, once its references are filled in.
const maxInput = 8 << 20

// MaxLookInto bounds an output of which a reference takes a part, in bytes.
const MaxLookInto = 1 << 20

// CheckInput returns an [*InputError] if references of d find nothing in the input, which is as encoding/json decodes
// it (with UseNumber, so that numbers stay as they are).
func (d Definition) CheckInput(input map[string]any) error {
	missing := map[string]bool{} // by a reference's text; false: it is reported already
	for _, s := range d.Steps {
		for text, r := range s.references() {
			if r.step != "" {
				continue
			}
			if _, ok := find(input, r.path); !ok {
				missing[text] = true
			}
		}
	}
	if len(missing) == 0 {
		return nil
	}
	e := &InputError{More: max(0, len(missing)-maxFaults)}
	for _, id := range sortedKeys(d.Steps) {
		eachReference(d.Steps[id].Input, nil, func(text string, path []segment) {
			if !missing[text] || len(e.Missing) == maxFaults {
				return
			}
			missing[text] = false
			mapping := jsondoc.Field(jsondoc.Field("steps", id), "input_mapping")
			e.Missing = append(e.Missing, MissingInput{Reference: text, UsedBy: join(mapping, path)})
		})
	}
	return e
}

// values are what references refer to. It is for one goroutine.
type values struct {
	input   map[string]any // not nil
	outputs map[string]json.RawMessage
}

// rendering writes the input of one step.
type rendering struct {
	values *values
	refs   map[string]reference
	parts  map[string]map[string]json.RawMessage // of a step's output, by the reference's text
	out    bytes.Buffer
}

// render replaces the references of a step's input_mapping by their values. The error is a [*CallError].
func (v *values) render(s Step) (json.RawMessage, error) {
	r := rendering{values: v, refs: s.references(), parts: map[string]map[string]json.RawMessage{}}
	if err := r.value("input_mapping", s.Input); err != nil {
		return nil, err
	}
	return r.out.Bytes(), nil
}

func (r *rendering) value(path string, value any) error {
	if r.out.Len() > maxInput {
		return &CallError{CauseInputTooLarge, fmt.Errorf("%s: the step's input is larger than %d bytes", path, maxInput)}
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
		if err := r.value(jsondoc.Item(path, i), x); err != nil {
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
		if err := r.value(jsondoc.Field(path, name), fields[name]); err != nil {
			return err
		}
	}
	r.out.WriteByte('}')
	return nil
}

// literal writes a value as encoding/json does.
func (r *rendering) literal(path string, value any) error {
	text, err := encode(value)
	if err != nil {
		return &CallError{CauseBadDefinition, fmt.Errorf("%s: %w", path, err)}
	}
	return r.raw(path, text)
}

func (r *rendering) raw(path string, text []byte) error {
	if r.out.Len()+len(text) > maxInput {
		return &CallError{CauseInputTooLarge, fmt.Errorf("%s: the step's input is larger than %d bytes", path, maxInput)}
	}
	r.out.Write(text)
	return nil
}

func (r *rendering) reference(path, text string) error {
	ref, ok := r.refs[text]
	if !ok {
		_, err := parseReference(text)
		return &CallError{CauseBadDefinition, fmt.Errorf("%s: %w", path, err)}
	}
	if ref.step == "" {
		value, ok := find(r.values.input, ref.path)
		if !ok {
			return &CallError{CauseReference, fmt.Errorf("%s: %s is not in the input", path, text)}
		}
		return r.literal(path, value)
	}
	output := r.values.outputs[ref.step]
	if len(ref.path) == 0 { // byte for byte
		return r.raw(path, output)
	}
	if len(output) > MaxLookInto {
		return &CallError{CauseReference, fmt.Errorf("%s: %s looks into an output of %d bytes: "+
			"one of more than %d can only be passed on whole", path, text, len(output), MaxLookInto)}
	}
	part, ok := r.within(ref.step, output)[text]
	if !ok {
		return &CallError{CauseReference, fmt.Errorf("%s: %s is not in the output of step %s", path, text, ref.step)}
	}
	return r.raw(path, part)
}

// within returns what this step's references find in another's output.
func (r *rendering) within(step string, output json.RawMessage) map[string]json.RawMessage {
	if r.parts[step] == nil {
		var of []reference
		for _, ref := range r.refs {
			if ref.step == step {
				of = append(of, ref)
			}
		}
		r.parts[step] = pick(output, of)
	}
	return r.parts[step]
}
