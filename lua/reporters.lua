-- reporters: who reported failures.
-- Clauses: B23 B25.

-- touch_calls is called before :calls is written: a key that it makes needs an expiry.
function B.touch_calls() B.new_calls = B.new_calls or redis.call('EXISTS', KEYS[3]) == 0 end

-- forget_oldest takes the reporter that failed longest ago out; it says whether there were too many.
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

-- remember keeps the eight newest reporters [B23].
function B.remember(reporter)
  B.reporters['r:' .. reporter] = now
  redis.call('HSET', KEYS[3], 'r:' .. reporter, now)
  while B.forget_oldest() do end
end

