package workflow

import (
	"encoding/json"
	"fmt"

	"github.com/breakerd/breakerd/internal/budget"
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
			if _, defaulted := s.Defaults[text]; r.step != "" || defaulted {
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
		s := d.Steps[id]
		eachReference(s.Input, nil, func(text string, path []segment) {
			if _, defaulted := s.Defaults[text]; defaulted || !missing[text] || len(e.Missing) == maxFaults {
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
	step   Step
	parts  map[string]map[string]json.RawMessage // of a step's output, by the reference's text
	memory *budget.Share                         // that out takes
	out    []byte
	err    error // of memory
}

// render replaces the references of a step's input_mapping by their values. The error is a [*CallError].
func (v *values) render(s Step, memory *budget.Share) (json.RawMessage, error) {
	r := rendering{
		values: v, step: s, refs: s.references(), parts: map[string]map[string]json.RawMessage{}, memory: memory,
	}
	if err := r.value("input_mapping", s.Input); err != nil {
		return nil, err
	}
	return r.out, inMemory(r.err)
}

// write writes nothing more after an error of memory.
func (r *rendering) write(text ...byte) {
	if r.err == nil {
		r.out, r.err = r.memory.Append(r.out, text)
	}
}

func (r *rendering) value(path string, value any) error {
	if len(r.out) > maxInput {
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
	r.write('[')
	for i, x := range items {
		if i > 0 {
			r.write(',')
		}
		if err := r.value(jsondoc.Item(path, i), x); err != nil {
			return err
		}
	}
	r.write(']')
	return nil
}

func (r *rendering) object(path string, fields map[string]any) error {
	r.write('{')
	for i, name := range sortedKeys(fields) {
		if i > 0 {
			r.write(',')
		}
		if err := r.literal(path, name); err != nil {
			return err
		}
		r.write(':')
		if err := r.value(jsondoc.Field(path, name), fields[name]); err != nil {
			return err
		}
	}
	r.write('}')
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
	if len(r.out)+len(text) > maxInput {
		return &CallError{CauseInputTooLarge, fmt.Errorf("%s: the step's input is larger than %d bytes", path, maxInput)}
	}
	r.write(text...)
	return inMemory(r.err)
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
			return r.absent(path, text, "is not in the input")
		}
		return r.literal(path, value)
	}
	output, ok := r.values.outputs[ref.step]
	if !ok {
		return r.absent(path, text, "has no value, for step "+ref.step+" failed")
	}
	if len(ref.path) == 0 { // byte for byte
		return r.raw(path, output)
	}
	if len(output) > MaxLookInto {
		return &CallError{CauseReference, fmt.Errorf("%s: %s looks into an output of %d bytes: "+
			"one of more than %d can only be passed on whole", path, text, len(output), MaxLookInto)}
	}
	parts, err := r.within(ref.step, output)
	if err != nil {
		return err
	}
	part, ok := parts[text]
	if !ok {
		return r.absent(path, text, "is not in the output of step "+ref.step)
	}
	return r.raw(path, part)
}

// absent writes the default of a reference that finds nothing.
func (r *rendering) absent(path, text, why string) error {
	if value, ok := r.step.Defaults[text]; ok {
		return r.value(path, value)
	}
	return &CallError{CauseReference, fmt.Errorf("%s: %s %s", path, text, why)}
}

// within returns what this step's references find in another's output.
func (r *rendering) within(step string, output json.RawMessage) (map[string]json.RawMessage, error) {
	if r.parts[step] == nil {
		if err := r.memory.Take(pickCost * len(output)); err != nil {
			return nil, inMemory(err)
		}
		defer r.memory.Give(pickCost * len(output))
		var of []reference
		for _, ref := range r.refs {
			if ref.step == step {
				of = append(of, ref)
			}
		}
		r.parts[step] = pick(output, of)
	}
	return r.parts[step], nil
}
