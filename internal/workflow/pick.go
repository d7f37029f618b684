package workflow

import (
	"bytes"
	"encoding/json"
)

// sought is a part of an output that references want, or that holds one.
type sought struct {
	parts map[segment]*sought
	refs  []string // texts of the references to it
	found bool
}

// pickCost is how many times an output's size pick allocates at most: its decoder's buffer and a value that is skipped.
const pickCost = 4

// pick finds the parts of an output that references want, by the references' texts. It neither decodes nor copies them,
// reads the output once, and of a name given twice takes the first. What is not there is left out.
func pick(output json.RawMessage, refs []reference) map[string]json.RawMessage {
	p := picker{text: output, dec: json.NewDecoder(bytes.NewReader(output)), out: map[string]json.RawMessage{}}
	p.dec.UseNumber() // a number may not fit a float64
	root := &sought{parts: map[segment]*sought{}}
	for _, r := range refs {
		at := root
		for _, s := range r.path {
			if at.parts[s] == nil {
				at.parts[s] = &sought{parts: map[segment]*sought{}}
			}
			at = at.parts[s]
		}
		if at != root {
			at.refs = append(at.refs, r.text)
		}
	}
	_ = p.value(root) // an output is valid JSON
	return p.out
}

type picker struct {
	text    []byte
	dec     *json.Decoder
	skipped json.RawMessage
	out     map[string]json.RawMessage
}

// value reads one value; s is nil if nothing in it is sought.
func (p *picker) value(s *sought) (err error) {
	if s == nil || s.found {
		return p.dec.Decode(&p.skipped)
	}
	s.found = true
	from := p.dec.InputOffset()
	if len(s.parts) > 0 {
		err = p.inner(s)
	} else {
		err = p.dec.Decode(&p.skipped)
	}
	if err != nil {
		return err
	}
	for _, ref := range s.refs {
		p.out[ref] = bytes.Trim(p.text[from:p.dec.InputOffset()], " \t\r\n:,") // from is before the blanks and punctuation
	}
	return nil
}

// inner reads the elements of a value.
func (p *picker) inner(s *sought) error {
	token, err := p.dec.Token()
	if err != nil {
		return err
	}
	switch token {
	case json.Delim('{'):
		for err == nil && p.dec.More() {
			if token, err = p.dec.Token(); err == nil {
				name, _ := token.(string)
				err = p.value(s.parts[segment{name: name, index: -1}])
			}
		}
	case json.Delim('['):
		for i := 0; err == nil && p.dec.More(); i++ {
			err = p.value(s.parts[segment{index: i}])
		}
	default:
		return nil // it has none
	}
	if err == nil {
		_, err = p.dec.Token() // the end
	}
	return err
}
