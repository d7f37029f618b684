-- calm: the shortest way of a record: successes of a plainly closed breaker without a run, whose bucket has some already, when the
-- sums of the other buckets are those of now, hold minimum_calls, and stayed below every threshold under this rule. Then these do
-- too: a success makes every share less [B7] [B8]. pkg/breaker/machine/plain.go is its twin.
-- Clauses: B5 B6 B7 B8 B9 B20 B25.

-- bump counts n in a bucket that has some of that kind, and gives how many these are now. Else it takes them back.
local function bump(key, field, n)
  local total = redis.pcall('HINCRBY', key, field, n)
  if type(total) ~= 'number' then return nil end
  local before = total - n
  if before > 0 and before <= MAX_COUNT then return total end
  if before == 0 then redis.call('HDEL', key, field) else redis.call('HINCRBY', key, field, '-' .. n) end
end

-- read gives what a record needs of :control; nothing unless :state says closed.
local function read(state, control)
  return redis.pcall('GET', state) == 'closed' and redis.pcall('HMGET', control, 'plain', 'rule', 'past', 'run')
end

-- calm gives the epoch if it has counted n successes of it. c is what was read; a rule is ARGV[7] of prelude.lua.
local function calm(c, calls, rule, epoch, n)
  local plain, past = c[1], c[3]
  if not plain or c[2] ~= rule or not past or c[4] or not (plain == epoch or (epoch == '' and is_hex16(plain))) then return nil end
  local start, length = string.match(past, '^[+](%d+) (%d+) ')
  return start and #start <= 15 and #length <= 15 and now >= tonumber(start) and now < start + length
    and bump(calls, 's' .. start, n) and plain
end

