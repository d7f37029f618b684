package registry

import (
	"encoding/json"
	"slices"

	"github.com/breakerd/breakerd/internal/jsondoc"
	"github.com/breakerd/breakerd/internal/policy"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// maxProfile bounds a profile that is looked into, in bytes; one of ours has at most 16 KiB.
const maxProfile = 1 << 20

// profileFields are the fields of an Agent that its profile holds, the same words as in the file.
func profileFields() []string {
	return []string{"contact", "url", "labels", "timeout_seconds", "classify"}
}

// parseProfile reads an agent's profile, whoever wrote it: fields that are not ours are passed over, bad ones are a *Faults.
func parseProfile(name, text string) (Agent, error) {
	a := Agent{Name: name, Timeout: DefaultTimeout, Classify: ByStatus, Origin: FromAPI}
	p, ok := newParser([]byte(text), jsondoc.Options{Bytes: maxProfile, Names: jsondoc.Free}, breaker.Policy{}, nil)
	switch {
	case !ok:
	case p.Root().Kind() != jsondoc.Object:
		p.refuse(p.Root(), "an object")
	default:
		for m := range p.Root().Members() {
			if !slices.Contains(profileFields(), m.Name) {
				continue
			}
			if p.field(&a, m); m.Twice {
				p.Addf(m.Key, "given twice: want each field once")
			}
		}
	}
	if err := p.Err(); err != nil {
		return Agent{}, err
	}
	return a, nil
}

// profileText is the agent's profile in place of held, of which only what is not ours stays.
func profileText(held string, a Agent) (string, error) {
	var kept map[string]json.RawMessage
	_ = json.Unmarshal([]byte(held), &kept) // what cannot be read goes
	fields := map[string]any{}
	for name, raw := range kept {
		fields[name] = raw
	}
	f := a.Form()
	ours := map[string]any{"url": f.URL, "contact": f.Contact, "labels": f.Labels, "timeout_seconds": f.TimeoutSeconds, "classify": f.Classify}
	given := map[string]bool{
		"url": a.URL != nil, "contact": a.Contact != "", "labels": len(a.Labels) > 0,
		"timeout_seconds": a.Timeout != DefaultTimeout, "classify": a.Classify != ByStatus,
	}
	for _, name := range profileFields() {
		if delete(fields, name); given[name] {
			fields[name] = ours[name]
		}
	}
	text, err := json.Marshal(fields)
	return string(text), err
}

// configured is the agent with this text of an override; one that cannot be taken is left out here, and reported where policies are.
func (a Agent) configured(text string) Agent {
	a.Config, a.Configured = policy.Override{}, false
	if o, err := policy.Parse([]byte(text)); text != "" && err == nil {
		a.Config, a.Configured = o, true
	}
	return a
}
