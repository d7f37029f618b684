-- Like pairs.lua, by batches: acquires of 64 agents in one request, then their reports in the next.
local size = 64
local batches = {}
local acquire, head

counted, odd = 0, 0

function init()
  head = { ["Content-Type"] = "application/json" }
  local operations = {}
  for i = 1, size do
    operations[i] = '{"op":"acquire","agent":"bench-' .. i .. '"}'
  end
  acquire = wrk.format("POST", "/v1/batch", head, '{"operations":[' .. table.concat(operations, ",") .. "]}")
end

function request()
  local permits = table.remove(batches)
  if not permits then
    return acquire
  end
  local operations = {}
  for i = 1, size do
    operations[i] = '{"op":"report","agent":"bench-' .. i .. '","permit":"' .. permits[i] .. '","outcome":"success"}'
  end
  return wrk.format("POST", "/v1/batch", head, '{"operations":[' .. table.concat(operations, ",") .. "]}")
end

function response(status, headers, body)
  local permits = {}
  for permit in string.gmatch(body, '"permit":"([^"]+)"') do
    permits[#permits + 1] = permit
  end
  local _, n = string.gsub(body, '"counted":true', "")
  counted = counted + n
  if #permits == size then
    batches[#batches + 1] = permits
  elseif n ~= size then
    odd = odd + 1
  end
end
