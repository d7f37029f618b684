package registry

import (
	"slices"
	"strconv"
	"strings"

	"github.com/breakerd/breakerd/internal/jsondoc"
	"github.com/breakerd/breakerd/internal/policy"
	"github.com/breakerd/breakerd/internal/text"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// RegistryOrigin is the origin of a policy's field that a circuit_breaker_config set.
const RegistryOrigin = "registry"

// Fault is one thing that is wrong with a file or a body. Its message never holds a URL, which may carry a password.
type Fault = jsondoc.Fault

// Faults is an error: all that is wrong with a file or a body, in the order of the text, at most 20 faults.
type Faults = jsondoc.Faults //nolint:errname // as it is named there

// maxDepth bounds how deep a file or a body nests; an agent needs four levels.
const maxDepth = 32

// ParseAgent reads the registration of one agent, the body of an API call, strictly: an unknown field, one given twice, a wrong type
// and a bad value are a *Faults. name is the agent's where the address of the call gives it (a name in the body must be the same), "":
// the body must. def and origins are what its circuit_breaker_config must make a valid policy over, as in Options. Origin is FromAPI.
func ParseAgent(name string, body []byte, def breaker.Policy, origins map[string]string) (a Agent, err error) {
	p, ok := newParser(body, jsondoc.Options{Depth: maxDepth}, def, origins)
	if ok {
		a, _ = p.agent(p.Root(), name)
	}
	a.Origin = FromAPI
	return a, p.Err()
}

// parser collects what is wrong on its way.
type parser struct {
	*jsondoc.Doc

	def     breaker.Policy
	origins map[string]string
	policy  []string // names of its fields, when they were needed
}

func newParser(text []byte, o jsondoc.Options, def breaker.Policy, origins map[string]string) (p *parser, ok bool) {
	o.Mark = true
	p = &parser{def: def, origins: origins}
	p.Doc, ok = jsondoc.Parse(text, o)
	return p, ok
}

// refuse is the fault of a value that is not what it should be.
func (p *parser) refuse(v jsondoc.Value, want string) {
	p.Addf(v, "%s is not allowed: want %s", v.Show(), want)
}

// agents reads the text of a file: an array, or {"agents": […]}.
func (p *parser) agents(v jsondoc.Value, most int) []Agent {
	const want = `want an array of agents, or {"agents": […]}`
	switch v.Kind() {
	case jsondoc.Array:
		p.Under("agents")
		return p.array(v, most)
	case jsondoc.Object:
		var list *jsondoc.Value
		for m := range v.Members() {
			if m.Name != "agents" {
				p.Addf(m.Key, "unknown field: %s", want)
				return nil
			}
			list = &m.Value
		}
		if list != nil && list.Kind() == jsondoc.Array {
			return p.array(*list, most)
		}
	}
	p.Addf(v, "%s", want)
	return nil
}

func (p *parser) array(v jsondoc.Value, most int) []Agent {
	var out []Agent
	first := map[string]jsondoc.Value{} // a name's first
	for m := range v.Members() {
		if len(out) == most {
			p.Addf(m.Value, "want at most %d agents", most)
			break
		}
		a, name := p.agent(m.Value, "")
		if before, twice := first[a.Name]; twice && a.Name != "" {
			p.Addf(name, "%s is registered already, in line %v", text.Quote(a.Name), line(before))
		} else {
			first[a.Name] = name
		}
		a.Origin = FromFile
		out = append(out, a)
	}
	return out
}

// line shows where a value stands; the lines are counted when a fault is told.
type line jsondoc.Value

func (l line) String() string { return strconv.Itoa(jsondoc.Value(l).Line()) }

// agent reads one registration; name as in ParseAgent. named is its name, or the agent itself where it has none.
func (p *parser) agent(v jsondoc.Value, name string) (a Agent, named jsondoc.Value) {
	a, named = Agent{Timeout: DefaultTimeout, Classify: ByStatus}, v
	if v.Kind() != jsondoc.Object {
		p.refuse(v, `an agent, {"name": …, "url": …}`)
		return a, named
	}
	for m := range v.Members() {
		if p.field(&a, m); m.Name == "name" {
			named = m.Value
		}
	}
	switch {
	case name == "" && named == v:
		p.Missingf(v, "name", "missing: want a name")
	case name != "" && a.Name != "" && a.Name != name:
		p.Addf(named, "%s is not allowed: want %s, as in the address", text.Quote(a.Name), text.Quote(name))
	case name != "":
		a.Name = name
	}
	return a, named
}

// field reads one field of an agent.
func (p *parser) field(a *Agent, m jsondoc.Member) {
	switch m.Name {
	case "name":
		a.Name = p.text(m.Value, breaker.ValidName, "1 to 128 of A-Z a-z 0-9 . _ : @ -, first a letter or digit")
	case "url":
		a.URL = p.url(m.Value)
	case "circuit_breaker_config":
		a.Config, a.Configured = p.config(m.Value), true
	case "contact":
		a.Contact = p.text(m.Value, func(s string) bool { return text.Printable(s, maxContact) }, "at most 500 bytes of printable text")
	case "labels":
		a.Labels = p.labels(m.Value)
	case "timeout_seconds":
		a.Timeout = p.timeout(m.Value)
	case "classify":
		a.Classify = Classify(p.text(m.Value, func(s string) bool { return Classify(s).valid() }, `one of "status", "jsonrpc", "mcp"`))
	case "origin": // what the API shows can be sent back
		p.text(m.Value, func(s string) bool { return s == string(FromFile) || s == string(FromAPI) }, `"file" or "api"`)
	case "breaker": // so can this, whatever has become of the breaker since
		if m.Kind() != jsondoc.Object {
			p.refuse(m.Value, "an object, as the API shows it")
		}
	default:
		p.Addf(m.Key, "unknown field: want one of name, url, circuit_breaker_config, contact, labels, timeout_seconds, classify")
	}
}

// text reads a text; "" where it is bad.
func (p *parser) text(v jsondoc.Value, ok func(string) bool, want string) string {
	if text := v.Text(); v.Kind() == jsondoc.Text && ok(text) {
		return text
	}
	p.refuse(v, want)
	return ""
}

// isPolicy says whether a policy has a field of this name.
func (p *parser) isPolicy(name string) bool {
	if p.policy == nil {
		for _, f := range policy.Fields(breaker.DefaultPolicy()) {
			p.policy = append(p.policy, f.Name)
		}
	}
	return slices.Contains(p.policy, name)
}

// config reads a circuit_breaker_config and lays it over the default, so that rules between fields are caught here.
func (p *parser) config(v jsondoc.Value) policy.Override {
	switch v.Kind() {
	case jsondoc.Null:
		return policy.Override{}
	case jsondoc.Object:
	default:
		p.refuse(v, `an object, {"failure_threshold": 3, …}, or null`)
		return policy.Override{}
	}
	var parts []string // without what has its fault already
	given, unknown := map[string]jsondoc.Value{}, false
	for m := range v.Members() {
		if !p.isPolicy(m.Name) {
			p.Addf(m.Key, "an unknown field is not allowed: want one of %s", listed(p.policy))
			unknown = true
			continue
		}
		given[m.Name] = m.Value
		parts = append(parts, m.Key.Raw()+":"+m.Raw())
	}
	o, err := policy.Parse([]byte("{" + strings.Join(parts, ",") + "}"))
	if err != nil {
		p.policyFaults(v, given, err)
		return policy.Override{}
	}
	if unknown {
		return o
	}
	if _, _, err = policy.Resolve(p.def, p.origins, policy.Layer{Origin: RegistryOrigin, Override: o}); err != nil {
		p.Addf(v, "%v", err) // it is about two fields, and says where each comes from
	}
	return o
}

// listed shows words in a message, put together when a fault is told.
type listed []string

func (l listed) String() string { return strings.Join(l, ", ") }
