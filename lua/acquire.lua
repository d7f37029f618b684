-- acquire: admits or refuses one call.
-- Clauses: B2 B3 B12 B16 B17 B21; the rest by the general way.
-- KEYS, ARGV[1]..ARGV[5], reply: see load.lua.
-- ARGV[6] -> lease token, 16 hex: a token that holds a lease gets the same lease again
-- ARGV[7] -> ramp draw, 0..999999, a blank, and useless_after: the server's time in ms from which on the caller no
--            longer waits for a lease; 0: not known
-- Returns code ok (lease_ms > 0 for a probe), refused (reason, retry_after_ms), observed (reason), expired or disabled.
-- Two reads answer for a plainly closed breaker: {'ok', 'closed', epoch}. The fast path also answers for an open one
-- whose wait or hold has not ended, and for a half-open one whose round has no free place.

--@numbers

local mode = string.sub(ARGV[3], 1, 1)
local state, answer = mode ~= '0' and redis.pcall('GET', KEYS[1]), nil
if state == 'closed' then
  local epoch = redis.pcall('HGET', KEYS[4], 'plain')
  if type(epoch) == 'string' and is_hex16(epoch) then return { 'ok', 'closed', epoch } end
end

--@clock

-- stamped says that :open_timestamp is as saved: no external edit [B19].
local function stamped(opened)
  return redis.pcall('GET', KEYS[2]) == string.format('%.0f.%03.0f', math.floor(opened / 1000), opened % 1000)
end

-- lives says that the expiry is not due for renewal. `left` is the time until the breaker's latest deadline [B25].
local function lives(expires, left)
  expires = whole(expires or '', MAX_TIME)
  return expires and expires >= now + math.max(tonumber(string.match(ARGV[3], '^%d %d+ %d+ %d+ %d+ %d %d+ (%d+)')), left + 86400000)
end

if state == 'open' then
  -- waiting answers for an open breaker whose wait or hold has not ended.
  local function waiting()
    local c = redis.pcall('HMGET', KEYS[4], 'state', 'epoch', 'opened_ms', 'wait_ms', 'expires_ms', 'run', 'hold', 'plain')
    local epoch, hold, start, length = c[2], c[7], c[3], c[4] or ''
    if c[1] ~= 'open' or not (epoch and start) or not is_hex16(epoch) or (hold and hold ~= 'open') or c[8] then return nil end
    local opened, run = whole(start, now), whole(c[6] or '0', 255)
    if hold then
      local h = redis.call('HMGET', KEYS[4], 'hold_ms', 'hold_length_ms')
      start, length = h[1] or '0', h[2] or '0'
    end
    start, length = whole(start, now), whole(length, 259200000000)
    if not (opened and run and start and length) then return nil end
    local left, endless = start + length - now, hold and length == 0
    if not stamped(opened) or (endless and c[5]) or (not endless and (left <= 0 or not lives(c[5], left))) then return nil end
    if endless then
      local most = string.match(ARGV[3], '^%d %d+ %d+ %d+ %d+ %d %d+ %d+ %d+ %d+ %d+ %d+ (%d+)')
      return { 'refused', 'open', epoch, now, tonumber(most), 0, 'forced_open', 2, run, 'open', 0, 0 }
    end
    if hold then return { 'refused', 'open', epoch, now, left, 0, 'forced_open', 2, run, 'open', left, 0 } end
    if mode == '2' then return { 'observed', 'open', epoch, now, 0, 0, 'open', 2, run, '', left, 0 } end
    return { 'refused', 'open', epoch, now, left, 0, 'open', 2, run, '', left, 0 }
  end
  answer = waiting()
