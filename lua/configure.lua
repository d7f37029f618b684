-- configure: writes or deletes an agent's override or profile if it is still the one that the caller saw, and logs it.
-- Clauses: B21 B25.
-- KEYS[1] -> <agent>:config or <agent>:profile   KEYS[2] -> <agent>:log
-- not on a Cluster: KEYS[3] -> stream            KEYS[4] -> audit
-- ARGV[1] -> now in ms; empty in production      ARGV[2] -> events channel, a blank, agent name
-- ARGV[3] -> life of a log that is new, in ms
-- ARGV[4] -> what it must hold now: '*' anything, '' nothing, else that very text
-- ARGV[5] -> what it shall hold; '' deletes      ARGV[6] -> actor          ARGV[7] -> text for the log
-- Returns {1, event} when written, {0, what it holds} when another hand was faster.

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
