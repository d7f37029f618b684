-- closed: the fast path of a record. A breaker that stays closed is answered before anything is loaded.
-- Clauses: B5 B6 B7 B8 B9 B14 B20 B23 B25.
-- KEYS and ARGV: see load.lua.

-- closed counts r, a record in an epoch ('': without a permit), and returns the reply. nil: it has written nothing, and the general
-- way decides.
local function closed(epoch, r)
  local c = peek(KEYS[1], KEYS[4])
  if not c then return nil end
  if r.failures == 0 and r.slow == 0 and calm(c, KEYS[3], ARGV[7], epoch, r.successes) then return { 'ok', 'closed', c[1], now } end
  local plain, run = c[1], whole(c[4] or '0', 255)
  if not plain or not is_hex16(plain) or not run or (epoch ~= '' and epoch ~= plain) then return nil end
  read_policy()
  if P.track and r.reporter ~= '' and r.failures + r.slow > 0 then return nil end
  local set, fresh = {}, nil
  local v = cached(c[2], c[3])
  if v then
    v.own = read_own(v)
  else
    local k = redis.pcall('HMGET', KEYS[4], 'expires_ms', 'upstream_length_ms', 'successes', 'failures')
    local expires, s, f = whole(k[1] or '0', MAX_TIME), whole(k[3] or '0', 9000000000000000), whole(k[4] or '0', 9000000000000000)
    local n = redis.pcall('HLEN', KEYS[3])
    if k[2] or not (expires and s and f) or expires < now + P.ttl or type(n) == 'table' or n > 512 then return nil end
    fresh = n == 0 and expires
    v = gather(redis.call('HGETALL', KEYS[3]))
    if v then
      v.successes, v.failures, v.expires = s, f, expires
      set = { 'rule', ARGV[7], 'past', past(v, expires) }
    end
  end
  if not v or not v.own then return nil end
  local after, peak = runs(run, r)
  if set[4] == '' or over(peak, v.s + v.own.s + r.successes, v.f + v.own.f + r.failures, v.w + v.own.w + r.slow) then return nil end
  add(v.start, r.successes, r.failures, r.slow)
  if fresh then redis.call('PEXPIREAT', KEYS[3], fresh) end
  if v.dead and #v.dead > 0 then
    local s, f = prune(v.dead)
    if s > 0 then set[#set + 1], set[#set + 2] = 'successes', v.successes + s end
    if f > 0 then set[#set + 1], set[#set + 2] = 'failures', v.failures + f end
    if P.history > 0 then redis.call('PEXPIREAT', KEYS[7], v.expires) end
  end
  if after > 0 then
    set[#set + 1], set[#set + 2] = 'run', after
  elseif run > 0 then
    redis.call('HDEL', KEYS[4], 'run')
  end
  if #set > 0 then redis.call('HSET', KEYS[4], unpack(set)) end
  return { 'ok', 'closed', plain, now, after }
end

