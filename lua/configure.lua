-- configure: writes or deletes an agent's override or profile if it is still the one that the caller saw, and logs it.
-- Clauses: B21 B25.
-- KEYS[1] -> <agent>:config or <agent>:profile   KEYS[2] -> <agent>:log
-- ARGV[1] -> now in ms; empty in production      ARGV[2] -> agent          ARGV[3] -> events channel
-- ARGV[4] -> what it must hold now: '*' anything, '' nothing, else that very text
-- ARGV[5] -> what it shall hold; '' deletes      ARGV[6] -> actor          ARGV[7] -> text for the log
-- ARGV[8] -> life of a log that is new, in ms
-- Returns {1} when written, {0, what it holds} when another hand was faster.

local now = tonumber(ARGV[1])
local LOG_LIFE = tonumber(ARGV[8])
if not now then
  local t = redis.call('TIME')
  now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end
local held = redis.pcall('GET', KEYS[1])
if type(held) == 'table' then
  redis.call('UNLINK', KEYS[1])
  held = false
end
if ARGV[4] ~= '*' and ARGV[4] ~= (held or '') then return { 0, held or '' } end
if ARGV[5] ~= '' then redis.call('SET', KEYS[1], ARGV[5]) else redis.call('UNLINK', KEYS[1]) end
local entry = string.format('%.0f configured > %s %s 0/0/0 %s', now, '0000000000000000', ARGV[6], ARGV[7])
local size = redis.pcall('LPUSH', KEYS[2], entry)
if type(size) == 'table' then
  redis.call('UNLINK', KEYS[2])
  size = redis.call('LPUSH', KEYS[2], entry)
end
redis.call('LTRIM', KEYS[2], 0, 63)
if size == 1 then redis.call('PEXPIRE', KEYS[2], LOG_LIFE) end
redis.call('PUBLISH', ARGV[3], ARGV[2] .. ' ' .. entry)
return { 1 }
