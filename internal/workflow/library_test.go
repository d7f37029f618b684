package workflow_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakerd/breakerd/internal/workflow"
)

// texts is Redis.
type texts struct {
	mu    sync.Mutex
	of    map[string]string
	away  error
	reads int
}

func newTexts() *texts { return &texts{of: map[string]string{}} }

func (s *texts) set(id, text string, away error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = away
	if id != "" {
		s.of[id] = text
	}
}

func (s *texts) Workflow(_ context.Context, id string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	return s.of[id], s.away
}

func (s *texts) Workflows(context.Context) (map[string]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.of), s.away
}

func (s *texts) PutWorkflow(_ context.Context, id, text string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away == nil {
		s.of[id] = text
	}
	return s.away
}

func (s *texts) DropWorkflow(_ context.Context, id string) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away != nil {
		return false, s.away
	}
	_, ok := s.of[id]
	delete(s.of, id)
	return ok, nil
}

// simple is a definition with one step; name tells one version from another.
func simple(id, name string) string {
	return fmt.Sprintf(`{"workflow_id": %q, "name": %q, "steps": {"a": {"agent_name": "agent"}}}`, id, name)
}

// folder is WORKFLOWS_DIR; every change of a file is dated, for the clock of a test may stand still.
type folder struct {
	t    *testing.T
	path string
	tick time.Duration
}

func newFolder(t *testing.T, files map[string]string) *folder {
	t.Helper()
	f := &folder{t: t, path: t.TempDir()}
	for name, text := range files {
		f.write(name, text)
	}
	return f
}

func (f *folder) write(name, text string) {
	f.t.Helper()
	path := filepath.Join(f.path, name)
	f.tick += time.Second
	at := time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC).Add(f.tick)
	if err := errors.Join(os.WriteFile(path, []byte(text), 0o600), os.Chtimes(path, at, at)); err != nil {
		f.t.Fatal(err)
	}
}

func (f *folder) remove(name string) {
	f.t.Helper()
	if err := os.Remove(filepath.Join(f.path, name)); err != nil {
		f.t.Fatal(err)
	}
}

// running is a library whose directory is polled until the test ends. In a bubble, poll lets a second pass.
type running struct {
	*workflow.Library

	t   *testing.T
	log lines
}

// lines is a log.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(line)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func run(t *testing.T, f *folder, s *texts, known func(string) bool) *running {
	t.Helper()
	r := &running{t: t}
	lib, err := workflow.NewLibrary(workflow.LibraryOptions{
		Dir: f.path, Texts: s, Known: known, Logger: slog.New(slog.NewTextHandler(&r.log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	r.Library = lib
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	go lib.Run(ctx)
	return r
}

func (r *running) poll() {
	<-time.After(time.Second + time.Millisecond)
	synctest.Wait()
}

// want compares the ids and names of all workflows: "a=one b=two".
func (r *running) want(want string) {
	r.t.Helper()
	entries, err := r.List(r.t.Context())
	if err != nil {
		r.t.Error(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.ID+"="+e.Name)
		if d, err := r.Get(r.t.Context(), e.ID); err != nil || d.Name != e.Name || d.Origin != e.Origin || len(d.Steps) != e.Steps {
			r.t.Errorf("listed %+v, got %+v (%v)", e, d, err)
		}
	}
	if s := strings.Join(got, " "); s != want {
		r.t.Errorf("workflows %q, want %q", s, want)
	}
}

// problem compares the directory's problem, and how often it was logged.
func (r *running) problem(want string, logged int) {
	r.t.Helper()
	got := ""
	if err := r.Status().Problem; err != nil {
		got = err.Error()
	}
	if got != want {
		r.t.Errorf("problem %q\nwant    %q", got, want)
	}
	if n := strings.Count(r.log.String(), "event=circuit_breaker.workflow_bad"); n != logged {
		r.t.Errorf("logged %d times, want %d:\n%s", n, logged, r.log.String())
	}
}

func TestTheDirectoryIsFollowed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFolder(t, map[string]string{"a.json": simple("a", "one"), "b.json": simple("b", "one"), "notes.txt": "no", ".hidden.json": "no"})
		if err := os.Mkdir(filepath.Join(f.path, "dir.json"), 0o700); err != nil {
			t.Fatal(err)
		}
		r := run(t, f, newTexts(), nil)
		r.want("a=one b=one")
		if s := r.Status(); s.Dir != f.path || s.Files != 2 || s.Workflows != 2 || !s.LoadedAt.Equal(time.Now()) {
			t.Errorf("%+v", s)
		}
		loaded := time.Now()
		r.poll()
		f.write("a.json", simple("a", "two"))
		f.remove("b.json")
		f.write("c.json", simple("c", "new"))
		r.poll()
		r.want("a=two c=new")
		if s := r.Status(); s.Files != 2 || !s.LoadedAt.After(loaded) {
			t.Errorf("%+v", s)
		}
		f.write("a.json", simple("d", "other id"))
		r.poll()
		r.want("c=new d=other id")
		r.problem("", 0)
	})
}

