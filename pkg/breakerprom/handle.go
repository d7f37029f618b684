package breakerprom

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// settlement is how an outcome ends that a handle counts without a look-up.
type settlement int

const (
	settledSuccess settlement = iota
	settledFailure
	settledIgnored
	settledLate

	settlements
)

// handle is the Collector of one agent's calls. It keeps the agent's place in the table, and takes another when that is
// gone.
type handle struct {
	*Collector

	agent string
	place atomic.Pointer[place] // nil: none yet
}

var _ breaker.QuietObserver = (*handle)(nil)

// ForAgent implements [breaker.AgentObserver]. What it returns needs no look-up for an outcome of a closed breaker. It
// may be used at any time, also after [Collector.Forget].
func (c *Collector) ForAgent(agent string) breaker.Observer {
	return &handle{Collector: c, agent: agent}
}

// Settled implements [breaker.Observer].
func (h *handle) Settled(_ string, o breaker.Outcome, r breaker.Report) {
	s, ok := settlementOf(&o, &r)
	switch {
	case r.Pending:
		return
	case !ok:
		h.Collector.Settled(h.agent, o, r)
		return
	}
	seen := sight{state: r.State, failed: o.Kind == breaker.Failure}
	if p := h.place.Load(); p != nil && !p.gone.Load() {
		if n := p.counters[s].Load(); n != nil {
			h.agents.see(h.agent, p, seen)
			(*n).Inc()
			return
		}
	}
	h.agents.with(h.agent, seen, func(label string, p *place) {
		n := h.settlement(s, label)
		if p != nil {
			p.counters[s].Store(&n)
		}
		h.place.Store(p)
		n.Inc()
	})
}

func settlementOf(o *breaker.Outcome, r *breaker.Report) (s settlement, ok bool) {
	switch {
	case o.Kind == breaker.Ignored && (r.Counted || r.Why == machine.CodeIgnored):
		return settledIgnored, true
	case r.Counted && o.Kind == breaker.Success:
		return settledSuccess, true
	case r.Counted && o.Kind == breaker.Failure:
		return settledFailure, true
	}
	return settledLate, r.Why == machine.CodeLate
}

// settlement returns the counter of a settlement.
func (c *Collector) settlement(s settlement, label string) prometheus.Counter {
	switch s {
	case settledSuccess:
		return c.calls.WithLabelValues(label, string(breaker.Success))
	case settledFailure:
		return c.calls.WithLabelValues(label, string(breaker.Failure))
	case settledIgnored:
		return c.calls.WithLabelValues(label, string(breaker.Ignored))
	default:
		return c.uncounted.WithLabelValues(label, string(machine.CodeLate))
	}
}
