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

-- plain: how every writing verb begins: the clock and the bounds. KEYS and ARGV as in prelude.lua.
-- Clauses: B1 B20.

local now = tonumber(ARGV[1])
if not now then
  local t = redis.call('TIME')
  now = t[1] * 1000 + math.floor(t[2] / 1000)
end

local MILLION = 1000000
local MAX_RUN, MAX_REPORTERS, MAX_LOG, MAX_REOPENS = 255, 8, 64, 1000000
local MAX_CALLS_FIELDS, MAX_CONTROL_FIELDS, MAX_PROBES_FIELDS = 512, 128, 1024
local MAX_TIME, MAX_LENGTH, MAX_COUNT, MAX_TOTAL = 99999999999999, 259200000000, 1000000000000, 9000000000000000
local DAY = 86400000

local function is_hex16(text) return #text == 16 and not string.find(text, '[^0-9a-f]') end

-- calm: the shortest way of a record: successes of a plainly closed breaker without a run, whose bucket has some already, when the
-- sums of the other buckets are those of now, hold minimum_calls, and stayed below every threshold under this rule. Then these do
-- too: a success makes every share less [B7] [B8]. pkg/breaker/plain.go is its twin.
-- Clauses: B5 B6 B7 B8 B9 B20 B25.

-- bump counts n in a bucket that has some of that kind, and gives how many these are now. Else it takes them back.
local function bump(key, field, n)
  local total = redis.pcall('HINCRBY', key, field, n)
  if type(total) ~= 'number' then return nil end
  local before = total - n
  if before > 0 and before <= MAX_COUNT then return total end
  if before == 0 then redis.call('HDEL', key, field) else redis.call('HINCRBY', key, field, '-' .. n) end
end

-- read gives what a record needs of :control; nothing unless :state says closed.
local function read(state, control)
  return redis.pcall('GET', state) == 'closed' and redis.pcall('HMGET', control, 'plain', 'rule', 'past', 'run')
end

-- calm gives the epoch if it has counted n successes of it. c is what was read; a rule is ARGV[7] of prelude.lua.
local function calm(c, calls, rule, epoch, n)
  local plain, past = c[1], c[3]
  if not plain or c[2] ~= rule or not past or c[4] or not (plain == epoch or (epoch == '' and is_hex16(plain))) then return nil end
  local start, length = string.match(past, '^[+](%d+) (%d+) ')
  return start and #start <= 15 and #length <= 15 and now >= tonumber(start) and now < start + length
    and bump(calls, 's' .. start, n) and plain
end


local EPOCH, TOKEN = ARGV[9], ARGV[10]

-- What was read, unless something is asked for that only the long way does.
local c = ARGV[6] ~= '0' and TOKEN == '' and not KEYS[7] and (ARGV[18] or '0') == '0' and read(KEYS[1], KEYS[4])
local epoch = c and ARGV[11] ~= '0' and ARGV[12] == '0' and ARGV[13] == '0' and calm(c, KEYS[3], ARGV[7], EPOCH, ARGV[11])
if epoch then return { 'ok', 'closed', epoch, now } end

-- words: what the text of a number must be to be believed.
-- Clauses: B20.

local function whole(text, most)
  if #text > 16 or not (text == '0' or string.find(text, '^[1-9]%d*$')) then return nil end
  local v = tonumber(text)
  if v <= most then return v end
end

-- counted: the short way of a record: outcomes of a plainly closed breaker that stays closed, if their bucket has begun and the
-- sums of the others are those of now and of this rule. pkg/breaker/plain.go is its twin.
-- Clauses: B5 B6 B7 B8 B9 B20 B25.
-- Numbers come as the texts that ARGV has; rule and policy are ARGV[7] and ARGV[8] of prelude.lua.

local MAX_EXACT = 9000000000 -- of a sum: times a million it is exact below 2^53

-- runs gives the run after a record, and the longest on the way [B6].
local function runs(run, successes, failures, lead, trail, max_run)
  local after, peak = run + failures, run + failures
  if successes > 0 then after, peak = trail, math.max(run + lead, max_run) end
  return math.min(after, MAX_RUN), math.min(peak, MAX_RUN)
end

-- over names the threshold that a run, or the sums of the window, have reached [B6] [B7] [B8].
local function over(policy, peak, s, f, w)
  local threshold, rate, minimum, slow_rate = string.match(policy, '^%d+ %d+ (%d+) (%d+) (%d+) (%d+)')
  threshold, rate, slow_rate = tonumber(threshold), tonumber(rate), tonumber(slow_rate)
  if threshold > 0 and peak >= threshold then return 'consecutive_failures' end
  local calls = math.min(s + f, MAX_EXACT)
  if calls < tonumber(minimum) then return nil end
  if rate > 0 and math.min(f, MAX_EXACT) * MILLION >= rate * calls then return 'failure_rate' end
  if slow_rate > 0 and math.min(w, MAX_EXACT) * MILLION >= slow_rate * calls then return 'slow_rate' end
end

