package httpapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/breakerd/breakerd/internal/access"
	"github.com/breakerd/breakerd/internal/backup"
	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/redisdocs"
	"github.com/breakerd/breakerd/internal/route"
	"github.com/breakerd/breakerd/internal/text"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// Backups writes and restores backups. While Redis is down its errors are [breaker.ErrStoreUnavailable].
type Backups interface {
	// Header is that of a backup which begins now.
	Header(ctx context.Context) (backup.Header, error)
	// Write writes a whole backup. After an error it is without its footer, so that nobody takes it.
	Write(ctx context.Context, h backup.Header, out io.Writer) error
	// Restore writes what a verified backup holds. The result counts what was done also beside an error.
	Restore(ctx context.Context, in *backup.Reader, o redisdocs.RestoreOptions) (*redisdocs.Restoration, error)
}

const (
	gzipFile = "application/gzip"

	// maxBackups is how many backups a replica writes at once.
	maxBackups = 2
	// takeWithin is how long who gets a backup may take to make room for its next part.
	takeWithin = 30 * time.Second
	// restoreWithin bounds a restore, once the file is here.
	restoreWithin = 10 * time.Minute
	// maxUpload bounds the file: ten times what a hundred thousand agents need.
	maxUpload = 256 << 20
)

// slots bounds how often something is done at once.
type slots chan struct{}

func newSlots(n int) slots { return make(slots, n) }

func (s slots) take() bool {
	select {
	case s <- struct{}{}:
		return true
	default:
		return false
	}
}

func (s slots) free() { <-s }

type restoredSection struct {
	Section string              `json:"section" enum:"gate,overrides,profiles,holds,breakers,workflows,registry,audit"`
	Create  int                 `json:"create"  doc:"Redis has nothing in their place."`
	Replace int                 `json:"replace" doc:"What Redis has is older, or overwrite is true."`
	Same    int                 `json:"same"    doc:"Redis has them."`
	Newer   int                 `json:"newer"   doc:"What Redis has is newer, or may be: it stays, unless overwrite is true."`
	Expired int                 `json:"expired" doc:"Their time is over."`
	Names   map[string][]string `json:"names"   doc:"The first ten of each count that is not 0." nullable:"false"`
}

type restoreReply struct {
	DryRun   bool              `json:"dry_run"`
	TakenAt  string            `json:"taken_at"  format:"date-time" doc:"Of the backup, by the clock of its Redis."`
	Version  string            `json:"version"   doc:"Of the breakerd that wrote it."`
	Born     string            `json:"born"      doc:"The identity of the data that it is of."`
	Sections []restoredSection `json:"sections"  nullable:"false"`
	Filed    int               `json:"filed"     doc:"Agents that the agent registry's file named. The file is not restored."`
	Unfiled  unfiled           `json:"unfiled"   doc:"Those of which this replica's file says something else, or nothing."`
}

type unfiled struct {
	Count int      `json:"count"`
	Names []string `json:"names" nullable:"false" doc:"The first ten."`
}

func (a *api) backupRoutes() {
	if a.Backups == nil {
		return
	}
	binary := &huma.Schema{Type: huma.TypeString, Format: "binary"}
	route.ServeStream(a.API, route.Operation{
		Route: "GET /v1/admin/backup", ID: "getBackup", Role: access.Admin, Tag: "fleet",
		ContentType: gzipFile, Out: binary,
		Summary: "All that Redis holds of the fleet, as one file; without its last line, a checksum, it is not whole",
		Codes:   []problem.Code{problem.StoreUnavailable, problem.Overloaded, problem.InvalidValue},
	}, a.getBackup)
	boolean, word := &huma.Schema{Type: huma.TypeBoolean}, &huma.Schema{Type: huma.TypeString}
	route.ServeUpload(a.API, route.Operation{
		Route: "POST /v1/admin/restore", ID: "restoreBackup", Role: access.Admin, Tag: "fleet", Takes: gzipFile,
		Summary: "Put back what a backup holds, once the whole file is verified; may be repeated",
		Params: []*huma.Param{
			route.ActorParam(),
			route.QueryParam("dry_run", "Only say what would be done.", boolean),
			route.QueryParam("only", "Only these sections, separated by commas: "+sectionNames()+".", word),
			route.QueryParam("overwrite", "Also replace what is newer, or may be.", boolean),
		},
		Codes: []problem.Code{
			problem.StoreUnavailable, problem.Overloaded, problem.BackupBroken, problem.BackupForeign, problem.BackupNewer,
		},
	}, a.restoreBackup)
}

