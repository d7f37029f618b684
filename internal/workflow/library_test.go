package workflow_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/breakerd/breakerd/internal/workflow"
)

// texts are Texts in memory.
type texts struct {
	mu    sync.Mutex
	of    map[string]string
	down  error // nil: it is up
	reads int

	entries       map[string]string
	beforeListing func() // runs in WorkflowEntries, when the answer is made
}

func newTexts() *texts { return &texts{of: map[string]string{}, entries: map[string]string{}} }

func (s *texts) set(id, text string, down error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
	if id != "" {
		s.of[id] = text
	}
}

func (s *texts) Workflow(_ context.Context, id string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	return s.of[id], s.down
}

func (s *texts) WorkflowEntries(context.Context) (map[string]string, error) {
	s.mu.Lock()
	out, down, before := map[string]string{}, s.down, s.beforeListing
	for id := range s.of {
		out[id] = s.entries[id]
	}
	s.mu.Unlock()
	if before != nil {
		before()
	}
	return out, down
}

func (s *texts) PutWorkflow(_ context.Context, id, text, entry string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down == nil {
		s.of[id], s.entries[id] = text, entry
	}
	return s.down
}

func (s *texts) DropWorkflow(_ context.Context, id string) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down != nil {
		return false, s.down
	}
	_, ok := s.of[id]
	delete(s.of, id)
	return ok, nil
}

// simple is a definition with one step; its name tells versions apart.
func simple(id, name string) string {
	return fmt.Sprintf(`{"workflow_id": %q, "name": %q, "steps": {"a": {"agent_name": "agent"}}}`, id, name)
}

// apiLibrary makes a library with the workflow "filed" in a file.
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

