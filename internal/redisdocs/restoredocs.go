package redisdocs

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/internal/backup"
	"github.com/breakerd/breakerd/internal/policy"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

// replaceText writes ARGV[2] where ARGV[1] is held, ” standing for nothing, and returns 1 if it has. With ARGV[3] it
// is a hash: that field is compared, and with it the field ARGV[4] gets the text ARGV[5]. What has another type was
// planted, and makes room [B20].
const replaceText = `
local held
if ARGV[3] then held = redis.pcall('HGET', KEYS[1], ARGV[3]) else held = redis.pcall('GET', KEYS[1]) end
if type(held) == 'table' then redis.call('UNLINK', KEYS[1]) end
if (type(held) == 'string' and held or '') ~= ARGV[1] then return 0 end
if ARGV[3] then
  redis.call('HSET', KEYS[1], ARGV[3], ARGV[2], ARGV[4], ARGV[5])
else
  redis.call('SET', KEYS[1], ARGV[2])
end
return 1`

// texts writes texts that are compared, and counts what became of them. fates says what is to become of each.
func (r *restore) texts(
	ctx context.Context, to *Restored, page []backup.Record, fates []Fate,
	write func(pipe redis.Pipeliner, i int) *redis.Cmd,
) (written []string, err error) {
	pipe := r.client.Pipeline()
	cmds := make([]*redis.Cmd, len(page))
	for i := range page {
		if r.writes(fates[i]) {
			cmds[i] = write(pipe, i)
		}
	}
	_, _ = pipe.Exec(ctx) // each command keeps its own error
	for i, c := range cmds {
		if c != nil {
			done, err := c.Int()
			if err != nil {
				return written, redisstore.WrapError("restore", page[i].Name, err)
			}
			if done == 0 { // it has changed this moment
				fates[i] = Newer
			} else {
				written = append(written, page[i].Name)
			}
		}
		to.add(fates[i], page[i].Name)
	}
	return written, nil
}

// documents restores overrides, or profiles.
func (r *restore) documents(ctx context.Context, to *Restored, page []backup.Record) error {
	page = slices.DeleteFunc(page, func(rec backup.Record) bool { return !named(rec) || rec.Text == "" })
	agents := make([]string, len(page))
	for i, rec := range page {
		agents[i] = rec.Name
	}
	key, read := r.keys.Config, r.Overrides
	if to.Section == backup.Profiles {
		key, read = r.keys.Profile, r.ProfilesOf
	}
	live, err := read(ctx, agents)
	if err != nil {
		return err
	}
	fates := make([]Fate, len(page))
	for i, rec := range page {
		fates[i] = judgeText(live[i], rec.Text, r.o.Overwrite)
		if to.Section == backup.Overrides {
			fates[i] = judgeOverride(live[i], rec.Text, time.UnixMilli(r.nowMs), r.o.Overwrite)
		}
	}
	written, err := r.texts(ctx, to, page, fates, func(pipe redis.Pipeliner, i int) *redis.Cmd {
		return pipe.Eval(ctx, replaceText, []string{key(page[i].Name)}, live[i], page[i].Text)
	})
	if err != nil {
		return err
	}
	return r.index(ctx, written)
}

// judgeText says what becomes of a document that does not say when it was written: another one stays.
func judgeText(live, saved string, overwrite bool) Fate {
	switch {
	case live == "":
		return Created
	case live == saved:
		return Same
	case overwrite:
		return Replaced
	}
	return Newer
}

// judgeOverride says what becomes of an override. Only one that says when it was made can be known to be older.
func judgeOverride(live, saved string, now time.Time, overwrite bool) Fate {
	was, err := policy.ParseRecord([]byte(saved))
	if err == nil && was.Ended(now) {
		return Expired
	}
	fate := judgeText(live, saved, overwrite)
	is, err2 := policy.ParseRecord([]byte(live))
	if fate == Newer && err == nil && err2 == nil && !is.At.IsZero() && is.At.Before(was.At) {
		return Replaced
	}
	return fate
}