func sectionNames() string {
	var names []string
	for _, s := range backup.Sections() {
		names = append(names, string(s))
	}
	return strings.Join(names, ", ")
}

func (a *api) getBackup(w http.ResponseWriter, r *route.Request) error {
	if _, err := r.Params(); err != nil {
		return err
	}
	if !a.backups.take() {
		return problem.New(problem.Overloaded, "this replica writes %d backups already", maxBackups).
			With("Retry-After", "5")
	}
	defer a.backups.free()
	h, err := a.Backups.Header(r.Context())
	if err != nil {
		return err
	}
	actor, err := r.Actor("")
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", gzipFile)
	name := "backup-" + time.UnixMilli(h.TakenMs).UTC().Format("20060102-150405") + ".jsonl.gz"
	w.Header().Set("Content-Disposition", `attachment; filename="`+name+`"`)
	out := &leaving{w, http.NewResponseController(w)}
	_ = out.c.SetReadDeadline(time.Time{}) // when it passes, net/http cancels the request as if the caller had left
	if r.Method == http.MethodHead {
		return nil
	}
	began := time.Now()
	if err := a.Backups.Write(r.Context(), h, out); err != nil {
		a.Logger.WarnContext(r.Context(), "backup broke off", "event", "backup.failed", "actor", actor, "error", err)
		panic(http.ErrAbortHandler) // the caller's connection ends before its answer does
	}
	a.Logger.InfoContext(r.Context(), "backup written", "event", "backup.written", "actor", actor,
		"agents", h.Agents, "seconds", time.Since(began).Seconds())
	return nil
}

// leaving is an answer of which each part has to be taken within a time.
type leaving struct {
	io.Writer

	c *http.ResponseController
}

func (w *leaving) Write(p []byte) (int, error) {
	_ = w.c.SetWriteDeadline(time.Now().Add(takeWithin)) // only a test's writer has no deadlines
	n, err := w.Writer.Write(p)
	if err == nil {
		err = w.c.Flush()
	}
	return n, err
}

func (a *api) restoreBackup(r *route.Request, body io.Reader) (out restoreReply, err error) {
	o, err := restoreOptions(r)
	if err != nil {
		return out, err
	}
	if !a.restores.take() {
		return out, problem.New(problem.Overloaded, "this replica restores another backup").With("Retry-After", "5")
	}
	defer a.restores.free()
	file, err := spool(body, maxUpload)
	if err != nil {
		return out, err
	}
	defer drop(file)
	r.MayTake(restoreWithin)
	ctx, cancel := context.WithTimeout(r.Context(), restoreWithin)
	defer cancel()
	now, err := a.Backups.Header(ctx)
	if err != nil {
		return out, err
	}
	was, _, err := backup.Verify(file, nil)
	switch {
	case err != nil:
		return out, badBackup(err)
	case was.Prefix != now.Prefix:
		return out, problem.New(problem.BackupForeign,
			"the backup is of keys that begin with %.64q, and this fleet's begin with %.64q: nothing was done",
			was.Prefix, now.Prefix)
	}
	if _, err = file.Seek(0, io.SeekStart); err != nil {
		return out, err
	}
	in, err := backup.NewReader(file)
	if err != nil {
		return out, badBackup(err)
	}
	done, err := a.Backups.Restore(ctx, in, o)
	if n := done.Changed(); n > 0 && errors.Is(err, breaker.ErrStoreUnavailable) {
		return out, problem.Unavailable("Redis failed after %d records were written, and they stay: restore the backup "+
			"once more, which writes the others", n)
	}
	if err != nil {
		return out, err
	}
	a.Logger.WarnContext(ctx, "backup restored", "event", "backup.restored", "actor", o.Actor, "taken_at", was.TakenAt,
		"dry_run", o.DryRun)
	return showRestored(was, o.DryRun, done), nil
}

