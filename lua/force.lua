-- force: an operator's hold, release or reset.
-- Clauses: B17 B18; the rest by the general way.
-- KEYS, ARGV[1]..ARGV[5], reply: see load.lua.
-- KEYS[#KEYS] -> <agent>:action.<id>, if it is to be done once: the 8th key on a Cluster, else the 11th
-- ARGV[6] -> hold_open, hold_closed, release, reset_closed or reset_half_open
-- ARGV[7] -> length of the hold in ms; 0: it has no end
-- ARGV[8] -> length of the ramp in ms (reset_closed)
-- ARGV[9] -> reason                  ARGV[10] -> reason, cut to 64 bytes
-- ARGV[11] -> actor, a word           ARGV[12] -> 1: protected          ARGV[13] -> 1: lifts a protected hold
-- ARGV[14] -> which hold it leaves as it is: any, others (of another actor) or empty: none
-- Returns code ok, hold_protected, hold_exists, not_held or duplicate.

--@clock
--@numbers
--@window
--@buckets
--@general

local TARGET, LENGTH, RAMP = ARGV[6], tonumber(ARGV[7]), tonumber(ARGV[8])
local REASON, CAUSE, ACTOR, PROTECTED, OVERRIDE = ARGV[9], ARGV[10], ARGV[11], ARGV[12] == '1', ARGV[13] == '1'
local YIELD, ONCE = ARGV[14], (#KEYS == 8 or #KEYS == 11) and KEYS[#KEYS]

function B.hold(kind)
  S.hold, S.hold_ms, S.hold_length_ms, S.hold_actor = kind, now, LENGTH, ACTOR
  S.hold_protected = PROTECTED and 1 or 0
end

function B.force()
  local from = S.state
  if ONCE and redis.call('EXISTS', ONCE) == 1 then return { code = 'duplicate' } end
  if S.hold_protected == 1 and not OVERRIDE then return { code = 'hold_protected' } end
  if S.hold ~= '' and not OVERRIDE and (YIELD == 'any' or YIELD == 'others' and S.hold_actor ~= ACTOR) then
    return { code = 'hold_exists' }
  end
  if TARGET == 'release' and S.hold == '' then return { code = 'not_held' } end
  local kind = 'manual_reset'
  if TARGET == 'hold_open' then
    B.enter('open')
    B.blame(CAUSE)
    B.clear_wait()
    S.opened_ms, S.wait_ms = now, LENGTH
    B.evidence(0, 0, 0, 0)
    B.hold('open')
    kind = 'manual_open'
  elseif TARGET == 'hold_closed' then
    B.close(now, 0)
    S.cause = CAUSE
    B.hold('closed')
    kind = 'manual_close'
  elseif TARGET == 'release' then
    B.end_hold(now)
    kind = 'manual_release'
  elseif TARGET == 'reset_closed' then
    B.close(now, RAMP)
  else
    B.half_open(now)
    B.blame(CAUSE)
  end
  B.event(now, kind, from, ACTOR, REASON)
  if ONCE then redis.call('SET', ONCE, '1', 'EX', 86400) end
  return { code = 'ok' }
end

B.begin()
return B.finish(B.force())
