package registry

import (
	"encoding/json"
	"slices"

	"github.com/breakerd/breakerd/internal/jsondoc"
	"github.com/breakerd/breakerd/internal/policy"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breakerhttp"
)

// maxProfile bounds the text of a profile, in bytes. One of ours has at most 16 KiB.
const maxProfile = 1 << 20

// profile is the part of a profile in Redis that is ours: an Agent's fields, as in the file. Defaults are left out.
type profile struct {
	URL            string                     `json:"url,omitempty"`
	Contact        string                     `json:"contact,omitempty"`
	Labels         map[string]string          `json:"labels,omitempty"`
	TimeoutSeconds float64                    `json:"timeout_seconds,omitempty"`
	Classify       breakerhttp.BodyClassifier `json:"classify,omitempty"`
	Calls
}

func profileFields() []string {
	return []string{
		"url", "contact", "labels", "timeout_seconds", "classify", "classify_observe", "failure_statuses",
		"ignored_statuses", "first_token_timeout_seconds", "idle_timeout_seconds", "count",
	}
}

// parseProfile parses an agent's profile, whoever wrote it. Fields that are not ours are ignored. The error is
// [*Faults].
func parseProfile(name, raw string) (Agent, error) {
	a := defaultAgent()
	a.Name, a.Origin = name, FromAPI
	p, ok := newParser([]byte(raw), jsondoc.Options{Bytes: maxProfile, Names: jsondoc.Free}, breaker.Policy{}, nil)
	if ok && p.Root().Kind() != jsondoc.Object {
		p.refuse(p.Root(), "an object")
	} else if ok {
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

// profileText returns the agent's profile in place of held. Fields of held that are not ours are kept.
func profileText(held string, a Agent) (string, error) {
	f := a.Form()
	ours := profile{f.URL, f.Contact, f.Labels, f.TimeoutSeconds, f.Classify, f.Calls}
	if a.Timeout == DefaultTimeout {
		ours.TimeoutSeconds = 0
	}
	if a.Classify == breakerhttp.StatusOnly {
		ours.Classify = ""
	}
	raw, err := json.Marshal(ours)
	if err != nil {
		return "", err
	}
	var fields map[string]json.RawMessage
	_ = json.Unmarshal([]byte(held), &fields) // of a damaged profile nothing is kept
	for _, name := range profileFields() {
		delete(fields, name)
	}
	if err := json.Unmarshal(raw, &fields); err != nil {
		return "", err
	}
	raw, err = json.Marshal(fields)
	return string(raw), err
}

// configured returns the agent with this text of an override. One that does not parse is ignored here: policycache
// logs it.
func (a Agent) configured(override string) Agent {
	a.Config = nil
	if o, err := policy.Parse([]byte(override)); err == nil {
		a.Config = &o
	}
	return a
}
