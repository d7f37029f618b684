package workflow

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"sync/atomic"
	"time"

	"github.com/breakerd/breakerd/internal/jsondoc"
	"github.com/breakerd/breakerd/internal/lastgood"
	"github.com/breakerd/breakerd/internal/text"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// Texts keeps the definitions that were made through the API, as JSON by id, and of each an [Entry] for lists. It is
// safe for concurrent use.
type Texts interface {
	Workflow(ctx context.Context, id string) (text string, err error) // "" when there is none
	WorkflowEntries(ctx context.Context) (map[string]string, error)   // of all, by id; "" for a text that has none
	PutWorkflow(ctx context.Context, id, text, entry string) error    // both or neither. ErrFull: there are too many
	DropWorkflow(ctx context.Context, id string) (existed bool, err error)
}

// LibraryOptions configures a Library.
type LibraryOptions struct {
	Dir string // WORKFLOWS_DIR; "": none
	// Known returns those of these agents that are not registered. It is called once for a definition that is new or has
	// changed, with each agent once, and bounds its own time. If it fails, the definition is taken. nil: all are
	// registered.
	Known     func(ctx context.Context, agents []string) (unknown []string, err error)
	Texts     Texts
	Logger    *slog.Logger
	StoreDown func() bool   // whether Redis is known to be down, so that nobody waits for it; nil: never
	Every     time.Duration // between polls of the directory; 0: a second
	MaxBytes  int           // of the texts that are cached for the time when Redis is down; 0: 16 MiB
}

// Library holds the workflows: those in the files of a directory, and those that were made through the API. A file wins
// over Redis. It is safe for concurrent use.
type Library struct {
	o      LibraryOptions
	dir    *directory
	redis  *lastgood.Cache[stored]
	listed atomic.Pointer[map[string]Entry] // what Redis held at the last list, by id
}

// stored is what Redis holds of a workflow. The zero value is "there is none".
type stored struct {
	text    string
	d       Definition
	damaged bool // the workflow counts as unknown
}

func (s stored) good() bool { return s.text != "" && !s.damaged }

// entrySize is about what a cached workflow takes beside its text, in bytes.
const entrySize = 512

// Entry is one workflow in a list.
type Entry struct {
	ID     string `json:"workflow_id"`
	Name   string `json:"name,omitempty"`
	Origin Origin `json:"origin"`
	Steps  int    `json:"steps"`
}

// LibraryStatus is the state of the directory.
type LibraryStatus struct {
	Dir       string // "": none
	Files     int
	Workflows int       // in force, from files
	LoadedAt  time.Time // of the last change that was taken
	Problem   error     // of each file that is not taken; nil: all are
}

// NewLibrary reads the directory. It fails if a file is bad, unless all that is wrong with it is that agents are not
// registered: others may register or delete an agent at any time, so such a file is tried again, and Status reports it.
func NewLibrary(o LibraryOptions) (*Library, error) {
	o.Every = cmp.Or(o.Every, time.Second)
	o.MaxBytes = cmp.Or(o.MaxBytes, 16<<20)
	if o.StoreDown == nil {
		o.StoreDown = func() bool { return false }
	}
	l := &Library{o: o}
	l.listed.Store(&map[string]Entry{})
	l.redis = lastgood.New(lastgood.Options[stored]{
		Read: l.read, Max: o.MaxBytes, Size: func(s stored) int { return entrySize + len(s.text) },
		Expendable: func(s stored) bool { return s.text == "" },
	})
	l.dir = &directory{path: o.Dir, known: o.Known, logger: slog.New(slog.DiscardHandler), files: map[string]*file{}}
	l.dir.now.Store(&snapshot{loadedAt: time.Now().UTC()})
	if o.Dir != "" {
		l.dir.scan(context.Background())
	}
	if err := l.dir.fatal(); err != nil {
		return nil, err // not logged as well
	}
	l.dir.logger = o.Logger
	for _, name := range sortedKeys(l.dir.files) {
		l.dir.files[name].logged = ""
		l.dir.log(l.dir.files[name])
	}
	return l, nil
}

// Run polls the directory until ctx ends. A bad edit leaves the last good definition in force.
func (l *Library) Run(ctx context.Context) {
	t := time.NewTicker(l.o.Every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			if l.o.Dir != "" {
				l.dir.scan(ctx)
			}
		}
	}
}

// Status returns the state of the directory.
func (l *Library) Status() LibraryStatus {
	now := l.dir.now.Load()
	return LibraryStatus{l.o.Dir, now.files, len(now.of), now.loadedAt, now.problem}
}

// Get returns a workflow: from the directory, else from Redis, which is read each time. While Redis is down it returns
// the last one read. [ErrUnknown]: there is none.
func (l *Library) Get(ctx context.Context, id string) (Definition, error) {
	if !breaker.ValidName(id) {
		return Definition{}, unknown(id)
	}
	if d, ok := l.dir.now.Load().of[id]; ok {
		return *d, nil
	}
	if last := l.redis.Peek(id); last != nil && last.Value.good() && l.o.StoreDown() {
		return last.Value.d, nil
	}
	s, err := l.redis.Refresh(ctx, id)
	switch {
	case s != nil && s.Value.good():
		return s.Value.d, nil
	case err != nil:
		return Definition{}, err
	}
	return Definition{}, unknown(id)
}

