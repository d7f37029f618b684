-- counted: the short way of a record: outcomes of a plainly closed breaker that stays closed, if their bucket has begun and the
-- sums of the others are those of now and of this rule. pkg/breaker/machine/plain.go is its twin.
-- Clauses: B5 B6 B7 B8 B9 B20 B25.
-- Numbers come as the texts that ARGV has; rule and policy are ARGV[7] and ARGV[8] of prelude.lua.

local MAX_EXACT = 9000000000 -- of a sum: times a million it is exact below 2^53

-- runs gives the run after a record, and the longest on the way [B6].
local function runs(run, successes, failures, lead, trail, max_run)
  local after, peak = run + failures, run + failures
  if successes > 0 then after, peak = trail, math.max(run + lead, max_run) end
  return math.min(after, MAX_RUN), math.min(peak, MAX_RUN)
end

-- over names the threshold that a run, or the sums of the window, have reached [B6] [B7] [B8].
local function over(policy, peak, s, f, w)
  local threshold, rate, minimum, slow_rate = string.match(policy, '^%d+ %d+ (%d+) (%d+) (%d+) (%d+)')
  threshold, rate, slow_rate = tonumber(threshold), tonumber(rate), tonumber(slow_rate)
  if threshold > 0 and peak >= threshold then return 'consecutive_failures' end
  local calls = math.min(s + f, MAX_EXACT)
  if calls < tonumber(minimum) then return nil end
  if rate > 0 and math.min(f, MAX_EXACT) * MILLION >= rate * calls then return 'failure_rate' end
  if slow_rate > 0 and math.min(w, MAX_EXACT) * MILLION >= slow_rate * calls then return 'slow_rate' end
end

-- alone counts outcomes of one kind, none slow, when the sums s and f of the other buckets hold minimum_calls: the shares of what
-- does not grow shrink, so the rest of the bucket is not asked for.
local function alone(calls, start, successes, failures, policy, peak, s, f)
  local field, n, grown = 's' .. start, successes, 0
  if failures ~= '0' then field, n = 'f' .. start, failures end
  local total = bump(calls, field, n)
  if not total then return false end
  if failures ~= '0' then grown = f + total end
  if not over(policy, peak, s, grown, 0) then return true end
  redis.call('HINCRBY', calls, field, '-' .. n)
end

-- together counts outcomes of whatever kinds.
local function together(calls, start, successes, failures, slow, policy, peak, s, f, w)
  local b = redis.pcall('HMGET', calls, 's' .. start, 'f' .. start, 'w' .. start)
  local bs, bf, bw = whole(b[1] or '0', MAX_COUNT), whole(b[2] or '0', MAX_COUNT), whole(b[3] or '0', MAX_COUNT)
  if not (b[1] or b[2] or b[3]) or not (bs and bf and bw)
      or over(policy, peak, s + bs + successes, f + bf + failures, w + bw + slow) then return false end
  if successes ~= '0' then redis.call('HINCRBY', calls, 's' .. start, successes) end
  if failures ~= '0' then redis.call('HINCRBY', calls, 'f' .. start, failures) end
  if slow ~= '0' then redis.call('HINCRBY', calls, 'w' .. start, slow) end
  return true
end

-- counted gives the epoch and the run after the record; nothing if it must go the long way. c is what was read.
local function counted(c, calls, control, rule, policy, epoch, successes, failures, slow, lead, trail, max_run)
  local plain, run = c[1], whole(c[4] or '0', MAX_RUN)
  if not plain or c[2] ~= rule or not c[3] or not run or not (epoch == plain or (epoch == '' and is_hex16(plain))) then return nil end
  local enough, start, length, s, f, w = string.match(c[3], '^([+-])(%d+) (%d+) (%d+) (%d+) (%d+)$')
  if not enough or #start > 15 or #length > 15 or #s > 15 or #f > 15 or #w > 15
      or now < tonumber(start) or now >= start + length
      or (enough == '-' and failures + slow > 0 and string.find(policy, '^%d+ %d+ %d+ %d+ %d+ %d+ 1')) then return nil end -- a reporter to remember
  local after, peak = runs(run, tonumber(successes), tonumber(failures), tonumber(lead), tonumber(trail), tonumber(max_run))
  local one_kind = enough == '+' and slow == '0' and (failures == '0' or successes == '0')
  if not (one_kind and alone(calls, start, successes, failures, policy, peak, s, f))
      and not together(calls, start, successes, failures, slow, policy, peak, s, f, w) then return nil end
  if after > 0 then redis.call('HSET', control, 'run', after) elseif c[4] then redis.call('HDEL', control, 'run') end
  return plain, after
end