elseif state == 'half_open' then
  -- leases reads :probes. It returns the number of leases, their latest deadline, and the time until the first ends
  -- that was never renewed, at most `most`; nil if one has lapsed, is bad, or is the caller's.
  local function leases(most)
    local size, n, last = redis.pcall('HLEN', KEYS[5]), 0, now
    if type(size) == 'table' or size > 1024 then return nil end
    local h = redis.call('HGETALL', KEYS[5])
    for i = 1, #h, 2 do
      if is_hex16(h[i]) then
        local a, b, c = string.match(h[i + 1], '^(%d+) (%d+) (%d+)$')
        a, b, c = a and whole(a, now), b and whole(b, now), c and whole(c, MAX_TIME)
        if not (a and b and c) or b + c <= now or h[i] == ARGV[6] then return nil end
        n, last = n + 1, math.max(last, b + c)
        if b <= a then most = math.min(most, b + c - now) end
      end
    end
    return n, last, most
  end

  -- busy answers for a half-open breaker whose round has no free place.
  local function busy()
    local c = redis.pcall('HMGET', KEYS[4], 'state', 'epoch', 'opened_ms', 'expires_ms', 'run', 'hold', 'plain',
      'round_max', 'round_need', 'round_ok', 'round_failed')
    if c[1] ~= 'half_open' or not (c[2] and c[3]) or not is_hex16(c[2]) or c[6] or c[7] then return nil end
    local opened, run = whole(c[3], now), whole(c[5] or '0', 255)
    local max, need = whole(c[8] or '0', MAX_COUNT), whole(c[9] or '0', MAX_COUNT)
    local ok, failed = whole(c[10] or '0', MAX_COUNT), whole(c[11] or '0', MAX_COUNT)
    -- The general way begins a new round if this one is over, or missing.
    if not (opened and run and max and need and ok and failed) or ok >= need or failed > max - need then return nil end
    local timeout_max, probe_timeout = string.match(ARGV[3], '^%d %d+ %d+ %d+ %d+ %d %d+ %d+ %d+ %d+ %d+ %d+ (%d+) %d+ %d+ %d+ %d+ (%d+)')
    local n, last, left = leases(math.min(tonumber(timeout_max), tonumber(probe_timeout)))
    if not n or ok + failed + n < max or not stamped(opened) or not lives(c[4], last - now) then return nil end
    if mode == '2' then return { 'observed', 'half_open', c[2], now, 0, 0, 'probes_busy', 2, run, '', 0, 0 } end
    return { 'refused', 'half_open', c[2], now, left, 0, 'probes_busy', 2, run, '', 0, 0 }
  end
  answer = busy()
end
if answer then return answer end

--@window
--@buckets
--@general

local TOKEN = ARGV[6]
local ramp_draw, useless_after = string.match(ARGV[7], '^(%d+) (%d+)$')
local RAMP_DRAW, USELESS_AFTER = tonumber(ramp_draw), tonumber(useless_after)

function B.refuse(reason, retry)
  if P.observe then return { code = 'observed', reason = reason } end
  return { code = 'refused', reason = reason, retry = retry }
end

-- place is the time until a place becomes free: until the first lease ends that was never renewed. If all were renewed,
-- the keys do not say when, and it is one lease's length [B3].
function B.place(left)
  for _, lease in pairs(B.leases) do
    if lease.start <= lease.issued then left = math.min(left, B.deadline(lease) - now) end
  end
  return left
end

function B.probe()
  if B.leases[TOKEN] then return { code = 'ok', lease = B.deadline(B.leases[TOKEN]) - now } end
  local live, length = 0, math.min(P.probe_timeout, P.timeout_max)
  for _ in pairs(B.leases) do live = live + 1 end
  if S.round_ok + S.round_failed + live >= S.round_max then return B.refuse('probes_busy', B.place(length)) end
  if USELESS_AFTER > 0 and now >= USELESS_AFTER then return { code = 'expired' } end
  B.leases[TOKEN] = { issued = now, start = now, length = length }
  return { code = 'ok', lease = length }
end

function B.acquire()
  if S.hold == 'open' then
    local left = P.timeout_max
    if S.hold_length_ms > 0 then left = S.hold_ms + S.hold_length_ms - now end
    return { code = 'refused', reason = 'forced_open', retry = left }
  end
  if S.hold == 'closed' then return { code = 'ok' } end
  if not P.enabled then return { code = 'disabled' } end
  if S.state == 'open' then return B.refuse('open', S.opened_ms + S.wait_ms - now) end
  if S.state == 'half_open' then return B.probe() end
  if S.ramp_length_ms > 0 then
    local share = S.ramp_floor_ppm + math.floor((1000000 - S.ramp_floor_ppm) * (now - S.ramp_ms) / S.ramp_length_ms)
    if RAMP_DRAW >= share then return B.refuse('ramping', 1000) end
  end
  return { code = 'ok' }
end

B.begin()
return B.finish(B.acquire())