-- alone counts outcomes of one kind, none slow, when the sums s and f of the other buckets hold minimum_calls: the shares of what
-- does not grow shrink, so the rest of the bucket is not asked for.
local function alone(calls, start, successes, failures, policy, peak, s, f)
  local field, n, grown = 's' .. start, successes, 0
  if failures ~= '0' then field, n = 'f' .. start, failures end
  local total = bump(calls, field, n)
  if not total then return false end
  if failures ~= '0' then grown = f + total end
  if not over(policy, peak, s, grown, 0) then return true end
  redis.call('HINCRBY', calls, field, '-' .. n)
end

-- together counts outcomes of whatever kinds.
local function together(calls, start, successes, failures, slow, policy, peak, s, f, w)
  local b = redis.pcall('HMGET', calls, 's' .. start, 'f' .. start, 'w' .. start)
  local bs, bf, bw = whole(b[1] or '0', MAX_COUNT), whole(b[2] or '0', MAX_COUNT), whole(b[3] or '0', MAX_COUNT)
  if not (b[1] or b[2] or b[3]) or not (bs and bf and bw)
      or over(policy, peak, s + bs + successes, f + bf + failures, w + bw + slow) then return false end
  if successes ~= '0' then redis.call('HINCRBY', calls, 's' .. start, successes) end
  if failures ~= '0' then redis.call('HINCRBY', calls, 'f' .. start, failures) end
  if slow ~= '0' then redis.call('HINCRBY', calls, 'w' .. start, slow) end
  return true
end

-- counted gives the epoch and the run after the record; nothing if it must go the long way. c is what was read.
local function counted(c, calls, control, rule, policy, epoch, successes, failures, slow, lead, trail, max_run)
  local plain, run = c[1], whole(c[4] or '0', MAX_RUN)
  if not plain or c[2] ~= rule or not c[3] or not run or not (epoch == plain or (epoch == '' and is_hex16(plain))) then return nil end
  local enough, start, length, s, f, w = string.match(c[3], '^([+-])(%d+) (%d+) (%d+) (%d+) (%d+)$')
  if not enough or #start > 15 or #length > 15 or #s > 15 or #f > 15 or #w > 15
      or now < tonumber(start) or now >= start + length
      or (enough == '-' and failures + slow > 0 and string.find(policy, '^%d+ %d+ %d+ %d+ %d+ %d+ 1')) then return nil end -- a reporter to remember
  local after, peak = runs(run, tonumber(successes), tonumber(failures), tonumber(lead), tonumber(trail), tonumber(max_run))
  local one_kind = enough == '+' and slow == '0' and (failures == '0' or successes == '0')
  if not (one_kind and alone(calls, start, successes, failures, policy, peak, s, f))
      and not together(calls, start, successes, failures, slow, policy, peak, s, f, w) then return nil end
  if after > 0 then redis.call('HSET', control, 'run', after) elseif c[4] then redis.call('HDEL', control, 'run') end
  return plain, after
end


if c and not (ARGV[11] == '0' and ARGV[12] == '0') then
  local run
  epoch, run = counted(c, KEYS[3], KEYS[4], ARGV[7], ARGV[8], EPOCH, ARGV[11], ARGV[12], ARGV[13],
    ARGV[15] or '0', ARGV[16] or '0', ARGV[17] or '0')
  if epoch then return { 'ok', 'closed', epoch, now, run } end
end

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
-- Every default is "absent", which reads as 0 or ''. pkg/breaker/fields.go has the same rows.
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
-- advance: the second part of the prelude: transitions, hands on the keys, and what falls due until now. The twin of
-- pkg/breaker/step.go; KEYS and ARGV as in prelude.lua.
-- Clauses: B2 B10 B11 B12 B13 B16 B17 B19 B20.

-- ---- transitions ------------------------------------------------------------------------------------------------------

local function event(at, kind, from, actor, text)
  events[#events + 1] = string.format('%.0f %s %s>%s %s %s %.0f/%.0f/%.0f %s', at, kind, from, S.state, S.epoch, actor,
    S.ev_failures, S.ev_calls, S.ev_run, text)
end

local function enter(to)
  if S.state ~= to then S.transitions = S.transitions + 1 end
  drawn = drawn + 1
  present, S.state, S.epoch = true, to, ARGV[4] .. string.format('%x', drawn)
  S.rule, S.past = '', ''
  clear_round()
  clear_ramp()
  clear_hold()
  LEASES, wipe_probes = {}, true
end

local function evidence(failures, calls, slow, run)
  S.ev_failures, S.ev_calls, S.ev_slow, S.ev_run = failures, calls, slow, run
end

-- wait is the length of an opening at that time, in integers, by repeated multiplication [B10].
local function wait(at)
  local length = math.min(P.timeout, P.timeout_max)
  local i = 0
  while i < S.reopens and length < P.timeout_max and P.multiplier > 1000 do
    length = math.min(math.floor(length * P.multiplier / 1000), P.timeout_max)
    i = i + 1
  end
  length = length + math.floor(length * math.floor(P.jitter * JITTER_DRAW / MILLION) / MILLION)
  return math.max(length, math.min(S.upstream_ms + S.upstream_length_ms - at, P.timeout_max))
