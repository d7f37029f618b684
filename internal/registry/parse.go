package registry

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/breakerd/breakerd/internal/jsondoc"
	"github.com/breakerd/breakerd/internal/policy"
	"github.com/breakerd/breakerd/internal/text"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breakerhttp"
)

// RegistryOrigin is the origin of a policy's field that a circuit_breaker_config sets.
const RegistryOrigin = "registry"

// Bounds of the file, a body and their fields.
const (
	maxFile       = 16 << 20 // bytes
	maxDepth      = 32       // levels; an agent needs four
	maxContact    = 500      // bytes
	maxURL        = 2000     // bytes
	maxLabels     = 32
	maxLabelValue = 256 // bytes
)

// Faults is the error for a bad file or body. It lists at most 20 faults, in the order of the text. No fault shows a
// URL, for a URL may hold a password.
type Faults = jsondoc.Faults //nolint:errname // as it is named there

// ParseAgent parses the registration of one agent, the body of an API call. An unknown field, one given twice, a wrong
// type and a bad value are [*Faults]. The name is that of the call's address, and a name in the body must be the same;
// if it is "", the body must name the agent. The circuit_breaker_config must make a valid policy over def, whose
// origins are as in [Options]. The agent's Origin is FromAPI.
func ParseAgent(name string, body []byte, def breaker.Policy, origins map[string]string) (a Agent, err error) {
	p, ok := newParser(body, jsondoc.Options{Depth: maxDepth}, def, origins)
	if ok {
		a, _ = p.agent(p.Root(), name)
	}
	a.Origin = FromAPI
	return a, p.Err()
}

// parseFile parses the text of a file.
func parseFile(
	path string, data []byte, def breaker.Policy, origins map[string]string, most int,
) (agents []Agent, err error) {
	p, ok := newParser(data, jsondoc.Options{File: path, Bytes: maxFile, Depth: maxDepth}, def, origins)
	if ok {
		agents = p.file(p.Root(), most)
	}
	return agents, p.Err()
}

type parser struct {
	*jsondoc.Doc

	def     breaker.Policy
	origins map[string]string
}

func newParser(data []byte, o jsondoc.Options, def breaker.Policy, origins map[string]string) (p *parser, ok bool) {
	o.Mark = true
	p = &parser{def: def, origins: origins}
	p.Doc, ok = jsondoc.Parse(data, o)
	return p, ok
}

func (p *parser) refuse(v jsondoc.Value, want string) {
	p.Addf(v, "%s is not allowed: want %s", v.Show(), want)
}

// file parses an array of agents, {"agents": […]}, or one agent: an object that has a name and no agents.
func (p *parser) file(v jsondoc.Value, most int) []Agent {
	const want = `want an array of agents, {"agents": […]}, or one agent, {"name": …, "url": …}`
	if v.Kind() == jsondoc.Array {
		p.Under("agents")
		return p.agents(v, most)
	}
	if has(v, "name") && !has(v, "agents") {
		a, _ := p.agent(v, "")
		a.Origin = FromFile
		return []Agent{a}
	}
	for m := range v.Members() {
		if m.Name != "agents" {
			p.Addf(m.Key, "unknown field: %s", want)
			return nil
		}
		if m.Kind() == jsondoc.Array {
			return p.agents(m.Value, most)
		}
	}
	p.Addf(v, "%s", want)
	return nil
}

// has reports whether v is an object with this field.
func has(v jsondoc.Value, field string) bool {
	for m := range v.Members() {
		if m.Name == field {
			return v.Kind() == jsondoc.Object
		}
	}
	return false
}