// workflows restores those that were made through the API.
func (r *restore) workflows(ctx context.Context, to *Restored, page []backup.Record) error {
	page = slices.DeleteFunc(page, func(rec backup.Record) bool {
		return rec.Name == "" || strings.HasPrefix(rec.Name, "#") || rec.Text == ""
	})
	if len(page) == 0 {
		return nil
	}
	key := r.keys.Workflows()
	ids := make([]string, len(page))
	for i, rec := range page {
		ids[i] = rec.Name
	}
	values, err := r.client.HMGet(ctx, key, ids...).Result()
	if err := failed("restore", "", err); err != nil {
		return err
	}
	live, fates := make([]string, len(page)), make([]Fate, len(page))
	for i, rec := range page {
		if i < len(values) {
			live[i] = textOf(values[i])
		}
		fates[i] = judgeText(live[i], rec.Text, r.o.Overwrite)
	}
	_, err = r.texts(ctx, to, page, fates, func(pipe redis.Pipeliner, i int) *redis.Cmd {
		rec := page[i]
		return pipe.Eval(ctx, replaceText, []string{key}, live[i], rec.Text, rec.Name, entryOf(rec.Name), rec.Entry)
	})
	return err
}

// registry puts agents into the index, with the time at which they were last seen.
func (r *restore) registry(ctx context.Context, to *Restored, page []backup.Record) error {
	for _, rec := range page {
		r.compareFile(rec)
	}
	page = slices.DeleteFunc(page, func(rec backup.Record) bool { return !named(rec) || rec.SeenS == 0 })
	agents := make([]string, len(page))
	for i, rec := range page {
		agents[i] = rec.Name
	}
	live, err := r.seen(ctx, agents)
	if err != nil {
		return err
	}
	for i, rec := range page {
		at := time.Unix(rec.SeenS, 0)
		fate := Created
		switch {
		case live[i] != 0:
			fate = Same // and seen as late, or later
		case at.Add(knownFor).Before(time.UnixMilli(r.nowMs)):
			fate = Expired
		}
		if r.writes(fate) {
			if err := r.addToIndex(ctx, agents[i:i+1], at, redis.ZAddArgs{NX: true}); err != nil {
				return failed("restore", rec.Name, err)
			}
		}
		to.add(fate, rec.Name)
	}
	return nil
}

// compareFile compares what a registry's file said of an agent with what this replica's says.
func (r *restore) compareFile(rec backup.Record) {
	if rec.File == nil {
		return
	}
	r.done.Filed++
	if r.o.Filed != nil && bytes.Equal(rec.File, r.o.Filed(rec.Name)) {
		return
	}
	if r.done.OfUnfiled++; len(r.done.Unfiled) < fateNames {
		r.done.Unfiled = append(r.done.Unfiled, rec.Name)
	}
}

// gate restores the fleet's gate, unless its time is over.
func (r *restore) gate(ctx context.Context, to *Restored, page []backup.Record) error {
	values := make([]any, len(gateFields()))
	for i, name := range gateFields() {
		values[i] = page[0].Fields[name]
	}
	saved := parseGate(values, r.nowMs)
	live, err := r.Gate(ctx)
	if err != nil {
		return err
	}
	fate := judgeGate(&live, &saved, r.o.Overwrite)
	if r.writes(fate) {
		fate, err = r.writeGate(ctx, &live, &saved, fate)
	}
	to.add(fate, saved.Text())
	return err
}

func judgeGate(live, saved *Gate, overwrite bool) Fate {
	switch {
	case !saved.Stands():
		return Expired
	case !live.Stands():
		return Created
	case live.raw == saved.raw:
		return Same
	case overwrite, live.StartMs < saved.StartMs:
		return Replaced
	}
	return Newer
}

// restoreGate replaces the gate by the fields in ARGV[2] on, if they are still those of ARGV[1].
const restoreGate = `
local names = {'from', 'to', 'start', 'length', 'until', 'reason', 'actor'}
local was = redis.pcall('HMGET', KEYS[1], unpack(names))
if was.err then was = {} end
for i = 1, #names do was[i] = was[i] or '' end
if ARGV[1] ~= table.concat(was, '\n') and not (ARGV[1] == '' and table.concat(was) == '') then return 0 end
redis.call('UNLINK', KEYS[1])
for i = 1, #names do
  if ARGV[i + 1] ~= '' then redis.call('HSET', KEYS[1], names[i], ARGV[i + 1]) end
end
return 1`

func (r *restore) writeGate(ctx context.Context, live, saved *Gate, fate Fate) (Fate, error) {
	args := []any{live.raw}
	for text := range strings.SplitSeq(saved.raw, "\n") {
		args = append(args, text)
	}
	done, err := r.client.Eval(ctx, restoreGate, []string{r.keys.Fleet()}, args...).Int()
	if err != nil {
		return fate, redisstore.WrapError("restore", "", err)
	}
	if done == 0 {
		return Newer, nil
	}
	text := live.Text() + " -> " + saved.Text() + ": from the backup of " + r.from.TakenAt
	return fate, r.store.Announce(ctx, redisstore.EventGate, r.o.Actor, text, true)
}
