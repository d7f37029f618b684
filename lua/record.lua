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
-- A record that leaves a plainly closed breaker closed, and begins no bucket, goes a short way:
-- {'ok', 'closed', epoch, now_ms, run}.

--@plain

local EPOCH, TOKEN, REPORTER = ARGV[10], ARGV[11], ARGV[15]
local R = {
  successes = tonumber(ARGV[12]), failures = tonumber(ARGV[13]), slow = tonumber(ARGV[14]),
  lead = tonumber(ARGV[16] or '0'), trail = tonumber(ARGV[17] or '0'), max_run = tonumber(ARGV[18] or '0'),
  wait = tonumber(ARGV[19] or '0'),
}
local MAX_EXACT = 9000000000 -- of a sum: times a million it is exact below 2^53

-- runs gives the run after the record, and the longest on the way [B6].
local function runs(run)
  local after, peak = run + R.failures, run + R.failures
  if R.successes > 0 then after, peak = R.trail, math.max(run + R.lead, R.max_run) end
  return math.min(after, MAX_RUN), math.min(peak, MAX_RUN)
end

-- over names the threshold that a run, or the sums of the window, have reached [B6] [B7] [B8].
local function over(peak, s, f, w)
  local threshold, rate, minimum, slow_rate = string.match(ARGV[9], '^(%d+) (%d+) (%d+) (%d+)')
  local calls = math.min(s + f, MAX_EXACT)
  local function reached(part, share) return share > 0 and math.min(part, MAX_EXACT) * MILLION >= share * calls end
  if tonumber(threshold) > 0 and peak >= tonumber(threshold) then return 'consecutive_failures' end
  if calls < tonumber(minimum) then return nil end
  if reached(f, tonumber(rate)) then return 'failure_rate' end
  if reached(w, tonumber(slow_rate)) then return 'slow_rate' end
end

-- past reads :control's sums of the window without its newest bucket, and the name of that, if they are those of now [B9].
local function past(text)
  local window, start, till, s, f, w = string.match(text, '^(%d+) (%d+) (%d+) (%d+) (%d+) (%d+)$')
  if window == ARGV[7] and #till <= 15 and now < tonumber(till) and #s <= 15 and #f <= 15 and #w <= 15
      and start == string.format('%.0f', now - now % math.ceil(window / 12)) then
    return start, tonumber(s), tonumber(f), tonumber(w)
  end
end

local function short()
  if ARGV[6] == '0' or TOKEN ~= '' or KEYS[7] or R.wait > 0 or R.successes + R.failures == 0
      or (R.failures + R.slow > 0 and string.find(ARGV[9], '^%d+ %d+ %d+ %d+ 1')) -- a reporter to remember
      or redis.pcall('GET', KEYS[1]) ~= 'closed' then return nil end
  local c = redis.pcall('HMGET', KEYS[4], 'plain', 'run', 'expires_ms', 'past', 'upstream_length_ms')
  local epoch, run, expires = c[1], whole(c[2] or '0', MAX_RUN), whole(c[3] or '0', MAX_TIME)
  local start, s, f, w = past(c[4] or '')
  if not epoch or c[5] or not run or not start or not expires or expires < now + tonumber(ARGV[8])
      or not (EPOCH == epoch or (EPOCH == '' and is_hex16(epoch))) then return nil end
  local b = redis.pcall('HMGET', KEYS[3], 's' .. start, 'f' .. start, 'w' .. start)
  local bs, bf, bw = whole(b[1] or '0', MAX_COUNT), whole(b[2] or '0', MAX_COUNT), whole(b[3] or '0', MAX_COUNT)
  if not (b[1] or b[2] or b[3]) or not (bs and bf and bw) then return nil end
  local after, peak = runs(run)
  if over(peak, s + bs + R.successes, f + bf + R.failures, w + bw + R.slow) then return nil end
  if R.successes > 0 then redis.call('HINCRBY', KEYS[3], 's' .. start, R.successes) end
  if R.failures > 0 then redis.call('HINCRBY', KEYS[3], 'f' .. start, R.failures) end
  if R.slow > 0 then redis.call('HINCRBY', KEYS[3], 'w' .. start, R.slow) end
  if after > 0 then redis.call('HSET', KEYS[4], 'run', after) elseif c[2] then redis.call('HDEL', KEYS[4], 'run') end
  return { 'ok', 'closed', epoch, now, after }
end

local answer = short()
if answer then return answer end

--@prelude

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
  local peak
  S.run, peak = runs(S.run)
  upstream()
  if P.track_reporters and R.failures + R.slow > 0 and REPORTER ~= '' then remember() end
  return peak
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
  if P.retry_opens and R.wait > 0 then return 'upstream_retry_after' end
  return over(peak, WINDOW.s, WINDOW.f, WINDOW.w)
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

-- cache keeps the sums of the window without its newest bucket for the short way, until the first of the others goes [B9].
local function cache(start, name)
  local till = start + math.ceil(P.window / 12)
  for field in pairs(CALLS) do
    local at = tonumber(string.sub(field, 2)) -- nil for a reporter
    if at and at > now - P.window then till = math.min(till, at + P.window) end
  end
  local text = string.format('%.0f %.0f %.0f %.0f %.0f %.0f', P.window, start, till, WINDOW.s - (CALLS['s' .. name] or 0),
    WINDOW.f - (CALLS['f' .. name] or 0), WINDOW.w - (CALLS['w' .. name] or 0))
  S.past = accepts('text', text) and text or ''
end

local function count()
  present = true
  local peak = tally()
  local start = now - now % math.ceil(P.window / 12)
  local name = string.format('%.0f', start)
  if not (CALLS['s' .. name] or CALLS['f' .. name] or CALLS['w' .. name]) then prune() end
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
  else
    cache(start, name)
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
