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

	"github.com/breakerd/breakerd/pkg/breaker"
)

// Bounds of a definition's texts, in bytes.
const (
	maxName        = 256
	maxDescription = 4096
	maxPath        = 1024
)

// ParseDefinition reads the JSON of one definition, strictly: an error is a *DefinitionError that says all that is wrong, and
// where. known says which agents there are; nil: any agent will do.
func ParseDefinition(text []byte, known func(agent string) bool) (Definition, error) {
	return parse("", text, known)
}

// parse is ParseDefinition of a file, or of "".
func parse(file string, text []byte, known func(agent string) bool) (Definition, error) {
	p := parser{faults: faults{file: file, text: text}, known: known, ids: map[string]bool{}}
	var d Definition
	if root, ok := p.document(); ok {
		d = p.definition(root)
	}
	return d, p.err()
}

// parser makes a definition of nodes. What one step says of another is checked at the end, when all are known.
type parser struct {
	faults

	known func(agent string) bool
	ids   map[string]bool // of the steps
	uses  []use
}

// use is one step's mention of another.
type use struct {
	at       int
	path     string
	from, to string
	self     string // what is wrong with a mention of itself
}

// fieldReader takes one field's value.
type fieldReader func(n node, path string)

// object hands the fields of an object to their readers.
func (p *parser) object(n node, path string, readers map[string]fieldReader, required ...string) {
	members, ok := n.value.([]member)
	if !ok {
		p.want(n, path, "an object")
		return
	}
	given := map[string]bool{}
	for _, m := range members {
		given[m.name] = true
		if read := readers[m.name]; read != nil {
			read(m.node, field(path, m.name))
		} else {
			p.addf(m.at, field(path, m.name), "unknown field; want one of %s", strings.Join(sortedKeys(readers), ", "))
		}
	}
	for _, name := range required {
		if !given[name] {
			p.addf(n.at, path, "%s is missing", name)
		}
	}
}

func (p *parser) want(n node, path, want string) {
	p.addf(n.at, path, "want %s, not %s", want, n.kind())
}

func (p *parser) definition(root node) Definition {
	d := Definition{Steps: map[string]Step{}}
	steps := root
	p.object(root, "", map[string]fieldReader{
		"workflow_id": func(n node, path string) {
			if p.text(n, path, &d.ID, 128) && !breaker.ValidName(d.ID) {
				p.addf(n.at, path, "bad workflow id %s: want 1 to 128 of A-Z a-z 0-9 . _ : @ -, first a letter or digit", quoted(d.ID))
			}
		},
		"name":            func(n node, path string) { p.text(n, path, &d.Name, maxName) },
		"description":     func(n node, path string) { p.text(n, path, &d.Description, maxDescription) },
		"timeout_seconds": func(n node, path string) { p.seconds(n, path, &d.Timeout) },
		"steps": func(n node, path string) {
			steps = n
			p.steps(n, path, d.Steps)
		},
	}, "workflow_id", "steps")
	p.links(steps, d.Steps)
	return d
}

func (p *parser) steps(n node, path string, into map[string]Step) {
	members, ok := n.value.([]member)
	switch {
	case !ok:
		p.want(n, path, "an object")
	case len(members) == 0:
		p.addf(n.at, path, "no steps; want at least one")
	case len(members) > MaxSteps:
		p.addf(n.at, path, "%d steps; want at most %d", len(members), MaxSteps)
		return
	}
	for _, m := range members {
		p.ids[m.name] = true
	}
	for _, m := range members {
		if !breaker.ValidWord(m.name) {
			p.addf(m.at, field(path, m.name), "bad step id: want 1 to 64 of A-Z a-z 0-9 . _ : @ -")
		}
		into[m.name] = p.step(m, field(path, m.name))
	}
}

func (p *parser) step(m member, path string) Step {
	s := Step{ID: m.name, Input: map[string]any{}}
	p.object(m.node, path, map[string]fieldReader{
		"id": func(n node, path string) {
			var id string
			if p.text(n, path, &id, 64) && id != s.ID {
				p.addf(n.at, path, "%s stands under the name %s; want the same", quoted(id), quoted(s.ID))
			}
		},
		"agent_name": func(n node, path string) {
			switch {
			case !p.text(n, path, &s.Agent, 128):
			case !breaker.ValidName(s.Agent):
				p.addf(n.at, path, "%v", breaker.ErrBadName)
			case p.known != nil && !p.known(s.Agent):
				p.addf(n.at, path, "unknown agent %s", quoted(s.Agent))
			}
		},
		"input_mapping": func(n node, path string) {
			if _, ok := n.value.([]member); !ok {
				p.want(n, path, "an object")
				return
			}
			p.mapping(n, path, s.ID)
			s.Input, _ = n.plain().(map[string]any)
		},
		"depends_on":      func(n node, path string) { s.DependsOn = p.dependsOn(n, path, s.ID) },
		"path":            func(n node, path string) { p.path(n, path, &s.Path) },
		"timeout_seconds": func(n node, path string) { p.seconds(n, path, &s.Timeout) },
	}, "agent_name")
	return s
}

