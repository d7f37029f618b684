-- records: the calm way of record for several agents under one policy, successes only. Agents that do not qualify are
-- left unchanged and answered 0.
-- Clauses: B5 B6 B7 B8 B9 B25.
-- KEYS -> three of each agent: its :state, :calls and :control
-- ARGV[1] -> now in ms; empty in production: the server's TIME is read, once
-- ARGV[2] -> the rule: ARGV[4] of load.lua
-- ARGV[3].. -> two of each agent: the epoch of its permits, the number of successes
-- Returns {now_ms, counted...}: for each agent 1 if its successes are counted and its run is 0, else 0: run record.

--@clock
--@numbers
--@calm

local reply = { now }
for i = 1, #KEYS / 3 do
  local c = peek(KEYS[3 * i - 2], KEYS[3 * i])
  reply[i + 1] = c and calm(c, KEYS[3 * i - 1], ARGV[2], ARGV[2 * i + 1], ARGV[2 * i + 2]) and 1 or 0
end
return reply