func TestABadEditKeepsTheLastGoodVersion(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFolder(t, map[string]string{"a.json": simple("a", "one"), "b.json": simple("b", "one")})
		r := run(t, f, newTexts(), nil)
		f.write("a.json", "{\n")
		f.write("b.json", simple("b", "two"))
		f.write("c.json", `{}`)
		r.poll()
		r.poll()
		r.want("a=one b=two")
		bad := "a.json:1: not JSON: unexpected end of JSON input\nc.json:1: workflow_id is missing\nc.json:1: steps is missing"
		r.problem(bad, 2)
		f.remove("c.json")
		f.write("a.json", simple("a", "mended"))
		r.poll()
		r.want("a=mended b=two")
		r.problem("", 2)
		f.write("a.json", "{\n")
		r.poll()
		r.problem("a.json:1: not JSON: unexpected end of JSON input", 3)
		f.remove("a.json")
		r.poll()
		r.want("b=two")
		r.problem("", 3)
	})
}

func TestAnIDBelongsToOneFile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFolder(t, map[string]string{"b.json": simple("b", "b"), "c.json": simple("c", "c")})
		r := run(t, f, newTexts(), nil)
		f.write("a.json", simple("b", "thief"))
		f.write("c.json", simple("b", "thief too"))
		r.poll()
		r.want("b=b c=c")
		r.problem(`a.json: workflow_id: "b" stands in b.json too`+"\n"+`c.json: workflow_id: "b" stands in b.json too`, 2)
		f.remove("b.json")
		r.poll()
		r.want("b=thief c=c")
		r.problem(`c.json: workflow_id: "b" stands in a.json too`, 3)
		f.write("a.json", simple("c", "from a"))
		f.write("c.json", simple("b", "from c"))
		r.poll()
		r.want("b=from c c=from a")
		r.problem("", 3)
	})
}

func TestAFileWaitsForItsAgent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		agents := map[string]bool{"agent": true}
		known := func(agent string) bool {
			mu.Lock()
			defer mu.Unlock()
			return agents[agent]
		}
		f := newFolder(t, map[string]string{"a.json": simple("a", "one")})
		r := run(t, f, newTexts(), known)
		f.write("a.json", strings.Replace(simple("a", "two"), `"agent"`, `"other"`, 1))
		r.poll()
		r.want("a=one")
		r.problem(`a.json:1: steps.a.agent_name: unknown agent "other"`, 1)
		mu.Lock()
		agents = map[string]bool{"other": true}
		mu.Unlock()
		r.poll()
		r.want("a=two")
		mu.Lock()
		agents = nil
		mu.Unlock()
		r.poll()
		r.want("a=two") // whose agent has gone stays
	})
}

func TestAnEditWithinTheGrainOfTheClockIsSeen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFolder(t, map[string]string{"a.json": simple("a", "one")})
		now := func() {
			t.Helper()
			at := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) // the bubble's now
			if err := os.Chtimes(filepath.Join(f.path, "a.json"), at, at); err != nil {
				t.Fatal(err)
			}
		}
		now()
		r := run(t, f, newTexts(), nil)
		f.write("a.json", simple("a", "two"))
		now()
		r.poll()
		r.want("a=two")
	})
}

func TestADirectoryThatGoesLeavesWhatWasThere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFolder(t, map[string]string{"a.json": simple("a", "one")})
		r := run(t, f, newTexts(), nil)
		moved := f.path + ".away"
		if err := os.Rename(f.path, moved); err != nil {
			t.Fatal(err)
		}
		r.poll()
		r.poll()
		r.want("a=one")
		r.problem("workflows: open "+f.path+": no such file or directory", 1)
		if err := os.Rename(moved, f.path); err != nil {
			t.Fatal(err)
		}
		f.write("a.json", simple("a", "two"))
		r.poll()
		r.want("a=two")
		r.problem("", 1)
	})
}

