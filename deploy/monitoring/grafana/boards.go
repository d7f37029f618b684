package main

// boards has each board under the name of its file. A query reads what a rule records, or joins replicas as the rules do,
// because a breaker would count once for each replica otherwise. Of processes it shows each by itself.
func boards() map[string]board {
	return map[string]board{"fleet": fleet(), "agent": agent(), "replicas": replicas(), "slo": slo()}
}

func fleet() board {
	return board{
		uid: "breakerd-fleet", title: "breakerd / Fleet", about: "Which breakers are open, and whether the fleet is whole.",
		panels: []panel{
			{kind: number, title: "Open", unit: "none", worse: 1, bad: 1, queries: []query{{`sum(fleet_state:circuit_breaker_agents:count{fleet=~"$fleet",state="OPEN"}) or vector(0)`, ""}}},
			{kind: number, title: "Half-open", unit: "none", bad: 1, worse: 1000, queries: []query{{`sum(fleet_state:circuit_breaker_agents:count{fleet=~"$fleet",state="HALF_OPEN"}) or vector(0)`, ""}}},
			{kind: number, title: "Closed", unit: "none", queries: []query{{`sum(fleet_state:circuit_breaker_agents:count{fleet=~"$fleet",state="CLOSED"}) or vector(0)`, ""}}},
			{kind: number, title: "Calls admitted by the gate", unit: "percentunit", bad: 1, worse: 0.5, queries: []query{{`min(circuit_breaker_fleet_share{fleet=~"$fleet"})`, ""}}},
			{kind: number, title: "Health", about: "The lowest score of a replica.", unit: "none", bad: 1, worse: 0.5, queries: []query{{`min(fleet:circuit_breaker_health_score:min{fleet=~"$fleet"})`, ""}}},
			{kind: number, title: "Replicas alive", unit: "none", queries: []query{{`sum(max by (fleet) (circuit_breaker_replicas_alive{fleet=~"$fleet"}))`, ""}}},
			{kind: number, title: "Replicas missing", unit: "none", bad: 1, worse: 2, queries: []query{{`sum(max by (fleet) (circuit_breaker_replicas_missing{fleet=~"$fleet"}))`, ""}}},
			{kind: number, title: "Replicas degraded", unit: "none", bad: 1, worse: 2, queries: []query{{`sum(circuit_breaker_degraded{fleet=~"$fleet"})`, ""}}},
			{kind: list, title: "Open and half-open", unit: "none", queries: []query{{`fleet_agent_state:circuit_breaker_state_info:max{fleet=~"$fleet",state!="CLOSED"}`, ""}}},
			{kind: list, title: "Alerts", unit: "none", queries: []query{{`ALERTS{alertstate="firing",alertname=~"CircuitBreaker.*",fleet=~"$fleet"}`, ""}}},
			{kind: lines, title: "Calls", unit: "reqps", queries: []query{{`sum by (result) (fleet_agent_result:circuit_breaker_calls:rate5m{fleet=~"$fleet"})`, "{{result}}"}}},
			{kind: lines, title: "Refusals", unit: "reqps", queries: []query{{`sum by (reason) (fleet_agent_reason:circuit_breaker_rejections:rate5m{fleet=~"$fleet"})`, "{{reason}}"}}},
			{kind: lines, title: "Highest failure rates", unit: "percentunit", queries: []query{{`topk(10, fleet_agent:circuit_breaker_failures:ratio_rate5m{fleet=~"$fleet"})`, "{{agent}}"}}},
			{kind: lines, title: "Openings within an hour", unit: "none", queries: []query{{`topk(10, fleet_agent:circuit_breaker_openings:increase1h{fleet=~"$fleet"})`, "{{agent}}"}}},
		},
	}
}

