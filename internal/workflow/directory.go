package workflow

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/breakerd/breakerd/internal/filewatch"
)

// directory holds the definitions of *.json files. scan is for one goroutine at a time; now may be read by all.
type directory struct {
	path   string
	known  knownAgents
	logger *slog.Logger
	files  map[string]*file // by name
	now    atomic.Pointer[snapshot]
}

// snapshot is what the last scan found.
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
	next    *Definition // what it holds now; nil: it cannot be taken
	serving *Definition // the last good one, unless another file has taken its id
	problem error
	waits   bool   // for agents that there are none of: nothing else is wrong with it
	said    string // the problem that was logged
}

// scan reads what has changed. It fails only when there is nothing that it could go on with: the directory itself.
func (d *directory) scan(ctx context.Context) {
	last := d.now.Load()
	names, err := d.list()
	if err != nil { // what was there stays
		next := *last
		next.problem = err
		if last.problem == nil || last.problem.Error() != err.Error() {
			d.logger.Warn("workflows not read", "event", "circuit_breaker.workflow_bad", "directory", d.path, "error", err)
		}
		d.now.Store(&next)
		return
	}
	for name := range d.files {
		if !slices.Contains(names, name) {
			delete(d.files, name)
		}
	}
	known := d.known.untilTrouble()
	for _, name := range names {
		f := d.files[name]
		if f == nil {
			f = &file{name: name}
			d.files[name] = f
		}
		d.read(ctx, f, known)
	}
	next := d.settle()
	next.loadedAt = last.loadedAt
	if !maps.Equal(next.of, last.of) {
		next.loadedAt = time.Now().UTC()
		d.logger.Info("workflows loaded", "event", "circuit_breaker.workflows_loaded", "directory", d.path, "workflows", len(next.of))
	}
	d.now.Store(next)
}

// list gives the names of the files, sorted. Hidden ones are editors' and volumes' own.
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

// read takes a file's definition if the file may have changed, or could not be taken last time: an agent that it needs may be
// known by now.
func (d *directory) read(ctx context.Context, f *file, known knownAgents) {
	path := filepath.Join(d.path, f.name)
	now, err := filewatch.Look(path)
	if err == nil && !now.Regular() {
		err = errors.New("not a regular file")
	}
	if err != nil {
		f.next, f.problem = nil, fmt.Errorf("%s: %w", f.name, err)
		return
	}
	if f.problem == nil && now.Same(f.seen) {
		return
	}
	f.seen = now
	text, err := readBounded(path)
	if err != nil {
		f.next, f.problem = nil, fmt.Errorf("%s: %w", f.name, err)
		return
	}
	def, waits, err := check(ctx, f.name, text, known)
	f.waits = waits
	if err != nil {
		f.next, f.problem = nil, err
		return
	}
	def.Origin = FromFile
	f.next, f.problem = &def, nil
	if f.serving != nil && same(*f.serving, def) {
		f.next = f.serving
	}
}

// readBounded reads a little more than a definition may have.
func readBounded(path string) ([]byte, error) {
	in, err := os.Open(path) //nolint:gosec // a file of the operator's own directory
	if err != nil {
		return nil, err
	}
	defer func() { _ = in.Close() }()
	return io.ReadAll(io.LimitReader(in, MaxDefinition+1))
}

// same compares what definitions say.
func same(a, b Definition) bool {
	x, errX := a.MarshalJSON()
	y, errY := b.MarshalJSON()
	return errX == nil && errY == nil && string(x) == string(y)
}

// settle decides which file gives which workflow. A file that cannot be taken, or whose id is another's, keeps its last good
// definition as long as nobody else has that id.
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
		d.say(f)
		if f.serving != nil {
			out.of[f.serving.ID] = f.serving
		}
	}
	out.problem = errors.Join(problems...)
	return out
}

// claims gives each id to one of the files that hold it now: one that keeps its id goes before one that is new to it.
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

// say logs a problem once.
func (d *directory) say(f *file) {
	text := ""
	if f.problem != nil {
		text = f.problem.Error()
	}
	if text != "" && text != f.said {
		d.logger.Warn("workflow not taken", "event", "circuit_breaker.workflow_bad", "file", f.name, "error", f.problem)
	}
	f.said = text
}
