-- acquire: admits or refuses one call.
-- Clauses: B2 B3 B12 B16 B17 B21; the rest by the prelude.
-- KEYS, ARGV[1]..ARGV[8], reply: see prelude.lua.
-- ARGV[9] -> lease token, 16 hex: a token that holds a lease gets the same lease again
-- ARGV[10] -> ramp draw, 0..999999
-- Returns code ok (lease_ms > 0 for a probe), refused (reason, retry_after_ms), observed (reason) or disabled.
-- A plainly closed breaker is answered from two reads: {'ok', 'closed', epoch}. An open one whose wait or hold goes on takes three.

--@plain
--@words

-- refused is the answer of an open breaker whose wait or hold goes on.
local function refused()
  local c = redis.pcall('HMGET', KEYS[4], 'state', 'epoch', 'opened_ms', 'wait_ms', 'expires_ms', 'run', 'hold', 'hold_ms', 'hold_length_ms')
  local epoch, hold = c[2], c[7]
  if c[1] ~= 'open' or not (epoch and c[3]) or not is_hex16(epoch) or (hold and hold ~= 'open') then return nil end
  local opened, run, start, length = whole(c[3], now), whole(c[6] or '0', MAX_RUN), c[3], c[4] or ''
  if hold then start, length = c[8] or '0', c[9] or '0' end
  start, length = whole(start, now), whole(length, MAX_LENGTH)
  if not (opened and run and start and length) then return nil end
  local left, expires = start + length - now, whole(c[5] or '', MAX_TIME)
  local endless = hold and length == 0
  if endless then
    if c[5] then return nil end
  elseif left <= 0 or not expires or expires < now + math.max(tonumber(string.match(ARGV[8], '^%d+ (%d+)')), left + DAY) then
    return nil
  end
  if redis.pcall('GET', KEYS[2]) ~= string.format('%.0f.%03.0f', math.floor(opened / 1000), opened % 1000) then return nil end
  if endless then
    local most = string.match(ARGV[8], '^%d+ %d+ %d+ %d+ %d+ %d+ %d+ %d+ %d+ (%d+)')
    return { 'refused', 'open', epoch, now, tonumber(most), 0, 'forced_open', 0, run, 'open', 0 }
  end
  if hold then return { 'refused', 'open', epoch, now, left, 0, 'forced_open', 0, run, 'open', left } end
  local observe = ARGV[6] == '2'
  return { observe and 'observed' or 'refused', 'open', epoch, now, observe and 0 or left, 0, 'open', 0, run, '', left }
end

local function short()
  local state = ARGV[6] ~= '0' and redis.pcall('GET', KEYS[1])
  if state == 'open' then return refused() end
  local epoch = state == 'closed' and redis.pcall('HGET', KEYS[4], 'plain')
  return type(epoch) == 'string' and is_hex16(epoch) and { 'ok', 'closed', epoch }
end

local answer = short()
if answer then return answer end

--@prelude

local TOKEN, RAMP_DRAW = ARGV[9], tonumber(ARGV[10])

local function refuse(reason, retry)
  if P.observe then return { code = 'observed', reason = reason } end
  return { code = 'refused', reason = reason, retry = retry }
end

local function probe()
  if LEASES[TOKEN] then return { code = 'ok', lease = deadline(LEASES[TOKEN]) - now } end
  local live = 0
  for _ in pairs(LEASES) do live = live + 1 end
  if S.round_ok + S.round_failed + live >= S.round_max then
    return refuse('probes_busy', deadline(LEASES[first_lease(deadline)]) - now)
  end
  local length = math.min(P.probe_timeout, P.timeout_max)
  LEASES[TOKEN] = { issued = now, start = now, length = length }
  return { code = 'ok', lease = length }
end

local function acquire()
  if S.hold == 'open' then
    local left = P.timeout_max
    if S.hold_length_ms > 0 then left = S.hold_ms + S.hold_length_ms - now end
    return { code = 'refused', reason = 'forced_open', retry = left }
  end
  if S.hold == 'closed' then return { code = 'ok' } end
  if not P.enabled then return { code = 'disabled' } end
  if S.state == 'open' then return refuse('open', S.opened_ms + S.wait_ms - now) end
  if S.state == 'half_open' then return probe() end
  if S.ramp_length_ms > 0 then
    local share = S.ramp_floor_ppm + math.floor((MILLION - S.ramp_floor_ppm) * (now - S.ramp_ms) / S.ramp_length_ms)
    if RAMP_DRAW >= share then return refuse('ramping', 1000) end
  end
  return { code = 'ok' }
end

begin()
return finish(acquire())
