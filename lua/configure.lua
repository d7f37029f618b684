-- configure: writes or deletes an agent's documents, its override or profile or both, if each is still as the caller
-- read it, and logs that as one change.
-- Clauses: B21 B25.
-- KEYS[1..n] -> <agent>:config, <agent>:profile  KEYS[n+1] -> <agent>:log
-- not on a Cluster: KEYS[n+2] -> stream          KEYS[n+3] -> audit
-- ARGV[1] -> now in ms; empty in production      ARGV[2] -> events channel, a blank, agent name
-- ARGV[3] -> TTL of a new log in ms              ARGV[4] -> actor          ARGV[5] -> text for the log
-- and of each document, two of ARGV: the text that it must hold ('': it must not exist; '*': whatever it holds),
-- the new text ('' deletes)
-- Returns {1, event} if all are written, {0, text that one holds} if somebody else has changed that one.

--@clock
--@events

local n = (#ARGV - 5) / 2
for i = 1, n do
  local expected = ARGV[4 + 2 * i]
  local held = redis.pcall('GET', KEYS[i])
  if type(held) == 'table' then
    redis.call('UNLINK', KEYS[i])
    held = false
  end
  if expected ~= '*' and expected ~= (held or '') then return { 0, held or '' } end
end
for i = 1, n do
  local text = ARGV[5 + 2 * i]
  if text ~= '' then redis.call('SET', KEYS[i], text) else redis.call('UNLINK', KEYS[i]) end
end
local log, stream, audit = KEYS[n + 1], KEYS[n + 2], KEYS[n + 3]
local channel, agent = string.match(ARGV[2], '^(%S+) (%S+)$')
local entry = string.format('%.0f configured > %s %s 0/0/0/0 %s', now, '0000000000000000', ARGV[4], ARGV[5])
if heal_and('LPUSH', log, entry) == 1 then redis.call('PEXPIRE', log, tonumber(ARGV[3])) end
redis.call('LTRIM', log, 0, 63)
redis.call('PUBLISH', channel, agent .. ' ' .. entry)
if stream then stream_event(stream, audit, agent, entry) end
return { 1, entry }
