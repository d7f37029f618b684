-- window: the thresholds, and the sums of the window that :control keeps. The fast path and the general way both count by them.
-- Clauses: B5 B6 B7 B8 B9 B20.
-- KEYS and ARGV: see load.lua and record.lua.

local P = {} -- the policy: what counting needs; load.lua adds the rest

local function read_policy()
  local window, ttl, threshold, rate, minimum, slow_rate, track, history =
    string.match(ARGV[8], '^(%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d) (%d+)')
  P.window, P.ttl, P.threshold, P.rate = tonumber(window), tonumber(ttl), tonumber(threshold), tonumber(rate)
  P.minimum, P.slow_rate, P.track, P.history = tonumber(minimum), tonumber(slow_rate), track == '1', tonumber(history)
end

-- over names the threshold that a run, or the sums of the window, have reached [B6] [B7] [B8]. Sums are cut to 9e9: times a million
-- they are exact.
local function over(peak, s, f, w)
  if P.threshold > 0 and peak >= P.threshold then return 'consecutive_failures' end
  local calls = math.min(s + f, 9000000000)
  if calls < P.minimum then return nil end
  if P.rate > 0 and math.min(f, 9000000000) * 1000000 >= P.rate * calls then return 'failure_rate' end
  if P.slow_rate > 0 and math.min(w, 9000000000) * 1000000 >= P.slow_rate * calls then return 'slow_rate' end
end

-- cached gives the start of the bucket that counts now, and the sums s, f and w of the other buckets, if :control keeps those of this
-- rule and of now.
local function cached(rule, past)
  if not past or rule ~= ARGV[7] then return nil end
  local start, length, s, f, w = string.match(past, '^[+-]([1-9]%d*) (%d+) (%d+) (%d+) (%d+)$')
  if not start or #start > 15 or #length > 15 or #s > 15 or #f > 15 or #w > 15 or now < tonumber(start) or now >= start + length then
    return nil
  end
  return start, tonumber(s), tonumber(f), tonumber(w)
end

-- own reads the successes, failures and slow calls of a bucket; nil if it holds what load must repair, or nothing: then its key might
-- be missing.
local function own(start)
  local b = redis.pcall('HMGET', KEYS[3], 's' .. start, 'f' .. start, 'w' .. start)
  local s, f, w = whole(b[1] or '0', MAX_COUNT), whole(b[2] or '0', MAX_COUNT), whole(b[3] or '0', MAX_COUNT)
  if (b[1] or b[2] or b[3]) and s and f and w then return s, f, w end
end

-- add counts in the bucket that begins at start.
local function add(start, s, f, w)
  if s > 0 then redis.call('HINCRBY', KEYS[3], 's' .. start, s) end
  if f > 0 then redis.call('HINCRBY', KEYS[3], 'f' .. start, f) end
  if w > 0 then redis.call('HINCRBY', KEYS[3], 'w' .. start, w) end
end