func (p *parser) agents(v jsondoc.Value, most int) []Agent {
	var out []Agent
	first := map[string]jsondoc.Value{} // the first place of each name
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

// line counts the lines before a value only if the message is built: a file may have many more faults than are shown.
type line jsondoc.Value

func (l line) String() string { return strconv.Itoa(jsondoc.Value(l).Line()) }

// agent parses one registration, with the name as in [ParseAgent]. named is the value of the name, or v if it has none.
func (p *parser) agent(v jsondoc.Value, name string) (a Agent, named jsondoc.Value) {
	a, named = defaultAgent(), v
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

func defaultAgent() Agent {
	return Agent{Timeout: DefaultTimeout, Classify: breakerhttp.StatusOnly, IdleTimeout: DefaultIdleTimeout}
}

func (p *parser) field(a *Agent, m jsondoc.Member) {
	switch m.Name {
	case "name":
		a.Name = p.text(m.Value, breaker.ValidName, "1 to 128 of A-Z a-z 0-9 . _ : @ -, first a letter or digit")
	case "url":
		a.URL = p.url(m.Value)
	case "circuit_breaker_config":
		a.Config = new(p.config(m.Value))
	case "contact":
		a.Contact = p.printable(m.Value, maxContact)
	case "labels":
		a.Labels = p.labels(m.Value)
	case "timeout_seconds":
		a.Timeout = p.timeout(m.Value)
	case "classify":
		a.Classify = p.classifier(m.Value)
	case "classify_observe":
		a.ClassifyObserve = p.classifier(m.Value)
	case "failure_statuses":
		a.Statuses.Failure = p.statuses(m.Value, a.Statuses.Ignored, "ignored_statuses")
	case "ignored_statuses":
		a.Statuses.Ignored = p.statuses(m.Value, a.Statuses.Failure, "failure_statuses")
	case "first_token_timeout_seconds":
		a.FirstToken = p.timeout(m.Value)
	case "idle_timeout_seconds":
		a.IdleTimeout = p.timeout(m.Value)
	case "count":
		a.Count = p.count(m.Value)
	case "origin": // the API shows it, and its answers can be sent back
		p.text(m.Value, func(s string) bool { return s == string(FromFile) || s == string(FromAPI) }, `"file" or "api"`)
	case "breaker": // likewise, whatever has become of the breaker since
		if m.Kind() != jsondoc.Object {
			p.refuse(m.Value, "an object, as the API shows it")
		}
	default:
		p.Addf(m.Key, "unknown field: want one of name, url, circuit_breaker_config, %s",
			strings.Join(profileFields()[1:], ", "))
	}
}

// text returns a text, "" if it is bad.
func (p *parser) text(v jsondoc.Value, ok func(string) bool, want string) string {
	if s := v.Text(); v.Kind() == jsondoc.Text && ok(s) {
		return s
	}
	p.refuse(v, want)
	return ""
}

func (p *parser) printable(v jsondoc.Value, most int) string {
	ok := func(s string) bool { return text.Printable(s, most) }
	return p.text(v, ok, fmt.Sprintf("at most %d bytes of printable text", most))
}

func (p *parser) timeout(v jsondoc.Value) time.Duration {
	d, ok := policy.ParseSeconds(v.Raw())
	if ok && v.Kind() == jsondoc.Number && d >= time.Millisecond && d <= MaxTimeout {
		return d
	}
	p.refuse(v, secondsWant)
	return 0
}

func (p *parser) classifier(v jsondoc.Value) breakerhttp.BodyClassifier {
	var words []string
	for _, c := range breakerhttp.BodyClassifiers() {
		words = append(words, string(c))
	}
	ok := func(s string) bool { return slices.Contains(words, s) }
	return breakerhttp.BodyClassifier(p.text(v, ok, `one of "`+strings.Join(words, `", "`)+`"`))
}

func (p *parser) labels(v jsondoc.Value) map[string]string {
	if v.Kind() != jsondoc.Object {
		p.refuse(v, `an object, {"name": "value", …}`)
		return nil
	}
	out := map[string]string{}
	for m := range v.Members() {
		switch {
		case !breaker.ValidWord(m.Name):
			p.Addf(m.Key, "the name is not allowed: want 1 to 64 of A-Z a-z 0-9 . _ : @ -")
		case len(out) == maxLabels:
			p.Addf(v, "want at most %d labels", maxLabels)
			return out
		default:
			out[m.Name] = p.printable(m.Value, maxLabelValue)
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// config parses a circuit_breaker_config and lays it over the default, which also checks the rules between fields.
func (p *parser) config(v jsondoc.Value) (o policy.Override) {
	switch v.Kind() {
	case jsondoc.Null:
		return o
	case jsondoc.Object:
	default:
		p.refuse(v, `an object, {"failure_threshold": 3, …}, or null`)
		return o
	}
	bad := false
	for m := range v.Members() {
		if e, is := errors.AsType[*breaker.PolicyError](o.SetJSON(m.Name, m.Value)); is {
			p.Addf(m.Key, "%s is not allowed: want %s", e.Value, e.Allowed)
			bad = true
		}
	}
	if bad {
		return o
	}
	if _, _, err := policy.Resolve(p.def, p.origins, policy.Layer{Origin: RegistryOrigin, Override: o}); err != nil {
		p.Addf(v, "%v", err)
	}
	return o
}

// url parses an address. Its faults do not show it.
func (p *parser) url(v jsondoc.Value) *url.URL {
	if v.Kind() != jsondoc.Text {
		p.refuse(v, "an http or https URL")
		return nil
	}
	u, err := parseURL(v.Text())
	if err != nil {
		p.Addf(v, "%v", err)
		return nil
	}
	return u
}

func parseURL(address string) (*url.URL, error) {
	const want = "want an absolute http or https URL with a host, such as http://host:8080"
	u, err := url.Parse(address)
	switch {
	case address == "":
		return nil, errors.New("empty: " + want + ", or leave the field out for a policy without an address")
	case !text.Printable(address, maxURL):
		return nil, fmt.Errorf("too long, or not printable: want at most %d bytes of printable text", maxURL)
	case err == nil && u.User != nil || err != nil && strings.Contains(address, "@"):
		return nil, errors.New("a user or password is not allowed: " +
			"secrets do not belong into a URL, which is shown and logged")
	case err != nil:
		return nil, errors.New("no URL: " + want)
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("the scheme %s is not allowed: %s", text.Quote(u.Scheme), want)
	case u.Hostname() == "":
		return nil, errors.New("no host: " + want)
	case !validPort(u.Port()):
		return nil, fmt.Errorf("the port %s is not allowed: want 1 to 65535", text.Short(u.Port()))
	case u.RawQuery != "" || u.ForceQuery || strings.Contains(address, "#"):
		return nil, errors.New("a query or fragment is not allowed: " +
			"each call brings its own path and query, which are put after this URL's path")
	}
	return u, nil
}

func validPort(port string) bool {
	n, err := strconv.Atoi(port)
	return port == "" || err == nil && n >= 1 && n <= 65535
}
