package breakerprom

import (
	"cmp"
	"errors"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// Options configures a [Collector]. The zero value is usable.
type Options struct {
	// MaxAgents bounds the agents that have series of their own. 0: 1,000; below 0: none has.
	MaxAgents int
	// Important reports whether an agent never makes room for others, as a registered one. It is called concurrently,
	// and must be quick. nil: none is.
	Important func(agent string) bool
}

const defaultMaxAgents = 1000

// Collector counts as a [breaker.Observer], and is a [prometheus.Collector]. It is safe for concurrent use. Do not
// embed it in an Observer of your own, for its methods ForAgent and Quiet would keep calls from yours: join the two by
// [breaker.Observers].
type Collector struct {
	agents *agents
	states *states
	source atomic.Pointer[breaker.Source] // nil before Bind
	read   *readings

	calls       *prometheus.CounterVec
	rejections  *prometheus.CounterVec
	observed    *prometheus.CounterVec
	transitions *prometheus.CounterVec
	uncounted   *prometheus.CounterVec
	probes      *prometheus.CounterVec
	started     *prometheus.CounterVec
	repairs     *prometheus.CounterVec
	store       *prometheus.HistogramVec

	own      []*prometheus.CounterVec // of these, those with the label agent
	perAgent []*prometheus.MetricVec  // all with the label agent, those of Share included. Guarded by agents.mu
}

var (
	_ breaker.AgentObserver  = (*Collector)(nil)
	_ breaker.QuietObserver  = (*Collector)(nil)
	_ breaker.SourceObserver = (*Collector)(nil)
	_ prometheus.Collector   = (*Collector)(nil)
)

// New makes a Collector.
func New(o Options) *Collector {
	c := &Collector{
		read: newReadings(),
		store: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "circuit_breaker_store_duration_seconds",
			Help:    "How long the store took to answer.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10},
		}, []string{"verb", "result"}),
	}
	c.agents = newAgents(max(cmp.Or(o.MaxAgents, defaultMaxAgents), 0), o.Important, c.drop)
	c.states = newStates(c.agents)
	c.calls = c.counters("calls_total", "Calls whose outcome was taken.", "result")
	c.rejections = c.counters("rejections_total", "Calls that were refused.", "reason")
	c.observed = c.counters("would_reject_total", "Calls that mode enforce would have refused.", "reason")
	c.transitions = c.counters("transitions_total", "Changes of state that this replica brought about.", "from", "to")
	c.uncounted = c.counters("outcomes_uncounted_total", "Outcomes that did not count.", "why")
	c.probes = c.counters("probes_total", "Half-open test calls that were settled.", "result")
	c.started = c.counters("probes_started_total", "Half-open test calls that were admitted.")
	c.repairs = c.counters("heals_total", "Times that bad fields of an agent's keys were repaired.")
	return c
}

// counters makes counters with the label agent before the others.
func (c *Collector) counters(name, help string, labels ...string) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "circuit_breaker_" + name, Help: help},
		append([]string{"agent"}, labels...))
	c.own = append(c.own, v)
	c.Share(v.MetricVec)
	return v
}

// Share adds metrics of the program's own, with a label agent, to those whose series end with an agent's place in the
// table: when another agent takes it, and by [Collector.Forget]. Who shares metrics writes them inside [Collector.With]
// alone, and registers them.
func (c *Collector) Share(vecs ...*prometheus.MetricVec) {
	c.agents.mu.Lock()
	defer c.agents.mu.Unlock()
	c.perAgent = append(c.perAgent, vecs...)
}

// With calls use, once, with the value of the label agent for a call of an agent: its name or "_other". failed: the
// call has failed, which gives the agent a place before those that do not. use runs under a lock: it writes metrics and
// does nothing else.
func (c *Collector) With(agent string, failed bool, use func(label string)) {
	c.agents.with(agent, sight{failed: failed}, func(label string, _ *place) { use(label) })
}

// Bind implements [breaker.SourceObserver]: s is what a scrape reads. What s does not know has no series. It may be
// called before the Collector is registered or after, and once: a second Source takes the place of the first.
func (c *Collector) Bind(s breaker.Source) {
	c.source.Store(&s)
	c.states.bind(s.States)
}

// Describe implements [prometheus.Collector].
func (c *Collector) Describe(out chan<- *prometheus.Desc) {
	for _, v := range c.own {
		v.Describe(out)
	}
	c.store.Describe(out)
	c.states.Describe(out)
	c.read.Describe(out)
}

