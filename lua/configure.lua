-- configure: writes or deletes an agent's override or profile if it is still as the caller read it, and logs that.
-- Clauses: B21 B25.
-- KEYS[1] -> <agent>:config or <agent>:profile   KEYS[2] -> <agent>:log
-- not on a Cluster: KEYS[3] -> stream            KEYS[4] -> audit
-- ARGV[1] -> now in ms; empty in production      ARGV[2] -> events channel, a blank, agent name
-- ARGV[3] -> TTL of a new log in ms
-- ARGV[4] -> the text that it must hold; '': it must not exist; '*': whatever it holds
-- ARGV[5] -> the new text; '' deletes            ARGV[6] -> actor          ARGV[7] -> text for the log
-- Returns {1, event} if written, {0, text that it holds} if somebody else has changed it.

--@clock
--@events

local held = redis.pcall('GET', KEYS[1])
if type(held) == 'table' then
  redis.call('UNLINK', KEYS[1])
  held = false
end
if ARGV[4] ~= '*' and ARGV[4] ~= (held or '') then return { 0, held or '' } end
if ARGV[5] ~= '' then redis.call('SET', KEYS[1], ARGV[5]) else redis.call('UNLINK', KEYS[1]) end
local channel, agent = string.match(ARGV[2], '^(%S+) (%S+)$')
local entry = string.format('%.0f configured > %s %s 0/0/0/0 %s', now, '0000000000000000', ARGV[6], ARGV[7])
if heal_and('LPUSH', KEYS[2], entry) == 1 then redis.call('PEXPIRE', KEYS[2], tonumber(ARGV[3])) end
redis.call('LTRIM', KEYS[2], 0, 63)
redis.call('PUBLISH', channel, agent .. ' ' .. entry)
if KEYS[3] then stream_event(KEYS[3], KEYS[4], agent, entry) end
return { 1, entry }