func TestLibrary_KeepsWorkflowsOfTheAPI(t *testing.T) {
	t.Parallel()
	s := newTexts()
	lib := apiLibrary(t, s, workflow.LibraryOptions{Known: without("ghost")})
	ctx := t.Context()
	for _, c := range []struct {
		text    string
		created bool
	}{{simple("w", "one"), true}, {simple("w", "two"), false}} {
		d, created, err := lib.Put(ctx, []byte(c.text))
		if err != nil || created != c.created || d.Origin != workflow.FromAPI {
			t.Errorf("%s: %+v, created %v, %v", c.text, d, created, err)
		}
		got, err := lib.Get(ctx, "w")
		if err != nil || got.Name != d.Name || got.Origin != workflow.FromAPI {
			t.Errorf("%+v, %v", got, err)
		}
	}
	if _, _, err := lib.Put(ctx, []byte(simple("filed", "thief"))); !errors.Is(err, workflow.ErrInDirectory) {
		t.Errorf("one of a file: %v", err)
	}
	var bad *workflow.DefinitionError
	for _, text := range []string{`{"workflow_id": "w"}`, strings.Replace(simple("w", ""), `"agent"`, `"ghost"`, 1)} {
		if _, _, err := lib.Put(ctx, []byte(text)); !errors.As(err, &bad) {
			t.Errorf("%s: %v", text, err)
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

func TestLibrary_FileWinsOverRedis(t *testing.T) {
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

func TestLibrary_LastGoodOneServesWhileRedisIsDown(t *testing.T) {
	t.Parallel()
	s, gone, down := newTexts(), errors.New("gone"), false
	s.set("w", simple("w", "one"), nil)
	s.set("never-read", simple("never-read", ""), nil)
	s.set("deleted", simple("deleted", ""), nil)
	lib := apiLibrary(t, s, workflow.LibraryOptions{StoreDown: func() bool { return down }})
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
	if _, _, err := lib.Put(ctx, []byte(simple("w", ""))); !errors.Is(err, gone) {
		t.Errorf("put: %v", err)
	}
	if err := lib.Delete(ctx, "w"); !errors.Is(err, gone) {
		t.Errorf("delete: %v", err)
	}
	down = true
	reads := s.reads
	if _, err := lib.Get(ctx, "w"); err != nil || s.reads != reads {
		t.Errorf("known to be down, it is asked %d times (%v)", s.reads-reads, err)
	}
	down = false
	s.set("", "", nil)
	if d, err := lib.Get(ctx, "w"); err != nil || d.Name != "two" {
		t.Errorf("back: %+v, %v", d, err)
	}
}

func TestLibrary_DamagedTextIsUnknownAndLoggedOnce(t *testing.T) {
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
	if _, created, err := lib.Put(t.Context(), []byte(simple("w", "repaired"))); err != nil || !created {
		t.Errorf("created %v, %v", created, err)
	}
	if d, err := lib.Get(t.Context(), "w"); err != nil || d.Name != "repaired" {
		t.Errorf("%+v, %v", d, err)
	}
}

func TestLibrary_CacheIsBoundedAndFollowsRedis(t *testing.T) {
	t.Parallel()
	s, gone := newTexts(), errors.New("gone")
	lib := apiLibrary(t, s, workflow.LibraryOptions{})
	ctx := t.Context()
	for i := range 10 {
		if _, _, err := lib.Put(ctx, []byte(simple(fmt.Sprint("w", i), "name"))); err != nil {
			t.Fatal(err)
		}
	}
	listed := func(lib *workflow.Library, err error) int { // but for the one of the file
		t.Helper()
		s.set("", "", err)
		entries, got := lib.List(ctx)
		if !errors.Is(got, err) {
			t.Errorf("%v, want %v", got, err)
		}
		return len(entries) - 1
	}
	if n, down := listed(lib, nil), listed(lib, gone); n != 10 || down != 10 {
		t.Errorf("%d listed, %d while Redis is down; want 10", n, down)
	}
	if _, err := lib.Get(ctx, "w0"); err != nil {
		t.Error(err)
	}
	s.set("", "", nil)
	s.mu.Lock()
	delete(s.of, "w0") // by another replica
	s.mu.Unlock()
	if n, down := listed(lib, nil), listed(lib, gone); n != 9 || down != 9 {
		t.Errorf("%d listed, %d while Redis is down; want 9", n, down)
	}
	s.set("", "", nil)
	small := apiLibrary(t, s, workflow.LibraryOptions{MaxBytes: 3 * (workflow.EntrySize + len(simple("w0", "name")))})
	for i := range 9 {
		if _, err := small.Get(ctx, fmt.Sprint("w", i+1)); err != nil {
			t.Error(err)
		}
	}
	n, down, served := listed(small, nil), listed(small, gone), 0
	for i := range 10 {
		if _, err := small.Get(ctx, fmt.Sprint("w", i)); err == nil {
			served++
		}
	}
	if n != 9 || down != 9 || served != 3 {
		t.Errorf("%d listed, %d while Redis is down, %d served; want 9, 9, and the 3 that there is room for", n, down, served)
	}
}

func TestList_KeepsAPutDuringItsRead(t *testing.T) {
	t.Parallel()
	s := newTexts()
	lib := apiLibrary(t, s, workflow.LibraryOptions{})
	s.beforeListing = func() {
		if _, _, err := lib.Put(t.Context(), []byte(simple("new", "put meanwhile"))); err != nil {
			t.Error(err)
		}
	}
	if _, err := lib.List(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.set("", "", errors.New("gone"))
	if d, err := lib.Get(t.Context(), "new"); err != nil || d.Name != "put meanwhile" {
		t.Errorf("%+v, %v", d, err)
	}
}

func TestList_ReadsNoTexts(t *testing.T) {
	t.Parallel()
	s := newTexts()
	lib := apiLibrary(t, s, workflow.LibraryOptions{})
	if _, _, err := lib.Put(t.Context(), []byte(simple("w", "one"))); err != nil {
		t.Fatal(err)
	}
	other, reads := apiLibrary(t, s, workflow.LibraryOptions{}), s.reads
	if entries, err := other.List(t.Context()); err != nil || len(entries) != 2 || entries[1] != (workflow.Entry{ID: "w", Name: "one", Origin: "api", Steps: 1}) {
		t.Errorf("%+v, %v", entries, err)
	}
	if s.reads != reads {
		t.Errorf("%d texts were read", s.reads-reads)
	}
	s.set("external", simple("external", "two"), nil)
	if entries, err := other.List(t.Context()); err != nil || len(entries) != 3 || entries[0].Name != "two" || s.reads != reads+1 {
		t.Errorf("%+v, %v, %d reads", entries, err, s.reads-reads)
	}
}

func TestPut_KeepsTheTextAsSent(t *testing.T) {
	t.Parallel()
	s := newTexts()
	lib := apiLibrary(t, s, workflow.LibraryOptions{})
	sent := func(fill string) string {
		return `{"workflow_id":"w","steps":{"a":{"agent_name":"g","input_mapping":{"z":"` + fill + `","a":"\u00e9"}}}}`
	}
	whole := sent(strings.Repeat("\u2028", (workflow.MaxKept-len(sent("")))/3))
	if _, _, err := lib.Put(t.Context(), []byte(strings.ReplaceAll(whole, ":{", " :\n  {"))); err != nil {
		t.Fatal(err)
	}
	if got := s.of["w"]; got != whole || len(got) > workflow.MaxKept {
		t.Errorf("%d bytes are kept as %d", len(whole), len(got))
	}
	_, _, err := lib.Put(t.Context(), []byte(sent(strings.Repeat("x", workflow.MaxKept))))
	if bad, ok := errors.AsType[*workflow.DefinitionError](err); !ok || !strings.Contains(bad.Error(), "want at most 65536") {
		t.Errorf("%v", err)
	}
}
