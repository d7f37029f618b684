package breakerprom

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// readings are the metrics that are read of a Source at a scrape, but for the states.
//
// All series of outcomes are of one moment, at which circuit_breaker_outcomes_taken_total is
// circuit_breaker_unsent_outcomes and the sum of circuit_breaker_outcomes_settled_total.
type readings struct {
	degraded, share, refusedAgents     *prometheus.Desc
	refused, untracked                 *prometheus.Desc
	returned, resets                   *prometheus.Desc
	taken, settled, lost               *prometheus.Desc
	unsent, unsentAgents, unsentOldest *prometheus.Desc
}

func newReadings() *readings {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("circuit_breaker_"+name, help, labels, nil)
	}
	return &readings{
		degraded: desc("degraded", "1 while this replica answers from its own memory, because the store is down."),
		share:    desc("fleet_share", "Share of all calls that the fleet's gate admits; 1 without one."),
		refusedAgents: desc("refused_agents",
			"Agents that this replica answers for from memory, because Redis refuses their operations."),
		refused:   desc("refused_operations_total", "Operations that Redis answered with an error of their own."),
		untracked: desc("untracked_calls_total", "Calls of agents that were not tracked, because there are too many."),
		returned: desc("leases_returned_total",
			"Leases of half-open test calls that this replica gave back, because nobody held them."),
		resets:  desc("store_resets_total", "Times that this replica found that the store had lost its data."),
		taken:   desc("outcomes_taken_total", "Outcomes that this replica has taken."),
		settled: desc("outcomes_settled_total", "Outcomes by what became of them.", "as"),
		lost:    desc("outcomes_lost_total", "Outcomes that were settled as lost, by why.", "why"),
		unsent: desc("unsent_outcomes",
			"Outcomes that Redis has not acknowledged yet: under way, joined, or waiting for Redis."),
		unsentAgents: desc("unsent_agents",
			"Agents with outcomes that were not sent to Redis yet."),
		unsentOldest: desc("unsent_age_seconds", "Age of the oldest of these outcomes."),
	}
}

// settledAs names the ends of an outcome. Each is shown from the first scrape on, so that a rate over it is right.
func settledAs() map[machine.Code]string {
	return map[machine.Code]string{
		machine.CodeOK: "acknowledged", machine.CodeIgnored: "ignored", machine.CodeLate: "late",
		machine.CodeForeign: "foreign", machine.CodeDuplicate: "duplicate", machine.CodeDisabled: "disabled",
		machine.CodeObserved: "observed", breaker.CodeUnknown: "unknown", machine.CodeLost: "lost",
	}
}

// Describe tells all that collect may show.
func (r *readings) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		r.degraded, r.share, r.refusedAgents, r.refused, r.untracked, r.returned, r.resets, r.taken, r.settled, r.lost,
		r.unsent, r.unsentAgents, r.unsentOldest,
	} {
		out <- d
	}
}

// collect shows what s knows.
func (r *readings) collect(s *breaker.Source, out chan<- prometheus.Metric) {
	o := output(out)
	if s.Degraded != nil {
		degraded := 0.0
		if s.Degraded() {
			degraded = 1
		}
		o.gauge(r.degraded, degraded)
	}
	if s.Share != nil {
		o.gauge(r.share, s.Share())
	}
	if s.Refusals != nil {
		now := s.Refusals()
		o.gauge(r.refusedAgents, float64(now.Agents))
		o.counter(r.refused, now.Operations)
	}
	if s.Outcomes != nil {
		r.outcomes(s.Outcomes(), o)
	}
	for desc, read := range map[*prometheus.Desc]func() int64{
		r.untracked: s.Untracked, r.returned: s.LeasesReturned, r.resets: s.StoreResets,
	} {
		if read != nil {
			o.counter(desc, read())
		}
	}
}

func (r *readings) outcomes(now breaker.Outcomes, o output) {
	o.counter(r.taken, now.Taken)
	for code, as := range settledAs() {
		o.counter(r.settled, now.Settled[code], as)
	}
	for _, why := range []machine.Reason{ // from the start, so that the first loss is an increase
		breaker.LostLocal, breaker.LostStoreReset, breaker.LostOverflow, breaker.LostExpired, breaker.LostUnsent,
	} {
		if _, counted := now.Lost[why]; !counted {
			o.counter(r.lost, 0, string(why))
		}
	}
	for why, n := range now.Lost {
		o.counter(r.lost, n, string(why))
	}
	o.gauge(r.unsent, float64(now.Unsent.Outcomes))
	o.gauge(r.unsentAgents, float64(now.Unsent.Agents))
	o.gauge(r.unsentOldest, now.Unsent.Oldest.Seconds())
}

// output is where the metrics of one scrape go.
type output chan<- prometheus.Metric

func (out output) counter(d *prometheus.Desc, n int64, labels ...string) {
	out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
}

func (out output) gauge(d *prometheus.Desc, v float64, labels ...string) {
	out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}
