-- advance: the second part of the general way: transitions, external edits, and each step that fell due until now. The
-- twin of pkg/breaker/machine: step.go and transition.go. KEYS and ARGV: see load.lua.
-- Clauses: B2 B10 B11 B12 B13 B16 B17 B19 B20.

-- ---- transitions ----

function B.event(at, kind, from, actor, text)
  B.events[#B.events + 1] = string.format('%.0f %s %s>%s %s %s %.0f/%.0f/%.0f/%.0f %s', at, kind, from, S.state, S.epoch, actor,
    S.ev_failures, S.ev_calls, S.ev_run, S.ev_slow, text)
end

function B.enter(to)
  if S.state ~= to then S.transitions = S.transitions + 1 end
  B.drawn = B.drawn + 1
  B.present, S.state, S.epoch = true, to, B.draw .. string.format('%x', B.drawn)
  B.clear('rule', 'past')
  B.clear_round()
  B.clear_ramp()
  B.clear_hold()
  B.leases, B.wiped_probes = {}, true
end

function B.evidence(failures, calls, slow, run)
  S.ev_failures, S.ev_calls, S.ev_slow, S.ev_run = failures, calls, slow, run
end

-- blame sets the cause of an opening, and keeps the cause of the episode's first opening.
function B.blame(cause)
  if S.first_cause == '' and S.cause ~= cause then S.first_cause = S.cause end
  S.cause = cause
end

-- wait is the length of an opening that begins at that time [B10]. It multiplies integers step by step, as the twin
-- does, and keeps the parts.
function B.wait(at)
  local length = math.min(P.timeout, P.timeout_max)
  local i = 0
  while i < S.reopens and length < P.timeout_max and P.multiplier > 1000 do
    length = math.min(math.floor(length * P.multiplier / 1000), P.timeout_max)
    i = i + 1
  end
  S.wait_base_ms = length
  S.wait_jitter_ms = math.floor(length * math.floor(P.jitter * B.jitter_draw / 1000000) / 1000000)
  S.wait_upstream_ms = math.max(0, math.min(S.upstream_ms + S.upstream_length_ms - at, P.timeout_max))
  return math.max(length + S.wait_jitter_ms, S.wait_upstream_ms)
end

function B.open(at, cause)
  B.enter('open')
  B.blame(cause)
  S.opened_ms, S.wait_ms = at, B.wait(at)
end

function B.half_open(at)
  B.enter('half_open')
  S.round_ms, S.round_max, S.round_need = at, P.max_calls, P.need
  B.clear_wait()
  if S.opened_ms == 0 then S.opened_ms = at end
end

-- prune removes buckets from the window and adds them to the totals.
function B.prune(buckets)
  local s, f = prune(buckets)
  S.successes, S.failures, B.folded = S.successes + s, S.failures + f, true
end

function B.close(at, ramp)
  B.enter('closed')
  B.clear_wait()
  B.clear('run', 'reopens', 'opened_ms', 'cause', 'first_cause', 'upstream_ms', 'upstream_length_ms')
  B.evidence(0, 0, 0, 0)
  local all = {}
  for i = 1, #B.calls, 2 do
    all[#all + 1] = { name = B.calls[i], kind = string.sub(B.calls[i], 1, 1), start = tonumber(string.sub(B.calls[i], 2)),
      n = tonumber(B.calls[i + 1]) }
  end
  B.prune(all)
  B.unlink_calls()
  B.calls, B.reporters = {}, {}
  if ramp > 0 then S.ramp_ms, S.ramp_length_ms, S.ramp_floor_ppm = at, ramp, P.ramp_floor end
end

function B.reopen(at, cause)
  S.reopens = math.min(S.reopens + 1, 1000000)
  B.evidence(S.round_failed, S.round_ok + S.round_failed, S.round_slow, S.run)
  B.open(at, cause)
  B.event(at, 'opened', 'half_open', '-', cause)
