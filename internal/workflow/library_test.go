package workflow_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"testing"

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
