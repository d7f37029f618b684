-- prelude: what every writing verb shares after plain.lua, in three files that follow each other: prelude.lua loads and heals, advance.lua makes
-- transitions and advances to now, save.lua saves. It is the Lua twin of pkg/breaker (Load, Step, Save) and is compared with it
-- operation by operation; a change here without the same change there fails the suite.
-- Clauses: B1 B2 B9 B19 B20.
--
-- KEYS[1] -> <agent>:state            KEYS[4] -> <agent>:control
-- KEYS[2] -> <agent>:open_timestamp   KEYS[5] -> <agent>:probes
-- KEYS[3] -> <agent>:calls            KEYS[6] -> <agent>:log
--
-- ARGV[1] -> now in ms; empty in production: the server's TIME is read, once
-- ARGV[2] -> agent name               ARGV[3] -> events channel
-- ARGV[4] -> epoch draw, 15 hex       ARGV[5] -> jitter draw, 0..999999
-- ARGV[6] -> 0: disabled, 1: enabled, 2: observes only
-- ARGV[7] -> the rule: a number that stands for what a record's short way needs of the policy
-- ARGV[8] -> the policy, whole numbers joined by blanks: window in ms, TTL in ms, failure threshold, failure rate, minimum calls,
--            slow rate, 1: keeps reporters, then P's order. Both are made once a policy
-- ARGV[9].. belong to the verb
--
-- Returns {code, state, epoch, now_ms, retry_after_ms, lease_ms, reason, probe, run, hold, left_ms, event...}

