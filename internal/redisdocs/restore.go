package redisdocs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/internal/backup"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

// RestoreOptions say what of a backup is restored, and how.
type RestoreOptions struct {
	DryRun    bool
	Overwrite bool             // also what may be newer than the backup
	Only      []backup.Section // nil: all
	Actor     string
	// Filed is what the agent registry's file says of an agent here, JSON; nil: nothing.
	Filed func(agent string) []byte
}

// Restoration is what becomes of a backup.
type Restoration struct {
	Sections []*Restored
	// Filed counts the agents of the backup that a registry's file named there. What it says is not restored: Unfiled
	// are the first of those of which the file says something else here, or nothing, and OfUnfiled counts them.
	Filed, OfUnfiled int
	Unfiled          []string
}

// Changed is how many records were written, or would be.
func (r *Restoration) Changed() (n int) {
	for _, s := range r.Sections {
		n += s.changed()
	}
	return n
}

// Fate is what becomes of a record.
type Fate string

// The fates.
const (
	Created  Fate = "create"  // Redis has nothing in its place
	Replaced Fate = "replace" // what Redis has is older, or is to be overwritten
	Same     Fate = "same"    // Redis has it
	Newer    Fate = "newer"   // what Redis has is newer, or may be: it stays
	Expired  Fate = "expired" // its time is over: it stays away
)

// Fates are all fates, in the order in which they are shown.
func Fates() []Fate { return []Fate{Created, Replaced, Same, Newer, Expired} }

// fateNames is how many names each fate of a section tells.
const fateNames = 10

// Restored counts what becomes of the records of one section, and names the first ones.
type Restored struct {
	Section backup.Section
	Counts  map[Fate]int
	Names   map[Fate][]string
}

func (r *Restored) add(f Fate, name string) {
	if r.Counts[f]++; len(r.Names[f]) < fateNames && name != "" {
		r.Names[f] = append(r.Names[f], name)
	}
}

// changed is how many records were written.
func (r *Restored) changed() int { return r.Counts[Created] + r.Counts[Replaced] }

// restore is one restoring under way.
type restore struct {
	*Docs

	o     RestoreOptions
	from  backup.Header
	nowMs int64
	done  *Restoration
	page  map[backup.Section][]backup.Record // that are not written yet
	audit auditMerge
}

// Restore writes what a verified backup holds. Each record is written as a whole or not at all, if nobody changes it at
// the same moment; a second time it finds most of them the same. The result counts what was done, also beside an error.
func (d *Docs) Restore(ctx context.Context, in *backup.Reader, o RestoreOptions) (*Restoration, error) {
	r := &restore{
		Docs: d, o: o, from: in.Header, page: map[backup.Section][]backup.Record{}, done: &Restoration{},
	}
	for _, s := range backup.Sections() {
		if o.Only == nil || slices.Contains(o.Only, s) {
			fates := &Restored{Section: s, Counts: map[Fate]int{}, Names: map[Fate][]string{}}
			r.done.Sections = append(r.done.Sections, fates)
		}
	}
	err := r.begin(ctx)
	if err == nil {
		err = r.run(ctx, in)
	}
	return r.done, errors.Join(err, r.finish(ctx, err))
}

// begin reads the clock, and puts on record what will be done.
func (r *restore) begin(ctx context.Context) error {
	now, err := r.ClockMs(ctx)
	if r.nowMs = now; err != nil || r.o.DryRun {
		return err
	}
	return r.announce(ctx, "begins")
}

func (r *restore) announce(ctx context.Context, what string) error {
	var sections []string
	for _, s := range r.done.Sections {
		sections = append(sections, string(s.Section))
	}
	text := fmt.Sprintf("restore of the backup of %s %s: %s", r.from.TakenAt, what, strings.Join(sections, ", "))
	return r.store.Announce(ctx, redisstore.EventRestore, r.o.Actor, text, true)
}

// finish puts on record what was done, and has every replica read all overrides again.
func (r *restore) finish(ctx context.Context, err error) error {
	if r.o.DryRun {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), backupStep)
	defer cancel()
	var done []string
	for _, s := range r.done.Sections {
		if n := s.changed(); n > 0 {
			done = append(done, fmt.Sprintf("%d %s", n, s.Section))
		}
		if (s.Section == backup.Overrides || s.Section == backup.Profiles) && s.changed() > 0 {
			r.OverridesChanged(ctx)
		}
	}
	how := "ended"
	if err != nil {
		how = "broke off"
	}
	return r.announce(ctx, how+", written: "+strings.Join(done, ", ")+"; of")
}

// run writes the records, page by page.
func (r *restore) run(ctx context.Context, in *backup.Reader) error {
	for {
		rec, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if r.of(rec.Section) == nil {
			continue
		}
		r.page[rec.Section] = append(r.page[rec.Section], rec)
		if len(r.page[rec.Section]) == backupPage {
			if err := r.flush(ctx, rec.Section); err != nil {
				return err
			}
		}
	}
	for _, s := range backup.Sections() {
		if err := r.flush(ctx, s); err != nil {
			return err
		}
	}
	return r.endAudit(ctx)
}

// of is what becomes of a section; nil: it is not restored.
func (r *restore) of(s backup.Section) *Restored {
	for _, f := range r.done.Sections {
		if f.Section == s {
			return f
		}
	}
	return nil
}

// flush writes the page of a section.
func (r *restore) flush(ctx context.Context, s backup.Section) error {
	if s != backup.Registry { // what is written puts its agents into the index, as seen now, unless they are there
		if err := r.flush(ctx, backup.Registry); err != nil {
			return err
		}
	}
	page := r.page[s]
	r.page[s] = page[:0]
	if len(page) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, backupStep)
	defer cancel()
	write := map[backup.Section]func(context.Context, *Restored, []backup.Record) error{
		backup.Gate: r.gate, backup.Overrides: r.documents, backup.Profiles: r.documents, backup.Holds: r.breakers,
		backup.Breakers: r.breakers, backup.Workflows: r.workflows, backup.Registry: r.registry, backup.Audit: r.mergeAudit,
	}[s]
	return write(ctx, r.of(s), page)
}

// index puts agents that got something into the index, unless they are there.
func (r *restore) index(ctx context.Context, agents []string) error {
	at := time.UnixMilli(r.nowMs)
	return failed("restore", "", r.addToIndex(ctx, agents, at, redis.ZAddArgs{NX: true}))
}

// named says whether a record names an agent. One that does not was planted: nothing of ours can have written it.
func named(rec backup.Record) bool { return breaker.ValidName(rec.Name) }
