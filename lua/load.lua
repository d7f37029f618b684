-- load: the first part of the general way. load.lua loads and repairs, advance.lua makes transitions and advances to
-- now, save.lua saves. Together they are the twin of pkg/breaker/machine (Load, Step, Save). The tests compare the two
-- operation by operation, so a change here needs the same change there. All state is in few locals, and all functions
-- are in one table: Lua 5.1 walks its list of open upvalues at every capture.
-- Clauses: B1 B2 B9 B19 B20.
--
-- KEYS[1] -> <agent>:state            KEYS[4] -> <agent>:control          KEYS[7] -> <agent>:history
-- KEYS[2] -> <agent>:open_timestamp   KEYS[5] -> <agent>:probes
-- KEYS[3] -> <agent>:calls            KEYS[6] -> <agent>:log
-- not on a Cluster, where they have other slots: KEYS[8] -> notclosed   KEYS[9] -> stream   KEYS[10] -> audit
--
-- ARGV[1] -> now in ms; empty in production: the server's TIME is read, once
-- ARGV[2] -> events channel, a blank, agent name
-- ARGV[3] -> the policy, whole numbers joined by blanks: 0 disabled, 1 enabled, 2 observes only; failure threshold,
--            failure rate, minimum calls, slow rate; 1 keeps reporters; window in ms, TTL in ms, shift of the agent's
--            buckets in ms, minutes of history; then those that load_policy names
-- ARGV[4] -> the rule: a number that stands for all that the cached sums depend on. The caller makes ARGV[2] to [4]
--            once for each agent and policy
-- ARGV[5] -> epoch draw, 15 hex, a blank, jitter draw, 0..999999
-- ARGV[6].. -> see the verb
--
-- Returns {code, state, epoch, now_ms, retry_after_ms, lease_ms, reason, flags, run, hold, left_ms, counted, event...}.
-- Flags: 1 a lease was settled, 2 the fast path answered.

-- FIELDS says what :control may hold [B20]: a number is the largest value of a whole number, a word is a kind of text.
-- The default of each field is to be absent, which reads as 0 or ''. pkg/breaker/machine/fields.go has the same rows.
local TIME, LENGTH, TOTAL, PROBES, RUN = 99999999999999, 259200000000, 9000000000000000, 1000, 255
local FIELDS = {
  state = 'state', epoch = 'hex', run = RUN, reopens = 1000000,
  opened_ms = TIME, wait_ms = LENGTH, wait_base_ms = LENGTH, wait_jitter_ms = LENGTH, wait_upstream_ms = LENGTH,
  cause = 'text', first_cause = 'text', ev_failures = TOTAL, ev_calls = TOTAL, ev_slow = TOTAL, ev_run = RUN,
  upstream_ms = TIME, upstream_length_ms = LENGTH,
  round_ms = TIME, round_max = PROBES, round_need = PROBES, round_ok = PROBES, round_failed = PROBES, round_slow = PROBES,
  ramp_ms = TIME, ramp_length_ms = LENGTH, ramp_floor_ppm = 1000000,
  hold = 'hold', hold_ms = TIME, hold_length_ms = LENGTH, hold_actor = 'word', hold_protected = 1,
  plain = 'hex', rule = 'text', past = 'text', successes = TOTAL, failures = TOTAL, transitions = TOTAL, expires_ms = TIME,
}
local STATES = { closed = true, open = true, half_open = true }

-- S is the snapshot: the fields of :control by name, absent ones as 0 or ''.
local S = setmetatable({}, { __index = function(_, name) return type(FIELDS[name]) == 'number' and 0 or '' end })

-- B is everything else, functions included.
local B = {
  old = {},                                -- fields of :control as loaded; false for a bad one
  state_text = nil, ts_value = nil,        -- as stored: nil if absent; ts_value false if bad
  ts_exists = false,
  calls = {},                              -- the flat list of :calls, without bad fields
  reporters = {},                          -- name -> time
  leases = {}, old_leases = {},            -- token -> {issued, start, length}; token -> text
  exists = {}, planted = {},               -- key -> true
  present = false, known = 0,              -- the keys hold a breaker; how many known fields :control has
  edit = nil, edit_text = '',              -- an external edit: the new state, and the event's text
  edit_manual = false, edit_ts = false,
  wiped_probes = false, folded = false,    -- a transition emptied :probes; buckets went to :history
  state = 0, timestamp = 0, control = 0, bad_calls = 0, probes = 0, -- how many repairs of each key
  drawn = 0, events = {},
}

