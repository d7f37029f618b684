-- calm: the shortest way of a record: successes only, while the breaker is calm.
-- Clauses: B5 B6 B7 B8 B9.

-- peek reads the fields of :control that a record needs, {plain, rule, past, run}, if :state is closed.
local function peek(state, control)
  return redis.pcall('GET', state) == 'closed' and redis.pcall('HMGET', control, 'plain', 'rule', 'past', 'run')
end

-- calm counts n successes and returns the epoch; nil: it has written nothing. c is peek's answer.
-- Precondition: there is no run, and the cached sums are valid now, reach minimum_calls and are below every threshold.
-- A success only lowers each rate, so it cannot trip. The bucket has successes already: else :calls may be missing, and
-- this would create it without an expiry.
local function calm(c, calls, rule, epoch, n)
  local plain, past = c[1], c[3]
  if not plain or c[2] ~= rule or not past or c[4] or not (plain == epoch or (epoch == '' and is_hex16(plain))) then return nil end
  local start, length = string.match(past, '^[+]([1-9]%d*) (%d+) %d+ %d+ %d+$')
  if not start or #length > 15 or now < tonumber(start) or now >= start + length then return nil end
  local total = redis.pcall('HINCRBY', calls, 's' .. start, n)
  if type(total) ~= 'number' then return nil end
  local before = total - n
  if before > 0 and before <= MAX_COUNT then return plain end
  if before == 0 then redis.call('HDEL', calls, 's' .. start) else redis.call('HINCRBY', calls, 's' .. start, '-' .. n) end
end

