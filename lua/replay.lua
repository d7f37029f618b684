-- replay: adds what a replica counted while the store was down, once. It leaves run, upstream wait and state as they
-- are: the next record counts what was replayed, and may trip.
-- Clauses: B9 B14 B21 B23 B26; the rest by the general way.
-- KEYS, ARGV[1]..ARGV[5], reply: see load.lua.
-- KEYS[#KEYS] -> <agent>:replay.<token of the batch>
-- ARGV[6] -> epoch                    ARGV[7] -> reporter
-- ARGV[8].. -> one for each bucket, at most twelve, joined by blanks: start in ms, successes, failures, slow
-- Returns code ok (counted: how many calls count), lost (reason epoch, open, expired or disabled) or duplicate (reason
-- and counted of the first time).

--@clock
--@numbers
--@window
--@buckets
--@general
--@reporters

local EPOCH, REPORTER, TOLD = ARGV[6], ARGV[7], KEYS[#KEYS]

function B.replay()
  if not P.enabled and S.hold == '' then return { code = 'lost', reason = 'disabled' } end
  if S.state ~= 'closed' then return { code = 'lost', reason = 'open' } end
  if EPOCH ~= S.epoch then return { code = 'lost', reason = 'epoch' } end
  local counted, failed = 0, 0
  B.touch_calls()
  for i = 8, #ARGV do
    local start, s, f, w = string.match(ARGV[i], '^(%d+) (%d+) (%d+) (%d+)$')
    start, s, f, w = tonumber(start), tonumber(s), tonumber(f), tonumber(w)
    if start > now - P.window then
      if start > now then start = now_bucket() end
      add(string.format('%.0f', start), s, f, w)
      counted, failed = counted + s + f, failed + f + w
    end
  end
  if counted == 0 then return { code = 'lost', reason = 'expired' } end
  B.present = true
  B.clear('rule', 'past')
  if P.track and failed > 0 and REPORTER ~= '' then B.remember(REPORTER) end
  return { code = 'ok', counted = counted }
end

B.begin()
local told = redis.pcall('GET', TOLD)
if type(told) == 'string' then
  local reason, counted = string.match(told, '^(%S*) (%d+)$')
  return B.finish({ code = 'duplicate', reason = reason, counted = tonumber(counted or '0') })
end
local r = B.replay()
redis.call('SET', TOLD, (r.reason or '') .. ' ' .. (r.counted or 0), 'PX', P.window + 60000)
return B.finish(r)