// Collect implements [prometheus.Collector].
func (c *Collector) Collect(out chan<- prometheus.Metric) {
	c.states.Collect(out) // first: it may give places to agents
	for _, v := range c.own {
		v.Collect(out)
	}
	c.store.Collect(out)
	if s := c.source.Load(); s != nil {
		c.read.collect(s, out)
	}
}

// Forget drops every series of an agent that was deleted. Another agent, "_other" so far, may have its place from its
// next call on.
func (c *Collector) Forget(agent string) {
	c.states.forget(agent)
	c.agents.forget(agent)
}

// drop drops the series of an agent. agents.mu is held.
func (c *Collector) drop(agent string) {
	for _, v := range c.perAgent {
		v.DeletePartialMatch(prometheus.Labels{"agent": agent})
	}
}

// count adds one to a series of an agent.
func (c *Collector) count(v *prometheus.CounterVec, agent string, s sight, labels ...string) {
	c.add(v, 1, agent, s, labels...)
}

func (c *Collector) add(v *prometheus.CounterVec, n int64, agent string, s sight, labels ...string) {
	if n > 0 {
		c.agents.with(agent, s, func(label string, _ *place) {
			v.WithLabelValues(append([]string{label}, labels...)...).Add(float64(n))
		})
	}
}

// Quiet implements [breaker.QuietObserver]: pending outcomes are counted once they are flushed.
func (*Collector) Quiet() bool { return true }

// Admitted implements [breaker.Observer]. It counts half-open test calls and, in mode observe, what enforce would have
// refused.
func (c *Collector) Admitted(agent string, p breaker.Permit) {
	if p.State() == breaker.HalfOpen && !p.Degraded() {
		c.count(c.started, agent, sight{state: breaker.HalfOpen})
	}
	if why := p.WouldRefuse(); why != "" {
		c.count(c.observed, agent, sight{}, string(why))
	}
}

// Refused implements [breaker.Observer].
func (c *Collector) Refused(agent string, e *breaker.OpenError) {
	c.count(c.rejections, agent, sight{state: e.State}, string(e.Reason))
}

// Settled implements [breaker.Observer]. An outcome is a call, or it did not count and says why. A pending one is left
// to Flushed.
func (c *Collector) Settled(agent string, o breaker.Outcome, r breaker.Report) {
	seen := sight{state: r.State, failed: o.Kind == breaker.Failure}
	switch {
	case r.Pending:
	case r.Counted, o.Kind == breaker.Ignored && r.Why == machine.CodeIgnored:
		c.count(c.calls, agent, seen, string(o.Kind))
	default:
		c.count(c.uncounted, agent, seen, string(r.Why))
	}
}

// Flushed implements [breaker.Observer].
func (c *Collector) Flushed(agent string, s machine.Summary, r breaker.Report) {
	seen := sight{state: r.State, failed: s.Failures > 0}
	if s.Calls() == 0 {
		c.count(c.calls, agent, seen, string(breaker.Ignored))
		return
	}
	if !r.Counted {
		c.add(c.uncounted, s.Calls(), agent, seen, string(r.Why))
		return
	}
	c.add(c.calls, s.Successes, agent, seen, string(breaker.Success))
	c.add(c.calls, s.Failures, agent, seen, string(breaker.Failure))
}

// PolicyRejected implements [breaker.Observer]. The manager logs it.
func (*Collector) PolicyRejected(string, error) {}

// Probed implements [breaker.Observer].
func (c *Collector) Probed(agent string, o breaker.Outcome) {
	c.count(c.probes, agent, sight{failed: o.Kind == breaker.Failure}, string(o.Kind))
}

// Event implements [breaker.Observer]. It counts changes of state and repairs in the store, not what happened in this
// process's memory.
func (c *Collector) Event(agent string, e breaker.Event, degraded bool) {
	switch {
	case degraded:
	case e.Kind == machine.EventRepaired:
		c.count(c.repairs, agent, sight{state: e.To})
	case e.Transition():
		c.count(c.transitions, agent, sight{state: e.To}, string(e.From), string(e.To))
	}
}

// StoreCall implements [breaker.Observer].
func (c *Collector) StoreCall(verb machine.Verb, took time.Duration, err error) {
	result := "ok"
	var down *breaker.StoreError
	switch {
	case errors.As(err, &down) && down.Unknown:
		result = "unknown"
	case err != nil:
		result = "error"
	}
	c.store.WithLabelValues(string(verb), result).Observe(took.Seconds())
}
