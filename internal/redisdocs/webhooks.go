package redisdocs

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/breakerd/breakerd/pkg/redisstore"
)

// Hook is what the fleet keeps of a webhook: a hash, of which one replica at a time is the writer.
type Hook struct {
	Holder string            // the writer: whoever asked, or who has the lease instead
	Left   time.Duration     // until its lease ends; 0: nobody has it
	NowMs  int64             // by Redis' clock
	Fields map[string]string // nil: the writer is the same as before, and knows them
}

const (
	hookHolder = "holder"
	hookUntil  = "until_ms"
	// hookLives is how long a hook is kept that no replica has in its file.
	hookLives = 7 * 24 * time.Hour
)

// claimHook gives the lease of a hook to ARGV[1] for ARGV[2] ms, unless another has it. It returns now, the holder, the
// ms that are left, and, if the holder is new or ARGV[3] is 1, all fields. ARGV[4]: how long the hash lives. A lease
// cannot be longer than one that begins now: if the clock went back it ends with that. What has another type was
// planted [B20].
const claimHook = `
local held = redis.pcall('HMGET', KEYS[1], 'holder', 'until_ms')
if held.err then
  redis.call('UNLINK', KEYS[1])
  held = {}
end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local ends = now + ARGV[2]
local till = tonumber(held[2] or 0) or 0
local text = function(n) return string.format('%.0f', n) end
if held[1] and held[1] ~= ARGV[1] and till > now then
  if till > ends then
    redis.call('HSET', KEYS[1], 'until_ms', text(ends))
    till = ends
  end
  return {text(now), held[1], text(till - now)}
end
redis.call('HSET', KEYS[1], 'holder', ARGV[1], 'until_ms', text(ends))
redis.call('PEXPIRE', KEYS[1], ARGV[4])
local out = {text(now), ARGV[1], ARGV[2]}
if held[1] ~= ARGV[1] or ARGV[3] == '1' then
  out[4] = 'fields'
  for _, v in ipairs(redis.call('HGETALL', KEYS[1])) do out[#out + 1] = v end
end
return out`

// ClaimHook takes or renews the lease of a webhook, unless another replica has it. all: read its fields in any case.
func (d *Docs) ClaimHook(ctx context.Context, hook, holder string, lease time.Duration, all bool) (h Hook, err error) {
	ctx, cancel := context.WithTimeout(ctx, d.config.Timeout)
	defer cancel()
	read := "0"
	if all {
		read = "1"
	}
	out, err := d.client.Eval(ctx, claimHook, []string{d.keys.Webhook(hook)},
		holder, lease.Milliseconds(), read, hookLives.Milliseconds()).StringSlice()
	if err != nil {
		return h, redisstore.WrapError("webhook", "", err)
	}
	h.NowMs, _ = strconv.ParseInt(out[0], 10, 64) // the script wrote it
	left, _ := strconv.ParseInt(out[2], 10, 64)
	h.Holder, h.Left = out[1], time.Duration(left)*time.Millisecond
	if len(out) > 3 {
		h.Fields = map[string]string{}
		for pair := range slices.Chunk(out[4:], 2) {
			h.Fields[pair[0]] = pair[1]
		}
	}
	return h, nil
}

// saveHook sets and deletes fields, and renews the lease for ARGV[2] ms, if ARGV[1] was the last to have it. ARGV[3] is
// how many pairs of fields and values follow; fields to delete are behind them. It returns 1 if it has.
const saveHook = `
local holder = redis.pcall('HGET', KEYS[1], 'holder')
if type(holder) ~= 'string' or holder ~= ARGV[1] then return 0 end
local t = redis.call('TIME')
local till = t[1] * 1000 + math.floor(t[2] / 1000) + ARGV[2]
redis.call('HSET', KEYS[1], 'until_ms', string.format('%.0f', till))
local from = 4 + 2 * ARGV[3]
for i = 4, from - 1, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
for i = from, #ARGV do redis.call('HDEL', KEYS[1], ARGV[i]) end
return 1`

// SaveHook changes fields of a webhook, and renews its lease; a lease of 0 ends it. held is false, and nothing has
// changed, if another replica has had the lease meanwhile.
func (d *Docs) SaveHook(
	ctx context.Context, hook, holder string, lease time.Duration, set map[string]string, del []string,
) (held bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, d.config.Timeout)
	defer cancel()
	args := []any{holder, lease.Milliseconds(), len(set)}
	for field, value := range set {
		args = append(args, field, value)
	}
	args = append(args, anySlice(del)...)
	done, err := d.client.Eval(ctx, saveHook, []string{d.keys.Webhook(hook)}, args...).Int()
	if err != nil {
		return false, redisstore.WrapError("webhook", "", err)
	}
	return done == 1, nil
}

// ReadHook reads some fields of a webhook, and who has its lease.
func (d *Docs) ReadHook(ctx context.Context, hook string, fields ...string) (h Hook, err error) {
	ctx, cancel := context.WithTimeout(ctx, d.config.Timeout)
	defer cancel()
	names := append([]string{hookHolder, hookUntil}, fields...)
	pipe := d.client.Pipeline()
	values, now := pipe.HMGet(ctx, d.keys.Webhook(hook), names...), pipe.Time(ctx)
	_, _ = pipe.Exec(ctx) // each command keeps its own error
	if err := now.Err(); err != nil {
		return h, redisstore.WrapError("webhook", "", err)
	}
	if err := failed("webhook", "", values.Err()); err != nil {
		return h, err
	}
	h.NowMs, h.Fields = now.Val().UnixMilli(), map[string]string{}
	for i, v := range values.Val() {
		if text, is := v.(string); is {
			h.Fields[names[i]] = text
		}
	}
	until, _ := strconv.ParseInt(h.Fields[hookUntil], 10, 64)
	h.Left = max(0, time.Duration(until-h.NowMs)*time.Millisecond)
	if h.Left > 0 {
		h.Holder = h.Fields[hookHolder]
	}
	return h, nil
}
