package registry

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"strconv"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// RegistryOrigin is the origin of a policy's field that a circuit_breaker_config set.
const RegistryOrigin = "registry"

// ParseAgent reads the registration of one agent, the body of an API call, strictly: an unknown field, one given twice, a wrong type
// and a bad value are Faults. name is the agent's where the address of the call gives it (a name in the body must be the same), "":
// the body must. def and origins are what its circuit_breaker_config must make a valid policy over, as in Options. Origin is FromAPI.
func ParseAgent(name string, body []byte, def breaker.Policy, origins map[string]string) (Agent, error) {
	p := parser{def: def, origins: origins}
	v, bad := whole(body)
	if bad != nil {
		return Agent{}, Faults{*bad}
	}
	a, _ := p.agent("", v, name)
	a.Origin = FromAPI
	return a, p.err()
}

// parser collects what is wrong on its way.
type parser struct {
	file    string
	def     breaker.Policy
	origins map[string]string
	faults  Faults
}

func (p *parser) faultf(line int, path, format string, args ...any) {
	if len(p.faults) < mostFaults {
		p.faults = append(p.faults, Fault{File: p.file, Line: line, Path: path, Message: fmt.Sprintf(format, args...)})
	}
}

// err is what was found, in the order of the text; nil: nothing.
func (p *parser) err() error {
	if len(p.faults) == 0 {
		return nil
	}
	slices.SortStableFunc(p.faults, func(a, b Fault) int { return cmp.Compare(a.Line, b.Line) })
	return p.faults
}

func (p *parser) full() bool { return len(p.faults) >= mostFaults }

// refuse is the fault of a value that is not what it should be.
func (p *parser) refuse(path string, v value, want string) {
	p.faultf(v.line, path, "%s is not allowed: want %s", v.show(), want)
}

// agents reads the text of a file: an array, or {"agents": […]}.
func (p *parser) agents(v value, most int) []Agent {
	const want = `want an array of agents, or {"agents": […]}`
	switch v.kind() {
	case '[':
		return p.array(v, most)
	case '{':
		var list *value
		for m := range p.fields("", v) {
			if m.name != "agents" {
				p.faultf(m.nameLine, clip(m.name), "unknown field: %s", want)
				return nil
			}
			list = &m.value
		}
		if list != nil && list.is('[') {
			return p.array(*list, most)
		}
	}
	p.faultf(v.line, "", "%s", want)
	return nil
}

func (p *parser) array(v value, most int) []Agent {
	var out []Agent
	first := map[string]int{} // line of a name's first agent
	for m := range v.members() {
		if p.full() {
			break
		}
		if len(out) == most {
			p.faultf(m.line, "agents["+strconv.Itoa(most)+"]", "want at most %d agents", most)
			break
		}
		path := "agents[" + strconv.Itoa(len(out)) + "]"
		a, line := p.agent(path, m.value, "")
		if before, twice := first[a.Name]; twice && a.Name != "" {
			p.faultf(line, path+".name", "%s is registered already, in line %d", quote(a.Name), before)
		} else {
			first[a.Name] = line
		}
		a.Origin = FromFile
		out = append(out, a)
	}
	return out
}

// fields are an object's members but for those given twice.
func (p *parser) fields(path string, v value) iter.Seq[member] {
	return func(yield func(member) bool) {
		seen := map[string]bool{}
		for m := range v.members() {
			if seen[m.name] {
				p.faultf(m.nameLine, join(path, m.name), "given twice: want each field once")
			} else if !yield(m) {
				return
			}
			seen[m.name] = true
			if p.full() {
				return
			}
		}
	}
}

// agent reads one registration; name as in ParseAgent. line is its name's.
func (p *parser) agent(path string, v value, name string) (a Agent, line int) {
	a, line = Agent{Timeout: DefaultTimeout, Classify: ByStatus}, v.line
	if !v.is('{') {
		p.refuse(path, v, `an agent, {"name": …, "url": …}`)
		return a, line
	}
	for m := range p.fields(path, v) {
		if p.field(&a, join(path, m.name), m); m.name == "name" {
			line = m.line
		}
	}
	switch {
	case name == "" && a.Name == "":
		if !p.about(join(path, "name")) {
			p.faultf(line, join(path, "name"), "missing: want a name")
		}
	case name != "" && a.Name != "" && a.Name != name:
		p.faultf(line, join(path, "name"), "%s is not allowed: want %s, as in the address", quote(a.Name), quote(name))
	case name != "":
		a.Name = name
	}
	return a, line
}

// about says whether the path has a fault already.
func (p *parser) about(path string) bool {
	return p.full() || slices.ContainsFunc(p.faults, func(f Fault) bool { return f.Path == path })
}

// field reads one field of an agent.
func (p *parser) field(a *Agent, path string, m member) {
	switch m.name {
	case "name":
		a.Name = p.text(path, m.value, breaker.ValidName, "1 to 128 of A-Z a-z 0-9 . _ : @ -, first a letter or digit")
	case "url":
		a.URL = p.url(path, m.value)
	case "circuit_breaker_config":
		a.Config, a.Configured = p.config(path, m.value), true
	case "contact":
		a.Contact = p.text(path, m.value, func(s string) bool { return printable(s, maxContact) }, "at most 500 bytes of printable text")
	case "labels":
		a.Labels = p.labels(path, m.value)
	case "timeout_seconds":
		a.Timeout = p.timeout(path, m.value)
	case "classify":
		a.Classify = Classify(p.text(path, m.value, func(s string) bool { return Classify(s).valid() }, `one of "status", "jsonrpc", "mcp"`))
	case "origin": // as the API shows it: what it shows can be sent back
		p.text(path, m.value, func(s string) bool { return s == string(FromFile) || s == string(FromAPI) }, `"file" or "api"`)
	default:
		p.faultf(m.nameLine, path, "unknown field: want one of name, url, circuit_breaker_config, contact, labels, timeout_seconds, classify")
	}
}

// text reads a text; "" where it is bad.
func (p *parser) text(path string, v value, ok func(string) bool, want string) string {
	if v.is('"') && ok(v.text()) {
		return v.text()
	}
	p.refuse(path, v, want)
	return ""
}
