-- record: counts a summary of outcomes, in the epoch of its permit only. There is one record script, for one call or a thousand.
-- Clauses: B4 B5 B6 B7 B8 B9 B13 B14 B15 B17 B21 B22 B23; the rest by the prelude.
-- KEYS, ARGV[1]..ARGV[8], reply: see prelude.lua.
-- KEYS[7]  -> <agent>:report:<hash of an Idempotency-Key>; only when there is one
-- ARGV[9]  -> epoch of the permit; empty: an outcome without a permit
-- ARGV[10] -> lease token; empty: not a probe
-- ARGV[11] -> successes               ARGV[12] -> failures            ARGV[13] -> slow
-- ARGV[14] -> reporter
-- ARGV[15].. -> lead, trail, max_run, wait_ms; left out when there are no failures. All 0: an ignored outcome
-- Returns code ok, ignored, late, foreign, disabled or duplicate; probe 1 when a lease was settled.
-- A record that leaves a plainly closed breaker closed, and begins no bucket, goes a short way:
-- {'ok', 'closed', epoch, now_ms, run}. On the shortest the run is 0 and left out.

--@plain
--@calm

local EPOCH, TOKEN = ARGV[9], ARGV[10]

-- What was read, unless something is asked for that only the long way does.
local c = ARGV[6] ~= '0' and TOKEN == '' and not KEYS[7] and (ARGV[18] or '0') == '0' and read(KEYS[1], KEYS[4])
local epoch = c and ARGV[11] ~= '0' and ARGV[12] == '0' and ARGV[13] == '0' and calm(c, KEYS[3], ARGV[7], EPOCH, ARGV[11])
if epoch then return { 'ok', 'closed', epoch, now } end

--@words
--@counted

if c and not (ARGV[11] == '0' and ARGV[12] == '0') then
  local run
  epoch, run = counted(c, KEYS[3], KEYS[4], ARGV[7], ARGV[8], EPOCH, ARGV[11], ARGV[12], ARGV[13],
    ARGV[15] or '0', ARGV[16] or '0', ARGV[17] or '0')
  if epoch then return { 'ok', 'closed', epoch, now, run } end
end

--@prelude

local REPORTER = ARGV[14]
local R = {
  successes = tonumber(ARGV[11]), failures = tonumber(ARGV[12]), slow = tonumber(ARGV[13]),
  lead = tonumber(ARGV[15] or '0'), trail = tonumber(ARGV[16] or '0'), max_run = tonumber(ARGV[17] or '0'),
  wait = tonumber(ARGV[18] or '0'),
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
  local peak
  S.run, peak = runs(S.run, R.successes, R.failures, R.lead, R.trail, R.max_run)
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
  return over(ARGV[8], peak, WINDOW.s, WINDOW.f, WINDOW.w)
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

-- cache keeps the sums of the window without its newest bucket for the short way, until the first of the others goes or the keys
-- have less than one life left, and the rule by which no threshold was reached; a + says that they hold minimum_calls [B9] [B25].
local function cache(start, name)
  renew_expiry()
  local till = math.min(start + math.ceil(P.window / 12), S.expires_ms - P.ttl + 1)
  for field in pairs(CALLS) do
    local at = tonumber(string.sub(field, 2)) -- nil for a reporter
    if at and at > now - P.window then till = math.min(till, at + P.window) end
  end
  local s, f, w = WINDOW.s - (CALLS['s' .. name] or 0), WINDOW.f - (CALLS['f' .. name] or 0), WINDOW.w - (CALLS['w' .. name] or 0)
  local enough = s + f >= P.minimum and not P.track_reporters
  local text = string.format('%s%.0f %.0f %.0f %.0f %.0f', enough and '+' or '-', start, till - start, s, f, w)
  S.rule, S.past = ARGV[7], S.upstream_length_ms == 0 and accepts('text', text) and text or ''
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