func agent() board {
	const of = `{fleet=~"$fleet",agent=~"$agent"}`
	return board{
		uid: "breakerd-agent", title: "breakerd / Agent", about: "One agent: its state, its calls, why they are refused.", perAgent: true,
		panels: []panel{
			{kind: number, title: "State", about: "0 closed, 1 open, 2 half-open.", unit: "none", bad: 1, worse: 1, queries: []query{{`max by (agent) (circuit_breaker_state` + of + `)`, "{{agent}}"}}},
			{kind: number, title: "Failure rate", unit: "percentunit", bad: 0.1, worse: 0.5, queries: []query{{`max by (agent) (fleet_agent:circuit_breaker_failures:ratio_rate5m` + of + `)`, "{{agent}}"}}},
			{kind: number, title: "Openings within an hour", unit: "none", bad: 1, worse: 6, queries: []query{{`sum by (agent) (fleet_agent:circuit_breaker_openings:increase1h` + of + `)`, "{{agent}}"}}},
			{kind: number, title: "Refused a second", unit: "reqps", bad: 0.001, worse: 1, queries: []query{{`sum by (agent) (fleet_agent_reason:circuit_breaker_rejections:rate5m` + of + `)`, "{{agent}}"}}},
			{kind: lines, title: "State", about: "0 closed, 1 open, 2 half-open.", unit: "none", queries: []query{{`max by (agent) (circuit_breaker_state` + of + `)`, "{{agent}}"}}},
			{kind: lines, title: "Calls", unit: "reqps", queries: []query{{`sum by (agent, result) (fleet_agent_result:circuit_breaker_calls:rate5m` + of + `)`, "{{agent}} {{result}}"}}},
			{kind: lines, title: "Refusals", unit: "reqps", queries: []query{{`sum by (agent, reason) (fleet_agent_reason:circuit_breaker_rejections:rate5m` + of + `)`, "{{agent}} {{reason}}"}}},
			{kind: lines, title: "Changes of state", unit: "none", queries: []query{{`sum by (agent, from, to) (increase(circuit_breaker_transitions_total` + of + `[5m]))`, "{{agent}} {{from}} to {{to}}"}}},
			{kind: lines, title: "Probes", unit: "none", queries: []query{
				{`sum by (agent) (increase(circuit_breaker_probes_started_total` + of + `[5m]))`, "{{agent}} started"},
				{`sum by (agent, result) (increase(circuit_breaker_probes_total` + of + `[5m]))`, "{{agent}} {{result}}"},
			}},
			{kind: lines, title: "Outcomes that did not count", unit: "none", queries: []query{{`sum by (agent, why) (increase(circuit_breaker_outcomes_uncounted_total` + of + `[5m]))`, "{{agent}} {{why}}"}}},
			{kind: lines, title: "Duration of calls, as reported", unit: "s", queries: []query{
				{`histogram_quantile(0.5, sum by (agent, le) (rate(circuit_breaker_call_duration_seconds_bucket` + of + `[5m])))`, "{{agent}} p50"},
				{`histogram_quantile(0.99, sum by (agent, le) (rate(circuit_breaker_call_duration_seconds_bucket` + of + `[5m])))`, "{{agent}} p99"},
			}},
			{kind: lines, title: "Duration of calls through bridge", unit: "s", queries: []query{
				{`histogram_quantile(0.99, sum by (agent, le) (rate(bridge_upstream_first_byte_seconds_bucket` + of + `[5m])))`, "{{agent}} first byte p99"},
				{`histogram_quantile(0.99, sum by (agent, le) (rate(bridge_upstream_duration_seconds_bucket` + of + `[5m])))`, "{{agent}} end p99"},
			}},
		},
	}
}