func TestALibraryDoesNotStartWithBadFiles(t *testing.T) {
	t.Parallel()
	f := newFolder(t, map[string]string{"a.json": simple("x", "one"), "b.json": simple("x", "two"), "c.json": "{}", "d.json": strings.Repeat(" ", workflow.MaxDefinition+1)})
	if err := os.Symlink("nowhere", filepath.Join(f.path, "e.json")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/dev/null", filepath.Join(f.path, "f.json")); err != nil {
		t.Fatal(err)
	}
	_, err := workflow.NewLibrary(workflow.LibraryOptions{Dir: f.path, Texts: newTexts(), Logger: discard()})
	want := "b.json: workflow_id: \"x\" stands in a.json too\nc.json:1: workflow_id is missing\nc.json:1: steps is missing\n" +
		"d.json:1: larger than 1048576 bytes\ne.json: stat " + f.path + "/e.json: no such file or directory\nf.json: not a regular file"
	if err == nil || err.Error() != want {
		t.Errorf("%v\nwant %s", err, want)
	}
	_, err = workflow.NewLibrary(workflow.LibraryOptions{Dir: f.path + "/ghost", Texts: newTexts(), Logger: discard()})
	if err == nil || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
}

// apiLibrary has the workflow "filed" in a file.
func apiLibrary(t *testing.T, s *texts, o workflow.LibraryOptions) *workflow.Library {
	t.Helper()
	o.Dir, o.Texts = newFolder(t, map[string]string{"a.json": simple("filed", "from the file")}).path, s
	if o.Logger == nil {
		o.Logger = discard()
	}
	lib, err := workflow.NewLibrary(o)
	if err != nil {
		t.Fatal(err)
	}
	return lib
}

func TestWorkflowsOfTheAPIAreKept(t *testing.T) {
	t.Parallel()
	s := newTexts()
	lib := apiLibrary(t, s, workflow.LibraryOptions{Known: func(agent string) bool { return agent == "agent" }})
	ctx := t.Context()
	for _, c := range []struct {
		text    string
		created bool
	}{{simple("w", "one"), true}, {simple("w", "two"), false}} {
		d := parsed(t, c.text)
		if created, err := lib.Put(ctx, d); err != nil || created != c.created {
			t.Errorf("%s: created %v, %v", c.text, created, err)
		}
		got, err := lib.Get(ctx, "w")
		if err != nil || got.Name != d.Name || got.Origin != workflow.FromAPI {
			t.Errorf("%+v, %v", got, err)
		}
	}
	if _, err := lib.Put(ctx, parsed(t, simple("filed", "thief"))); !errors.Is(err, workflow.ErrInDirectory) {
		t.Errorf("one of a file: %v", err)
	}
	var bad *workflow.DefinitionError
	for _, d := range []workflow.Definition{{ID: "w"}, parsed(t, strings.Replace(simple("w", ""), `"agent"`, `"ghost"`, 1))} {
		if _, err := lib.Put(ctx, d); !errors.As(err, &bad) {
			t.Errorf("%+v: %v", d, err)
		}
	}
	entries, err := lib.List(ctx)
	if got := asJSON(t, entries); err != nil || got != `[{"workflow_id":"filed","name":"from the file","origin":"file","steps":1},`+
		`{"workflow_id":"w","name":"two","origin":"api","steps":1}]` {
		t.Errorf("%s, %v", got, err)
	}
	for id, want := range map[string]error{"filed": workflow.ErrInDirectory, "w": nil, "ghost": workflow.ErrUnknown, "../x": workflow.ErrUnknown} {
		if err := lib.Delete(ctx, id); !errors.Is(err, want) {
			t.Errorf("delete %s: %v, want %v", id, err, want)
		}
	}
	for _, id := range []string{"w", "ghost", "../x", ""} {
		if _, err := lib.Get(ctx, id); !errors.Is(err, workflow.ErrUnknown) {
			t.Errorf("get %s: %v", id, err)
		}
	}
}

func TestAFileWinsOverRedis(t *testing.T) {
	t.Parallel()
	s := newTexts()
	s.set("filed", simple("filed", "from the API"), nil)
	lib := apiLibrary(t, s, workflow.LibraryOptions{})
	if d, err := lib.Get(t.Context(), "filed"); err != nil || d.Name != "from the file" {
		t.Errorf("%+v, %v", d, err)
	}
	if entries, err := lib.List(t.Context()); err != nil || len(entries) != 1 || entries[0].Origin != workflow.FromFile {
		t.Errorf("%+v, %v", entries, err)
	}
}

