-- record: counts a summary of outcomes, of one call or of a thousand, in the epoch of their permits only.
-- Clauses: B4 B5 B6 B7 B8 B9 B12 B13 B14 B15 B17 B21 B22 B23; the rest by the general way.
-- KEYS, ARGV[1]..ARGV[5], reply: see load.lua.
-- KEYS[#KEYS] -> <agent>:report:<hash of an Idempotency-Key>, if there is one: the 8th key on a Cluster, else the 11th
-- ARGV[6] -> epoch of the permit; empty with a token: only that lease is settled; empty without: there is no permit
-- ARGV[7] -> lease token; empty: not a probe
-- ARGV[8] -> the number of successes if there is nothing else; else, joined by blanks: successes, failures, slow, lead,
--            trail, longest run, wait in ms, reporter of the failures or slow calls. 0: an ignored outcome
-- Returns code ok, ignored, late, foreign, disabled or duplicate.
-- The fast path answers {'ok', 'closed', epoch, now_ms, run}. The calm way leaves out the run, which is 0.

--@clock
--@numbers
--@calm

local EPOCH, TOKEN = ARGV[6], ARGV[7]
local REPORT = (#KEYS == 8 or #KEYS == 11) and KEYS[#KEYS]

-- The fields of :control that the fast path needs; false if only the general way can answer.
local c = string.sub(ARGV[3], 1, 1) ~= '0' and TOKEN == '' and not REPORT and peek(KEYS[1], KEYS[4])
local SUCCESSES = tonumber(ARGV[8])
if c and SUCCESSES and SUCCESSES > 0 then
  local epoch = calm(c, KEYS[3], ARGV[4], EPOCH, ARGV[8])
  if epoch then return { 'ok', 'closed', epoch, now } end
end

--@window

local FAILURES, SLOW, LEAD, TRAIL, LONGEST, WAIT, REPORTER = 0, 0, 0, 0, 0, 0, ''
if not SUCCESSES then
  local s, f, w, lead, trail, longest, wait, reporter = string.match(ARGV[8], '^(%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%S*)$')
  SUCCESSES, FAILURES, SLOW, LEAD, TRAIL = tonumber(s), tonumber(f), tonumber(w), tonumber(lead), tonumber(trail)
  LONGEST, WAIT, REPORTER = tonumber(longest), tonumber(wait), reporter
end

-- runs returns the run after this record, and the longest run that a failure in it made longer [B6].
local function runs(run)
  local after, peak = TRAIL, LONGEST
  if SUCCESSES == 0 then
    after = run + FAILURES
    peak = after
  elseif LEAD > 0 then
    peak = math.max(run + LEAD, peak)
  end
  return math.min(after, 255), math.min(peak, 255)
end

-- From here the fast path counts in a plainly closed breaker that stays closed. It writes nothing before that is
-- certain.
local plain = c and c[1]
local run = plain and (not c[4] and 0 or whole(c[4], 255))
local fast = run and (EPOCH == plain or (EPOCH == '' and is_hex16(plain))) and WAIT == 0 and SUCCESSES + FAILURES > 0
if fast then
  read_thresholds()
  fast = not (P.track and REPORTER ~= '')
end

local start, s, f, w
if fast then start, s, f, w = cached(c[2], c[3]) end
if start then
  local b = redis.pcall('HMGET', KEYS[3], 's' .. start, 'f' .. start, 'w' .. start)
  local os, of = not b[1] and 0 or whole(b[1], MAX_COUNT), not b[2] and 0 or whole(b[2], MAX_COUNT)
  local ow = not b[3] and 0 or whole(b[3], MAX_COUNT)
  local after, peak = runs(run)
  -- Without a count in the bucket :calls may be missing, and `add` would create it without an expiry.
  if (b[1] or b[2] or b[3]) and os and of and ow and not over(peak, s + os + SUCCESSES, f + of + FAILURES, w + ow + SLOW) then
    add(start, SUCCESSES, FAILURES, SLOW)
    if after > 0 then redis.call('HSET', KEYS[4], 'run', after) elseif run > 0 then redis.call('HDEL', KEYS[4], 'run') end
    return { 'ok', 'closed', plain, now, after }
  end
end

--@buckets

-- begin_bucket counts if no valid sums are cached, as when a bucket begins; nil: the general way must.
local function begin_bucket()
  read_buckets()
  local k = redis.pcall('HMGET', KEYS[4], 'expires_ms', 'upstream_length_ms', 'successes', 'failures')
  local expires, s, f = whole(k[1] or '0', MAX_TIME), whole(k[3] or '0', 9000000000000000), whole(k[4] or '0', 9000000000000000)
  local n = redis.pcall('HLEN', KEYS[3])
  if k[2] or not (expires and s and f) or expires < now + P.ttl or type(n) == 'table' or n > 512 then return nil end
  local g = gather(redis.call('HGETALL', KEYS[3]))
  if not g then return nil end
  local set, after, peak = { 'rule', ARGV[4], 'past', past(g, expires) }, runs(run)
  if set[4] == '' or over(peak, g.s + g.own.s + SUCCESSES, g.f + g.own.f + FAILURES, g.w + g.own.w + SLOW) then return nil end
  add(g.start, SUCCESSES, FAILURES, SLOW)
  if n == 0 then redis.call('PEXPIREAT', KEYS[3], expires) end
  local more_s, more_f = prune(g.dead, expires)
  if more_s > 0 then set[5], set[6] = 'successes', s + more_s end
  if more_f > 0 then set[#set + 1], set[#set + 2] = 'failures', f + more_f end
  if after > 0 then set[#set + 1], set[#set + 2] = 'run', after elseif run > 0 then redis.call('HDEL', KEYS[4], 'run') end
  redis.call('HSET', KEYS[4], unpack(set))
  return { 'ok', 'closed', plain, now, after }
end

local answer = fast and not start and begin_bucket()
if answer then return answer end

--@general
--@reporters

-- upstream keeps the longer of two waits that the agent asked for. A success clears it [B22].
function B.upstream()
  local left, length = S.upstream_ms + S.upstream_length_ms - now, WAIT
  if not P.retry_opens and (not P.retry_extends or TRAIL == 0) then length = 0 end
  length = math.min(length, P.retry_max, P.timeout_max)
  if length > 0 and (SUCCESSES > 0 or length > left) then
    S.upstream_ms, S.upstream_length_ms = now, length
  elseif SUCCESSES > 0 then
    S.upstream_ms, S.upstream_length_ms = 0, 0
  end
end

-- tally updates what every counted record updates, and returns the longest run that it made longer [B6].
function B.tally()
  local peak
  S.run, peak = runs(S.run)
  B.upstream()
  B.touch_calls()
  if P.track and REPORTER ~= '' then B.remember(REPORTER) end
  return peak
end

function B.live_reporters()
  local n = 0
  for _, at in pairs(B.reporters) do
    if now - P.window < at then n = n + 1 end
  end
  return n
end

function B.trip(peak, s, f, w)
  if P.reporters > 1 and B.live_reporters() < P.reporters then return nil end
  if P.retry_opens and WAIT > 0 then return 'upstream_retry_after' end
  return over(peak, s, f, w)
end

function B.count()
  B.present = true
  local peak = B.tally()
  local start, s, f, w = cached(S.rule, S.past)
  local g, os, of, ow
  if start then
    local b = redis.call('HMGET', KEYS[3], 's' .. start, 'f' .. start, 'w' .. start)
    os, of, ow = b[1], b[2], b[3]
  else
    g = gather(B.calls)
    start, s, f, w, os, of, ow = g.start, g.s, g.f, g.w, g.own.s, g.own.f, g.own.w
  end
  add(start, SUCCESSES, FAILURES, SLOW)
  if g then B.prune(g.dead) end
  if S.hold == 'closed' then return { code = 'ok' } end
  s, f, w = s + (os or 0) + SUCCESSES, f + (of or 0) + FAILURES, w + (ow or 0) + SLOW
  local cause = B.trip(peak, s, f, w)
  if cause then
    if S.ramp_length_ms > 0 then S.reopens = S.reopens + 1 end
    B.evidence(f, s + f, w, peak)
    B.open(now, cause)
    B.event(now, 'opened', 'closed', '-', cause)
  elseif S.upstream_length_ms > 0 then -- every record must look at it
    B.clear('rule', 'past')
  elseif g then
    B.renew_expiry()
    S.past = past(g, S.expires_ms)
    S.rule = S.past ~= '' and ARGV[4] or ''
  end
  return { code = 'ok' }
end

-- settle counts a probe's outcome once, while its lease lasts [B12]..[B15].
function B.settle()
  local token = TOKEN
  if EPOCH == '' and token == '' then
    token = B.first_lease(B.issued)
    if not token then return { code = 'ignored' } end
  end
  if not B.leases[token] then return { code = token == '' and 'foreign' or 'late' } end
  B.leases[token] = nil
  if SUCCESSES + FAILURES == 0 then return { code = 'ignored', probe = true } end
  B.tally()
  S.successes, S.failures = S.successes + SUCCESSES, S.failures + FAILURES
  if FAILURES == 0 then S.round_ok = S.round_ok + 1 else S.round_failed = S.round_failed + 1 end
  if SLOW > 0 then S.round_slow = S.round_slow + 1 end
  if P.retry_opens and WAIT > 0 then
    B.reopen(now, 'upstream_retry_after')
  else
    B.verdict(now)
  end
  return { code = 'ok', probe = true }
end

function B.record()
  if not P.enabled and S.hold == '' then return { code = 'disabled' } end
  if EPOCH ~= '' and EPOCH ~= S.epoch then return { code = 'late' } end
  if EPOCH == '' and TOKEN ~= '' and S.state ~= 'half_open' then return { code = 'late' } end
  if S.state == 'open' then return { code = EPOCH == '' and 'ignored' or 'foreign' } end
  if S.state == 'half_open' then return B.settle() end
  if TOKEN ~= '' then return { code = 'foreign' } end
  if SUCCESSES + FAILURES == 0 then return { code = 'ignored' } end
  return B.count()
end

B.begin()
if REPORT and not redis.pcall('SET', REPORT, '1', 'NX', 'PX', 600000) then return B.finish({ code = 'duplicate' }) end
return B.finish(B.record())
