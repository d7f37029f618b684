package workflow

import (
	"encoding/json"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/breakerd/breakerd/internal/jsondoc"
	"github.com/breakerd/breakerd/internal/text"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// More bounds of a definition.
const (
	maxName        = 256    // bytes
	maxDescription = 4096   // bytes
	maxPath        = 1024   // bytes
	maxDepth       = 32     // levels of nesting
	maxValues      = 10_000 // of any kind
	maxFaults      = 20     // of one kind that are reported
)

// DefinitionError is what is wrong with a definition, in the order of its text, at most 20 faults.
type DefinitionError = jsondoc.Faults

// ParseDefinition parses the JSON of one definition, strictly. The error is a [*DefinitionError]. known reports
// whether an agent is registered; nil: all are.
func ParseDefinition(raw []byte, known func(agent string) bool) (Definition, error) {
	return parse("", raw, known)
}

// parse is ParseDefinition; file is named in the faults.
func parse(file string, raw []byte, known func(agent string) bool) (Definition, error) {
	doc, ok := jsondoc.Parse(raw, jsondoc.Options{
		File: file, Bytes: MaxDefinition, Depth: maxDepth, Values: maxValues, Mark: file != "",
	})
	p := parser{Doc: doc, known: known, ids: map[string]bool{}}
	var d Definition
	if ok {
		d = p.definition(doc.Root())
	}
	return d, p.Err()
}

// parser checks the mentions of other steps at the end, when all steps are known.
type parser struct {
	*jsondoc.Doc

	known func(agent string) bool
	ids   map[string]bool // of the steps
	uses  []use
}

// use is one step's mention of another.
type use struct {
	at       jsondoc.Value
	from, to string
	self     string // the fault if from and to are the same
}

// object calls the reader of each field of an object.
func (p *parser) object(v jsondoc.Value, readers map[string]func(jsondoc.Value), required ...string) {
	if !p.is(v, jsondoc.Object) {
		return
	}
	given := map[string]bool{}
	for m := range v.Members() {
		if read := readers[m.Name]; read != nil {
			given[m.Name] = true
			read(m.Value)
		} else {
			p.Addf(m.Key, "unknown field; want one of %s", strings.Join(sortedKeys(readers), ", "))
		}
	}
	for _, name := range required {
		if !given[name] {
			p.Addf(v, "%s is missing", name)
		}
	}
}

// is reports whether v is of this kind; if not, that is a fault.
func (p *parser) is(v jsondoc.Value, kind jsondoc.Kind) bool {
	if v.Kind() != kind {
		p.want(v, kind.String())
	}
	return v.Kind() == kind
}

func (p *parser) want(v jsondoc.Value, want string) { p.Addf(v, "want %s, not %s", want, v.Kind()) }

func (p *parser) definition(root jsondoc.Value) Definition {
	d := Definition{Steps: map[string]Step{}}
	steps := root
	p.object(root, map[string]func(jsondoc.Value){
		"workflow_id": func(v jsondoc.Value) {
			if p.text(v, &d.ID, 128) && !breaker.ValidName(d.ID) {
				p.Addf(v, "bad workflow id %s: want 1 to 128 of A-Z a-z 0-9 . _ : @ -, first a letter or digit",
					text.Quote(d.ID))
			}
		},
		"name":            func(v jsondoc.Value) { p.text(v, &d.Name, maxName) },
		"description":     func(v jsondoc.Value) { p.text(v, &d.Description, maxDescription) },
		"timeout_seconds": func(v jsondoc.Value) { p.seconds(v, &d.Timeout) },
		"steps": func(v jsondoc.Value) {
			steps = v
			p.steps(v, d.Steps)
		},
	}, "workflow_id", "steps")
	p.links(steps, d.Steps)
	return d
}

func (p *parser) steps(v jsondoc.Value, into map[string]Step) {
	if !p.is(v, jsondoc.Object) {
		return
	}
	for m := range v.Members() {
		p.ids[m.Name] = true
	}
	switch {
	case len(p.ids) == 0:
		p.Addf(v, "no steps; want at least one")
	case len(p.ids) > maxSteps:
		p.Addf(v, "%d steps; want at most %d", len(p.ids), maxSteps)
		return
	}
	for m := range v.Members() {
		if !breaker.ValidWord(m.Name) {
			p.Addf(m.Key, "bad step id: want 1 to 64 of A-Z a-z 0-9 . _ : @ -")
		}
		s := p.step(m)
		into[s.ID] = s
	}
}

func (p *parser) step(m jsondoc.Member) Step {
	s := Step{ID: m.Name, Input: map[string]any{}, refs: map[string]reference{}}
	var defaults jsondoc.Value
	p.object(m.Value, map[string]func(jsondoc.Value){
		"id": func(v jsondoc.Value) {
			var id string
			if p.text(v, &id, 64) && id != s.ID {
				p.Addf(v, "%s stands under the name %s; want the same", text.Quote(id), text.Quote(s.ID))
			}
		},
		"agent_name": func(v jsondoc.Value) {
			switch {
			case !p.text(v, &s.Agent, 128):
			case !breaker.ValidName(s.Agent):
				p.Addf(v, "%v", breaker.ErrBadName)
			case p.known != nil && !p.known(s.Agent):
				p.Addf(v, "unknown agent %s", text.Quote(s.Agent))
			}
		},
		"input_mapping": func(v jsondoc.Value) {
			if p.is(v, jsondoc.Object) {
				p.mapping(v, s)
				decode(v, &s.Input)
			}
		},
		"on_failure": func(v jsondoc.Value) {
			s.OnFailure = OnFailure(v.Text())
			if v.Kind() != jsondoc.Text || s.OnFailure != FailExecution && s.OnFailure != ContinueExecution {
				p.Addf(v, `%s is not allowed; want "fail" or "continue"`, v.Show())
			}
		},
		"defaults": func(v jsondoc.Value) {
			if p.is(v, jsondoc.Object) {
				defaults = v
				decode(v, &s.Defaults)
			}
		},
		"depends_on":      func(v jsondoc.Value) { s.DependsOn = p.dependsOn(v, s.ID) },
		"path":            func(v jsondoc.Value) { p.path(v, &s.Path) },
		"timeout_seconds": func(v jsondoc.Value) { p.seconds(v, &s.Timeout) },
	}, "agent_name")
	if s.Defaults != nil {
		p.defaults(defaults, s)
	}
	return s
}

// decode decodes a well-formed object, with numbers as they stand.
func decode(v jsondoc.Value, into *map[string]any) {
	dec := json.NewDecoder(strings.NewReader(v.Raw()))
	dec.UseNumber()
	_ = dec.Decode(into)
}

// defaults checks that each is of a reference that the step has, and is none itself.
func (p *parser) defaults(v jsondoc.Value, step Step) {
	for m := range v.Members() {
		if _, ok := step.refs[m.Name]; !ok {
			p.Addf(m.Key, "no such reference in the step's input_mapping")
		}
		for leaf := range m.Leaves() {
			if isReference(leaf.Text()) {
				p.Addf(leaf, `a default is a value, not a reference; a literal "$." is written "$$."`)
			}
		}
	}
}

// mapping parses the references in an input_mapping.
func (p *parser) mapping(within jsondoc.Value, step Step) {
	for v := range within.Leaves() {
		text := v.Text()
		if !isReference(text) {
			continue
		}
		r, err := parseReference(text)
		if err != nil {
			p.Addf(v, "%v", err)
			continue
		}
		step.refs[text] = r
		if r.step != "" {
			p.uses = append(p.uses, use{v, step.ID, r.step, "a step cannot use its own output"})
		}
	}
}

func (p *parser) dependsOn(v jsondoc.Value, step string) (on []string) {
	if !p.is(v, jsondoc.Array) {
		return nil
	}
	named := map[string]bool{}
	for m := range v.Members() {
		id := ""
		switch {
		case !p.text(m.Value, &id, 64):
		case named[id]:
			p.Addf(m.Value, "%s is named twice", text.Quote(id))
		default:
			named[id] = true
			on = append(on, id)
			p.uses = append(p.uses, use{m.Value, step, id, "a step cannot wait for itself"})
		}
	}
	return on
}

// links checks the mentions of other steps.
func (p *parser) links(at jsondoc.Value, steps map[string]Step) {
	for _, u := range p.uses {
		switch {
		case u.to == u.from:
			p.Addf(u.at, "%s", u.self)
		case !p.ids[u.to]:
			p.Addf(u.at, "no step %s", text.Quote(u.to))
		}
	}
	on := dependencies(steps)
	for id, others := range on {
		on[id] = slices.DeleteFunc(others, func(o string) bool { return o == id || !p.ids[o] })
	}
	for _, cycle := range cycles(on) {
		p.Addf(at, "the steps wait for one another: %s", cycle)
	}
}

// text parses a text of at most so many bytes.
func (p *parser) text(v jsondoc.Value, into *string, most int) bool {
	if !p.is(v, jsondoc.Text) {
		return false
	}
	s := v.Text()
	if len(s) > most {
		p.Addf(v, "%d bytes; want at most %d", len(s), most)
		return false
	}
	*into = s
	return true
}

func (p *parser) seconds(v jsondoc.Value, into *Seconds) {
	if v.Kind() != jsondoc.Number {
		p.want(v, "a number of seconds")
		return
	}
	seconds, err := strconv.ParseFloat(v.Raw(), 64)
	if err != nil || seconds < MinTimeout.Seconds() || seconds > MaxTimeout.Seconds() {
		p.Addf(v, "%s is out of range; want 0.001 to 3600 seconds", v.Show())
		return
	}
	*into = Seconds(math.Round(seconds * float64(time.Second)))
}

func (p *parser) path(v jsondoc.Value, into *string) {
	if !p.text(v, into, maxPath) {
		return
	}
	decoded, err := url.PathUnescape(*into)
	segments := strings.Split(decoded, "/")
	switch {
	case !strings.HasPrefix(*into, "/") || strings.HasPrefix(decoded, "//"):
		p.Addf(v, `want a path that begins with one "/"`)
	case strings.ContainsAny(*into, "?#"):
		p.Addf(v, "want a path without query or fragment")
	case slices.Contains(segments, "..") || slices.Contains(segments, "."):
		p.Addf(v, `want a path without the segments "." and ".."`)
	case err != nil:
		p.Addf(v, "want each %% followed by two hex digits")
	case strings.ContainsAny(decoded, "\\\ufffd") || !text.Printable(decoded, maxPath):
		p.Addf(v, "want a path without control characters and backslashes")
	}
}
