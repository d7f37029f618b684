package registry

import (
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/breakerd/breakerd/internal/jsondoc"
	"github.com/breakerd/breakerd/internal/policy"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// maxFile bounds the size of the file, in bytes.
const maxFile = 16 << 20

// agentsFile is what one reading of the file gave. It is never changed.
type agentsFile struct {
	agents map[string]Agent
	policy map[string]*policy.Override // of those that have one
	loaded time.Time
}

// readFile reads the text of the file.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case info.IsDir():
		return nil, fmt.Errorf("%s is a directory (Docker makes one when the file to mount is missing)", path)
	case !info.Mode().IsRegular(): // reading a pipe would wait for its writer
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	f, err := os.Open(path) //nolint:gosec // the path is the operator's own word
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("%s is longer than %d bytes", path, maxFile)
	}
	return data, err
}

// parseFile reads the text of a file.
func parseFile(path string, data []byte, def breaker.Policy, origins map[string]string, most int) ([]Agent, error) {
	p, ok := newParser(data, jsondoc.Options{File: path, Depth: maxDepth}, def, origins)
	if !ok {
		return nil, p.Err()
	}
	agents := p.agents(p.Root(), most)
	return agents, p.Err()
}

// newFile keeps the overrides of last that did not change, pointers and all: who compares them sees what changed.
func newFile(agents []Agent, last *agentsFile) *agentsFile {
	f := &agentsFile{agents: make(map[string]Agent, len(agents)), policy: map[string]*policy.Override{}, loaded: time.Now()}
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

// changes counts what became different since last.
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