function B.load_policy()
  read_buckets()
  local reporters, timeout, timeout_max, multiplier, jitter, max_calls, need, probe_timeout, abandoned, ramp, floor, retry, retry_max =
    string.match(ARGV[3], '^%d %d+ %d+ %d+ %d+ %d %d+ %d+ %d+ %d+ (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d) (%d+) (%d+) (%d) (%d+)$')
  local mode = string.sub(ARGV[3], 1, 1)
  P.enabled, P.observe, P.reporters = mode ~= '0', mode == '2', tonumber(reporters)
  P.timeout, P.timeout_max, P.multiplier, P.jitter = tonumber(timeout), tonumber(timeout_max), tonumber(multiplier), tonumber(jitter)
  P.max_calls, P.need, P.probe_timeout = tonumber(max_calls), tonumber(need), tonumber(probe_timeout)
  P.abandoned_fails, P.ramp, P.ramp_floor = abandoned == '1', tonumber(ramp), tonumber(floor)
  P.retry_extends, P.retry_opens, P.retry_max = retry == '1', retry == '2', tonumber(retry_max)
  B.draw, B.jitter_draw = string.match(ARGV[5], '^(%x+) (%d+)$')
end

-- ---- loading ----

function B.accepts(kind, text)
  if kind == 'state' then return STATES[text] end
  if kind == 'hold' then return text == 'open' or text == 'closed' end
  if kind == 'hex' then return is_hex16(text) end
  if kind == 'word' then return text ~= '' and #text <= 64 and not string.find(text, '[^A-Za-z0-9._:@-]') end
  return #text <= 64 and not string.find(text, '[%z\1-\31\127]')
end

-- string_at reads a string key; a key of another type is planted.
function B.string_at(key)
  local v = redis.pcall('GET', key)
  if type(v) == 'table' then
    B.planted[key] = true
    return nil
  end
  if v then B.exists[key] = true end
  return v or nil
end

-- hash_at reads a hash of at most `most` fields as a flat list; anything else is planted.
function B.hash_at(key, most)
  local n = redis.pcall('HLEN', key)
  if type(n) == 'table' or n > most then
    B.planted[key] = true
    return {}
  end
  if n == 0 then return {} end
  B.exists[key] = true
  return redis.call('HGETALL', key)
end

function B.load_control()
  local h = B.hash_at(KEYS[4], 128)
  if B.planted[KEYS[4]] then B.control = 1 end
  for i = 1, #h, 2 do
    local name, text, kind = h[i], h[i + 1], FIELDS[h[i]]
    if kind then
      B.known = B.known + 1
      local v = text
      if type(kind) == 'number' then v = whole(text, kind) elseif not B.accepts(kind, text) then v = nil end
      if v == nil then
        B.control = B.control + 1
        B.old[name] = false
      else
        B.old[name], S[name] = v, v
      end
    end
  end
  if S.epoch == '' then S.epoch = '0000000000000000' end
  if S.plain ~= '' then S.state, S.epoch = 'closed', S.plain end -- most acquires go by plain, so it wins
end

-- load_state compares :state with its mirror, to notice an external edit [B19].
function B.load_state()
  local text, mirror = B.string_at(KEYS[1]), S.state
  B.state_text = text
  local bad = B.planted[KEYS[1]] or (text and not STATES[text])
  if bad then
    B.state, text = 1, nil
  end
  if mirror ~= '' then
    B.present = true
    if not bad and text ~= mirror then
      B.edit, B.edit_manual = text or 'closed', true
      B.edit_text = text and 'state set' or 'state deleted'
    end
    return
  end
  S.state = text or 'closed'
  if text then
    B.edit, B.edit_text = text, 'control missing'
  elseif B.known > 0 then
    B.edit, B.edit_text = 'closed', 'control damaged'
  end
end

function B.timestamp_of(text)
  local sec, frac = string.match(text, '^(%d+)%.(%d+)$')
  if not sec then sec, frac = string.match(text, '^%d+$'), '' end
  if not sec or #frac > 9 then return nil end
  local s = whole(sec, 99999999999)
  return s and s * 1000 + tonumber(string.sub(frac .. '000', 1, 3))
end

function B.load_timestamp()
  local text = B.string_at(KEYS[2])
  B.ts_exists = text ~= nil
  if text then B.ts_value = B.timestamp_of(text) or false end
  if B.planted[KEYS[2]] or B.ts_value == false then B.timestamp = 1 end
  if S.hold ~= '' or (S.state == 'closed' and B.edit ~= 'open' and B.edit ~= 'half_open') then return end
  local at = B.ts_value or 0
  B.edit_ts = at ~= S.opened_ms
  S.opened_ms = at
end

