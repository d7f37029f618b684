package workflow

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// Texts keeps the definitions that were made through the API, as JSON by id. It is safe for concurrent use.
type Texts interface {
	Workflow(ctx context.Context, id string) (text string, err error) // "" when there is none
	Workflows(ctx context.Context) (map[string]string, error)         // all of them
	PutWorkflow(ctx context.Context, id, text string) error           // ErrFull: there are too many
	DropWorkflow(ctx context.Context, id string) (existed bool, err error)
}

// LibraryOptions configures a Library.
type LibraryOptions struct {
	Dir    string                  // WORKFLOWS_DIR; "": none
	Known  func(agent string) bool // whether there is such an agent; asked of new and changed definitions only. nil: always
	Texts  Texts
	Logger *slog.Logger
	Away   func() bool   // whether Redis is known to be away, so that nobody waits for it; nil: never
	Every  time.Duration // between looks at the directory; 0: a second
}

// Library answers which workflows there are: those in the files of a directory, and those that were made through the API. A file
// wins over Redis. It is safe for concurrent use.
type Library struct {
	o    LibraryOptions
	dir  *directory
	mu   sync.Mutex
	seen map[string]seen // of Redis, by id
	size int             // of the texts in seen
	most int             // of size; only tests have another than maxSeen
}

// seen is what Redis held when it was read last.
type seen struct {
	text string
	d    Definition
	bad  bool // the text is damaged: the workflow counts as unknown
}

// maxSeen bounds the texts that are remembered for the time when Redis is away, in bytes.
const maxSeen = 64 << 20

// Entry is one workflow in a list.
type Entry struct {
	ID     string `json:"workflow_id"`
	Name   string `json:"name,omitempty"`
	Origin Origin `json:"origin"`
	Steps  int    `json:"steps"`
}

// LibraryStatus says how the directory is.
type LibraryStatus struct {
	Dir       string // "": none
	Files     int
	Workflows int       // in force, from files
	LoadedAt  time.Time // of the last change that was taken
	Problem   error     // of each file that cannot be taken; nil: all is well
}

// NewLibrary reads the directory. An error says what is wrong with any of its files: none is taken then.
func NewLibrary(o LibraryOptions) (*Library, error) {
	if o.Every <= 0 {
		o.Every = time.Second
	}
	if o.Away == nil {
		o.Away = func() bool { return false }
	}
	l := &Library{o: o, seen: map[string]seen{}, most: maxSeen}
	l.dir = &directory{path: o.Dir, known: o.Known, logger: slog.New(slog.DiscardHandler), files: map[string]*file{}}
	l.dir.now.Store(&shelf{loadedAt: time.Now().UTC()})
	if o.Dir != "" {
		l.dir.scan()
	}
	if err := l.dir.now.Load().problem; err != nil {
		return nil, err
	}
	l.dir.logger = o.Logger // of the first trouble tells who starts us
	return l, nil
}

// Run looks at the directory again and again until ctx ends. A bad edit leaves the last good definition in force.
func (l *Library) Run(ctx context.Context) {
	t := time.NewTicker(l.o.Every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			if l.o.Dir != "" {
				l.dir.scan()
			}
		}
	}
}

// Status says how the directory is.
func (l *Library) Status() LibraryStatus {
	now := l.dir.now.Load()
	return LibraryStatus{Dir: l.o.Dir, Files: now.files, Workflows: len(now.of), LoadedAt: now.loadedAt, Problem: now.problem}
}

// Get is a workflow: from the directory, else from Redis, read each time. While Redis is away it is the last one read. ErrUnknown:
// there is none.
func (l *Library) Get(ctx context.Context, id string) (Definition, error) {
	if !breaker.ValidName(id) {
		return Definition{}, unknown(id)
	}
	if d, ok := l.dir.now.Load().of[id]; ok {
		return *d, nil
	}
	last, ok := l.remembered(id)
	ok = ok && !last.bad
	if ok && l.o.Away() {
		return last.d, nil
	}
	text, err := l.o.Texts.Workflow(ctx, id)
	switch {
	case err == nil:
		return l.take(id, text)
	case ok:
		return last.d, nil
	}
	return Definition{}, fmt.Errorf("workflow %q: %w", id, err)
}

func unknown(id string) error { return fmt.Errorf("workflow %q: %w", clip(id, 64), ErrUnknown) }

// List names all workflows, by id. When Redis does not answer, the error says so, and those known here are listed.
func (l *Library) List(ctx context.Context) ([]Entry, error) {
	texts, err := l.o.Texts.Workflows(ctx)
	all := map[string]Definition{}
	if err == nil {
		for id, text := range texts {
			if d, err := l.take(id, text); err == nil {
				all[id] = d
			}
		}
		l.forgetOthers(texts)
	} else {
		err = fmt.Errorf("list workflows: %w", err)
		for id, s := range l.allRemembered() {
			if !s.bad {
				all[id] = s.d
			}
		}
	}
	for id, d := range l.dir.now.Load().of {
		all[id] = *d
	}
	out := make([]Entry, 0, len(all))
	for _, id := range sortedKeys(all) {
		d := all[id]
		out = append(out, Entry{ID: id, Name: d.Name, Origin: d.Origin, Steps: len(d.Steps)})
	}
	return out, err
}

// Put keeps a definition in Redis; created says that there was none of its id. A *DefinitionError: it is not valid.
// ErrInDirectory: a file holds it. ErrFull: there are too many.
func (l *Library) Put(ctx context.Context, d Definition) (created bool, err error) {
	text, err := d.MarshalJSON()
	if err != nil {
		return false, fmt.Errorf("workflow %q: %w", clip(d.ID, 64), err)
	}
	if _, err := l.Parse(text); err != nil {
		return false, err
	}
	if _, ok := l.dir.now.Load().of[d.ID]; ok {
		return false, fmt.Errorf("workflow %q: %w", d.ID, ErrInDirectory)
	}
	old, err := l.o.Texts.Workflow(ctx, d.ID)
	if err != nil {
		return false, fmt.Errorf("workflow %q: %w", d.ID, err)
	}
	_, err = l.take(d.ID, old)
	created = errors.Is(err, ErrUnknown)
	if err := l.o.Texts.PutWorkflow(ctx, d.ID, string(text)); err != nil {
		return false, fmt.Errorf("workflow %q: %w", d.ID, err)
	}
	_, err = l.take(d.ID, string(text))
	return created, err
}

// Parse reads a definition as Put wants it, agents included. What is wrong is a *DefinitionError.
func (l *Library) Parse(text []byte) (Definition, error) { return ParseDefinition(text, l.o.Known) }

// Delete takes a workflow out of Redis. ErrInDirectory: a file holds it. ErrUnknown: there was none.
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
	l.remember(id, seen{})
	if !existed {
		return unknown(id)
	}
	return nil
}