// restoreOptions reads the query.
func restoreOptions(r *route.Request) (o redisdocs.RestoreOptions, err error) {
	q, err := r.Params()
	if err != nil {
		return o, err
	}
	for name, to := range map[string]*bool{"dry_run": &o.DryRun, "overwrite": &o.Overwrite} {
		value := q.Get(name)
		if value == "" {
			continue
		}
		if *to, err = strconv.ParseBool(value); err != nil {
			return o, problem.BadValue("query."+name, value, "true or false")
		}
	}
	if only := q.Get("only"); only != "" {
		for name := range strings.SplitSeq(only, ",") {
			if !slices.Contains(backup.Sections(), backup.Section(name)) {
				return o, problem.BadValue("query.only", name, "some of "+sectionNames())
			}
			o.Only = append(o.Only, backup.Section(name))
		}
	}
	o.Actor, err = r.Actor("")
	return o, err
}

// spool keeps a body of at most so many bytes in a file, for it is read twice: it is verified as a whole before
// anything is done.
func spool(body io.Reader, most int) (*os.File, error) {
	file, err := os.CreateTemp("", "breakerd-restore-*")
	if err != nil {
		return nil, noRoom(err)
	}
	if err = fill(file, body, most); err != nil {
		drop(file)
		return nil, err
	}
	return file, nil
}

// drop ends a spooled file.
func drop(file *os.File) {
	_ = file.Close()
	_ = os.Remove(file.Name())
}

func noRoom(err error) error {
	return problem.New(problem.Overloaded, "the file finds no room in %s of this replica, which TMPDIR names: %s",
		os.TempDir(), text.Clip(err.Error(), route.MaxMessage))
}

func fill(file *os.File, body io.Reader, most int) error {
	buffer := make([]byte, 64<<10)
	for size := 0; ; {
		n, readErr := body.Read(buffer)
		if size += n; size > most {
			return problem.New(problem.BodyTooLarge, "the body is larger than %d bytes", most)
		}
		if _, err := file.Write(buffer[:n]); err != nil {
			return noRoom(err)
		}
		if errors.Is(readErr, io.EOF) {
			_, err := file.Seek(0, io.SeekStart)
			return err
		}
		if readErr != nil {
			return problem.New(problem.BackupBroken, "the body ended before its end: nothing was done")
		}
	}
}

// badBackup is the problem of a file that cannot be restored.
func badBackup(err error) error {
	message := text.Clip(err.Error(), route.MaxMessage)
	switch {
	case errors.Is(err, backup.ErrNewer):
		return problem.New(problem.BackupNewer, "%s: nothing was done; restore it by a newer breakerd", message)
	case errors.Is(err, backup.ErrBroken):
		return problem.New(problem.BackupBroken, "%s: nothing was done; take another one", message)
	}
	return fmt.Errorf("read the spooled backup: %w", err)
}

func showRestored(h backup.Header, dryRun bool, done *redisdocs.Restoration) restoreReply {
	out := restoreReply{
		DryRun: dryRun, TakenAt: h.TakenAt, Version: h.Version, Born: h.Born, Sections: []restoredSection{},
		Filed: done.Filed, Unfiled: unfiled{Count: done.OfUnfiled, Names: append([]string{}, done.Unfiled...)},
	}
	for _, s := range done.Sections {
		shown := restoredSection{
			Section: string(s.Section), Names: map[string][]string{},
			Create: s.Counts[redisdocs.Created], Replace: s.Counts[redisdocs.Replaced], Same: s.Counts[redisdocs.Same],
			Newer: s.Counts[redisdocs.Newer], Expired: s.Counts[redisdocs.Expired],
		}
		for fate, names := range s.Names {
			shown.Names[string(fate)] = names
		}
		out.Sections = append(out.Sections, shown)
	}
	return out
}
