-- clock: the time in whole milliseconds, which a script reads once.
-- Clauses: B1.
-- ARGV[1] -> now in ms; empty in production: the server's TIME

local now = tonumber(ARGV[1])
if not now then
  local t = redis.call('TIME')
  now = t[1] * 1000 + math.floor(t[2] / 1000)
end

