package workflow

import (
	"encoding/json"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/breakerd/breakerd/internal/jsondoc"
	"github.com/breakerd/breakerd/internal/text"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// Bounds of a definition, beside its size: texts in bytes, levels of nesting, values of any kind.
const (
	maxName        = 256
	maxDescription = 4096
	maxPath        = 1024
	maxDepth       = 32
	maxValues      = 10_000
)

// ParseDefinition reads the JSON of one definition, strictly: an error is a *DefinitionError that says all that is wrong, and
// where. known says which agents there are; nil: any agent will do.
func ParseDefinition(text []byte, known func(agent string) bool) (Definition, error) {
	return parse("", text, known)
}

// parse is ParseDefinition of a file, or of "".
func parse(file string, text []byte, known func(agent string) bool) (Definition, error) {
	doc, ok := jsondoc.Parse(text, jsondoc.Options{File: file, Bytes: MaxDefinition, Depth: maxDepth, Values: maxValues, Mark: file != ""})
	p := parser{Doc: doc, known: known, ids: map[string]bool{}}
	var d Definition
	if ok {
		d = p.definition(doc.Root())
	}
	return d, p.Err()
}

// parser makes a definition of values. What one step says of another is checked at the end, when all are known.
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
	self     string // what is wrong with a mention of itself
}

// fieldReader takes one field's value.
type fieldReader func(v jsondoc.Value)

// object hands the fields of an object to their readers.
func (p *parser) object(v jsondoc.Value, readers map[string]fieldReader, required ...string) {
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

// is wants a value of this kind.
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
	p.object(root, map[string]fieldReader{
		"workflow_id": func(v jsondoc.Value) {
			if p.text(v, &d.ID, 128) && !breaker.ValidName(d.ID) {
				p.Addf(v, "bad workflow id %s: want 1 to 128 of A-Z a-z 0-9 . _ : @ -, first a letter or digit", text.Quote(d.ID))
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
		p.ids[strings.Clone(m.Name)] = true
	}
	switch {
	case len(p.ids) == 0:
		p.Addf(v, "no steps; want at least one")
	case len(p.ids) > MaxSteps:
		p.Addf(v, "%d steps; want at most %d", len(p.ids), MaxSteps)
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
	s := Step{ID: strings.Clone(m.Name), Input: map[string]any{}, refs: map[string]reference{}}
	p.object(m.Value, map[string]fieldReader{
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
				dec := json.NewDecoder(strings.NewReader(v.Raw()))
				dec.UseNumber()
				_ = dec.Decode(&s.Input) // an object, well-formed
			}
		},
		"depends_on":      func(v jsondoc.Value) { s.DependsOn = p.dependsOn(v, s.ID) },
		"path":            func(v jsondoc.Value) { p.path(v, &s.Path) },
		"timeout_seconds": func(v jsondoc.Value) { p.seconds(v, &s.Timeout) },
	}, "agent_name")
	return s
}

// mapping checks the references in an input_mapping, and keeps them with its step.
func (p *parser) mapping(within jsondoc.Value, step Step) {
	for v := range within.All() {
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

// links checks what steps say of one another.
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
	for _, ring := range cycles(on) {
		p.Addf(at, "the steps wait for one another: %s", ring)
	}
}

// text takes a text of at most so many bytes.
func (p *parser) text(v jsondoc.Value, into *string, most int) bool {
	if !p.is(v, jsondoc.Text) {
		return false
	}
	text := v.Text()
	if len(text) > most {
		p.Addf(v, "%d bytes; want at most %d", len(text), most)
		return false
	}
	*into = text
	return true
}

func (p *parser) seconds(v jsondoc.Value, into *time.Duration) {
	if v.Kind() != jsondoc.Number {
		p.want(v, "a number of seconds")
		return
	}
	seconds, err := strconv.ParseFloat(v.Raw(), 64)
	if err != nil || seconds < MinTimeout.Seconds() || seconds > MaxTimeout.Seconds() {
		p.Addf(v, "%s is out of range; want 0.001 to 3600 seconds", v.Show())
		return
	}
	*into = time.Duration(math.Round(seconds * float64(time.Second)))
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
	case strings.ContainsFunc(decoded, func(r rune) bool { return r == '\\' || r == unicode.ReplacementChar || !unicode.IsPrint(r) }):
		p.Addf(v, "want a path without control characters and backslashes")
	}
}
