package metrics

import (
	"context"
	"errors"
	"net/http"
	"runtime"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// DefaultMaxAgents is METRICS_MAX_AGENTS.
const DefaultMaxAgents = 1000

// other stands for the agents beyond MaxAgents.
const other = "_other"

// Options says what the metrics ask for when they are scraped. Every field may be left out.
type Options struct {
	MaxAgents int // agents with series of their own; 0: DefaultMaxAgents
	Version   string
	// States gives the advanced state of every known agent. It is asked at most once a second.
	States   func(ctx context.Context) (map[string]breaker.State, error)
	Degraded func() bool // whether this replica answers from its own memory
	Pool     func() PoolStats
	Unsent   func() breaker.Backlog // what cached mode has not sent yet
	Now      func() time.Time       // nil: time.Now
}

// Metrics counts what it is told as a breaker.Observer. It is safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry
	agents   *agents

	calls       *prometheus.CounterVec
	rejections  *prometheus.CounterVec
	would       *prometheus.CounterVec
	transitions *prometheus.CounterVec
	uncounted   *prometheus.CounterVec
	probes      *prometheus.CounterVec
	heals       *prometheus.CounterVec
	store       *prometheus.HistogramVec
	states      *states                 // nil: Options.States was not given
	more        []*prometheus.MetricVec // of the program at hand, with the label agent
}

var _ breaker.Observer = (*Metrics)(nil)

// New makes Metrics with a registry of its own, in which the Go and process collectors are too.
func New(o Options) *Metrics {
	if o.MaxAgents <= 0 {
		o.MaxAgents = DefaultMaxAgents
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	m := &Metrics{
		registry:    prometheus.NewRegistry(),
		agents:      &agents{most: o.MaxAgents, known: map[string]struct{}{}},
		calls:       counters("circuit_breaker_calls_total", "Calls whose outcome was taken.", "result"),
		rejections:  counters("circuit_breaker_rejections_total", "Calls that were refused.", "reason"),
		would:       counters("circuit_breaker_would_reject_total", "Calls that mode enforce would have refused.", "reason"),
		transitions: counters("circuit_breaker_transitions_total", "Changes of state that this replica brought about.", "from", "to"),
		uncounted:   counters("circuit_breaker_outcomes_uncounted_total", "Outcomes that did not count.", "why"),
		probes:      counters("circuit_breaker_probes_total", "Half-open test calls that were settled.", "result"),
		heals:       counters("circuit_breaker_heals_total", "Times that bad fields of an agent's keys were healed."),
		store: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "circuit_breaker_store_duration_seconds",
			Help:    "How long the store took to answer.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1},
		}, []string{"verb", "result"}),
	}
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), m.store)
	for _, v := range m.perAgent() {
		m.registry.MustRegister(v)
	}
	m.askers(o)
	return m
}

func counters(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, append([]string{"agent"}, labels...))
}

// perAgent lists what has the label agent, but for the state.
func (m *Metrics) perAgent() []*prometheus.CounterVec {
	return []*prometheus.CounterVec{m.calls, m.rejections, m.would, m.transitions, m.uncounted, m.probes, m.heals}
}

// askers registers what is asked for at a scrape.
func (m *Metrics) askers(o Options) {
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "circuit_breaker_build_info", Help: "Always 1.",
		ConstLabels: prometheus.Labels{"version": o.Version, "goversion": runtime.Version()},
	})
	build.Set(1)
	m.registry.MustRegister(build)
	if o.Degraded != nil {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "circuit_breaker_degraded",
			Help: "1 while this replica answers from its own memory, because the store is away.",
		}, func() float64 { return bit(o.Degraded()) }))
	}
	if o.Unsent != nil {
		m.registry.MustRegister(unsent(o.Unsent)...)
	}
	if o.States != nil {
		m.states = newStates(o.States, o.Now, m.agents)
		m.registry.MustRegister(m.states)
	}
	if o.Pool != nil {
		m.registry.MustRegister(newPool(o.Pool))
	}
}

// unsent shows the backlog of cached mode.
func unsent(ask func() breaker.Backlog) []prometheus.Collector {
	gauge := func(name, help string, of func(breaker.Backlog) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return of(ask()) })
	}
	return []prometheus.Collector{
		gauge("circuit_breaker_unsent_agents", "Agents with outcomes that were not sent to the store yet: cached mode.",
			func(u breaker.Backlog) float64 { return float64(u.Agents) }),
		gauge("circuit_breaker_unsent_age_seconds", "Age of the oldest of these outcomes.",
			func(u breaker.Backlog) float64 { return u.Oldest.Seconds() }),
	}
}

