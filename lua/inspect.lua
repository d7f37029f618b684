-- inspect: reads all keys of one agent and the clock, and writes nothing. The caller runs Load and Step on the reply,
-- so that it can show the advanced state without saving it.
-- Clauses: B1 B11 B20.
-- KEYS[1]..KEYS[7] -> see load.lua
-- ARGV[1] -> now in ms; empty in production
-- Returns {now_ms, planted, state, open_timestamp, calls, control, probes, log, history}. planted has a digit for each
-- key, by its place in KEYS, that has another type or too many fields. Hashes are flat lists of fields and values. log
-- is newest first.

--@clock

local planted = ''

local function text(i)
  local v = redis.pcall('GET', KEYS[i])
  if type(v) == 'table' then
    planted = planted .. i
    return false
  end
  return v
end

local function hash(i, most)
  local n = redis.pcall('HLEN', KEYS[i])
  if type(n) == 'table' or n > most then
    planted = planted .. i
    return {}
  end
  return redis.call('HGETALL', KEYS[i])
end

local state, timestamp = text(1), text(2)
local calls, control, probes, history = hash(3, 512), hash(4, 128), hash(5, 1024), hash(7, 2880)
local log = redis.pcall('LRANGE', KEYS[6], 0, 63)
if log.err then log = {} end
return { now, planted, state, timestamp, calls, control, probes, log, history }
