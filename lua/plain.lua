-- plain: how every writing verb begins: the clock and the bounds. KEYS and ARGV as in prelude.lua.
-- Clauses: B1 B20.

local now = tonumber(ARGV[1])
if not now then
  local t = redis.call('TIME')
  now = t[1] * 1000 + math.floor(t[2] / 1000)
end

local MILLION = 1000000
local MAX_RUN, MAX_REPORTERS, MAX_LOG, MAX_REOPENS = 255, 8, 64, 1000000
local MAX_CALLS_FIELDS, MAX_CONTROL_FIELDS, MAX_PROBES_FIELDS = 512, 128, 1024
local MAX_TIME, MAX_LENGTH, MAX_COUNT, MAX_TOTAL = 99999999999999, 259200000000, 1000000000000, 9000000000000000
local DAY = 86400000

local function is_hex16(text) return #text == 16 and not string.find(text, '[^0-9a-f]') end

