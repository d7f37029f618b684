package workflow

import (
	"bytes"
	"encoding/json"
)

// sought is a part of an output that references want, and the parts within it.
type sought struct {
	names  map[string]*sought
	items  map[int]*sought
	wanted bool
	found  bool // whatever stands there has been read
	part   json.RawMessage
}

// pick finds what references look for in an output, by their text: to the letter, without decoding or copying it, in one pass.
// Of a name given twice the first counts. What is not there is left out.
func pick(output json.RawMessage, refs []reference) map[string]json.RawMessage {
	root := &sought{}
	ends := map[string]*sought{}
	for _, r := range refs {
		if len(r.path) > 0 {
			at := root
			for _, s := range r.path {
				at = at.within(s)
			}
			at.wanted, ends[r.text] = true, at
		}
	}
	p := picker{text: output, dec: json.NewDecoder(bytes.NewReader(output))}
	p.dec.UseNumber() // for a float64 does not hold them all
	_ = p.value(root) // an output is JSON; were it none, nothing more would be found
	out := map[string]json.RawMessage{}
	for text, s := range ends {
		if s.part != nil {
			out[text] = s.part
		}
	}
	return out
}

// within finds or makes the place of a part.
func (s *sought) within(to segment) *sought {
	if to.index >= 0 {
		return part(&s.items, to.index)
	}
	return part(&s.names, to.name)
}

func part[K comparable](of *map[K]*sought, key K) *sought {
	if *of == nil {
		*of = map[K]*sought{}
	}
	if (*of)[key] == nil {
		(*of)[key] = &sought{}
	}
	return (*of)[key]
}

// picker reads an output.
type picker struct {
	text    []byte
	dec     *json.Decoder
	skipped json.RawMessage
}

// value reads one value; s is nil where nothing is sought.
func (p *picker) value(s *sought) error {
	if s == nil || s.found {
		return p.dec.Decode(&p.skipped)
	}
	s.found = true
	from := p.dec.InputOffset()
	var err error
	if len(s.names)+len(s.items) > 0 {
		err = p.inner(s)
	} else {
		err = p.dec.Decode(&p.skipped)
	}
	if err == nil && s.wanted {
		s.part = bytes.Trim(p.text[from:p.dec.InputOffset()], " \t\r\n:,") // what stands before a value, and what no value ends with
	}
	return err
}

// inner reads a value that has sought parts, if it is of their kind.
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
				err = p.value(s.names[name])
			}
		}
	case json.Delim('['):
		for i := 0; err == nil && p.dec.More(); i++ {
			err = p.value(s.items[i])
		}
	default:
		return nil
	}
	if err == nil {
		_, err = p.dec.Token() // its end
	}
	return err
}
