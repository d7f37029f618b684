-- HAProxy's questions and reports to breakerd. haproxy-gate.cfg loads it.
local breakerd = "http://127.0.0.1:18180"
local timeout = 2000 -- ms
local pause = 10 -- seconds for which breakerd is not asked after it did not answer: HAProxy 2.6 tries for three seconds
local away = 0 -- until when
-- With AUTH_FILE: ["x-breaker-token"] = { "…" }, a token of the role report.
local credentials = { ["x-breaker-gate"] = { "1" } }

local function first(headers, name)
	local values = headers and headers[name]
	return values and (values[0] or values[1]) or ""
end

-- gate asks for the agent of txn.agent. Where breakerd is away or cannot tell, the call passes unasked.
local function gate(txn)
	if core.now().sec < away then
		return
	end
	local res = core.httpclient():get({
		url = breakerd .. "/v1/gate/" .. txn:get_var("txn.agent") .. "?deny_status=429",
		headers = credentials,
		timeout = timeout,
	})
	local status = res and res.status or 0
	local state = first(res and res.headers, "x-circuit-breaker-state")
	if status == 200 then
		txn:set_var("txn.breaker_permit", first(res.headers, "x-circuit-breaker-permit"))
	elseif status == 429 and state ~= "" then
		txn:set_var("txn.breaker_state", state)
		txn:set_var("txn.breaker_retry", first(res.headers, "retry-after"))
		txn:set_var("txn.breaker_refused", true)
	else
		if status == 0 or status >= 500 then
			away = core.now().sec + pause
		end
		core.Warning("breakerd could not be asked: status " .. status)
	end
end
core.register_action("breaker_gate", { "http-req" }, gate)

local function report(agent, body, key)
	local headers = { ["content-type"] = { "application/json" }, ["idempotency-key"] = { key } }
	for name, values in pairs(credentials) do
		headers[name] = values
	end
	local res = core.httpclient():post({
		url = breakerd .. "/v1/circuit_breakers/" .. agent .. "/report",
		headers = headers,
		body = body,
		timeout = timeout,
	})
	if not res or res.status ~= 200 then
		core.Warning("breakerd took no report: status " .. tostring(res and res.status))
	end
end

-- outcome judges by the status that the caller was sent, if any.
local function outcome(status)
	if not status then
		return "ignored"
	end
	status = tonumber(status)
	if status >= 500 or status == 429 then
		return "failure"
	end
	return "success"
end

-- Report sends, beside the call and after its end, one report of each permit.
local Report = { id = "breaker_report", flags = filter.FLT_CFG_FL_HTX }
Report.__index = Report

function Report:new()
	return setmetatable({ sent = false }, Report)
end

function Report:end_analyze(txn, channel)
	local permit = txn:get_var("txn.breaker_permit")
	if self.sent or not channel:is_resp() or not permit or permit == "" then
		return
	end
	self.sent = true
	local body = '{"permit":"' .. permit .. '","outcome":"' .. outcome(txn:get_var("txn.breaker_status")) .. '"}'
	local agent, key = txn:get_var("txn.agent"), txn:get_var("txn.breaker_call")
	core.register_task(function()
		report(agent, body, key)
	end)
end

core.register_filter("breaker_report", Report, function(self)
	return self
end)
