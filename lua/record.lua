-- record: counts a summary of outcomes, in the epoch of its permit only. There is one record script, for one call or a thousand.
-- Clauses: B4 B5 B6 B7 B8 B9 B12 B13 B14 B15 B17 B21 B22 B23; the rest by the general way.
-- KEYS, ARGV[1]..ARGV[8], reply: see load.lua.
-- KEYS[#KEYS] -> <agent>:report:<hash of an Idempotency-Key>, if there is one: the 8th key on a Cluster, else the 11th
-- ARGV[9]  -> epoch of the permit; empty with a token: settles that lease or nothing; empty without: no permit
-- ARGV[10] -> lease token; empty: not a probe
-- ARGV[11] -> successes               ARGV[12] -> failures            ARGV[13] -> slow
-- ARGV[14] -> reporter
-- ARGV[15].. -> lead, trail, max_run, wait_ms; left out when there are no failures. All 0: an ignored outcome
-- Returns code ok, ignored, late, foreign, disabled or duplicate.
-- The fast path answers {'ok', 'closed', epoch, now_ms, run}; where nothing troubles the breaker the run is 0 and left out.

--@clock
--@numbers
--@window
--@calm
--@closed

local EPOCH, TOKEN = ARGV[9], ARGV[10]
local REPORT = (#KEYS == 8 or #KEYS == 11) and KEYS[#KEYS]
local R = {
  successes = tonumber(ARGV[11]), failures = tonumber(ARGV[12]), slow = tonumber(ARGV[13]), reporter = ARGV[14],
  lead = tonumber(ARGV[15] or '0'), trail = tonumber(ARGV[16] or '0'), max_run = tonumber(ARGV[17] or '0'),
  wait = tonumber(ARGV[18] or '0'),
}

local answer = ARGV[6] ~= '0' and TOKEN == '' and not REPORT and R.wait == 0 and R.successes + R.failures > 0 and closed(EPOCH, R)
if answer then return answer end

--@general
--@reporters

-- upstream keeps the longer of two waits; a success clears it [B22].
function B.upstream()
  local left, length = S.upstream_ms + S.upstream_length_ms - now, R.wait
  if not P.retry_opens and (not P.retry_extends or R.trail == 0) then length = 0 end
  length = math.min(length, P.retry_max, P.timeout_max)
  if length > 0 and (R.successes > 0 or length > left) then
    S.upstream_ms, S.upstream_length_ms = now, length
  elseif R.successes > 0 then
    S.upstream_ms, S.upstream_length_ms = 0, 0
  end
end

-- tally keeps what every counted record keeps, and returns the longest run that it has made longer [B6].
function B.tally()
  local peak
  S.run, peak = runs(S.run, R)
  B.upstream()
  B.touch_calls()
  if P.track and R.failures + R.slow > 0 and R.reporter ~= '' then B.remember(R.reporter) end
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
  if P.retry_opens and R.wait > 0 then return 'upstream_retry_after' end
  return over(peak, s, f, w)
end

function B.count()
  B.present = true
  local peak = B.tally()
  local v, known = cached(S.rule, S.past), true
  if not v then v, known = gather(B.calls), false end
  local own = v.own or read_own(v) or { s = 0, f = 0, w = 0 }
  add(v.start, R.successes, R.failures, R.slow)
  if v.dead then B.prune(v.dead) end
  if S.hold == 'closed' then return { code = 'ok' } end
  local s, f, w = v.s + own.s + R.successes, v.f + own.f + R.failures, v.w + own.w + R.slow
  local cause = B.trip(peak, s, f, w)
  if cause then
    if S.ramp_length_ms > 0 then S.reopens = S.reopens + 1 end
    B.evidence(f, s + f, w, peak)
    B.open(now, cause)
    B.event(now, 'opened', 'closed', '-', cause)
  elseif S.upstream_length_ms > 0 then -- it is looked at with every record
    B.clear('rule', 'past')
  elseif not known then
    B.renew_expiry()
    S.past = past(v, S.expires_ms)
    S.rule = S.past ~= '' and ARGV[7] or ''
  end
  return { code = 'ok' }
end

-- settle counts a probe's outcome once, while its lease stands [B12]..[B15].
function B.settle()
  local token = TOKEN
  if EPOCH == '' and token == '' then
    token = B.first_lease(B.issued)
    if not token then return { code = 'ignored' } end
  end
  if not B.leases[token] then return { code = token == '' and 'foreign' or 'late' } end
  B.leases[token] = nil
  if R.successes + R.failures == 0 then return { code = 'ignored', probe = true } end
  B.tally()
  S.successes, S.failures = S.successes + R.successes, S.failures + R.failures
  if R.failures == 0 then S.round_ok = S.round_ok + 1 else S.round_failed = S.round_failed + 1 end
  if R.slow > 0 then S.round_slow = S.round_slow + 1 end
  if R.failures > 0 and P.retry_opens and R.wait > 0 then
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
  if R.successes + R.failures == 0 then return { code = 'ignored' } end
  return B.count()
end

B.begin()
if REPORT and not redis.pcall('SET', REPORT, '1', 'NX', 'PX', 600000) then return B.finish({ code = 'duplicate' }) end
return B.finish(B.record())
