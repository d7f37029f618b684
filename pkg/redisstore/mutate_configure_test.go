//go:build mutate

package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/pkg/breaker/storetest"
)

// documents checks configure and forget, of which there is no model, by fixed calls with fixed answers [B17], [B21],
// [B25].
func (e *mutantEngine) documents() error {
	d := &documents{mutantEngine: e, ctx: context.Background(), agent: "d1"}
	e.now = storetest.BaseMs
	if err := e.client.FlushDB(d.ctx).Err(); err != nil {
		return err
	}
	for _, check := range []func() error{
		d.writes, d.compares, d.bothOrNone, d.plantedDocument, d.plantedLog, d.cutLog, d.configureClock, d.inspectsLog,
		d.forgets, d.forgetsHolds, d.onceOnCluster,
	} {
		d.did = nil
		clear(e.read)
		if err := errors.Join(check(), e.client.FlushDB(d.ctx).Err()); err != nil {
			return fmt.Errorf("documents: %w (%s)", err, strings.Join(d.did, "; "))
		}
	}
	return e.silent()
}

type documents struct {
	*mutantEngine

	ctx   context.Context //nolint:containedctx // a check has no caller to give it one
	agent string
	did   []string
}

func (d *documents) config() string { return d.store.Keys().Config(d.agent) }
func (d *documents) log() string    { return d.store.Keys().Log(d.agent) }

// run gives a script's reply.
func (d *documents) run(verb string, keys []string, args ...any) ([]any, error) {
	return d.scripts[verb].Run(d.ctx, d.client, keys, args...).Slice()
}

// life is the expiry of a new log.
const life = time.Hour

// configure puts text in place of expected; the answer must be want.
func (d *documents) configure(expected, text string, want ...any) error {
	got, err := d.run("configure", d.configureKeys(), d.now, d.who(), life.Milliseconds(), "alice", "config "+text, expected, text)
	if want[0] == int64(1) {
		want = append(want, d.entry(text))
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		return fmt.Errorf("configure %q -> %q answers %v, not %v (%w)", expected, text, got, want, err)
	}
	d.did = append(d.did, text)
	if want[0] != int64(1) {
		return d.streamed()
	}
	return errors.Join(d.hears(d.agent+" "+d.entry(text)), d.streamed(d.entry(text)))
}

func (d *documents) who() string { return d.store.Keys().Events() + " " + d.agent }

func (d *documents) configureKeys() []string {
	k := d.store.Keys()
	return []string{d.config(), d.log(), k.Stream(), k.Audit()}
}

// streamed says whether both streams have grown by these events.
func (d *documents) streamed(events ...string) error {
	k := d.store.Keys()
	return errors.Join(d.grownBy(d.ctx, k.Stream(), d.agent, events), d.grownBy(d.ctx, k.Audit(), d.agent, events))
}

func (d *documents) entry(text string) string {
	return fmt.Sprintf("%d configured > 0000000000000000 alice 0/0/0/0 config %s", d.now, text)
}

// holds says whether the document and the log, newest first, are as they must be.
func (d *documents) holds(text string, log ...string) error {
	got, err := d.client.Get(d.ctx, d.config()).Result()
	if got != text || errors.Is(err, redis.Nil) != (text == "") {
		return fmt.Errorf("document %q, not %q (%w)", got, text, err)
	}
	var want []string
	for _, l := range log {
		want = append(want, d.entry(l))
	}
	lines, err := d.client.LRange(d.ctx, d.log(), 0, -1).Result()
	if err != nil || !slices.Equal(lines, want) {
		return fmt.Errorf("log %q, not %q (%w)", lines, want, err)
	}
	return nil
}

// lives says whether a key expires in at most that time, and not a minute less; 0: never.
func (d *documents) lives(key string, want time.Duration) error {
	got, err := d.client.PTTL(d.ctx, key).Result()
	if err != nil || want > 0 && (got <= want-time.Minute || got > want) || want == 0 && got != -1 {
		return fmt.Errorf("%s lives %v, not %v (%w)", key, got, want, err)
	}
	return nil
}