func unknown(id string) error { return fmt.Errorf("workflow %q: %w", text.Short(id), ErrUnknown) }

// read reads a workflow from Redis. It does not ask again which agents are registered: a step whose agent is gone fails
// when it runs.
func (l *Library) read(ctx context.Context, id string, last stored) (stored, error) {
	raw, err := l.o.Texts.Workflow(ctx, id)
	switch {
	case err != nil:
		return stored{}, fmt.Errorf("workflow %q: %w", id, err)
	case raw == last.text:
		return last, nil
	case raw == "":
		return stored{}, nil
	}
	d, err := ParseDefinition([]byte(raw), nil)
	d.Origin = FromAPI
	damaged := err != nil || d.ID != id
	if damaged {
		l.o.Logger.Warn("workflow in Redis is damaged",
			"event", "circuit_breaker.workflow_bad", "workflow", text.Short(id), "error", err)
	}
	return stored{raw, d, damaged}, nil
}

// List lists all workflows, by id. If Redis does not answer, it returns those known here and the error.
func (l *Library) List(ctx context.Context) ([]Entry, error) {
	all, err := l.list(ctx)
	if err != nil {
		all, err = l.lastListed(), fmt.Errorf("list workflows: %w", err)
	}
	for id, d := range l.dir.now.Load().of {
		all[id] = d.entry()
	}
	out := make([]Entry, 0, len(all))
	for _, id := range sortedKeys(all) {
		out = append(out, all[id])
	}
	return out, err
}

func (d *Definition) entry() Entry {
	return Entry{ID: d.ID, Name: d.Name, Origin: d.Origin, Steps: len(d.Steps)}
}

// list lists what Redis holds. A text without an entry, an external edit, is read itself.
func (l *Library) list(ctx context.Context) (map[string]Entry, error) {
	cached := l.redis.Entries()
	entries, err := l.o.Texts.WorkflowEntries(ctx)
	if err != nil {
		return nil, err
	}
	out := map[string]Entry{}
	for id, raw := range entries {
		e := Entry{}
		if json.Unmarshal([]byte(raw), &e) != nil || e.ID != id {
			if !breaker.ValidName(id) {
				continue
			}
			s, err := l.redis.Refresh(ctx, id)
			if err != nil {
				return nil, err
			} else if !s.Value.good() {
				continue
			}
			e = s.Value.d.entry()
		}
		e.Origin = FromAPI
		out[id] = e
	}
	for _, s := range cached {
		if _, there := entries[s.Name]; !there {
			l.redis.Replace(s, stored{}) // unless it was read or written since
		}
	}
	l.listed.Store(new(maps.Clone(out)))
	return out, nil
}

// lastListed is the last list, corrected by what was read and written since.
func (l *Library) lastListed() map[string]Entry {
	out := maps.Clone(*l.listed.Load())
	for _, s := range l.redis.Entries() {
		if delete(out, s.Name); s.Value.good() {
			out[s.Name] = s.Value.d.entry()
		}
	}
	return out
}

// Put parses a definition, strictly, and stores it in Redis. created is true if there was none of its id. An error is a
// [*DefinitionError], also for agents that are not registered, [ErrInDirectory], [ErrFull], or of the store.
func (l *Library) Put(ctx context.Context, raw []byte) (d Definition, created bool, err error) {
	d, _, err = check(ctx, "", raw, l.o.Known)
	if err != nil {
		return d, false, err
	}
	d.Origin = FromAPI
	var small bytes.Buffer
	if err := json.Compact(&small, bytes.TrimPrefix(raw, []byte("\ufeff"))); err != nil {
		return d, false, fmt.Errorf("workflow %q: %w", d.ID, err)
	}
	if n := small.Len(); n > MaxKept {
		const words = "%d bytes, not counting blanks; want at most %d: a larger one belongs into WORKFLOWS_DIR"
		return d, false, &DefinitionError{Faults: []jsondoc.Fault{{Line: 1, Message: fmt.Sprintf(words, n, MaxKept)}}}
	}
	if _, ok := l.dir.now.Load().of[d.ID]; ok {
		return d, false, fmt.Errorf("workflow %q: %w", d.ID, ErrInDirectory)
	}
	before, err := l.redis.Refresh(ctx, d.ID)
	if err != nil {
		return d, false, err
	}
	entry, err := encode(d.entry())
	if err == nil {
		err = l.o.Texts.PutWorkflow(ctx, d.ID, small.String(), string(entry))
	}
	if err != nil {
		return d, false, fmt.Errorf("workflow %q: %w", d.ID, err)
	}
	l.redis.Put(d.ID, stored{text: small.String(), d: d})
	return d, !before.Value.good(), nil
}

// Delete removes a workflow from Redis. [ErrInDirectory]: a file holds it. [ErrUnknown]: there was none.
func (l *Library) Delete(ctx context.Context, id string) error {
	if !breaker.ValidName(id) {
		return unknown(id)
	}
	if _, ok := l.dir.now.Load().of[id]; ok {
		return fmt.Errorf("workflow %q: %w", id, ErrInDirectory)
	}
	existed, err := l.o.Texts.DropWorkflow(ctx, id)
	if err != nil {
		return fmt.Errorf("workflow %q: %w", id, err)
	}
	l.redis.Put(id, stored{})
	if !existed {
		return unknown(id)
	}
	return nil
}