func replicas() board {
	const of = `{fleet=~"$fleet"}`
	return board{
		uid: "breakerd-replicas", title: "breakerd / Replicas", about: "The processes, and Redis as they see it.",
		panels: []panel{
			{kind: number, title: "Memory of Redis", unit: "percentunit", bad: 0.7, worse: 0.9, queries: []query{{`max(circuit_breaker_redis_memory_ratio` + of + `)`, ""}}},
			{kind: number, title: "Connections of Redis", unit: "percentunit", bad: 0.7, worse: 0.9, queries: []query{{`max(circuit_breaker_redis_clients_ratio` + of + `)`, ""}}},
			{kind: number, title: "Operations of Redis, p99", unit: "s", queries: []query{{`max(fleet:circuit_breaker_store_duration_seconds:p99_5m` + of + `)`, ""}}},
			{kind: number, title: "Oldest outcome that waits", unit: "s", bad: 2, worse: 10, queries: []query{{`max(circuit_breaker_unsent_age_seconds` + of + `)`, ""}}},
			{kind: list, title: "Versions", unit: "none", queries: []query{{`circuit_breaker_build_info` + of, ""}}},
			{kind: list, title: "Parts that are not healthy", unit: "none", queries: []query{{`circuit_breaker_component_health_score` + of + ` < 1`, ""}}},
			{kind: lines, title: "Health", unit: "none", queries: []query{{`circuit_breaker_health_score` + of, "{{instance}}"}}},
			{kind: lines, title: "Operations of Redis", unit: "ops", queries: []query{{`sum by (verb, result) (rate(circuit_breaker_store_duration_seconds_count` + of + `[5m]))`, "{{verb}} {{result}}"}}},
			{kind: lines, title: "Degraded", unit: "none", queries: []query{{`circuit_breaker_degraded` + of, "{{instance}}"}}},
			{kind: lines, title: "Connections to Redis", unit: "none", queries: []query{{`sum by (instance, state) (circuit_breaker_redis_connections` + of + `)`, "{{instance}} {{state}}"}}},
			{kind: lines, title: "Requests that were refused for want of room", unit: "reqps", queries: []query{{`sum by (instance, reason) (rate(circuit_breaker_requests_refused_total` + of + `[5m]))`, "{{instance}} {{reason}}"}}},
			{kind: lines, title: "Lines of the log that were dropped", unit: "none", queries: []query{{`increase(circuit_breaker_log_lines_dropped_total` + of + `[5m])`, "{{instance}}"}}},
			{kind: lines, title: "Processor", unit: "percentunit", queries: []query{{`rate(process_cpu_seconds_total{fleet=~"$fleet",job=~"breakerd|bridge"}[5m])`, "{{instance}}"}}},
			{kind: lines, title: "Memory", unit: "bytes", queries: []query{{`process_resident_memory_bytes{fleet=~"$fleet",job=~"breakerd|bridge"}`, "{{instance}}"}}},
		},
	}
}

func slo() board {
	const of = `{fleet=~"$fleet"}`
	return board{
		uid: "breakerd-slo", title: "breakerd / SLO", about: "99.9 % of the time replicas answer by the fleet's state, and not by their own memory.",
		panels: []panel{
			{kind: number, title: "Of 30 days by the fleet's state", unit: "percentunit", bad: 0.9995, worse: 0.999, queries: []query{{`1 - max(fleet:circuit_breaker_degraded:ratio30d` + of + `)`, ""}}},
			{kind: number, title: "Error budget that is left", unit: "percentunit", bad: 0.5, worse: 0.1, queries: []query{{`1 - max(fleet:circuit_breaker_degraded:ratio30d` + of + `) / 0.001`, ""}}},
			{kind: number, title: "Operations within 25 ms", unit: "percentunit", bad: 0.999, worse: 0.99, queries: []query{{`min(fleet:circuit_breaker_store_within_25ms:ratio_rate5m` + of + `)`, ""}}},
			{kind: number, title: "Health checks that passed", unit: "percentunit", bad: 0.999, worse: 0.9, queries: []query{{`min(fleet:circuit_breaker_health_checks_passed:ratio_rate5m` + of + `)`, ""}}},
			{kind: lines, title: "Burn rate", about: "1 uses up the budget of 30 days in 30 days.", unit: "none", queries: []query{
				{`fleet:circuit_breaker_degraded:ratio1h` + of + ` / 0.001`, "1 h"},
				{`fleet:circuit_breaker_degraded:ratio6h` + of + ` / 0.001`, "6 h"},
				{`fleet:circuit_breaker_degraded:ratio3d` + of + ` / 0.001`, "3 d"},
			}},
			{kind: lines, title: "Time degraded", unit: "percentunit", queries: []query{{`fleet:circuit_breaker_degraded:ratio5m` + of, "5 min"}}},
			{kind: lines, title: "Operations within 25 ms", unit: "percentunit", queries: []query{{`fleet:circuit_breaker_store_within_25ms:ratio_rate5m` + of, "within 25 ms"}}},
			{kind: lines, title: "Outcomes that were lost", unit: "none", queries: []query{{`sum by (why) (increase(circuit_breaker_outcomes_lost_total` + of + `[5m]))`, "{{why}}"}}},
		},
	}
}