end

-- verdict ends a round as soon as the result is certain [B13].
function B.verdict(at)
  if S.round_ok >= S.round_need then
    if P.slow_rate > 0 and S.round_slow * 1000000 >= P.slow_rate * (S.round_ok + S.round_failed) then
      return B.reopen(at, 'slow_rate')
    end
    B.close(at, P.ramp)
    B.event(at, 'closed', 'half_open', '-', 'probes succeeded')
  elseif S.round_failed >= S.round_max - S.round_need + 1 then
    B.reopen(at, 'probe_failed')
  end
end

-- ---- repairs, external edits, advancing ----

function B.repair()
  if S.state == 'half_open' and S.round_max == 0 then
    S.round_ms, S.round_max, S.round_need = now, P.max_calls, P.need
  end
  if S.state == 'open' and S.hold == '' and S.wait_ms == 0 then S.wait_ms = B.wait(S.opened_ms) end
  if B.state + B.timestamp + B.control + B.bad_calls + B.probes > 0 then
    B.event(now, 'healed', S.state, '-', string.format('state %.0f timestamp %.0f control %.0f calls %.0f probes %.0f',
      B.state, B.timestamp, B.control, B.bad_calls, B.probes))
  end
end

function B.apply_edit()
  local from, opened = S.state, S.opened_ms
  if not B.edit then return end
  if S.hold_protected == 1 then
    B.present = true
    B.event(now, 'hand_restored', from, '-', B.edit_text)
    return
  end
  if B.edit == 'closed' then
    B.close(now, 0)
  elseif B.edit == 'open' then
    if opened == 0 or (B.edit_manual and from == 'half_open' and not B.edit_ts) then opened = now end
    B.evidence(0, 0, 0, 0)
    B.open(opened, 'hand_edit')
  else
    B.half_open(now)
    B.blame('hand_edit')
  end
  B.event(now, 'hand_edit', from, '-', B.edit_text)
end

function B.deadline(lease) return lease.start + lease.length end
function B.issued(lease) return lease.issued end

-- first_lease is the token of the lease with the least value; of equals, the lesser token.
function B.first_lease(value)
  local best
  for token, lease in pairs(B.leases) do
    local a, b = value(lease), best and value(B.leases[best])
    if not best or a < b or (a == b and token < best) then best = token end
  end
  return best
end

function B.lapse()
  local token = B.first_lease(B.deadline)
  if not token or B.deadline(B.leases[token]) > now then return false end
  local at = B.deadline(B.leases[token])
  B.leases[token] = nil
  if P.abandoned_fails then
    S.failures, S.round_failed = S.failures + 1, S.round_failed + 1
    B.verdict(at)
  end
  return true
end

-- end_hold makes a breaker that was held open half-open, and one that was held closed fresh [B17].
function B.end_hold(at)
  if S.hold == 'open' then B.half_open(at) else B.close(at, 0) end
end

function B.hold_expires()
  local from, till = S.state, S.hold_ms + S.hold_length_ms
  if S.hold_length_ms == 0 or till > now then return false end
  B.end_hold(till)
  B.event(till, 'hold_expired', from, '-', 'hold expired')
  return true
end

function B.advance_once()
  if S.hold ~= '' then return B.hold_expires() end
  if S.state == 'half_open' then return B.lapse() end
  if S.state ~= 'open' then return false end
  local due = S.opened_ms + S.wait_ms
  if S.opened_ms == 0 then due = now end -- the timestamp was deleted: the wait is over [B19]
  if due > now then return false end
  B.half_open(due)
  B.event(due, 'half_opened', 'open', '-', S.cause)
  return true
end

function B.begin()
  B.load()
  B.repair()
  B.apply_edit()
  while B.advance_once() do end
  if S.ramp_length_ms > 0 and S.ramp_ms + S.ramp_length_ms <= now then B.clear_ramp() end
end

