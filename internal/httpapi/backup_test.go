package httpapi

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/backup"
	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/redisdocs"
	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// Header implements Backups.
func (r *records) Header(context.Context) (backup.Header, error) {
	return backup.Header{Version: "v1.2.3", Prefix: "circuit_breaker", TakenMs: r.NowMs.Load(), TakenAt: "2026-02-11T09:00:00Z"}, r.Down()
}

var errCut = errors.New("cut")

// Write implements Backups. An agent called cut ends the file.
func (r *records) Write(_ context.Context, h backup.Header, out io.Writer) error {
	w, err := backup.NewWriter(out, h)
	for _, agent := range r.Keys() {
		if agent == "cut" {
			return errors.Join(err, w.Flush(), errCut)
		}
		err = errors.Join(err, w.Write(backup.Record{Section: backup.Breakers, Name: agent, Breaker: &backup.Breaker{State: "open"}}))
	}
	return errors.Join(err, w.Close())
}

// Restore implements Backups.
func (r *records) Restore(_ context.Context, in *backup.Reader, o redisdocs.RestoreOptions) (*redisdocs.Restoration, error) {
	done := &redisdocs.Restored{Section: backup.Breakers, Counts: map[redisdocs.Fate]int{}, Names: map[redisdocs.Fate][]string{}}
	for {
		rec, err := in.Next()
		if errors.Is(err, io.EOF) {
			return &redisdocs.Restoration{Sections: []*redisdocs.Restored{done}}, nil
		}
		if err != nil {
			return nil, err
		}
		done.Counts[redisdocs.Created]++
		done.Names[redisdocs.Created] = append(done.Names[redisdocs.Created], rec.Name+" by "+o.Actor)
		if rec.Name == "redis-fails" {
			return &redisdocs.Restoration{Sections: []*redisdocs.Restored{done}}, &breaker.StoreError{Verb: "restore", Err: errCut}
		}
	}
}

// backup is a file of keys with a prefix, and of the agents.
func (f *fixture) backup(prefix string, agents ...string) string {
	f.Helper()
	var out bytes.Buffer
	w, err := backup.NewWriter(&out, backup.Header{Prefix: prefix, TakenAt: "2026-02-11T09:00:00Z", Version: "v1.2.3"})
	for _, agent := range append(agents, "a") {
		err = errors.Join(err, w.Write(backup.Record{Section: backup.Breakers, Name: agent, Breaker: &backup.Breaker{State: "open"}}))
	}
	if err = errors.Join(err, w.Close()); err != nil {
		f.Fatal(err)
	}
	return out.String()
}

func TestBackup_IsAFileThatCanBeVerified(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.fail("FailingAgent", 5)
	g := f.Do("GET", "/v1/admin/backup", "").Want(200)
	_, footer, err := backup.Verify(strings.NewReader(g.Text), nil)
	if err != nil || footer.Records[backup.Breakers] != 1 {
		t.Errorf("%+v %v", footer, err)
	}
	if name := g.Header.Get("Content-Disposition"); !strings.HasPrefix(name, `attachment; filename="backup-20`) || !strings.HasSuffix(name, `.jsonl.gz"`) {
		t.Errorf("it is called %s", name)
	}
}

// An error in the middle cuts the connection, and the file has no footer.
func TestBackup_ThatBreaksOffHasNoEnd(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.fail("a", 1)
	f.fail("cut", 1)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, f.URL+"/v1/admin/backup", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the answer ended with %v", err)
	}
	if _, _, err := backup.Verify(bytes.NewReader(text), nil); !errors.Is(err, backup.ErrBroken) {
		t.Errorf("the file: %v", err)
	}
	if !strings.Contains(f.Log.String(), "backup.failed") {
		t.Errorf("the log does not say why: %s", f.Log.String())
	}
}

func TestRestore_SaysWhatItDid(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	g := f.Do("POST", "/v1/admin/restore?dry_run=1&only=breakers,holds&overwrite=true", f.backup("circuit_breaker"),
		"Content-Type", "application/gzip", "X-Actor", "alice").Want(200)
	if g.JSON["dry_run"] != true || g.JSON["taken_at"] != "2026-02-11T09:00:00Z" || !strings.Contains(g.Text, `"create":1,`) || !strings.Contains(g.Text, `"a by alice"`) {
		t.Error(g.Text)
	}
}

func TestRestore_RefusesWhatItCannotRestore(t *testing.T) {
	t.Parallel()
	spooled := func() []string {
		paths, err := filepath.Glob(filepath.Join(os.TempDir(), "breakerd-restore-*"))
		if err != nil {
			t.Fatal(err)
		}
		return paths
	}
	before := spooled()
	f := newFixture(t)
	good := f.backup("circuit_breaker")
	for name, c := range map[string]struct {
		body, query string
		code        problem.Code
	}{
		"no backup":         {"hello", "", problem.BackupBroken},
		"cut":               {good[:len(good)-20], "", problem.BackupBroken},
		"of other keys":     {f.backup("other"), "", problem.BackupForeign},
		"unknown section":   {good, "?only=nonsense", problem.InvalidValue},
		"no boolean":        {good, "?dry_run=maybe", problem.InvalidValue},
		"unknown parameter": {good, "?x=1", problem.InvalidValue},
	} {
		g := f.Do("POST", "/v1/admin/restore"+c.query, c.body, "Content-Type", "application/gzip").WantProblem(422, c.code)
		if strings.HasPrefix(string(c.code), "backup_") && !strings.Contains(g.Text, "nothing was done") {
			t.Errorf("%s: %s", name, g.Text)
		}
	}
	f.Do("POST", "/v1/admin/restore", good).WantProblem(415, problem.UnsupportedMediaType)
	g := f.Do("POST", "/v1/admin/restore", f.backup("circuit_breaker", "redis-fails"), "Content-Type", "application/gzip").WantProblem(503, problem.StoreUnavailable)
	if !strings.Contains(g.Text, "after 1 records were written") {
		t.Errorf("a restore that broke off: %s", g.Text)
	}
	for _, path := range spooled() {
		if slices.Contains(before, path) { // a process that was killed cannot remove its own
			continue
		}
		testkit.Eventually(t, path+" to be removed", 10*time.Second, func() error { // other tests restore meanwhile
			if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
				return errors.New("it is there")
			}
			return nil
		})
	}
}

// One restore at a time, and no file without bound.
func TestRestore_IsBounded(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r, w := io.Pipe()
	ended := make(chan int)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.URL+"/v1/admin/restore", r)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/gzip")
	go func() {
		res, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			ended <- 0
			return
		}
		res.Body.Close()
		ended <- res.StatusCode
	}()
	if _, err := w.Write([]byte{0}); err != nil { // the server reads it
		t.Fatal(err)
	}
	f.Do("POST", "/v1/admin/restore", f.backup("circuit_breaker"), "Content-Type", "application/gzip").WantProblem(503, problem.Overloaded)
	w.Close()
	if status := <-ended; status != 422 {
		t.Errorf("an empty one: %d", status)
	}
	if _, err := spool(zeros{}, 1<<20); !errors.As(err, new(*problem.Problem)) {
		t.Errorf("a file without end: %v", err)
	}
}

// zeros is a body without end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