function B.any(...)
  for _, name in ipairs({ ... }) do
    local v = S[name]
    if v ~= 0 and v ~= '' then return true end
  end
end

function B.clear(...)
  for _, name in ipairs({ ... }) do S[name] = type(FIELDS[name]) == 'number' and 0 or '' end
end

function B.clear_hold() B.clear('hold', 'hold_ms', 'hold_length_ms', 'hold_actor', 'hold_protected') end
function B.clear_round() B.clear('round_ms', 'round_max', 'round_need', 'round_ok', 'round_failed', 'round_slow') end
function B.clear_ramp() B.clear('ramp_ms', 'ramp_length_ms', 'ramp_floor_ppm') end
function B.clear_wait() B.clear('wait_ms', 'wait_base_ms', 'wait_jitter_ms', 'wait_upstream_ms') end

function B.consistent()
  local plain = S.plain ~= ''
  if B.any('hold', 'hold_ms', 'hold_length_ms', 'hold_actor', 'hold_protected') and (plain or S.hold ~= S.state) then
    B.clear_hold()
    B.control = B.control + 1
  end
  if B.any('round_ms', 'round_max', 'round_need', 'round_ok', 'round_failed', 'round_slow') and (S.state ~= 'half_open' or S.round_need < 1
      or S.round_need > S.round_max or S.round_ok >= S.round_need or S.round_failed > S.round_max - S.round_need) then
    B.clear_round()
    B.control = B.control + 1
  end
  if S.round_slow > S.round_ok + S.round_failed then
    S.round_slow = 0
    B.control = B.control + 1
  end
  if B.any('ramp_ms', 'ramp_length_ms', 'ramp_floor_ppm') and (plain or S.state ~= 'closed' or S.ramp_length_ms == 0) then
    B.clear_ramp()
    B.control = B.control + 1
  end
end

function B.unlink_calls()
  redis.call('UNLINK', KEYS[3])
  B.planted[KEYS[3]] = nil
end

-- load_calls deletes bad fields of :calls at once, because `add` writes to that key, and keeps the rest.
function B.load_calls()
  local h, bad = B.hash_at(KEYS[3], 512), {}
  if B.planted[KEYS[3]] then
    B.bad_calls = 1
  elseif not B.present and not B.edit then -- buckets of no breaker
    B.unlink_calls()
    return
  end
  for i = 1, #h, 2 do
    local name, text = h[i], h[i + 1]
    local kind, rest = string.sub(name, 1, 1), string.sub(name, 2)
    local reporter = string.sub(name, 1, 2) == 'r:' and B.accepts('word', string.sub(name, 3))
    local start = (kind == 's' or kind == 'f' or kind == 'w') and whole(rest, MAX_TIME)
    if reporter or start then
      local n = whole(text, reporter and MAX_TIME or MAX_COUNT)
      if not n then B.bad_calls = B.bad_calls + 1 end
      if not n or (start and (n == 0 or start > now)) then -- a bucket of the future is deleted [B1]
        bad[#bad + 1] = name
        if start and n ~= 0 then S.past = '' end
      elseif reporter then
        B.reporters[name] = math.min(n, now)
        if n > now then redis.call('HSET', KEYS[3], name, now) end
      else
        B.calls[#B.calls + 1], B.calls[#B.calls + 2] = name, text
      end
    end
  end
  if B.bad_calls > 0 then S.past = '' end
  if B.planted[KEYS[3]] then B.unlink_calls() end
  if #bad > 0 then redis.call('HDEL', KEYS[3], unpack(bad)) end
end

function B.load_leases()
  local h = B.hash_at(KEYS[5], 1024)
  if B.planted[KEYS[5]] then B.probes = 1 end
  for i = 1, #h, 2 do
    local token, text = h[i], h[i + 1]
    if B.accepts('hex', token) then
      B.old_leases[token] = text
      local a, b, c = string.match(text, '^(%d+) (%d+) (%d+)$')
      a, b, c = a and whole(a, MAX_TIME), b and whole(b, MAX_TIME), c and whole(c, 259200000000)
      if a and b and c then
        B.leases[token] = { issued = math.min(a, now), start = math.min(b, now), length = c }
      else
        B.probes = B.probes + 1
      end
    end
  end
end

function B.load()
  B.load_policy()
  B.load_control()
  B.load_state()
  B.load_timestamp()
  B.consistent()
  B.load_calls()
  if S.state == 'half_open' then B.load_leases() end
  for _, name in ipairs({ 'opened_ms', 'upstream_ms', 'round_ms', 'ramp_ms', 'hold_ms' }) do
    if S[name] > now then S[name] = now end
  end
end

