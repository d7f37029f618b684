-- record: counts a summary of outcomes, in the epoch of its permit only. There is one record script, for one call or a thousand.
-- Clauses: B4 B5 B6 B7 B8 B9 B13 B14 B15 B17 B21 B22 B23; the rest by the prelude.
-- KEYS, ARGV[1]..ARGV[9], reply: see prelude.lua.
-- KEYS[7]  -> <agent>:report:<hash of an Idempotency-Key>; only when there is one
-- ARGV[10] -> epoch of the permit; empty: an outcome without a permit
-- ARGV[11] -> lease token; empty: not a probe
-- ARGV[12] -> successes               ARGV[13] -> failures            ARGV[14] -> slow
-- ARGV[15] -> reporter
-- ARGV[16].. -> lead, trail, max_run, wait_ms; left out when there are no failures. All 0: an ignored outcome
-- Returns code ok, ignored, late, foreign, disabled or duplicate; probe 1 when a lease was settled.
-- Successes of a plainly closed breaker without trouble in its window go a short way: {'ok', 'closed', epoch, now_ms}.

if ARGV[13] == '0' and ARGV[14] == '0' and ARGV[12] ~= '0' and ARGV[11] == '' and ARGV[6] == '1' and not KEYS[7]
    and redis.pcall('GET', KEYS[1]) == 'closed' then
  local c = redis.pcall('HMGET', KEYS[4], 'plain', 'run', 'upstream_length_ms', 'expires_ms', 'trouble_ms')
  local epoch, expires, trouble = c[1], c[4], c[5]
  local function ms(text) return text and #text <= 14 and string.find(text, '^[1-9]%d*$') and tonumber(text) end
  if epoch and not c[2] and not c[3] and ms(expires) and (not trouble or ms(trouble))
      and (ARGV[10] == epoch or (ARGV[10] == '' and #epoch == 16 and not string.find(epoch, '[^0-9a-f]'))) then
    local now, window, n = tonumber(ARGV[1]), tonumber(ARGV[7]), tonumber(ARGV[12])
    if not now then
      local t = redis.call('TIME')
      now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
    end
    if ms(expires) >= now + tonumber(ARGV[8]) and (not trouble or ms(trouble) <= now - window) then
      local bucket = 's' .. string.format('%.0f', now - now % math.ceil(window / 12))
      local sum = redis.pcall('HINCRBY', KEYS[3], bucket, n)
      if type(sum) == 'number' then
        if sum > n and sum - n <= 1000000000000 then return { 'ok', 'closed', epoch, now } end
        -- the bucket begins with this record, or held what it cannot hold: as it was, and the long way
        if sum == n then redis.call('HDEL', KEYS[3], bucket) else redis.call('HINCRBY', KEYS[3], bucket, 0 - n) end
      end
    end
  end
end

--@prelude

local EPOCH, TOKEN, REPORTER = ARGV[10], ARGV[11], ARGV[15]
local R = {
  successes = tonumber(ARGV[12]), failures = tonumber(ARGV[13]), slow = tonumber(ARGV[14]),
  lead = tonumber(ARGV[16] or '0'), trail = tonumber(ARGV[17] or '0'), max_run = tonumber(ARGV[18] or '0'),
  wait = tonumber(ARGV[19] or '0'),
}
local REPORT_KEPT = 600000

-- forget_oldest takes the reporter that failed longest ago out; it says whether there were too many.
local function forget_oldest()
  local n, oldest = 0, nil
  for name, at in pairs(CALLS) do
    if string.sub(name, 1, 2) == 'r:' then
      n = n + 1
      if not oldest or at < CALLS[oldest] or (at == CALLS[oldest] and name < oldest) then oldest = name end
    end
  end
  if n <= MAX_REPORTERS then return false end
  CALLS[oldest] = nil
  return true
end

-- remember keeps the eight newest reporters [B23].
local function remember()
  CALLS['r:' .. REPORTER] = now
  while forget_oldest() do end
end

-- upstream keeps the longer of two waits; a success clears it [B22].
local function upstream()
  local left, length = S.upstream_ms + S.upstream_length_ms - now, R.wait
  if not P.retry_opens and (not P.retry_extends or R.trail == 0) then length = 0 end
  length = math.min(length, P.timeout_max)
  if length > 0 and (R.successes > 0 or length > left) then
    S.upstream_ms, S.upstream_length_ms = now, length
  elseif R.successes > 0 then
    S.upstream_ms, S.upstream_length_ms = 0, 0
  end
end

-- tally keeps what every counted record keeps, and returns the longest run on the way [B6].
local function tally()
  local run, peak = S.run + R.failures, S.run + R.failures
  if R.successes > 0 then
    peak, run = math.max(S.run + R.lead, R.max_run), R.trail
  end
  S.run = math.min(run, MAX_RUN)
  upstream()
  if P.track_reporters and R.failures + R.slow > 0 and REPORTER ~= '' then remember() end
  return math.min(peak, MAX_RUN)
end

local function reporters()
  local n = 0
  for name, at in pairs(CALLS) do
    if string.sub(name, 1, 2) == 'r:' and now - P.window < at then n = n + 1 end
  end
  return n
end

local function trip(peak)
  if P.reporters > 1 and reporters() < P.reporters then return nil end
  local calls = math.min(WINDOW.s + WINDOW.f, MAX_EXACT)
  local enough = calls >= P.minimum_calls
  if P.retry_opens and R.wait > 0 then return 'upstream_retry_after' end
  if P.failure_threshold > 0 and peak >= P.failure_threshold then return 'consecutive_failures' end
  if P.failure_rate > 0 and enough and math.min(WINDOW.f, MAX_EXACT) * MILLION >= P.failure_rate * calls then
    return 'failure_rate'
  end
  if P.slow_rate > 0 and enough and math.min(WINDOW.w, MAX_EXACT) * MILLION >= P.slow_rate * calls then
    return 'slow_rate'
  end
end

local function add(kind, start, n)
  if n == 0 then return end
  local name = kind .. string.format('%.0f', start)
  CALLS[name] = (CALLS[name] or 0) + n
  WINDOW[kind] = WINDOW[kind] + n
end

-- prune drops the buckets that no longer count, whenever a new one begins [B9].
local function prune()
  for name in pairs(CALLS) do
    if string.sub(name, 1, 2) ~= 'r:' and tonumber(string.sub(name, 2)) <= now - P.window then
      fold(name, CALLS[name])
      CALLS[name] = nil
    end
  end
end

local function count()
  present = true
  local peak = tally()
  local start = now - now % math.ceil(P.window / 12)
  local name = string.format('%.0f', start)
  if not (CALLS['s' .. name] or CALLS['f' .. name] or CALLS['w' .. name]) then prune() end
  if R.failures + R.slow > 0 then S.trouble_ms = now end
  add('s', start, R.successes)
  add('f', start, R.failures)
  add('w', start, R.slow)
  if S.hold == 'closed' then return { code = 'ok' } end
  local cause = trip(peak)
  if cause then
    if S.ramp_length_ms > 0 then S.reopens = S.reopens + 1 end
    evidence(WINDOW.f, WINDOW.s + WINDOW.f, WINDOW.w, peak)
    open(now, cause)
    event(now, 'opened', 'closed', '-', cause)
  end
  return { code = 'ok' }
end

-- settle counts a probe's outcome once, while its lease stands [B12]..[B15].
local function settle()
  local token = TOKEN
  if EPOCH == '' then
    token = first_lease(issued)
    if not token then return { code = 'ignored' } end
  end
  if not LEASES[token] then return { code = token == '' and 'foreign' or 'late' } end
  LEASES[token] = nil
  if R.successes + R.failures == 0 then return { code = 'ignored', probe = true } end
  tally()
  S.successes, S.failures = S.successes + R.successes, S.failures + R.failures
  if R.failures == 0 then
    S.round_ok = S.round_ok + 1
  else
    S.round_failed = S.round_failed + 1
  end
  if R.failures > 0 and P.retry_opens and R.wait > 0 then
    reopen(now, 'upstream_retry_after')
  else
    verdict(now)
  end
  return { code = 'ok', probe = true }
end

local function record()
  if not P.enabled and S.hold == '' then return { code = 'disabled' } end
  if EPOCH ~= '' and EPOCH ~= S.epoch then return { code = 'late' } end
  if S.state == 'open' then return { code = EPOCH == '' and 'ignored' or 'foreign' } end
  if S.state == 'half_open' then return settle() end
  if TOKEN ~= '' then return { code = 'foreign' } end
  if R.successes + R.failures == 0 then return { code = 'ignored' } end
  return count()
end

begin()
if KEYS[7] then
  local told = redis.pcall('SET', KEYS[7], '1', 'NX', 'PX', REPORT_KEPT)
  if not told then return finish({ code = 'duplicate' }) end
end
return finish(record())
