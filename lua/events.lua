-- events: writes events to the fleet's streams, and replaces planted keys.
-- Clauses: B20.

-- heal_and runs a command that writes. A key of another type was planted: it is deleted, and the command runs again.
local function heal_and(command, key, ...)
  local answer = redis.pcall(command, key, ...)
  if type(answer) == 'table' and answer.err then
    redis.call('UNLINK', key)
    answer = redis.call(command, key, ...)
  end
  return answer
end

-- stream_event adds an event to the stream and, if it is a manual action or an external edit, to the audit.
local function stream_event(stream, audit, agent, e)
  heal_and('XADD', stream, 'MAXLEN', '~', 10000, '*', 'agent', agent, 'event', e)
  local kind = string.match(e, '^%d+ (%S+)')
  if string.find(kind, '^manual_') or string.find(kind, '^hand_') or kind == 'configured' or kind == 'forgotten' then
    heal_and('XADD', audit, 'MAXLEN', '~', 100000, '*', 'agent', agent, 'event', e)
  end
end