local POLICY = {}
for word in string.gmatch(ARGV[8], '%d+') do POLICY[#POLICY + 1] = tonumber(word) end
local P = {
  enabled = ARGV[6] ~= '0', observe = ARGV[6] == '2', window = POLICY[1], ttl = POLICY[2], minimum = POLICY[5],
  track_reporters = POLICY[7] == 1, reporters = POLICY[8], timeout = POLICY[9], timeout_max = POLICY[10],
  multiplier = POLICY[11], jitter = POLICY[12], max_calls = POLICY[13], need = POLICY[14], probe_timeout = POLICY[15],
  abandoned_fails = POLICY[16] == 1, ramp = POLICY[17], ramp_floor = POLICY[18],
  retry_extends = POLICY[19] == 1, retry_opens = POLICY[19] == 2,
}
local JITTER_DRAW = tonumber(ARGV[5])
local ZERO_EPOCH = '0000000000000000'

-- FIELDS is the table of what :control may hold [B20]: a number is the largest value of a whole number, a word is a kind.
-- Every default is "absent", which reads as 0 or ''. pkg/breaker/machine/fields.go has the same rows.
local FIELDS = {
  state = 'state', epoch = 'hex', run = MAX_RUN, reopens = MAX_REOPENS,
  opened_ms = MAX_TIME, wait_ms = MAX_LENGTH, cause = 'text',
  ev_failures = MAX_TOTAL, ev_calls = MAX_TOTAL, ev_slow = MAX_TOTAL, ev_run = MAX_RUN,
  upstream_ms = MAX_TIME, upstream_length_ms = MAX_LENGTH,
  round_ms = MAX_TIME, round_max = 1000, round_need = 1000, round_ok = 1000, round_failed = 1000,
  ramp_ms = MAX_TIME, ramp_length_ms = MAX_LENGTH, ramp_floor_ppm = MILLION,
  hold = 'hold', hold_ms = MAX_TIME, hold_length_ms = MAX_LENGTH, hold_actor = 'word', hold_protected = 1,
  plain = 'hex', rule = 'text', past = 'text', successes = MAX_TOTAL, failures = MAX_TOTAL, transitions = MAX_TOTAL, expires_ms = MAX_TIME,
}
local STATES = { closed = true, open = true, half_open = true }

-- S is the snapshot: the fields of :control by name, absent ones as 0 or ''. OLD is what was loaded: false for a bad field.
local S, OLD = {}, {}
setmetatable(S, { __index = function(_, name) return type(FIELDS[name]) == 'number' and 0 or '' end })
local STATE_TEXT, TS_VALUE, TS_EXISTS           -- as stored: nil when absent; TS_VALUE false when bad
local CALLS, OLD_CALLS = {}, {}                 -- field -> number
local WINDOW = { s = 0, f = 0, w = 0 }          -- sums of the buckets that count
local LEASES, OLD_LEASES = {}, {}               -- token -> {issued, start, length}; token -> text
local EXISTS, PLANTED = {}, {}                  -- key -> true
local present, known = false, 0                 -- keys hold a breaker; known fields of :control found
local edit, edit_text, edit_manual, edit_ts     -- a hand on the keys
local wipe_calls, wipe_probes = false, false
local heal = { state = 0, timestamp = 0, control = 0, calls = 0, probes = 0 }
local drawn, events = 0, {}

-- ---- loading ----------------------------------------------------------------------------------------------------------

local function accepts(kind, text)
  if kind == 'state' then return STATES[text] end
  if kind == 'hold' then return text == 'open' or text == 'closed' end
  if kind == 'hex' then return is_hex16(text) end
  if kind == 'word' then return text ~= '' and #text <= 64 and not string.find(text, '[^A-Za-z0-9._:@-]') end
  return #text <= 64 and not string.find(text, '[%z\1-\31\127]')
end

-- string_at reads a string key; a key of another type is planted.
local function string_at(key)
  local v = redis.pcall('GET', key)
  if type(v) == 'table' then
    PLANTED[key] = true
    return nil
  end
  if v then EXISTS[key] = true end
  return v or nil
end

-- hash_at reads a hash of at most `most` fields as a flat list; anything else is planted.
local function hash_at(key, most)
  local n = redis.pcall('HLEN', key)
  if type(n) == 'table' or n > most then
    PLANTED[key] = true
    return {}
  end
  if n == 0 then return {} end
  EXISTS[key] = true
  return redis.call('HGETALL', key)
end

local function load_control()
  local h = hash_at(KEYS[4], MAX_CONTROL_FIELDS)
  if PLANTED[KEYS[4]] then heal.control = 1 end
  for i = 1, #h, 2 do
    local name, text, kind = h[i], h[i + 1], FIELDS[h[i]]
    if kind then
      known = known + 1
      local v = text
      if type(kind) == 'number' then v = whole(text, kind) elseif not accepts(kind, text) then v = nil end
      if v == nil then
        heal.control = heal.control + 1
        OLD[name] = false
      else
        OLD[name], S[name] = v, v
      end
    end
  end
  if S.epoch == '' then S.epoch = ZERO_EPOCH end
end

-- load_state compares :state with its mirror, to notice a hand [B19].
local function load_state()
  local text, mirror = string_at(KEYS[1]), S.state
  STATE_TEXT = text
  local bad = PLANTED[KEYS[1]] or (text and not STATES[text])
  if bad then
    heal.state, text = 1, nil
  end
  if mirror ~= '' then
    present = true
    if not bad and text ~= mirror then
      edit, edit_manual = text or 'closed', true
      edit_text = text and 'state set' or 'state deleted'
    end
    return
  end
  S.state = text or 'closed'
  if text then
    edit, edit_text = text, 'control missing'
  elseif known > 0 then
    edit, edit_text = 'closed', 'control damaged'
  end
end

local function timestamp_value(text)
  local sec, frac = string.match(text, '^(%d+)%.(%d+)$')
  if not sec then sec, frac = string.match(text, '^%d+$'), '' end
  if not sec or #frac > 9 then return nil end
  local s = whole(sec, 99999999999)
  return s and s * 1000 + tonumber(string.sub(frac .. '000', 1, 3))
end

local function load_timestamp()
  local text = string_at(KEYS[2])
  TS_EXISTS = text ~= nil
  if text then TS_VALUE = timestamp_value(text) or false end
  if PLANTED[KEYS[2]] or TS_VALUE == false then heal.timestamp = 1 end
  if S.hold ~= '' or (S.state == 'closed' and edit ~= 'open' and edit ~= 'half_open') then return end
  local at = TS_VALUE or 0
  edit_ts = at ~= S.opened_ms
  S.opened_ms = at
end

local function any(...)
  for _, name in ipairs({ ... }) do
    local v = S[name]
    if v ~= 0 and v ~= '' then return true end
  end
end

local function clear(...)
  for _, name in ipairs({ ... }) do S[name] = type(FIELDS[name]) == 'number' and 0 or '' end
end

local function clear_hold() clear('hold', 'hold_ms', 'hold_length_ms', 'hold_actor', 'hold_protected') end
local function clear_round() clear('round_ms', 'round_max', 'round_need', 'round_ok', 'round_failed') end
local function clear_ramp() clear('ramp_ms', 'ramp_length_ms', 'ramp_floor_ppm') end

local function consistent()
  if any('hold', 'hold_ms', 'hold_length_ms', 'hold_actor', 'hold_protected') and S.hold ~= S.state then
    clear_hold()
    heal.control = heal.control + 1
  end
  if any('round_ms', 'round_max', 'round_need', 'round_ok', 'round_failed') and (S.state ~= 'half_open' or S.round_need < 1
      or S.round_need > S.round_max or S.round_ok >= S.round_need or S.round_failed > S.round_max - S.round_need) then
    clear_round()
    heal.control = heal.control + 1
  end
  if any('ramp_ms', 'ramp_length_ms', 'ramp_floor_ppm') and (S.state ~= 'closed' or S.ramp_length_ms == 0) then
    clear_ramp()
    heal.control = heal.control + 1
  end
end

local function load_bucket(name, text)
  local start = whole(string.sub(name, 2), MAX_TIME)
  if not start then return end
  local n = whole(text, MAX_COUNT)
  OLD_CALLS[name] = n or false
  if not n then heal.calls = heal.calls + 1 end
  if not n or n == 0 or start > now then -- a future bucket goes [B1]
    S.past = ''
    return
  end
  CALLS[name] = n
  if start > now - P.window then
    local k = string.sub(name, 1, 1)
    WINDOW[k] = WINDOW[k] + n
  end
end

local function load_calls()
  local h = hash_at(KEYS[3], MAX_CALLS_FIELDS)
  if PLANTED[KEYS[3]] then
    heal.calls, S.past = 1, ''
    return
  end
  if not present and not edit then
    wipe_calls = true
    return
  end
  for i = 1, #h, 2 do
    local name, text = h[i], h[i + 1]
    local k = string.sub(name, 1, 1)
    if k == 's' or k == 'f' or k == 'w' then
      load_bucket(name, text)
    elseif string.sub(name, 1, 2) == 'r:' and accepts('word', string.sub(name, 3)) then
      local at = whole(text, MAX_TIME)
      OLD_CALLS[name] = at or false
      if at then CALLS[name] = math.min(at, now) else heal.calls = heal.calls + 1 end
    end
  end
end

local function load_leases()
  local h = hash_at(KEYS[5], MAX_PROBES_FIELDS)
  if PLANTED[KEYS[5]] then heal.probes = 1 end
  for i = 1, #h, 2 do
    local token, text = h[i], h[i + 1]
    if accepts('hex', token) then
      OLD_LEASES[token] = text
      local a, b, c = string.match(text, '^(%d+) (%d+) (%d+)$')
      a, b, c = a and whole(a, MAX_TIME), b and whole(b, MAX_TIME), c and whole(c, MAX_LENGTH)
      if a and b and c then
        LEASES[token] = { issued = math.min(a, now), start = math.min(b, now), length = c }
      else
        heal.probes = heal.probes + 1
      end
    end
  end
end

local function load()
  load_control()
  load_state()
  load_timestamp()
  consistent()
  load_calls()
  if S.state == 'half_open' then load_leases() end
  for _, name in ipairs({ 'opened_ms', 'upstream_ms', 'round_ms', 'ramp_ms', 'hold_ms' }) do
    if S[name] > now then S[name] = now end
  end
end
