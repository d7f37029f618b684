-- Asks breakerd for a permit, and reports its outcome in the next request that the thread makes.
local permits = {}
local acquire, head

counted, odd = 0, 0 -- reports that counted; answers that are neither permit nor counted report

function init()
  head = { ["Content-Type"] = "application/json" }
  acquire = wrk.format("POST", "/v1/circuit_breakers/bench/acquire", head, "{}")
end

function request()
  local permit = table.remove(permits)
  if not permit then
    return acquire
  end
  return wrk.format("POST", "/v1/circuit_breakers/bench/report", head,
    '{"permit":"' .. permit .. '","outcome":"success","duration_ms":12.5}')
end

function response(status, headers, body)
  local permit = string.match(body, '"permit":"([^"]+)"')
  if permit then
    permits[#permits + 1] = permit
  elseif string.find(body, '"counted":true', 1, true) then
    counted = counted + 1
  else
    odd = odd + 1
  end
end
