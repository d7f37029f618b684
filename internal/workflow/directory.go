package workflow

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/breakerd/breakerd/internal/filewatch"
)

// directory holds the definitions of *.json files. scan is for one goroutine at a time.
type directory struct {
	path   string
	known  knownAgents
	logger *slog.Logger
	files  map[string]*file // by name
	now    atomic.Pointer[snapshot]
}

// snapshot is the result of a scan.
type snapshot struct {
	of       map[string]*Definition // by id
	files    int
	loadedAt time.Time // of the last change
	problem  error
}

// file is one file as it was read last.
type file struct {
	name    string
	seen    filewatch.Sight
	next    *Definition // its content; nil: it is bad
	serving *Definition // the last good one, unless another file has taken its id
	problem error
	waits   bool   // nothing is wrong but that agents are not registered
	logged  string // the problem that was logged
}

// scan reads what may have changed. If the directory cannot be read, the last snapshot stays.
func (d *directory) scan(ctx context.Context) {
	last := d.now.Load()
	names, err := d.list()
	if err != nil {
		next := *last
		next.problem = err
		if last.problem == nil || last.problem.Error() != err.Error() {
			d.logger.Warn("workflows not read",
				"event", "circuit_breaker.workflow_bad", "directory", d.path, "error", err)
		}
		d.now.Store(&next)
		return
	}
	maps.DeleteFunc(d.files, func(name string, _ *file) bool { return !slices.Contains(names, name) })
	known := d.known.untilError()
	for _, name := range names {
		if d.files[name] == nil {
			d.files[name] = &file{name: name}
		}
		d.read(ctx, d.files[name], known)
	}
	next := d.settle()
	next.loadedAt = last.loadedAt
	if !maps.Equal(next.of, last.of) {
		next.loadedAt = time.Now().UTC()
		d.logger.Info("workflows loaded",
			"event", "circuit_breaker.workflows_loaded", "directory", d.path, "workflows", len(next.of))
	}
	d.now.Store(next)
}

// list returns the names of the files, sorted. Hidden ones belong to editors and mounts.
func (d *directory) list() ([]string, error) {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return nil, fmt.Errorf("workflows: %w", err)
	}
	var names []string
	for _, e := range entries {
		if name := e.Name(); strings.HasSuffix(name, ".json") && !strings.HasPrefix(name, ".") && !e.IsDir() {
			names = append(names, name)
		}
	}
	return names, nil
}

// read parses a file that may have changed. It always parses a bad one: agents that it needs may be registered by now.
func (d *directory) read(ctx context.Context, f *file, known knownAgents) {
	before := f.seen
	if f.problem != nil {
		before = filewatch.Sight{}
	}
	raw, now, err := filewatch.Read(filepath.Join(d.path, f.name), MaxDefinition, before)
	if err != nil {
		f.next, f.problem = nil, fmt.Errorf("%s: %w", f.name, err)
		return
	}
	if raw == nil {
		return
	}
	var def Definition
	f.seen = now
	if def, f.waits, f.problem = check(ctx, f.name, raw, known); f.problem != nil {
		f.next = nil
		return
	}
	def.Origin = FromFile
	if f.next = &def; f.serving != nil && reflect.DeepEqual(*f.serving, def) {
		f.next = f.serving // nothing was loaded
	}
}

// settle decides which file gives which workflow. A bad file, or one whose id is another's, keeps its last good
// definition unless another file has its id.
func (d *directory) settle() *snapshot {
	holder := d.claims()
	for _, f := range holder {
		f.serving = f.next
	}
	out := &snapshot{of: map[string]*Definition{}, files: len(d.files)}
	var problems []error
	for _, name := range sortedKeys(d.files) {
		f := d.files[name]
		if f.problem != nil {
			problems = append(problems, f.problem)
			if f.serving != nil && holder[f.serving.ID] == nil {
				holder[f.serving.ID] = f
			} else {
				f.serving = nil
			}
		}
		d.log(f)
		if f.serving != nil {
			out.of[f.serving.ID] = f.serving
		}
	}
	out.problem = errors.Join(problems...)
	return out
}

// claims gives each id to one of the files that have it: first to one that had it before.
func (d *directory) claims() map[string]*file {
	holder := map[string]*file{}
	for _, keeps := range []bool{true, false} {
		for _, name := range sortedKeys(d.files) {
			f := d.files[name]
			if f.next == nil || keeps != (f.serving != nil && f.serving.ID == f.next.ID) {
				continue
			}
			if other := holder[f.next.ID]; other != nil {
				f.problem = fmt.Errorf("%s: workflow_id: %q stands in %s too", f.name, f.next.ID, other.name)
				continue
			}
			holder[f.next.ID] = f
		}
	}
	return holder
}

// log logs a problem once.
func (d *directory) log(f *file) {
	problem := ""
	if f.problem != nil {
		problem = f.problem.Error()
	}
	if problem != "" && problem != f.logged {
		d.logger.Warn("workflow not taken",
			"event", "circuit_breaker.workflow_bad", "file", f.name, "error", f.problem)
	}
	f.logged = problem
}

// fatal returns what keeps the program from starting: the problems but for agents that are not registered.
func (d *directory) fatal() error {
	if len(d.files) == 0 {
		return d.now.Load().problem // of the directory itself
	}
	var problems []error
	for _, name := range sortedKeys(d.files) {
		if f := d.files[name]; f.problem != nil && !f.waits {
			problems = append(problems, f.problem)
		}
	}
	return errors.Join(problems...)
}
