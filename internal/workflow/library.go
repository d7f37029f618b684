package workflow

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/breakerd/breakerd/internal/text"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// Texts keeps the definitions that were made through the API, as JSON by id, and of each an entry for lists. It is safe for
// concurrent use.
type Texts interface {
	Workflow(ctx context.Context, id string) (text string, err error) // "" when there is none
	WorkflowEntries(ctx context.Context) (map[string]string, error)   // of all, by id; "" for a text that has none
	PutWorkflow(ctx context.Context, id, text, entry string) error    // both or neither. ErrFull: there are too many
	DropWorkflow(ctx context.Context, id string) (existed bool, err error)
}

// LibraryOptions configures a Library.
type LibraryOptions struct {
	Dir string // WORKFLOWS_DIR; "": none
	// Known says which of these agents there are none of. It is asked once for all agents of a definition that is new or has changed,
	// each named once, and bounds its own time. An error: nobody can tell, and the definition is taken. nil: there are all.
	Known     func(ctx context.Context, agents []string) (unknown []string, err error)
	Texts     Texts
	Logger    *slog.Logger
	StoreDown func() bool   // whether Redis is known to be away, so that nobody waits for it; nil: never
	Every     time.Duration // between looks at the directory; 0: a second
}

// Library answers which workflows there are: those in the files of a directory, and those that were made through the API. A file
// wins over Redis. It is safe for concurrent use.
type Library struct {
	o    LibraryOptions
	dir  *directory
	most int // of size; only tests have another than maxSeen

	mu     sync.Mutex
	seen   map[string]seen  // of Redis, by id
	size   int              // of the texts in seen
	events int              // how often something was remembered or forgotten
	listed map[string]Entry // what Redis had when it was listed last, by id
}

// seen is what Redis held when it was read last.
type seen struct {
	text string
	d    Definition
	bad  bool // the text is damaged: the workflow counts as unknown
	when int  // as events counts
}

// maxSeen bounds the texts that are remembered for the time when Redis is away, in bytes. What is made of them takes several times
// as much.
const maxSeen = 16 << 20

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

// NewLibrary reads the directory. An error says what is wrong with any of its files: none is taken then. A file whose agents are not
// all there is not taken, but no error: Status tells, and it is tried again and again, for others may register or delete an agent at any time.
func NewLibrary(o LibraryOptions) (*Library, error) {
	if o.Every <= 0 {
		o.Every = time.Second
	}
	if o.StoreDown == nil {
		o.StoreDown = func() bool { return false }
	}
	l := &Library{o: o, seen: map[string]seen{}, most: maxSeen}
	l.dir = &directory{path: o.Dir, known: o.Known, logger: slog.New(slog.DiscardHandler), files: map[string]*file{}}
	l.dir.now.Store(&snapshot{loadedAt: time.Now().UTC()})
	if o.Dir != "" {
		l.dir.scan(context.Background()) // whoever starts us waits
	}
	if err := l.dir.fatal(); err != nil {
		return nil, err // tells who starts us
	}
	l.dir.logger = o.Logger
	for _, name := range sortedKeys(l.dir.files) {
		l.dir.files[name].said = ""
		l.dir.say(l.dir.files[name])
	}
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
				l.dir.scan(ctx)
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
	if ok && l.o.StoreDown() {
		return last.d, nil
	}
	d, err := l.read(ctx, id)
	if ok && err != nil && !errors.Is(err, ErrUnknown) {
		return last.d, nil
	}
	return d, err
}

func unknown(id string) error { return fmt.Errorf("workflow %q: %w", text.Short(id), ErrUnknown) }

// List names all workflows, by id. When Redis does not answer, the error says so, and those known here are listed.
func (l *Library) List(ctx context.Context) ([]Entry, error) {
	all, err := l.kept(ctx)
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

// kept lists what is in Redis. Of a text without an entry, which somebody put there by hand, the text is read.
func (l *Library) kept(ctx context.Context) (map[string]Entry, error) {
	begun := l.eventsNow()
	entries, err := l.o.Texts.WorkflowEntries(ctx)
	if err != nil {
		return nil, err
	}
	out := map[string]Entry{}
	for id, text := range entries {
		e := Entry{}
		if json.Unmarshal([]byte(text), &e) != nil || e.ID != id {
			d, err := l.read(ctx, id)
			if errors.Is(err, ErrUnknown) {
				continue
			} else if err != nil {
				return nil, err
			}
			e = d.entry()
		}
		e.Origin = FromAPI
		out[id] = e
	}
	l.follow(out, entries, begun)
	return out, nil
}

// read is what Redis has of an id.
func (l *Library) read(ctx context.Context, id string) (Definition, error) {
	if !breaker.ValidName(id) {
		return Definition{}, unknown(id)
	}
	text, err := l.o.Texts.Workflow(ctx, id)
	if err != nil {
		return Definition{}, fmt.Errorf("workflow %q: %w", id, err)
	}
	return l.take(id, text)
}

// Put reads a definition, strictly, and keeps it in Redis; created says that there was none of its id. A *DefinitionError says all that
// is wrong with it, agents that there are none of included. ErrInDirectory: a file holds it. ErrFull: there are too many.
func (l *Library) Put(ctx context.Context, text []byte) (d Definition, created bool, err error) {
	d, _, err = check(ctx, "", text, l.o.Known)
	if err != nil {
		return d, false, err
	}
	d.Origin = FromAPI
	var small bytes.Buffer
	if err := json.Compact(&small, bytes.TrimPrefix(text, []byte("\ufeff"))); err != nil {
		return d, false, fmt.Errorf("workflow %q: %w", d.ID, err)
	}
	if n := small.Len(); n > MaxKept {
		const words = "%d bytes, not counting blanks; want at most %d: a larger one belongs into WORKFLOWS_DIR"
		return d, false, &DefinitionError{Faults: []Fault{{Line: 1, Message: fmt.Sprintf(words, n, MaxKept)}}}
	}
	if _, ok := l.dir.now.Load().of[d.ID]; ok {
		return d, false, fmt.Errorf("workflow %q: %w", d.ID, ErrInDirectory)
	}
	_, err = l.read(ctx, d.ID)
	if created = errors.Is(err, ErrUnknown); err != nil && !created {
		return d, false, err
	}
	entry, err := encode(d.entry())
	if err == nil {
		err = l.o.Texts.PutWorkflow(ctx, d.ID, small.String(), string(entry))
	}
	if err != nil {
		return d, false, fmt.Errorf("workflow %q: %w", d.ID, err)
	}
	l.remember(d.ID, seen{text: small.String(), d: d})
	return d, created, nil
}

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