end

local function open(at, cause)
  enter('open')
  S.opened_ms, S.wait_ms, S.cause = at, wait(at), cause
end

local function half_open(at)
  enter('half_open')
  S.round_ms, S.round_max, S.round_need = at, P.max_calls, P.need
  S.wait_ms = 0
  if S.opened_ms == 0 then S.opened_ms = at end
end

-- fold takes a bucket that goes into the totals: while it stands it counts itself into them.
local function fold(name, n)
  local k = string.sub(name, 1, 1)
  if k == 's' then S.successes = S.successes + n elseif k == 'f' then S.failures = S.failures + n end
end

local function close(at, ramp)
  enter('closed')
  clear('run', 'reopens', 'opened_ms', 'wait_ms', 'cause', 'upstream_ms', 'upstream_length_ms')
  evidence(0, 0, 0, 0)
  for name, n in pairs(CALLS) do fold(name, n) end
  CALLS, wipe_calls = {}, true
  WINDOW = { s = 0, f = 0, w = 0 }
  if ramp > 0 then S.ramp_ms, S.ramp_length_ms, S.ramp_floor_ppm = at, ramp, P.ramp_floor end
end

local function reopen(at, cause)
  S.reopens = math.min(S.reopens + 1, MAX_REOPENS)
  evidence(S.round_failed, S.round_ok + S.round_failed, 0, S.run)
  open(at, cause)
  event(at, 'opened', 'half_open', '-', cause)
end

-- verdict ends a round as soon as its outcome is certain [B13].
local function verdict(at)
  if S.round_ok >= S.round_need then
    close(at, P.ramp)
    event(at, 'closed', 'half_open', '-', 'probes succeeded')
  elseif S.round_failed >= S.round_max - S.round_need + 1 then
    reopen(at, 'probe_failed')
  end
end

-- ---- hands, heals, advancing ------------------------------------------------------------------------------------------

local function repair()
  if S.state == 'half_open' and S.round_max == 0 then
    S.round_ms, S.round_max, S.round_need = now, P.max_calls, P.need
  end
  if S.state == 'open' and S.hold == '' and S.wait_ms == 0 then S.wait_ms = wait(S.opened_ms) end
  if heal.state + heal.timestamp + heal.control + heal.calls + heal.probes > 0 then
    event(now, 'healed', S.state, '-', string.format('state %.0f timestamp %.0f control %.0f calls %.0f probes %.0f',
      heal.state, heal.timestamp, heal.control, heal.calls, heal.probes))
  end
end

local function apply_edit()
  local from, opened = S.state, S.opened_ms
  if not edit then return end
  if S.hold_protected == 1 then
    present = true
    event(now, 'hand_restored', from, '-', edit_text)
    return
  end
  if edit == 'closed' then
    close(now, 0)
  elseif edit == 'open' then
    if opened == 0 or (edit_manual and from == 'half_open' and not edit_ts) then opened = now end
    evidence(0, 0, 0, 0)
    open(opened, 'hand_edit')
  else
    half_open(now)
    S.cause = 'hand_edit'
  end
  event(now, 'hand_edit', from, '-', edit_text)
end

local function deadline(lease) return lease.start + lease.length end
local function issued(lease) return lease.issued end

-- first_lease finds the token with the least value; ties go to the lesser token.
local function first_lease(value)
  local best
  for token, lease in pairs(LEASES) do
    local a, b = value(lease), best and value(LEASES[best])
    if not best or a < b or (a == b and token < best) then best = token end
  end
  return best
end

local function lapse()
  local token = first_lease(deadline)
  if not token or deadline(LEASES[token]) > now then return false end
  local at = deadline(LEASES[token])
  LEASES[token] = nil
  if P.abandoned_fails then
    S.failures, S.round_failed = S.failures + 1, S.round_failed + 1
    verdict(at)
  end
  return true
end

local function hold_expires()
  local from, till = S.state, S.hold_ms + S.hold_length_ms
  if S.hold_length_ms == 0 or till > now then return false end
  if S.hold == 'open' then half_open(till) else close(till, 0) end
  event(till, 'hold_expired', from, '-', 'hold expired')
  return true
end

local function advance_once()
  if S.hold ~= '' then return hold_expires() end
  if S.state == 'half_open' then return lapse() end
  if S.state ~= 'open' then return false end
  local due = S.opened_ms + S.wait_ms
  if S.opened_ms == 0 then due = now end -- a hand deleted the timestamp: the wait is over [B19]
  if due > now then return false end
  half_open(due)
  event(due, 'half_opened', 'open', '-', S.cause)
  return true
end

local function begin()
  load()
  repair()
  apply_edit()
  while advance_once() do end
  if S.ramp_length_ms > 0 and S.ramp_ms + S.ramp_length_ms <= now then clear_ramp() end
end
-- save: the last part of the prelude: writes what changed, gives all keys one instant to expire at, and answers. The twin of
-- pkg/breaker/save.go; KEYS and ARGV as in prelude.lua.
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
