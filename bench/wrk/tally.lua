-- Prints the figures of a run as JSON. Latencies are in microseconds. pairs.lua and batch.lua count in their threads;
-- done sums their counts.
local threads = {}

function setup(thread)
  threads[#threads + 1] = thread
end

function done(summary, latency, requests)
  local counted, odd = 0, 0
  for _, thread in ipairs(threads) do
    counted = counted + (thread:get("counted") or 0)
    odd = odd + (thread:get("odd") or 0)
  end
  local errors = summary.errors
  io.write(string.format(
    '\nTALLY {"requests":%d,"micros":%d,"p50":%d,"p99":%d,"refused":%d,"broken":%d,"counted":%d,"odd":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), errors.status,
    errors.connect + errors.read + errors.write + errors.timeout, counted, odd))
end