// mapping checks the references in a value of an input_mapping.
func (p *parser) mapping(n node, path, step string) {
	switch v := n.value.(type) {
	case string:
		if !isReference(v) {
			return
		}
		r, err := parseReference(v)
		if err != nil {
			p.addf(n.at, path, "%v", err)
		} else if r.step != "" {
			p.uses = append(p.uses, use{n.at, path, step, r.step, "a step cannot use its own output"})
		}
	case []node:
		for i, x := range v {
			p.mapping(x, item(path, i), step)
		}
	case []member:
		for _, m := range v {
			p.mapping(m.node, field(path, m.name), step)
		}
	}
}

func (p *parser) dependsOn(n node, path, step string) (on []string) {
	items, ok := n.value.([]node)
	if !ok {
		p.want(n, path, "an array")
		return nil
	}
	for i, x := range items {
		at, id := item(path, i), ""
		switch {
		case !p.text(x, at, &id, 64):
		case slices.Contains(on, id):
			p.addf(x.at, at, "%s is named twice", quoted(id))
		default:
			on = append(on, id)
			p.uses = append(p.uses, use{x.at, at, step, id, "a step cannot wait for itself"})
		}
	}
	return on
}

// links checks what steps say of one another.
func (p *parser) links(at node, steps map[string]Step) {
	for _, u := range p.uses {
		switch {
		case u.to == u.from:
			p.addf(u.at, u.path, "%s", u.self)
		case !p.ids[u.to]:
			p.addf(u.at, u.path, "no step %s", quoted(u.to))
		}
	}
	on := dependencies(steps)
	for id, others := range on {
		on[id] = slices.DeleteFunc(others, func(o string) bool { return o == id || !p.ids[o] })
	}
	for _, ring := range cycles(on) {
		p.addf(at.at, "steps", "the steps wait for one another: %s", ring)
	}
}

// text takes a text of at most so many bytes.
func (p *parser) text(n node, path string, into *string, most int) bool {
	text, ok := n.value.(string)
	switch {
	case !ok:
		p.want(n, path, "text")
	case len(text) > most:
		p.addf(n.at, path, "%d bytes; want at most %d", len(text), most)
		ok = false
	default:
		*into = text
	}
	return ok
}

func (p *parser) seconds(n node, path string, into *time.Duration) {
	number, ok := n.value.(json.Number)
	if !ok {
		p.want(n, path, "a number of seconds")
		return
	}
	seconds, err := strconv.ParseFloat(number.String(), 64)
	if err != nil || seconds < MinTimeout.Seconds() || seconds > MaxTimeout.Seconds() {
		p.addf(n.at, path, "%s is out of range; want 0.001 to 3600 seconds", clip(number.String(), 64))
		return
	}
	*into = time.Duration(math.Round(seconds * float64(time.Second)))
}

func (p *parser) path(n node, path string, into *string) {
	if !p.text(n, path, into, maxPath) {
		return
	}
	decoded, err := url.PathUnescape(*into)
	segments := strings.Split(decoded, "/")
	switch {
	case !strings.HasPrefix(*into, "/") || strings.HasPrefix(decoded, "//"):
		p.addf(n.at, path, `want a path that begins with one "/"`)
	case strings.ContainsAny(*into, "?#"):
		p.addf(n.at, path, "want a path without query or fragment")
	case slices.Contains(segments, "..") || slices.Contains(segments, "."):
		p.addf(n.at, path, `want a path without the segments "." and ".."`)
	case err != nil:
		p.addf(n.at, path, "want each %% followed by two hex digits")
	case strings.ContainsFunc(decoded, func(r rune) bool { return r == '\\' || r == unicode.ReplacementChar || !unicode.IsPrint(r) }):
		p.addf(n.at, path, "want a path without control characters and backslashes")
	}
}
