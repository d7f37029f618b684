-- reporters: who reported failures, and when.
-- Clauses: B23 B25.

-- touch_calls must run before a write to :calls, so that save gives a key that the write creates an expiry.
function B.touch_calls() B.new_calls = B.new_calls or redis.call('EXISTS', KEYS[3]) == 0 end

-- forget_oldest removes the reporter whose last failure is the oldest, if there are more than eight. It says whether.
function B.forget_oldest()
  local n, oldest = 0, nil
  for name, at in pairs(B.reporters) do
    n = n + 1
    if not oldest or at < B.reporters[oldest] or (at == B.reporters[oldest] and name < oldest) then oldest = name end
  end
  if n <= 8 then return false end
  B.reporters[oldest] = nil
  redis.call('HDEL', KEYS[3], oldest)
  return true
end

-- remember keeps the eight reporters whose failures are the newest [B23].
function B.remember(reporter)
  B.reporters['r:' .. reporter] = now
  redis.call('HSET', KEYS[3], 'r:' .. reporter, now)
  while B.forget_oldest() do end
end

