-- buckets: all buckets of :calls at once: their sums, and which have left the window.
-- Clauses: B9 B20 B25.

-- read_buckets reads the policy's thresholds, and what buckets depend on.
local function read_buckets()
  read_thresholds()
  local window, ttl, shift, history = string.match(ARGV[3], '^%d %d+ %d+ %d+ %d+ %d (%d+) (%d+) (%d+) (%d+)')
  P.window, P.ttl, P.shift, P.history = tonumber(window), tonumber(ttl), tonumber(shift), tonumber(history)
end

-- now_bucket is the start of the current bucket [B9].
local function now_bucket() return now - (now - P.shift) % math.ceil(P.window / 12) end

-- gather reads h, the flat list of :calls. It returns the current bucket's start and own counts; the sums s, f and w of
-- the other buckets in the window, and `till`, until when these are valid; and the dead buckets, which have left the
-- window. nil: there is something to repair, which is load's.
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

-- past packs gather's sums, which `cached` reads; '' if they are too long. They are valid until the oldest bucket
-- leaves the window, or the keys are due for renewal [B25]. A + says that the sums alone reach minimum_calls.
local function past(g, expires)
  local mark = g.s + g.f >= P.minimum and '+' or '-'
  local text = string.format('%s%s %.0f %.0f %.0f %.0f', mark, g.start, math.min(g.till, expires - P.ttl + 1) - g.start, g.s, g.f, g.w)
  return #text <= 64 and text or ''
end

-- keep_history adds buckets to their minutes, "calls failures slow", and drops the minutes that are too old. If save
-- does not follow, `expires` is the time at which the keys expire.
local function keep_history(buckets, expires)
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
  if expires then redis.call('PEXPIREAT', KEYS[7], expires) end
end

-- prune removes buckets from the window. It returns the successes and failures that they add to the lifetime totals,
-- which do not include the buckets in :calls.
local function prune(buckets, expires)
  local names, s, f = {}, 0, 0
  if #buckets == 0 then return s, f end
  for i, b in ipairs(buckets) do
    names[i] = b.name
    if b.kind == 's' then s = s + b.n elseif b.kind == 'f' then f = f + b.n end
  end
  redis.call('HDEL', KEYS[3], unpack(names))
  if P.history > 0 then keep_history(buckets, expires) end
  return s, f
end

