package workflow_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakerd/breakerd/internal/workflow"
)

// folder is WORKFLOWS_DIR. Each write sets a new time, for a synctest bubble's clock may not move.
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

// running is a library whose directory is polled until the test ends. It is for a synctest bubble.
type running struct {
	*workflow.Library

	t   *testing.T
	log lines
}

// lines collects log lines.
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

func run(t *testing.T, f *folder, s *texts, known func(context.Context, []string) ([]string, error)) *running {
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

// want compares the workflows: "a=one b=two" are two ids with their names.
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

// problem compares the directory's problem, and how many were logged so far.
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

func TestDirectory_IsPolled(t *testing.T) {
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

func TestDirectory_BadEditKeepsTheLastGoodVersion(t *testing.T) {
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
		bad := "a.json:1:2: unexpected end of JSON input\nc.json:1: workflow_id is missing\nc.json:1: steps is missing"
		r.problem(bad, 2)
		f.remove("c.json")
		f.write("a.json", simple("a", "repaired"))
		r.poll()
		r.want("a=repaired b=two")
		r.problem("", 2)
		f.write("a.json", "{\n")
		r.poll()
		r.problem("a.json:1:2: unexpected end of JSON input", 3)
		f.remove("a.json")
		r.poll()
		r.want("b=two")
		r.problem("", 3)
	})
}

func TestDirectory_IDBelongsToOneFile(t *testing.T) {
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
		f.write("c.json", "")
		r.poll()
		r.want("b=from c c=from a")
		f.write("a0.json", simple("b", "heir"))
		r.poll()
		r.want("b=heir c=from a")
		r.problem("c.json:1:1: unexpected end of JSON input", 4)
	})
}

func TestDirectory_FileWaitsForItsAgent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		agents := map[string]bool{"agent": true}
		known := func(_ context.Context, named []string) ([]string, error) {
			mu.Lock()
			defer mu.Unlock()
			return slices.DeleteFunc(slices.Clone(named), func(agent string) bool { return agents[agent] }), nil
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
		r.want("a=two") // its agent was deleted since
	})
}

func TestDirectory_EditWithinTheClocksResolutionIsSeen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFolder(t, map[string]string{"a.json": simple("a", "one")})
		now := func() {
			t.Helper()
			at := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) // the bubble's clock begins here
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

// Kubernetes mounts a ConfigMap as a.json -> ..data/a.json, ..data -> ..2026_01, and replaces ..data.
func TestDirectory_FollowsLinks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFolder(t, nil)
		old := time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)
		for version, name := range map[string]string{"..1": "one", "..2": "two"} {
			if err := os.Mkdir(filepath.Join(f.path, version), 0o700); err != nil {
				t.Fatal(err)
			}
			f.write(version+"/a.json", simple("a", name))
			if err := os.Chtimes(filepath.Join(f.path, version, "a.json"), old, old); err != nil { // same size, same time
				t.Fatal(err)
			}
		}
		data := filepath.Join(f.path, "..data")
		for _, link := range [][2]string{{"..1", data}, {"..data/a.json", filepath.Join(f.path, "a.json")}, {"..2", data + "_tmp"}} {
			if err := os.Symlink(link[0], link[1]); err != nil {
				t.Fatal(err)
			}
		}
		r := run(t, f, newTexts(), nil)
		r.want("a=one")
		if err := os.Rename(data+"_tmp", data); err != nil {
			t.Fatal(err)
		}
		r.poll()
		r.want("a=two")
	})
}

func TestDirectory_ThatDisappearsLeavesTheLastSnapshot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFolder(t, map[string]string{"a.json": simple("a", "one")})
		r := run(t, f, newTexts(), nil)
		moved := f.path + ".moved"
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

func TestNewLibrary_FailsOnBadFiles(t *testing.T) {
	t.Parallel()
	f := newFolder(t, map[string]string{
		"a.json": simple("x", "one"), "b.json": simple("x", "two"), "c.json": "{}", "d.json": strings.Repeat(" ", workflow.MaxDefinition+1),
	})
	if err := os.Symlink("nowhere", filepath.Join(f.path, "e.json")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/dev/null", filepath.Join(f.path, "f.json")); err != nil {
		t.Fatal(err)
	}
	_, err := workflow.NewLibrary(workflow.LibraryOptions{Dir: f.path, Texts: newTexts(), Logger: discard()})
	want := "b.json: workflow_id: \"x\" stands in a.json too\nc.json:1: workflow_id is missing\nc.json:1: steps is missing\n" +
		"d.json:1: larger than 1048576 bytes\ne.json: stat " + f.path + "/e.json: no such file or directory\nf.json: " + f.path + "/f.json is not a regular file"
	if err == nil || err.Error() != want {
		t.Errorf("%v\nwant %s", err, want)
	}
	_, err = workflow.NewLibrary(workflow.LibraryOptions{Dir: f.path + "/ghost", Texts: newTexts(), Logger: discard()})
	if err == nil || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
}