func (d *documents) writes() error {
	return first(
		func() error { return d.configure("", "one", int64(1)) },
		func() error { return d.holds("one", "one") },
		func() error { return errors.Join(d.lives(d.config(), 0), d.lives(d.log(), life)) },
		// a log that is there keeps its expiry
		func() error { return d.client.PExpire(d.ctx, d.log(), 3*life).Err() },
		func() error { return d.configure("*", "two", int64(1)) },
		func() error { return errors.Join(d.holds("two", "two", "one"), d.lives(d.log(), 3*life)) },
		func() error { return d.configure("two", "", int64(1)) },
		func() error { return d.holds("", "", "two", "one") },
		func() error { return d.configure("*", "three", int64(1)) },
		func() error { return d.holds("three", "three", "", "two", "one") },
	)
}

func (d *documents) compares() error {
	return first(
		func() error { return d.configure("none", "one", int64(0), "") },
		func() error { return d.holds("") },
		func() error { return d.configure("", "one", int64(1)) },
		func() error { return d.configure("", "two", int64(0), "one") },
		func() error { return d.configure("none", "", int64(0), "one") },
		func() error { return d.holds("one", "one") },
		func() error { return d.configure("one", "two", int64(1)) },
		func() error { return d.holds("two", "two", "one") },
	)
}

// bothOrNone: two documents change together, if both hold what is expected.
func (d *documents) bothOrNone() error {
	profile := d.store.Keys().Profile(d.agent)
	both := func(expected, text, expectedOther, other string, want ...any) func() error {
		return func() error {
			got, err := d.run("configure", append([]string{d.config(), profile}, d.configureKeys()[1:]...), d.now, d.who(),
				life.Milliseconds(), "alice", "config "+text, expected, text, expectedOther, other)
			if err != nil || !reflect.DeepEqual(got, want) {
				return fmt.Errorf("configure both answers %v, not %v (%w)", got, want, err)
			}
			if want[0] != int64(1) {
				return d.streamed()
			}
			return errors.Join(d.hears(d.agent+" "+d.entry(text)), d.streamed(d.entry(text)))
		}
	}
	other := func(want string) error {
		got, err := d.client.Get(d.ctx, profile).Result()
		if got != want || errors.Is(err, redis.Nil) != (want == "") {
			return fmt.Errorf("the other document %q, not %q (%w)", got, want, err)
		}
		return nil
	}
	return first(
		both("", "one", "none", "uno", int64(0), ""),
		func() error { return errors.Join(d.holds(""), other("")) },
		both("", "one", "", "uno", int64(1), d.entry("one")),
		func() error { return errors.Join(d.holds("one", "one"), other("uno"), d.lives(d.log(), life)) },
		both("none", "two", "uno", "due", int64(0), "one"),
		both("one", "two", "none", "due", int64(0), "uno"),
		func() error { return errors.Join(d.holds("one", "one"), other("uno")) },
		both("one", "", "*", "due", int64(1), d.entry("")),
		func() error { return errors.Join(d.holds("", "", "one"), other("due")) },
	)
}

// A document of another type was planted: it reads as absent, and makes room.
func (d *documents) plantedDocument() error {
	return first(
		func() error { return d.client.SAdd(d.ctx, d.config(), "x").Err() },
		func() error { return d.configure("none", "one", int64(0), "") },
		func() error { return d.holds("") },
		func() error { return d.client.SAdd(d.ctx, d.config(), "x").Err() },
		func() error { return d.configure("", "one", int64(1)) },
		func() error { return d.holds("one", "one") },
	)
}

func (d *documents) plantedLog() error {
	return first(
		func() error { return d.client.SAdd(d.ctx, d.log(), "x").Err() },
		func() error { return d.configure("", "one", int64(1)) },
		func() error { return errors.Join(d.holds("one", "one"), d.lives(d.log(), life)) },
	)
}

// cutLog fills the log beyond its 64 lines.
func (d *documents) cutLog() error {
	var log []string
	for i := range 70 {
		text := strconv.Itoa(i)
		if err := d.configure("*", text, int64(1)); err != nil {
			return err
		}
		log = append([]string{text}, log...)
		log = log[:min(len(log), 64)]
		if err := d.holds(text, log...); err != nil {
			return err
		}
	}
	return nil
}

