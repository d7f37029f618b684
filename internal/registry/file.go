package registry

import (
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/breakerd/breakerd/internal/policy"
)

// agentsFile is the content of the file. It never changes.
type agentsFile struct {
	agents map[string]Agent
	policy map[string]*policy.Override // of those that have one
	loaded time.Time
}

// newFile keeps the pointers to those overrides of last that did not change, so that comparing pointers shows a change.
func newFile(agents []Agent, last *agentsFile) *agentsFile {
	f := &agentsFile{agents: map[string]Agent{}, policy: map[string]*policy.Override{}, loaded: time.Now()}
	for _, a := range agents {
		f.agents[a.Name] = a
		if a.Config == (policy.Override{}) {
			continue
		}
		if o := last.policy[a.Name]; o != nil && *o == a.Config {
			f.policy[a.Name] = o
		} else {
			f.policy[a.Name] = &a.Config
		}
	}
	return f
}

// changes counts the differences from last.
func (f *agentsFile) changes(last *agentsFile) (added, changed, removed int) {
	for name, a := range f.agents {
		if before, ok := last.agents[name]; !ok {
			added++
		} else if !reflect.DeepEqual(a, before) {
			changed++
		}
	}
	return added, changed, len(last.agents) + added - len(f.agents)
}

func (f *agentsFile) list() []Agent {
	out := make([]Agent, 0, len(f.agents))
	for _, a := range f.agents {
		out = append(out, a)
	}
	slices.SortFunc(out, byName)
	return out
}

func byName(a, b Agent) int { return strings.Compare(a.Name, b.Name) }
