-- window: the buckets of :calls, what they add up to, and the thresholds. The fast path and the general way both count by it.
-- Clauses: B5 B6 B7 B8 B9 B20 B25.
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

-- runs gives the run after a record, and the longest that a failure of this record has made longer [B6].
local function runs(run, r)
  local after, peak = r.trail, r.max_run
  if r.successes == 0 then
    after = run + r.failures
    peak = after
  elseif r.lead > 0 then
    peak = math.max(run + r.lead, peak)
  end
  return math.min(after, 255), math.min(peak, 255)
end

-- now_bucket is the start of the bucket that counts now [B9].
local function now_bucket() return now - (now - ARGV[3]) % math.ceil(P.window / 12) end

-- A view of the window has the bucket of now at `start`, with its own counts in `own`, and the sums of the others in s, f and w.

-- cached makes a view of the sums that :control keeps, if they are of this rule and of now; own is then still to be read.
local function cached(rule, past)
  if not past or rule ~= ARGV[7] then return nil end
  local start, length, s, f, w = string.match(past, '^[+-]([1-9]%d*) (%d+) (%d+) (%d+) (%d+)$')
  if not start or #start > 15 or #length > 15 or #s > 15 or #f > 15 or #w > 15 or now < tonumber(start) or now >= start + length then
    return nil
  end
  return { start = start, s = tonumber(s), f = tonumber(f), w = tonumber(w) }
end

-- read_own reads the bucket of now; nil if it holds what load must repair, or nothing: then its key might be missing.
local function read_own(v)
  local b = redis.pcall('HMGET', KEYS[3], 's' .. v.start, 'f' .. v.start, 'w' .. v.start)
  local s, f, w = whole(b[1] or '0', MAX_COUNT), whole(b[2] or '0', MAX_COUNT), whole(b[3] or '0', MAX_COUNT)
  if not (b[1] or b[2] or b[3]) or not (s and f and w) then return nil end
  return { s = s, f = f, w = w }
end

-- gather makes a view of h, the flat list of :calls: it sums what counts, and finds the buckets that no longer do. nil if it meets
-- what load must repair.
local function gather(h)
  local start, oldest, dead = now_bucket(), now, {}
  local sums, own = { s = 0, f = 0, w = 0 }, { s = 0, f = 0, w = 0 }
  for i = 1, #h, 2 do
    local kind, at = string.match(h[i], '^([sfw])(%d+)$')
    at = at and whole(at, MAX_TIME)
    if at then
      local n = whole(h[i + 1], MAX_COUNT)
      if not n or n == 0 or at > now then return nil end
      if at <= now - P.window then
        dead[#dead + 1] = { name = h[i], kind = kind, start = at, n = n }
      else
        if at == start then own[kind] = n else sums[kind] = sums[kind] + n end
        oldest = math.min(oldest, at)
      end
    end
  end
  return { start = string.format('%.0f', start), own = own, s = sums.s, f = sums.f, w = sums.w, dead = dead,
    till = math.min(start + math.ceil(P.window / 12), oldest + P.window) }
end

-- past writes the sums of a gathered view for cached, valid until the oldest bucket leaves the window, or the keys are due for
-- renewal; '' if they do not fit [B25]. A + says that the sums alone reach minimum_calls.
local function past(v, expires)
  local mark = v.s + v.f >= P.minimum and '+' or '-'
  local text = string.format('%s%s %.0f %.0f %.0f %.0f', mark, v.start, math.min(v.till, expires - P.ttl + 1) - v.start, v.s, v.f, v.w)
  return #text <= 64 and text or ''
end

-- keep_history adds buckets to their minutes, "calls failures slow", and drops the minutes that are too old.
local function keep_history(buckets)
  local n = redis.pcall('HLEN', KEYS[7])
  if type(n) == 'table' or n > 2880 then redis.call('UNLINK', KEYS[7]) end
  for _, b in ipairs(buckets) do
    local minute = string.format('%.0f', math.floor(b.start / 60000))
    local calls, failures, slow = string.match(redis.call('HGET', KEYS[7], minute) or '', '^(%d+) (%d+) (%d+)$')
    if not calls or #calls > 15 or #failures > 15 or #slow > 15 then calls, failures, slow = 0, 0, 0 end
    calls, failures, slow = tonumber(calls), tonumber(failures), tonumber(slow)
    if b.kind == 'w' then slow = slow + b.n else calls = calls + b.n end
    if b.kind == 'f' then failures = failures + b.n end
    redis.call('HSET', KEYS[7], minute, string.format('%.0f %.0f %.0f', calls, failures, slow))
  end
  for _, minute in ipairs(redis.call('HKEYS', KEYS[7])) do
    local m = whole(minute, MAX_TIME)
    if m and m <= math.floor(now / 60000) - P.history then redis.call('HDEL', KEYS[7], minute) end
  end
end

-- prune takes buckets out of the window. It returns what they add to the lifetime totals: while a bucket stands it counts itself.
local function prune(buckets)
  local names, s, f = {}, 0, 0
  for i, b in ipairs(buckets) do
    names[i] = b.name
    if b.kind == 's' then s = s + b.n elseif b.kind == 'f' then f = f + b.n end
  end
  if #names > 0 then redis.call('HDEL', KEYS[3], unpack(names)) end
  if #names > 0 and P.history > 0 then keep_history(buckets) end
  return s, f
end

-- add counts in the bucket that begins at start.
local function add(start, s, f, w)
  if s > 0 then redis.call('HINCRBY', KEYS[3], 's' .. start, s) end
  if f > 0 then redis.call('HINCRBY', KEYS[3], 'f' .. start, f) end
  if w > 0 then redis.call('HINCRBY', KEYS[3], 'w' .. start, w) end
end

