-- renew: lengthens a probe's lease, at most until timeout_max after its issue. It never shortens one.
-- Clauses: B12 B14; the rest by the general way.
-- KEYS, ARGV[1]..ARGV[5], reply: see load.lua.
-- ARGV[6] -> epoch of the permit
-- ARGV[7] -> lease token
-- Returns code ok (lease_ms) or lease_lost.

--@clock
--@numbers
--@window
--@buckets
--@general

local EPOCH, TOKEN = ARGV[6], ARGV[7]

function B.renew()
  local lease = B.leases[TOKEN]
  if not lease or EPOCH ~= S.epoch then return { code = 'lease_lost' } end
  local till = math.max(B.deadline(lease), math.min(now + P.probe_timeout, lease.issued + P.timeout_max))
  lease.start, lease.length = now, till - now
  return { code = 'ok', lease = lease.length }
end

B.begin()
return B.finish(B.renew())
