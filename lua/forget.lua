-- forget: deletes all keys of one agent, but not under a protected hold without force.
-- Clauses: B17 B25.
-- KEYS[1]..KEYS[10] -> the agent's: the machine's seven, quarantine, config, profile
-- not on a Cluster: KEYS[11] -> notclosed   KEYS[12] -> stream   KEYS[13] -> audit
-- ARGV[1] -> now in ms; empty in production    ARGV[2] -> events channel, a blank, agent name
-- ARGV[3] -> 1: also under a protected hold    ARGV[4] -> actor         ARGV[5] -> text for the log
-- Returns {number of keys deleted, event}, or {-1} under a protected hold.

--@clock
--@events

local hold = redis.pcall('HMGET', KEYS[4], 'hold', 'hold_protected')
if not hold.err and hold[1] and hold[2] == '1' and ARGV[3] ~= '1' then return { -1 } end
local n = redis.call('UNLINK', unpack(KEYS, 1, 10))
local channel, agent = string.match(ARGV[2], '^(%S+) (%S+)$')
local entry = string.format('%.0f forgotten > 0000000000000000 %s 0/0/0/0 %s', now, ARGV[4], ARGV[5])
redis.call('PUBLISH', channel, agent .. ' ' .. entry)
if KEYS[11] then
  heal_and('ZREM', KEYS[11], agent)
  stream_event(KEYS[12], KEYS[13], agent, entry)
end
return { n, entry }
