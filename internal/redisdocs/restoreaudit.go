package redisdocs

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/internal/backup"
	"github.com/breakerd/breakerd/internal/events"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

// auditMerge is how far the audit of a backup and that of Redis are merged. A stream takes no entry that is older than
// its newest, so both are written, in order, to a copy that then takes the audit's place.
type auditMerge struct {
	begun bool
	page  []redis.XMessage // of Redis' audit, not merged yet
	from  string           // where its next page begins
	whole bool             // there is no next page
}

// copyLives is how long the copy of a restore that was cut is kept.
const copyLives = time.Hour

// mergeAudit merges a page of the backup's entries with those of Redis that come before them.
func (r *restore) mergeAudit(ctx context.Context, to *Restored, page []backup.Record) error {
	if !r.audit.begun {
		r.audit = auditMerge{begun: true, from: "-"}
		if !r.o.DryRun {
			if err := r.client.Unlink(ctx, r.keys.AuditCopy()).Err(); err != nil {
				return redisstore.WrapError("restore", "", err)
			}
		}
	}
	var both []redis.XMessage
	for _, rec := range page {
		id, ok := events.ParseID(rec.Name)
		if !ok || rec.Agent == "" || rec.Text == "" {
			continue // nothing of ours
		}
		before, err := r.auditBefore(ctx, id)
		if err != nil {
			return err
		}
		both = append(both, before...)
		fate := Created
		if next := r.audit.page; len(next) > 0 && next[0].ID == rec.Name {
			fate = Same // and comes with those of Redis
		} else {
			both = append(both, redis.XMessage{ID: rec.Name, Values: map[string]any{"agent": rec.Agent, "event": rec.Text}})
		}
		to.add(fate, "")
	}
	return r.copyAudit(ctx, both)
}

// auditBefore takes the entries of Redis that are older than an id.
func (r *restore) auditBefore(ctx context.Context, id events.ID) (out []redis.XMessage, err error) {
	a := &r.audit
	for {
		if len(a.page) == 0 {
			if a.whole {
				return out, nil
			}
			a.page, err = r.client.XRangeN(ctx, r.keys.Audit(), a.from, "+", auditPage).Result()
			if err := failed("restore", "", err); err != nil {
				return nil, err
			}
			if a.whole = len(a.page) < auditPage; len(a.page) == 0 {
				return out, nil
			}
			a.from = "(" + a.page[len(a.page)-1].ID
		}
		if at, ok := events.ParseID(a.page[0].ID); ok && at.Compare(id) >= 0 {
			return out, nil
		}
		out = append(out, a.page[0])
		a.page = a.page[1:]
	}
}

// copyAudit appends entries to the copy.
func (r *restore) copyAudit(ctx context.Context, entries []redis.XMessage) error {
	if r.o.DryRun {
		return nil
	}
	key := r.keys.AuditCopy()
	for some := range slices.Chunk(entries, chunk) {
		pipe := r.client.Pipeline()
		for _, e := range some {
			pipe.XAdd(ctx, &redis.XAddArgs{Stream: key, ID: e.ID, Values: e.Values})
		}
		pipe.Expire(ctx, key, copyLives)
		if _, err := pipe.Exec(ctx); err != nil {
			return redisstore.WrapError("restore", "", err)
		}
	}
	return nil
}

// takePlace adds to the copy in KEYS[2] what was added to the audit in KEYS[1] behind the id in ARGV[1], and puts it in
// the audit's place.
const takePlace = `
if redis.call('EXISTS', KEYS[1]) == 1 then
  for _, e in ipairs(redis.call('XRANGE', KEYS[1], ARGV[1], '+')) do
    redis.call('XADD', KEYS[2], 'MAXLEN', '~', 100000, e[1], unpack(e[2]))
  end
end
redis.call('RENAME', KEYS[2], KEYS[1])
redis.call('PERSIST', KEYS[1])
return 1`

// endAudit has the copy take the audit's place, if it has more. Where Redis refuses that, the audit stays as it is.
func (r *restore) endAudit(ctx context.Context) error {
	to := r.of(backup.Audit)
	if !r.audit.begun || r.o.DryRun {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, backupStep)
	defer cancel()
	var err error
	if to.changed() > 0 {
		err = r.replaceAudit(ctx)
	}
	if refused, ok := errors.AsType[*breaker.StoreError](err); ok && refused.Refused {
		to.Counts[Newer] += to.Counts[Created]
		delete(to.Counts, Created)
		err = nil
	}
	_ = r.client.Unlink(ctx, r.keys.AuditCopy()).Err() // it expires anyway
	return err
}

func (r *restore) replaceAudit(ctx context.Context) error {
	rest, err := r.auditBefore(ctx, events.Last())
	if err != nil {
		return err
	}
	if err := r.copyAudit(ctx, rest); err != nil {
		return err
	}
	keys := []string{r.keys.Audit(), r.keys.AuditCopy()}
	if err := r.client.Eval(ctx, takePlace, keys, r.audit.from).Err(); err != nil {
		return redisstore.WrapError("restore", "", err)
	}
	return nil
}
