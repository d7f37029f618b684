-- window: the thresholds, and the window's sums that :control caches. The fast path and the general way both use them.
-- Clauses: B5 B6 B7 B8 B9 B20.
-- KEYS and ARGV: see load.lua.

local P = {} -- the policy: the thresholds; buckets.lua and load.lua add the rest

local function read_thresholds()
  local threshold, rate, minimum, slow_rate, track = string.match(ARGV[3], '^%d (%d+) (%d+) (%d+) (%d+) (%d)')
  P.threshold, P.rate, P.minimum, P.slow_rate, P.track = tonumber(threshold), tonumber(rate), tonumber(minimum), tonumber(slow_rate), track == '1'
end

-- over names the threshold that a run, or the window's sums, reach [B6] [B7] [B8]. Sums are cut to 9e9, so that a
-- million times a sum is exact.
local function over(peak, s, f, w)
  if P.threshold > 0 and peak >= P.threshold then return 'consecutive_failures' end
  local calls = math.min(s + f, 9000000000)
  if calls < P.minimum then return nil end
  if P.rate > 0 and math.min(f, 9000000000) * 1000000 >= P.rate * calls then return 'failure_rate' end
  if P.slow_rate > 0 and math.min(w, 9000000000) * 1000000 >= P.slow_rate * calls then return 'slow_rate' end
end

-- cached returns the start of the current bucket, and the sums s, f and w of the other buckets, if :control has them
-- for this rule and they are valid now.
local function cached(rule, past)
  if not past or rule ~= ARGV[4] then return nil end
  local start, length, s, f, w = string.match(past, '^[+-]([1-9]%d*) (%d+) (%d+) (%d+) (%d+)$')
  if not start or #length > 15 or #s > 15 or #f > 15 or #w > 15 or now < tonumber(start) or now >= start + length then
    return nil
  end
  return start, tonumber(s), tonumber(f), tonumber(w)
end

-- add counts in the bucket with this start.
local function add(start, s, f, w)
  if s > 0 then redis.call('HINCRBY', KEYS[3], 's' .. start, s) end
  if f > 0 then redis.call('HINCRBY', KEYS[3], 'f' .. start, f) end
  if w > 0 then redis.call('HINCRBY', KEYS[3], 'w' .. start, w) end
end

