-- advance: the second part of the prelude: transitions, hands on the keys, and what falls due until now. The twin of
-- pkg/breaker/machine/step.go; KEYS and ARGV as in prelude.lua.
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
