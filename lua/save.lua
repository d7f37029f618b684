-- save: the last part of the prelude: writes what changed, gives all keys one instant to expire at, and answers. The twin of
-- pkg/breaker/machine/save.go; KEYS and ARGV as in prelude.lua.
-- Clauses: B19 B20 B25.

-- ---- saving -----------------------------------------------------------------------------------------------------------

local function renew_expiry()
  if not present then return end
  if S.hold ~= '' and S.hold_length_ms == 0 then
    S.expires_ms = 0
    return
  end
  local floor, goal, last = now + P.ttl, now + 2 * P.ttl, 0
  if S.hold ~= '' then
    last = S.hold_ms + S.hold_length_ms
  elseif S.state == 'open' then
    last = S.opened_ms + S.wait_ms
  elseif S.state == 'half_open' then
    last = S.round_ms
    for _, lease in pairs(LEASES) do last = math.max(last, deadline(lease)) end
  end
  if last > 0 then
    floor, goal = math.max(floor, last + DAY), math.max(goal, last + DAY + P.ttl)
  end
  if S.expires_ms < floor or edit or edit_ts then S.expires_ms = goal end
end

local function write_hash(key, set, del)
  if #set > 0 then redis.call('HSET', key, unpack(set)) end
  if #del > 0 then redis.call('HDEL', key, unpack(del)) end
  return #set > 0 and not EXISTS[key]
end

local function save_control()
  local set, del = {}, {}
  S.plain = S.state == 'closed' and S.hold == '' and S.ramp_length_ms == 0 and S.epoch or ''
  if S.epoch == ZERO_EPOCH then S.epoch = '' end
  for name, bad in pairs(OLD) do
    if bad == false and rawget(S, name) == nil then del[#del + 1] = name end
  end
  for name, v in pairs(S) do
    if v == 0 or v == '' or not present then
      if OLD[name] ~= nil then del[#del + 1] = name end
    elseif v ~= OLD[name] then
      set[#set + 1] = name
      set[#set + 1] = v
    end
  end
  if S.epoch == '' then S.epoch = ZERO_EPOCH end
  write_hash(KEYS[4], set, del) -- a new :control brings a new expiry for all
end

local function save_calls()
  local set, del = {}, {}
  if wipe_calls and EXISTS[KEYS[3]] then
    redis.call('UNLINK', KEYS[3])
    EXISTS[KEYS[3]], OLD_CALLS = nil, {}
  end
  for name, v in pairs(CALLS) do
    if v ~= OLD_CALLS[name] then
      set[#set + 1] = name
      set[#set + 1] = v
    end
  end
  for name in pairs(OLD_CALLS) do
    if not CALLS[name] then del[#del + 1] = name end
  end
  return write_hash(KEYS[3], set, del)
end

local function save_probes()
  local set, del = {}, {}
  if wipe_probes then
    redis.call('UNLINK', KEYS[5])
    EXISTS[KEYS[5]], OLD_LEASES = nil, {}
  end
  for token, l in pairs(LEASES) do
    local text = string.format('%.0f %.0f %.0f', l.issued, l.start, l.length)
    if text ~= OLD_LEASES[token] then
      set[#set + 1] = token
      set[#set + 1] = text
    end
  end
  for token in pairs(OLD_LEASES) do
    if not LEASES[token] then del[#del + 1] = token end
  end
  return write_hash(KEYS[5], set, del)
end

local function save_strings(fresh)
  local state = present and S.state or nil
  if state and state ~= STATE_TEXT then
    redis.call('SET', KEYS[1], state)
    fresh[KEYS[1]] = true
  elseif not state and STATE_TEXT then
    redis.call('UNLINK', KEYS[1])
  end
  if S.state ~= 'closed' and S.opened_ms > 0 then
    if TS_VALUE ~= S.opened_ms then
      redis.call('SET', KEYS[2], string.format('%.0f.%03.0f', math.floor(S.opened_ms / 1000), S.opened_ms % 1000))
      fresh[KEYS[2]] = true
    end
  elseif TS_EXISTS then
    redis.call('UNLINK', KEYS[2])
  end
end

local function save_log()
  for _, e in ipairs(events) do
    if type(redis.pcall('LPUSH', KEYS[6], e)) == 'table' then -- planted: a key of another type
      redis.call('UNLINK', KEYS[6])
      redis.call('LPUSH', KEYS[6], e)
    end
    redis.call('PUBLISH', ARGV[3], ARGV[2] .. ' ' .. e)
  end
  if #events > 0 then redis.call('LTRIM', KEYS[6], 0, MAX_LOG - 1) end
end

-- save writes what changed, growing writes first, and gives all keys one instant to expire at [B25].
local function save()
  local fresh, expired_before = {}, OLD.expires_ms
  renew_expiry()
  for key in pairs(PLANTED) do redis.call('UNLINK', key) end
  save_control()
  fresh[KEYS[3]] = save_calls()
  fresh[KEYS[5]] = save_probes()
  save_strings(fresh)
  save_log()
  fresh[KEYS[6]] = #events > 0
  if not present then return end
  local all = S.expires_ms ~= expired_before or edit or edit_ts
  for i = 1, 6 do
    local key = KEYS[i]
    if S.expires_ms == 0 then
      if all then redis.call('PERSIST', key) end
    elseif all or fresh[key] then
      redis.call('PEXPIREAT', key, S.expires_ms)
    end
  end
end

-- finish saves and answers.
local function finish(r)
  save()
  local left = 0
  if S.hold ~= '' then
    if S.hold_length_ms > 0 then left = S.hold_ms + S.hold_length_ms - now end
  elseif S.state == 'open' then
    left = S.opened_ms + S.wait_ms - now
  end
  local reply = { r.code, S.state, S.epoch, now, r.retry or 0, r.lease or 0, r.reason or '', r.probe and 1 or 0,
    S.run, S.hold, left }
  for _, e in ipairs(events) do reply[#reply + 1] = e end
  return reply
end