func bit(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Registry holds them all.
func (m *Metrics) Registry() *prometheus.Registry { return m.registry }

// Handler answers a scrape.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry, EnableOpenMetrics: true})
}

// Forget drops every series of an agent that was deleted; what had been "_other" may take its place when it is next seen.
func (m *Metrics) Forget(agent string) {
	if m.states != nil {
		m.states.forget(agent)
	}
	m.agents.forget(agent, func() {
		for _, v := range m.perAgent() {
			v.DeletePartialMatch(prometheus.Labels{"agent": agent})
		}
		for _, v := range m.more {
			v.DeletePartialMatch(prometheus.Labels{"agent": agent})
		}
	})
}

// count adds one to a series of an agent.
func (m *Metrics) count(v *prometheus.CounterVec, agent string, labels ...string) {
	m.add(v, 1, agent, labels...)
}

func (m *Metrics) add(v *prometheus.CounterVec, n int64, agent string, labels ...string) {
	if n > 0 {
		m.agents.with(agent, func(label string) { v.WithLabelValues(append([]string{label}, labels...)...).Add(float64(n)) })
	}
}

// Admitted implements breaker.Observer: in mode observe it counts what would have been refused.
func (m *Metrics) Admitted(agent string, p breaker.Permit) {
	if why := p.WouldRefuse(); why != "" {
		m.count(m.would, agent, string(why))
	}
}

// Refused implements breaker.Observer.
func (m *Metrics) Refused(agent string, e *breaker.OpenError) {
	m.count(m.rejections, agent, string(e.Reason))
}

// Settled implements breaker.Observer: an outcome is either a call, or it did not count and says why. Of a pending one Flushed
// will tell.
func (m *Metrics) Settled(agent string, o breaker.Outcome, r breaker.Report) {
	switch {
	case r.Pending:
	case r.Counted, o.Kind == breaker.Ignored && r.Why == machine.CodeIgnored:
		m.count(m.calls, agent, string(o.Kind))
	default:
		m.count(m.uncounted, agent, string(r.Why))
	}
}

// Flushed implements breaker.Observer.
func (m *Metrics) Flushed(agent string, s machine.Summary, r breaker.Report) {
	if !r.Counted {
		m.add(m.uncounted, s.Calls(), agent, string(r.Why))
		return
	}
	m.add(m.calls, s.Successes, agent, string(breaker.Success))
	m.add(m.calls, s.Failures, agent, string(breaker.Failure))
}

// PolicyRejected implements breaker.Observer: a matter for the log.
func (*Metrics) PolicyRejected(string, error) {}

// Probed implements breaker.Observer.
func (m *Metrics) Probed(agent string, o breaker.Outcome) { m.count(m.probes, agent, string(o.Kind)) }

// Event implements breaker.Observer: real changes of state and heals, not what happened in this replica's memory alone.
func (m *Metrics) Event(agent string, e breaker.Event, degraded bool) {
	switch {
	case degraded:
	case e.Kind == machine.EventRepaired:
		m.count(m.heals, agent)
	case e.From != e.To && e.From != "" && e.To != "":
		m.count(m.transitions, agent, string(e.From), string(e.To))
	}
}

// StoreCall implements breaker.Observer.
func (m *Metrics) StoreCall(verb machine.Verb, took time.Duration, err error) {
	result := "ok"
	var away *breaker.StoreError
	switch {
	case errors.As(err, &away) && away.Unknown:
		result = "unknown"
	case err != nil:
		result = "error"
	}
	m.store.WithLabelValues(string(verb), result).Observe(took.Seconds())
}

// agents is the table of those that have series of their own.
type agents struct {
	most  int
	mu    sync.RWMutex // held while a label is used, so that no series outlives its agent
	known map[string]struct{}
}

// with calls use with the agent's label.
func (a *agents) with(agent string, use func(label string)) {
	a.mu.RLock()
	_, ok := a.known[agent]
	if ok || len(a.known) >= a.most {
		defer a.mu.RUnlock()
		if !ok {
			agent = other
		}
		use(agent)
		return
	}
	a.mu.RUnlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, ok := a.known[agent]; !ok && len(a.known) >= a.most {
		agent = other
	} else {
		a.known[agent] = struct{}{}
	}
	use(agent)
}

func (a *agents) forget(agent string, drop func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.known, agent)
	drop()
}