// inspectsLog: of a log that an external edit made longer, inspect shows 64 lines.
func (d *documents) inspectsLog() error {
	for i := range 70 {
		if err := d.client.RPush(d.ctx, d.log(), i).Err(); err != nil {
			return err
		}
	}
	raw, err := d.store.Raw(d.ctx, d.agent)
	if err != nil || len(raw.Log) != 64 || raw.Log[63] != "63" {
		return fmt.Errorf("inspect shows %q (%w)", raw.Log, err)
	}
	return nil
}

// configureClock: without a time in ARGV, configure reads the server's clock.
func (d *documents) configureClock() error {
	if err := d.lateInSecond(); err != nil {
		return err
	}
	for range clockReadings {
		err := d.betweenTimes(func() error {
			_, err := d.run("configure", d.configureKeys(), "", d.who(), life.Milliseconds(), "bob", "config x", "*", "x")
			return err
		}, "configured > 0000000000000000 bob 0/0/0/0 config x")
		if err != nil {
			return err
		}
	}
	return nil
}

// betweenTimes says whether what do publishes bears the time at which it does.
func (d *documents) betweenTimes(do func() error, rest string) error {
	before, err := d.client.Time(d.ctx).Result()
	if err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	after, err := d.client.Time(d.ctx).Result()
	if err != nil {
		return err
	}
	said, err := d.heard()
	if err != nil {
		return err
	}
	for ms := before.UnixMilli(); ms <= after.UnixMilli(); ms++ {
		if said == fmt.Sprintf("%s %d %s", d.agent, ms, rest) {
			return nil
		}
	}
	return fmt.Errorf("at %d to %d it publishes %q", before.UnixMilli(), after.UnixMilli(), said)
}

// keys are all that forget deletes.
func (d *documents) keys() []string {
	k := d.store.Keys()
	return append(k.Machine(d.agent), k.Quarantine(d.agent), k.Config(d.agent), k.Profile(d.agent))
}

// forget deletes; the answer must be want, and what is left must be as many keys.
func (d *documents) forget(force string, want, left int64) error {
	do := func() error {
		k := d.store.Keys()
		if err := d.client.ZAdd(d.ctx, k.NotClosed(), redis.Z{Score: 1, Member: d.agent}).Err(); err != nil {
			return err
		}
		got, err := d.run("forget", append(d.keys(), k.NotClosed(), k.Stream(), k.Audit()), "", d.who(), force, "alice", "all keys deleted")
		if err != nil || len(got) == 0 || got[0] != want || len(got) != 1 && want < 0 {
			return fmt.Errorf("forget answers %v, not %d (%w)", got, want, err)
		}
		if n, err := d.client.ZCard(d.ctx, k.NotClosed()).Result(); err != nil || (n == 0) != (want >= 0) {
			return fmt.Errorf("forget leaves %d in %s (%w)", n, k.NotClosed(), err)
		}
		if want < 0 {
			return d.streamed()
		}
		line, _ := got[1].(string)
		return d.streamed(line)
	}
	var err error
	if want < 0 {
		err = do()
	} else {
		err = d.betweenTimes(do, "forgotten > 0000000000000000 alice 0/0/0/0 all keys deleted")
	}
	if err != nil {
		return err
	}
	if n, err := d.client.Exists(d.ctx, d.keys()...).Result(); err != nil || n != left {
		return fmt.Errorf("forget leaves %d keys, not %d (%w)", n, left, err)
	}
	return nil
}

func (d *documents) forgets() error {
	if err := d.lateInSecond(); err != nil {
		return err
	}
	for range clockReadings {
		for _, k := range d.keys() {
			if err := d.client.SAdd(d.ctx, k, "x").Err(); err != nil {
				return err
			}
		}
		if err := first(func() error { return d.forget("0", 10, 0) }, func() error { return d.forget("0", 0, 0) }); err != nil {
			return err
		}
	}
	return nil
}

