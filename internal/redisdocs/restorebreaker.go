package redisdocs

import (
	"context"
	"maps"
	"slices"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/internal/backup"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

// logKept is how many lines :log has.
const logKept = 64

// eventRestored is the kind of the line in the log of a breaker that was restored. It is no transition.
const eventRestored = "restored"

// breakers restores breakers by their keys: no verb can bring back a window, totals or an episode. Leases stay away:
// who held them has gone, or reports in vain, and a half-open round goes on without them.
func (r *restore) breakers(ctx context.Context, to *Restored, page []backup.Record) error {
	page = slices.DeleteFunc(page, func(rec backup.Record) bool { return !named(rec) || rec.Breaker == nil })
	agents := make([]string, len(page))
	for i, rec := range page {
		agents[i] = rec.Name
	}
	live, err := r.readBreakers(ctx, agents)
	if err != nil {
		return err
	}
	pipe := r.client.Pipeline()
	fates, cmds := make([]Fate, len(page)), make([]*redis.Cmd, len(page))
	for i, rec := range page {
		fates[i] = judgeBreaker(&live[i], rec.Breaker, r.nowMs, r.o.Overwrite)
		if r.writes(fates[i]) {
			cmds[i] = pipe.Eval(ctx, writeBreaker, r.breakerKeys(rec.Name), r.breakerArgs(rec, &live[i])...)
		}
	}
	_, _ = pipe.Exec(ctx) // each command keeps its own error
	var written []string
	for i, c := range cmds {
		if c != nil {
			done, err := c.Int()
			if err != nil {
				return redisstore.WrapError("restore", agents[i], err)
			}
			if done == 0 { // it has changed this moment
				fates[i] = Newer
			} else {
				written = append(written, agents[i])
			}
		}
		to.add(fates[i], agents[i])
	}
	if err := r.listNotClosed(ctx, page, written); err != nil {
		return err
	}
	return r.index(ctx, written)
}

// writes says that a record with this fate is written now.
func (r *restore) writes(f Fate) bool { return !r.o.DryRun && (f == Created || f == Replaced) }

// judgeBreaker says what becomes of a breaker. The newer one is that whose last transition or manual action is; after
// the same one, or none, that with the newer calls.
func judgeBreaker(live, saved *backup.Breaker, nowMs int64, overwrite bool) Fate {
	if expires := number(saved.Control["expires_ms"]); expires != 0 && expires <= nowMs {
		return Expired
	}
	switch {
	case !live.Present():
		return Created
	case sameBreaker(live, saved):
		return Same
	case overwrite:
		return Replaced
	}
	was, is := lastChange(saved), lastChange(live)
	switch {
	case is > was, is == was && lastCall(live) >= lastCall(saved):
		return Newer
	case is == 0 && saved.State != string(machine.Open) && saved.State != string(machine.HalfOpen) && !saved.Held():
		return Newer // both admit calls, and only the live one knows the newest
	}
	return Replaced
}

// sameBreaker says that two breakers are the same but for leases, log and history.
func sameBreaker(a, b *backup.Breaker) bool {
	return a.State == b.State && a.OpenTimestamp == b.OpenTimestamp && maps.Equal(a.Control, b.Control) &&
		maps.Equal(a.Calls, b.Calls)
}

func number(text string) int64 {
	n, _ := strconv.ParseInt(text, 10, 64)
	return n
}

// lastChange is when a breaker had its last transition, or an operator last did something to it; 0: never.
func lastChange(b *backup.Breaker) (ms int64) {
	for _, name := range []string{"opened_ms", "round_ms", "ramp_ms", "hold_ms"} {
		ms = max(ms, number(b.Control[name]))
	}
	for _, line := range b.Log {
		e, ok := machine.ParseEvent(line)
		if ok && (e.Transition() || e.Kind == eventRestored || e.Manual() && e.Kind != machine.EventConfigured) {
			ms = max(ms, e.AtMs)
		}
	}
	return ms
}

// lastCall is the start of a breaker's newest bucket; 0: it has none.
func lastCall(b *backup.Breaker) (ms int64) {
	for name := range b.Calls {
		if name != "" && name[0] != 'r' {
			ms = max(ms, number(name[1:]))
		}
	}
	return ms
}

// writeBreaker replaces a breaker, if nothing but calls has happened to it since it was read.
// KEYS[1]..[7] -> the machine's   not on a Cluster: KEYS[8] -> notclosed
// ARGV[1] -> events channel     ARGV[2] -> agent         ARGV[3] -> line of the log
// ARGV[4..6] -> what it must hold: state, epoch, newest line of its log; ” where there is none
// ARGV[7] -> when its keys expire in ms; ”: never       ARGV[8] -> 1: it is not closed, or held  ARGV[9] -> now in ms
// ARGV[10], [11] -> state, timestamp; then calls, control, history and log, each after the number of its texts
// It returns 1 if it has, else 0.
const writeBreaker = `
local function text(answer) return type(answer) == 'string' and answer or '' end
local log = redis.pcall('LRANGE', KEYS[6], 0, 0)
if text(redis.pcall('GET', KEYS[1])) ~= ARGV[4] or text(redis.pcall('HGET', KEYS[4], 'epoch')) ~= ARGV[5]
    or text(type(log) == 'table' and log[1]) ~= ARGV[6] then
  return 0
end
redis.call('UNLINK', unpack(KEYS, 1, 7))
local at = 12
local function each(command, key)
  local n = tonumber(ARGV[at])
  for i = at + 1, at + n, 100 do redis.call(command, key, unpack(ARGV, i, math.min(i + 99, at + n))) end
  at = at + n + 1
end
if ARGV[10] ~= '' then redis.call('SET', KEYS[1], ARGV[10]) end
if ARGV[11] ~= '' then redis.call('SET', KEYS[2], ARGV[11]) end
each('HSET', KEYS[3])
each('HSET', KEYS[4])
each('HSET', KEYS[7])
each('LPUSH', KEYS[6])
redis.call('LPUSH', KEYS[6], ARGV[3])
redis.call('LTRIM', KEYS[6], 0, 63)
if ARGV[7] ~= '' then
  for i = 1, 7 do redis.call('PEXPIREAT', KEYS[i], ARGV[7]) end
end
redis.call('PUBLISH', ARGV[1], ARGV[2] .. ' ' .. ARGV[3])
if not KEYS[8] then return 1 end
if ARGV[8] == '1' then redis.pcall('ZADD', KEYS[8], ARGV[9], ARGV[2]) else redis.pcall('ZREM', KEYS[8], ARGV[2]) end
return 1`

func (r *restore) breakerKeys(agent string) []string {
	keys := r.keys.Machine(agent)
	if !r.keys.Cluster {
		keys = append(keys, r.keys.NotClosed())
	}
	return keys
}

func (r *restore) breakerArgs(rec backup.Record, live *backup.Breaker) []any {
	b := rec.Breaker
	state := machine.State(b.State)
	line := machine.Event{
		AtMs: r.nowMs, Kind: eventRestored, From: state, To: state, Epoch: epochOf(b), Actor: r.o.Actor,
		Text: "from the backup of " + r.from.TakenAt,
	}.String()
	listed := "0"
	if notClosed(b) {
		listed = "1"
	}
	head := ""
	if len(live.Log) > 0 {
		head = live.Log[0]
	}
	args := []any{
		r.keys.Events(), rec.Name, line, live.State, live.Control["epoch"], head, b.Control["expires_ms"], listed, r.nowMs,
		b.State, b.OpenTimestamp,
	}
	for _, hash := range []map[string]string{b.Calls, b.Control, b.History} {
		args = append(args, 2*len(hash))
		for name, value := range hash {
			args = append(args, name, value)
		}
	}
	log := slices.Clone(b.Log)
	if !live.Present() { // its documents have changed since
		log = slices.Concat(live.Log, log)
	}
	log = log[:min(len(log), logKept-1)]
	args = append(args, len(log))
	for _, line := range slices.Backward(log) {
		args = append(args, line)
	}
	return args
}

func epochOf(b *backup.Breaker) string {
	if epoch := b.Control["epoch"]; epoch != "" {
		return epoch
	}
	return machine.ZeroEpoch
}

// notClosed says that the index of breakers that are not closed, or held, has to have one.
func notClosed(b *backup.Breaker) bool {
	return b.Held() || b.State == string(machine.Open) || b.State == string(machine.HalfOpen)
}

// listNotClosed does on a Cluster what the script cannot: the index has another slot.
func (r *restore) listNotClosed(ctx context.Context, page []backup.Record, written []string) error {
	if !r.keys.Cluster || len(written) == 0 {
		return nil
	}
	key := r.keys.NotClosed()
	return failed("restore", "", r.write(ctx, key, func() error {
		pipe := r.client.Pipeline()
		for _, rec := range page {
			switch {
			case !slices.Contains(written, rec.Name):
			case notClosed(rec.Breaker):
				pipe.ZAdd(ctx, key, redis.Z{Score: float64(r.nowMs), Member: rec.Name})
			default:
				pipe.ZRem(ctx, key, rec.Name)
			}
		}
		_, err := pipe.Exec(ctx)
		return err
	}))
}
