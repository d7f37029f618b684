-- acquire: admits or refuses one call.
-- Clauses: B2 B3 B12 B16 B17 B21; the rest by the prelude.
-- KEYS, ARGV[1]..ARGV[9], reply: see prelude.lua.
-- ARGV[10] -> lease token, 16 hex: a token that holds a lease gets the same lease again
-- ARGV[11] -> ramp draw, 0..999999
-- Returns code ok (lease_ms > 0 for a probe), refused (reason, retry_after_ms), observed (reason) or disabled.
-- A plainly closed breaker is answered from two reads: {'ok', 'closed', epoch}. A plainly open one takes three.

-- whole reads a number above 0; what the short way does not take is 0.
local function whole(text, most)
  local n = text and #text <= 14 and string.find(text, '^[1-9]%d*$') and tonumber(text) or 0
  return n <= most and n or 0
end

local TIME, LENGTH = 99999999999999, 259200000000

local function is_epoch(text) return type(text) == 'string' and #text == 16 and not string.find(text, '[^0-9a-f]') end

local function short()
  local state = ARGV[6] ~= '0' and redis.pcall('GET', KEYS[1])
  if state == 'closed' then
    local epoch = redis.pcall('HGET', KEYS[4], 'plain')
    return is_epoch(epoch) and { 'ok', 'closed', epoch }
  end
  if state ~= 'open' then return nil end
  local c = redis.pcall('HMGET', KEYS[4], 'state', 'epoch', 'opened_ms', 'wait_ms', 'expires_ms', 'run', 'hold')
  local opened, wait, expires, run = whole(c[3], TIME), whole(c[4], LENGTH), whole(c[5], TIME), whole(c[6], 255)
  if c[1] ~= 'open' or not is_epoch(c[2]) or opened * wait * expires == 0 or (c[6] and run == 0) or c[7] then return nil end
  local now = tonumber(ARGV[1])
  if not now then
    local t = redis.call('TIME')
    now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
  end
  local left = opened + wait - now
  if opened > now or left <= 0 or expires < now + tonumber(ARGV[8]) or expires < now + left + 86400000
      or redis.pcall('GET', KEYS[2]) ~= string.format('%.0f.%03.0f', math.floor(opened / 1000), opened % 1000) then return nil end
  if ARGV[6] == '2' then return { 'observed', 'open', c[2], now, 0, 0, 'open', 0, run, '', left } end
  return { 'refused', 'open', c[2], now, left, 0, 'open', 0, run, '', left }
end

local answer = short()
if answer then return answer end

--@prelude

local TOKEN, RAMP_DRAW = ARGV[10], tonumber(ARGV[11])

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
