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
	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// other is the label of the agents beyond maxAgents. No agent can have this name.
const other = "_other"

// Sources is what a scrape reads. Each field is required.
type Sources struct {
	// States returns the advanced state of every known agent. It is called at most once a second.
	States   func(ctx context.Context) (map[string]breaker.State, error)
	Degraded func() bool // whether this replica answers from its own memory
	Pool     func() *redis.PoolStats
	Backlog  func() breaker.Backlog // what cached mode has not sent yet
}

// Metrics counts as a [breaker.Observer]. It is safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry
	agents   *agents

	calls       *prometheus.CounterVec
	rejections  *prometheus.CounterVec
	observed    *prometheus.CounterVec
	transitions *prometheus.CounterVec
	uncounted   *prometheus.CounterVec
	probes      *prometheus.CounterVec
	repairs     *prometheus.CounterVec
	store       *prometheus.HistogramVec
	states      *states                 // nil before Register
	perAgent    []*prometheus.MetricVec // all with the label agent, but for the state
}

var _ breaker.Observer = (*Metrics)(nil)

// New makes Metrics with a registry of its own, in which the Go and process collectors are as well. The first maxAgents
// agents have series of their own.
func New(version string, maxAgents int) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(), agents: &agents{most: maxAgents, known: map[string]struct{}{}},
		store: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "circuit_breaker_store_duration_seconds",
			Help:    "How long the store took to answer.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1},
		}, []string{"verb", "result"}),
	}
	m.calls = m.counters("circuit_breaker_calls_total", "Calls whose outcome was taken.", "result")
	m.rejections = m.counters("circuit_breaker_rejections_total", "Calls that were refused.", "reason")
	m.observed = m.counters("circuit_breaker_would_reject_total", "Calls that mode enforce would have refused.", "reason")
	m.transitions = m.counters("circuit_breaker_transitions_total",
		"Changes of state that this replica brought about.", "from", "to")
	m.uncounted = m.counters("circuit_breaker_outcomes_uncounted_total", "Outcomes that did not count.", "why")
	m.probes = m.counters("circuit_breaker_probes_total", "Half-open test calls that were settled.", "result")
	m.repairs = m.counters("circuit_breaker_heals_total", "Times that bad fields of an agent's keys were repaired.")
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "circuit_breaker_build_info", Help: "Always 1.",
		ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version()},
	})
	build.Set(1)
	m.registry.MustRegister(collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), build, m.store)
	return m
}

// counters registers counters with the label agent before the others.
func (m *Metrics) counters(name, help string, labels ...string) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, append([]string{"agent"}, labels...))
	m.registry.MustRegister(v)
	m.perAgent = append(m.perAgent, v.MetricVec)
	return v
}

// Register adds what a scrape reads. It is called once, before the first scrape.
func (m *Metrics) Register(s Sources) {
	m.states = newStates(s.States, m.agents)
	m.registry.MustRegister(m.states)
	m.gauge(prometheus.GaugeOpts{
		Name: "circuit_breaker_degraded",
		Help: "1 while this replica answers from its own memory, because the store is down.",
	}, func() float64 {
		if s.Degraded() {
			return 1
		}
		return 0
	})
	m.gauge(prometheus.GaugeOpts{
		Name: "circuit_breaker_unsent_agents",
		Help: "Agents with outcomes that were not sent to the store yet: cached mode.",
	}, func() float64 { return float64(s.Backlog().Agents) })
	m.gauge(prometheus.GaugeOpts{
		Name: "circuit_breaker_unsent_age_seconds",
		Help: "Age of the oldest of these outcomes.",
	}, func() float64 { return s.Backlog().Oldest.Seconds() })
	m.registerPool(s.Pool)
}

func (m *Metrics) gauge(o prometheus.GaugeOpts, read func() float64) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(o, read))
}

