package registry

import (
	"reflect"
	"slices"
	"strings"
	"time"
)

// agentsFile is the content of the file. It never changes.
type agentsFile struct {
	agents map[string]Agent
	loaded time.Time
	digest string
}

// newFile keeps the pointers to those configs of last that did not change, so that comparing pointers shows a change.
func newFile(agents []Agent, last *agentsFile) *agentsFile {
	f := &agentsFile{agents: map[string]Agent{}, loaded: time.Now()}
	for _, a := range agents {
		if before := last.agents[a.Name].Config; before != nil && a.Config != nil && *before == *a.Config {
			a.Config = before
		}
		f.agents[a.Name] = a
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