func (d *documents) forgetsHolds() error {
	control := d.keys()[3]
	for _, c := range []struct {
		force string
		want  int64
		set   []any
	}{
		{"0", -1, []any{"hold", "open", "hold_protected", "1"}},
		{"1", 1, []any{"hold", "open", "hold_protected", "1"}},
		{"0", 1, []any{"hold", "open"}},
		{"0", 1, []any{"hold", "open", "hold_protected", "0"}},
		{"0", 1, []any{"hold_protected", "1"}},
		{"0", 1, []any{"state", "open"}},
	} {
		d.did = append(d.did, fmt.Sprint(c))
		left := max(0, -c.want)
		err := first(
			func() error { return d.client.Del(d.ctx, control).Err() },
			func() error { return d.client.HSet(d.ctx, control, c.set...).Err() },
			func() error { return d.forget(c.force, c.want, left) },
		)
		if err != nil {
			return err
		}
	}
	return nil
}

// onceOnCluster: without the fleet's keys, the eighth key is that of the report [B14], or of the action.
func (d *documents) onceOnCluster() error {
	keys := d.store.Keys().Machine(d.agent)
	run := func(verb, want string, keys []string, args ...any) error {
		policy := "1 5 500000 10 0 0 120000 3600000 0 0 1 60000 3600000 1000 0 3 3 60000 0 0 100000 1 900000"
		got, err := d.run(verb, keys, append([]any{d.now, d.who(), policy, "1", "000000000000001 0"}, args...)...)
		if err != nil || len(got) == 0 || got[0] != want {
			return fmt.Errorf("%s with %d keys answers %v, not %s (%w)", verb, len(keys), got, want, err)
		}
		return nil
	}
	record := func(want string, keys []string, outcomes string) error {
		return run("record", want, keys, "", "", outcomes)
	}
	reset := func(want string, keys []string) error {
		err := run("force", want, keys, "reset_closed", 0, 0, "r", "r", "alice", "0", "0", "")
		if err == nil && want == "ok" {
			_, err = d.heard()
		}
		return err
	}
	opening := append(slices.Clone(keys), d.store.Keys().Report(d.agent, "y"))
	acted := append(slices.Clone(keys), d.store.Keys().Action(d.agent, "x"))
	reported := append(slices.Clone(keys), d.store.Keys().Report(d.agent, "x"))
	return first(
		func() error { return reset("ok", keys) },
		func() error { return reset("ok", keys) },
		func() error { return reset("ok", acted) },
		func() error { return reset("duplicate", acted) },
		func() error { return record("ok", keys, "1") },
		func() error { return record("ok", keys, "1") },
		func() error { return record("ok", reported, "1") },
		func() error { return record("duplicate", reported, "1") },
		func() error { return record("ok", opening, "0 5 0 5 5 5 0 a") }, // without keys for the streams
		func() error {
			got, err := d.heard()
			if !strings.Contains(got, "opened") {
				err = errors.Join(err, fmt.Errorf("an opening publishes %q", got))
			}
			return errors.Join(err, d.streamed())
		},
		d.documentsOnCluster,
	)
}

// documentsOnCluster: without the fleet's keys, configure and forget answer the event, which the replica then writes.
func (d *documents) documentsOnCluster() error {
	got, err := d.run("configure", []string{d.config(), d.log()}, d.now, d.who(), life.Milliseconds(), "alice", "config x", "*", "x")
	if want := []any{int64(1), d.entry("x")}; err != nil || !reflect.DeepEqual(got, want) {
		return fmt.Errorf("configure on a Cluster answers %v, not %v (%w)", got, want, err)
	}
	published := d.agent + " " + d.entry("x")
	if got, err = d.run("forget", d.keys(), d.now, d.who(), "0", "alice", "all keys deleted"); err != nil || len(got) != 2 {
		return fmt.Errorf("forget on a Cluster answers %v (%w)", got, err)
	}
	return errors.Join(d.hears(published), d.hears(fmt.Sprintf("%s %v", d.agent, got[1])), d.streamed())
}

// first carries steps out in turn, until one fails.
func first(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}