// registerPool adds the connections to Redis.
func (m *Metrics) registerPool(read func() *redis.PoolStats) {
	for state, of := range map[string]func(*redis.PoolStats) uint32{
		"idle": func(s *redis.PoolStats) uint32 { return s.IdleConns },
		"busy": func(s *redis.PoolStats) uint32 { return s.TotalConns - min(s.IdleConns, s.TotalConns) },
	} {
		m.gauge(prometheus.GaugeOpts{
			Name: "circuit_breaker_redis_connections", Help: "Connections to Redis.",
			ConstLabels: prometheus.Labels{"state": state},
		}, func() float64 { return float64(of(read())) })
	}
	counter := func(o prometheus.CounterOpts, of func(*redis.PoolStats) uint32) {
		m.registry.MustRegister(prometheus.NewCounterFunc(o, func() float64 { return float64(of(read())) }))
	}
	for result, of := range map[string]func(*redis.PoolStats) uint32{
		"hit":     func(s *redis.PoolStats) uint32 { return s.Hits },
		"miss":    func(s *redis.PoolStats) uint32 { return s.Misses },
		"timeout": func(s *redis.PoolStats) uint32 { return s.Timeouts },
	} {
		counter(prometheus.CounterOpts{
			Name:        "circuit_breaker_redis_pool_gets_total",
			Help:        "Requests for a connection: hit, miss (a new one was made), timeout.",
			ConstLabels: prometheus.Labels{"result": result},
		}, of)
	}
	counter(prometheus.CounterOpts{
		Name: "circuit_breaker_redis_stale_connections_total",
		Help: "Connections that were closed for being stale.",
	}, func(s *redis.PoolStats) uint32 { return s.StaleConns })
}

// Handler serves a scrape.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry, EnableOpenMetrics: true})
}

// Forget drops every series of an agent that was deleted. Another agent, "_other" so far, may have its place from its
// next call on.
func (m *Metrics) Forget(agent string) {
	if m.states != nil {
		m.states.forget(agent)
	}
	m.agents.forget(agent, func() {
		for _, v := range m.perAgent {
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
		m.agents.with(agent, func(label string) {
			v.WithLabelValues(append([]string{label}, labels...)...).Add(float64(n))
		})
	}
}

// Admitted implements [breaker.Observer]. In mode observe it counts what enforce would have refused.
func (m *Metrics) Admitted(agent string, p breaker.Permit) {
	if why := p.WouldRefuse(); why != "" {
		m.count(m.observed, agent, string(why))
	}
}

// Refused implements [breaker.Observer].
func (m *Metrics) Refused(agent string, e *breaker.OpenError) {
	m.count(m.rejections, agent, string(e.Reason))
}

// Settled implements [breaker.Observer]. An outcome is a call, or it did not count and says why. A pending one is left
// to Flushed.
func (m *Metrics) Settled(agent string, o breaker.Outcome, r breaker.Report) {
	switch {
	case r.Pending:
	case r.Counted, o.Kind == breaker.Ignored && r.Why == machine.CodeIgnored:
		m.count(m.calls, agent, string(o.Kind))
	default:
		m.count(m.uncounted, agent, string(r.Why))
	}
}

// Flushed implements [breaker.Observer].
func (m *Metrics) Flushed(agent string, s machine.Summary, r breaker.Report) {
	if !r.Counted {
		m.add(m.uncounted, s.Calls(), agent, string(r.Why))
		return
	}
	m.add(m.calls, s.Successes, agent, string(breaker.Success))
	m.add(m.calls, s.Failures, agent, string(breaker.Failure))
}

// PolicyRejected implements [breaker.Observer]. The manager logs it.
func (*Metrics) PolicyRejected(string, error) {}

// Probed implements [breaker.Observer].
func (m *Metrics) Probed(agent string, o breaker.Outcome) { m.count(m.probes, agent, string(o.Kind)) }

// Event implements [breaker.Observer]. It counts changes of state and repairs in the store, not what happened in this
// replica's memory.
func (m *Metrics) Event(agent string, e breaker.Event, degraded bool) {
	switch {
	case degraded:
	case e.Kind == machine.EventRepaired:
		m.count(m.repairs, agent)
	case e.From != e.To && e.From != "" && e.To != "":
		m.count(m.transitions, agent, string(e.From), string(e.To))
	}
}

// StoreCall implements [breaker.Observer].
func (m *Metrics) StoreCall(verb machine.Verb, took time.Duration, err error) {
	result := "ok"
	var down *breaker.StoreError
	switch {
	case errors.As(err, &down) && down.Unknown:
		result = "unknown"
	case err != nil:
		result = "error"
	}
	m.store.WithLabelValues(string(verb), result).Observe(took.Seconds())
}

// agents is the table of the agents that have series of their own.
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
