// Package breakerprom shows Prometheus what the breakers of a process do. A [Collector] is a [breaker.Observer], which
// counts, and a [prometheus.Collector], which a program registers with a registry of its own:
//
//	c := breakerprom.New(breakerprom.Options{})
//	prometheus.MustRegister(c)
//	f, err := fleet.Join(ctx, url, fleet.Options{Observer: c})
//
// With a Manager of one's own, Options.Observer is c, and [Collector.Bind] gives c what only a scrape reads:
//
//	c.Bind(m.Source())
//
// One Collector is for one Manager, or fleet. For several in one registry, register each through
// [prometheus.WrapRegistererWith], with a label that tells them apart.
//
// # What is counted
//
// These count what this process does. A series begins when there is something to count:
//
//	circuit_breaker_calls_total{agent,result}
//	    Calls whose outcome was taken. result: success, failure, ignored. In cached mode a success or a failure is
//	    counted once the store has acknowledged it.
//	circuit_breaker_rejections_total{agent,reason}
//	    Calls that were refused. reason: open, forced_open, probes_busy, ramping, shedding, emergency_stop,
//	    store_unavailable.
//	circuit_breaker_would_reject_total{agent,reason}
//	    Calls that were admitted in mode observe, and would have been refused in mode enforce.
//	circuit_breaker_transitions_total{agent,from,to}
//	    Changes of state that an operation of this process made in the store, so that the sum over a fleet is right.
//	    from, to: closed, open, half_open.
//	circuit_breaker_outcomes_uncounted_total{agent,why}
//	    Outcomes that did not count. why: late, foreign, duplicate, observed, disabled, unknown, lost.
//	circuit_breaker_probes_started_total{agent}
//	    Half-open test calls that were admitted. Over a fleet, what the next one lacks was not settled, or not yet.
//	circuit_breaker_probes_total{agent,result}
//	    Half-open test calls that were settled. result: success, failure, ignored.
//	circuit_breaker_heals_total{agent}
//	    Times that bad fields of an agent's keys were repaired.
//	circuit_breaker_store_duration_seconds{verb,result}
//	    Histogram: how long the store took to answer. verb: acquire, record, renew, replay, force; result: ok, error,
//	    or unknown if the operation may have been done.
//
// # What a scrape reads
//
// After [Collector.Bind], and as far as the [breaker.Source] knows it:
//
//	circuit_breaker_state{agent}
//	    State of the agent's breaker: 0 closed, 1 open, 2 half-open.
//	circuit_breaker_state_info{agent,state}
//	    1 for the state that the agent's breaker is in: CLOSED, OPEN, HALF_OPEN. Other states have no series.
//	circuit_breaker_state_errors_total
//	    Scrapes for which the states could not be read. Such a scrape has neither of the two above.
//	circuit_breaker_degraded
//	    1 while this process answers from its own memory, because the store is down.
//	circuit_breaker_fleet_share
//	    Share of all calls that the fleet's gate admits; 1 without one.
//	circuit_breaker_refused_agents, circuit_breaker_refused_operations_total
//	    Agents for which the store answers with errors of their own, and those errors.
//	circuit_breaker_outcomes_taken_total, circuit_breaker_outcomes_settled_total{as},
//	circuit_breaker_outcomes_lost_total{why}, circuit_breaker_unsent_outcomes
//	    What has become of the outcomes that this process has taken. At each scrape, taken is unsent and the sum of
//	    settled by as: acknowledged, ignored, late, foreign, duplicate, disabled, observed, unknown, lost.
//	circuit_breaker_unsent_agents, circuit_breaker_unsent_age_seconds
//	    Agents whose outcomes were not sent yet, and the age of the oldest of these.
//	circuit_breaker_untracked_calls_total
//	    Calls of agents that were not tracked, because there are too many.
//	circuit_breaker_leases_returned_total
//	    Leases of half-open test calls that this process gave back, because nobody held them.
//	circuit_breaker_store_resets_total
//	    Times that this process found that the store had lost its data.
//
// States are read twice a second at most, within two seconds.
//
// # How many series there are
//
// All metrics with the label agent share one table of agents: at most Options.MaxAgents have series of their own, the
// others are counted under the agent "_other", whose state is the worst of theirs. The first to come have them. When
// the table is full, an agent that fails takes the place of one that does not, one that is not closed that of those
// two, and an important one that of all others. The series of the agent that made room end there: it is counted under
// "_other" from then on. [Collector.Forget] ends the series of an agent that was deleted. A program's own metrics with
// the label agent share the table by [Collector.Share].
//
// # What it costs
//
// Nothing is counted while a call of cached mode is admitted from memory and succeeds: such calls are counted when
// their sum is flushed ([breaker.QuietObserver]). Other outcomes of cached mode are counted without a lock and without
// a look-up of labels ([breaker.AgentObserver]), and everything else beside a round trip to the store.
package breakerprom
