-- renew: lengthens a probe's lease, until timeout_max after its issue; it never shortens one.
-- Clauses: B12 B14; the rest by the prelude.
-- KEYS, ARGV[1]..ARGV[9], reply: see prelude.lua.
-- ARGV[10] -> epoch of the permit
-- ARGV[11] -> lease token
-- Returns code ok (lease_ms) or lease_lost.

--@plain
--@prelude

local EPOCH, TOKEN = ARGV[10], ARGV[11]

local function renew()
  local lease = LEASES[TOKEN]
  if not lease or EPOCH ~= S.epoch then return { code = 'lease_lost' } end
  local till = math.max(deadline(lease), math.min(now + P.probe_timeout, lease.issued + P.timeout_max))
  lease.start, lease.length = now, till - now
  return { code = 'ok', lease = lease.length }
end

begin()
return finish(renew())
