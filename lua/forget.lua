-- forget: deletes everything that is kept of one agent. A protected hold is lifted only by force.
-- Clauses: B17 B25.
-- KEYS[1]..KEYS[6]: see prelude.lua; KEYS[7].. -> quarantine, config, profile
-- ARGV[1] -> 1: also under a protected hold      ARGV[2] -> agent          ARGV[3] -> events channel       ARGV[4] -> actor
-- Returns {number of keys deleted}, or {-1} under a protected hold.

local hold = redis.pcall('HMGET', KEYS[4], 'hold', 'hold_protected')
if not hold.err and hold[1] and hold[2] == '1' and ARGV[1] ~= '1' then return { -1 } end
local n = redis.call('UNLINK', unpack(KEYS))
local t = redis.call('TIME')
redis.call('PUBLISH', ARGV[3], string.format('%s %.0f forgotten > 0000000000000000 %s 0/0/0 all keys deleted', ARGV[2],
  tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000), ARGV[4]))
return { n }
