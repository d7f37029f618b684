-- save: the last part of the general way: writes what changed, gives all keys the same expiry, publishes events, and
-- answers. The twin of pkg/breaker/machine/save.go. KEYS and ARGV: see load.lua.
-- Clauses: B19 B20 B25.

function B.renew_expiry()
  if not B.present then return end
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
    for _, lease in pairs(B.leases) do last = math.max(last, B.deadline(lease)) end
  end
  if last > 0 then
    floor, goal = math.max(floor, last + 86400000), math.max(goal, last + 86400000 + P.ttl)
  end
  if S.expires_ms < floor or B.edit or B.edit_ts then S.expires_ms = goal end
end

function B.write_hash(key, set, del)
  if #set > 0 then redis.call('HSET', key, unpack(set)) end
  if #del > 0 then redis.call('HDEL', key, unpack(del)) end
  return #set > 0 and not B.exists[key]
end

function B.save_control()
  local set, del = {}, {}
  S.plain = S.state == 'closed' and S.hold == '' and S.ramp_length_ms == 0 and S.epoch or ''
  if S.epoch == '0000000000000000' then S.epoch = '' end
  for name, bad in pairs(B.old) do
    if bad == false and rawget(S, name) == nil then del[#del + 1] = name end
  end
  for name, v in pairs(S) do
    if v == 0 or v == '' or not B.present then
      if B.old[name] ~= nil then del[#del + 1] = name end
    elseif v ~= B.old[name] then
      set[#set + 1] = name
      set[#set + 1] = v
    end
  end
  if S.epoch == '' then S.epoch = '0000000000000000' end
  B.write_hash(KEYS[4], set, del) -- a new :control renews the expiry of all keys anyway
end

function B.save_probes()
  local set, del = {}, {}
  if B.wiped_probes then
    redis.call('UNLINK', KEYS[5])
    B.exists[KEYS[5]], B.old_leases = nil, {}
  end
  for token, l in pairs(B.leases) do
    local text = string.format('%.0f %.0f %.0f', l.issued, l.start, l.length)
    if text ~= B.old_leases[token] then
      set[#set + 1] = token
      set[#set + 1] = text
    end
  end
  for token in pairs(B.old_leases) do
    if not B.leases[token] then del[#del + 1] = token end
  end
  return B.write_hash(KEYS[5], set, del)
end

function B.save_strings(fresh)
  local state = B.present and S.state or nil
  if state and state ~= B.state_text then
    redis.call('SET', KEYS[1], state)
    fresh[KEYS[1]] = true
  elseif not state and B.state_text then
    redis.call('UNLINK', KEYS[1])
  end
  if S.state ~= 'closed' and S.opened_ms > 0 then
    if B.ts_value ~= S.opened_ms then
      redis.call('SET', KEYS[2], string.format('%.0f.%03.0f', math.floor(S.opened_ms / 1000), S.opened_ms % 1000))
      fresh[KEYS[2]] = true
    end
  elseif B.ts_exists then
    redis.call('UNLINK', KEYS[2])
  end
end

-- tell writes events to :log, newest first, and publishes them. With the fleet's keys it also writes its streams, and
-- the index of breakers that are not closed, or held.
function B.tell()
  local channel, agent = string.match(ARGV[2], '^(%S+) (%S+)$')
  for _, e in ipairs(B.events) do
    heal_and('LPUSH', KEYS[6], e)
    redis.call('PUBLISH', channel, agent .. ' ' .. e)
    if KEYS[10] then stream_event(KEYS[9], KEYS[10], agent, e) end
  end
  redis.call('LTRIM', KEYS[6], 0, 63)
  if not KEYS[10] or B.drawn == 0 then return end
  if S.state ~= 'closed' or S.hold ~= '' then
    heal_and('ZADD', KEYS[8], now, agent)
  else
    heal_and('ZREM', KEYS[8], agent)
  end
end

-- save writes what changed and gives all keys the same expiry [B25].
function B.save()
  local fresh, expired_before = {}, B.old.expires_ms
  B.renew_expiry()
  for key in pairs(B.planted) do redis.call('UNLINK', key) end
  B.save_control()
  fresh[KEYS[3]] = B.new_calls
  fresh[KEYS[5]] = B.save_probes()
  B.save_strings(fresh)
  if #B.events > 0 then B.tell() end
  fresh[KEYS[6]] = #B.events > 0
  fresh[KEYS[7]] = B.folded
  if not B.present then return end
  local all = S.expires_ms ~= expired_before or B.edit or B.edit_ts
  for i = 1, 7 do
    local key = KEYS[i]
    if S.expires_ms == 0 then
      if all or fresh[key] then redis.call('PERSIST', key) end
    elseif all or fresh[key] then
      redis.call('PEXPIREAT', key, S.expires_ms)
    end
  end
end

-- finish saves and answers.
function B.finish(r)
  B.save()
  local left = 0
  if S.hold ~= '' then
    if S.hold_length_ms > 0 then left = S.hold_ms + S.hold_length_ms - now end
  elseif S.state == 'open' then
    left = S.opened_ms + S.wait_ms - now
  end
  local reply = { r.code, S.state, S.epoch, now, r.retry or 0, r.lease or 0, r.reason or '', r.probe and 1 or 0,
    S.run, S.hold, left, r.counted or 0 }
  for _, e in ipairs(B.events) do reply[#reply + 1] = e end
  return reply
end

