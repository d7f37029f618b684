package redisdocs

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/breakerd/breakerd/pkg/redisstore"
)

// PermitKeys are the keys that sign permits, as Redis holds them: 64 hex digits each.
type PermitKeys struct {
	Current, Former string        // Former "": there was none
	Age             time.Duration // of Current
}

// permitKeys returns the current key, the former one and the age of the current one in ms. If there is no current one,
// or it is as old as ARGV[2] in ms, ARGV[1] takes its place. What is no key was planted, and absent [B20]. A time that
// lies in the future counts as now [B1].
const permitKeys = `
local was = redis.pcall('HMGET', KEYS[1], 'current', 'former', 'made_at')
if was.err then was = {} end
local function key(s)
  if s and #s == 64 and not string.find(s, '%X') then return s end
  return nil
end
local current, former, made = key(was[1]), key(was[2]), tonumber(was[3] or '')
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
if current and not (made and made >= 0 and made <= now) then
  made = now
  redis.call('HSET', KEYS[1], 'made_at', string.format('%.0f', now))
end
if not current or now - made >= tonumber(ARGV[2]) then
  former = current
  current, made = ARGV[1], now
  redis.call('UNLINK', KEYS[1])
  redis.call('HSET', KEYS[1], 'current', current, 'former', former or '', 'made_at', string.format('%.0f', now))
end
return {current, former or '', string.format('%.0f', now - made)}`

// PermitKeys reads the keys that sign permits. If there is none, or the current one is as old as life, offer becomes
// the current one, and what was current the former one: of all who ask at once, the offer of one counts for all.
func (d *Docs) PermitKeys(ctx context.Context, offer string, life time.Duration) (k PermitKeys, err error) {
	ctx, cancel := context.WithTimeout(ctx, d.config.Timeout)
	defer cancel()
	got, err := d.client.Eval(ctx, permitKeys, []string{d.keys.PermitKey()}, offer, life.Milliseconds()).StringSlice()
	if err == nil && len(got) != 3 {
		err = errors.New("the script's answer has not three parts")
	}
	if err != nil {
		return k, redisstore.WrapError("permit keys", "", err)
	}
	ms, err := strconv.ParseInt(got[2], 10, 64)
	return PermitKeys{Current: got[0], Former: got[1], Age: time.Duration(ms) * time.Millisecond}, err
}