func TestTheLastGoodOneServesWhileRedisIsAway(t *testing.T) {
	t.Parallel()
	s, gone, away := newTexts(), errors.New("gone"), false
	s.set("w", simple("w", "one"), nil)
	s.set("never-read", simple("never-read", ""), nil)
	s.set("deleted", simple("deleted", ""), nil)
	lib := apiLibrary(t, s, workflow.LibraryOptions{Away: func() bool { return away }})
	ctx := t.Context()
	_, err := lib.Get(ctx, "w")
	_, err2 := lib.Get(ctx, "deleted")
	if err := errors.Join(err, err2, lib.Delete(ctx, "deleted")); err != nil {
		t.Fatal(err)
	}
	s.set("w", simple("w", "two"), gone)
	if d, err := lib.Get(ctx, "w"); err != nil || d.Name != "one" {
		t.Errorf("%+v, %v", d, err)
	}
	for _, id := range []string{"never-read", "deleted"} {
		if _, err := lib.Get(ctx, id); !errors.Is(err, gone) || errors.Is(err, workflow.ErrUnknown) {
			t.Errorf("%s: %v", id, err)
		}
	}
	if entries, err := lib.List(ctx); !errors.Is(err, gone) || len(entries) != 2 || entries[1].ID != "w" {
		t.Errorf("%+v, %v", entries, err)
	}
	if _, err := lib.Put(ctx, parsed(t, simple("w", ""))); !errors.Is(err, gone) {
		t.Errorf("put: %v", err)
	}
	if err := lib.Delete(ctx, "w"); !errors.Is(err, gone) {
		t.Errorf("delete: %v", err)
	}
	away = true
	reads := s.reads
	if _, err := lib.Get(ctx, "w"); err != nil || s.reads != reads {
		t.Errorf("known to be away, it is asked %d times (%v)", s.reads-reads, err)
	}
	away = false
	s.set("", "", nil)
	if d, err := lib.Get(ctx, "w"); err != nil || d.Name != "two" {
		t.Errorf("back: %+v, %v", d, err)
	}
}

func TestADamagedTextIsUnknownAndToldOnce(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	s := newTexts()
	s.set("w", "{", nil)
	s.set("other", simple("w", "under another id"), nil)
	lib := apiLibrary(t, s, workflow.LibraryOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	for range 3 {
		for _, id := range []string{"w", "other"} {
			if _, err := lib.Get(t.Context(), id); !errors.Is(err, workflow.ErrUnknown) {
				t.Errorf("%s: %v", id, err)
			}
		}
		if entries, err := lib.List(t.Context()); err != nil || len(entries) != 1 {
			t.Errorf("%+v, %v", entries, err)
		}
	}
	if n := strings.Count(log.String(), "event=circuit_breaker.workflow_bad"); n != 2 {
		t.Errorf("%d lines for two texts:\n%s", n, log.String())
	}
	if created, err := lib.Put(t.Context(), parsed(t, simple("w", "mended"))); err != nil || !created {
		t.Errorf("created %v, %v", created, err)
	}
	if d, err := lib.Get(t.Context(), "w"); err != nil || d.Name != "mended" {
		t.Errorf("%+v, %v", d, err)
	}
}

func TestWhatIsRememberedIsBoundedAndFollowsRedis(t *testing.T) {
	t.Parallel()
	s, gone := newTexts(), errors.New("gone")
	for i := range 10 {
		s.set(fmt.Sprint("w", i), simple(fmt.Sprint("w", i), "name"), nil)
	}
	lib := apiLibrary(t, s, workflow.LibraryOptions{})
	ctx := t.Context()
	listed := func(err error) int { // without the one of the file
		t.Helper()
		s.set("", "", err)
		entries, got := lib.List(ctx)
		if !errors.Is(got, err) {
			t.Errorf("%v, want %v", got, err)
		}
		return len(entries) - 1
	}
	if n, away := listed(nil), listed(gone); n != 10 || away != 10 {
		t.Errorf("%d listed, %d while Redis is away; want 10", n, away)
	}
	if _, err := lib.Get(ctx, "w0"); err != nil {
		t.Error(err)
	}
	s.set("", "", nil)
	s.mu.Lock()
	delete(s.of, "w0") // by another replica
	s.mu.Unlock()
	if n, away := listed(nil), listed(gone); n != 9 || away != 9 {
		t.Errorf("%d listed, %d while Redis is away; want 9", n, away)
	}
	lib.Remember(3 * len(simple("w0", "name")))
	s.set("w1", simple("w1", "edit"), nil)
	if n, away := listed(nil), listed(gone); n != 9 || away != 3 {
		t.Errorf("%d listed, %d while Redis is away; want 9 and the 3 that there is room for", n, away)
	}
}
