package metrics

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/breakerd/breakerd/pkg/breaker"
)

const (
	statesFresh   = time.Second     // a scrape within it is answered from the last
	statesTimeout = 2 * time.Second // a scrape waits no longer for the states
)

// states shows circuit_breaker_state{agent}: 0 closed, 1 open, 2 half-open.
type states struct {
	ask    func(ctx context.Context) (map[string]breaker.State, error)
	now    func() time.Time
	agents *agents
	state  *prometheus.Desc
	failed prometheus.Counter

	mu   sync.Mutex
	at   time.Time
	last map[string]breaker.State // nil: the last answer was an error
}

func newStates(ask func(context.Context) (map[string]breaker.State, error), now func() time.Time, a *agents) *states {
	return &states{
		ask: ask, now: now, agents: a,
		state: prometheus.NewDesc("circuit_breaker_state",
			"State of the agent's breaker: 0 closed, 1 open, 2 half-open. Of _other the worst: open, then half-open.", []string{"agent"}, nil),
		failed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "circuit_breaker_state_errors_total",
			Help: "Scrapes for which the states could not be read.",
		}),
	}
}

// Describe implements prometheus.Collector.
func (s *states) Describe(out chan<- *prometheus.Desc) {
	out <- s.state
	s.failed.Describe(out)
}

// Collect implements prometheus.Collector. While the states cannot be read there are none, rather than old ones.
func (s *states) Collect(out chan<- prometheus.Metric) {
	shown := map[string]breaker.State{}
	read := s.read()
	for _, agent := range slices.Sorted(maps.Keys(read)) { // sorted, so that every replica gives the same agents series of their own
		s.agents.with(agent, func(label string) {
			if worse(read[agent], shown[label]) {
				shown[label] = read[agent]
			}
		})
	}
	for label, state := range shown {
		out <- prometheus.MustNewConstMetric(s.state, prometheus.GaugeValue, float64(state.Number()), label)
	}
	s.failed.Collect(out)
}

// worse: open, half-open, closed, none.
func worse(a, b breaker.State) bool {
	rank := map[breaker.State]int{breaker.Open: 3, breaker.HalfOpen: 2, breaker.Closed: 1}
	return rank[a] > rank[b]
}

func (s *states) read() map[string]breaker.State {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if !s.at.IsZero() && now.Sub(s.at) < statesFresh {
		return s.last
	}
	ctx, cancel := context.WithTimeout(context.Background(), statesTimeout)
	defer cancel()
	last, err := s.ask(ctx)
	if err != nil {
		s.failed.Inc()
		last = nil
	}
	s.at, s.last = now, last
	return last
}

// forget drops an agent from the last answer.
func (s *states) forget(agent string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = maps.Clone(s.last) // a scrape may be reading it
	delete(s.last, agent)
}

// PoolStats is what is known of a connection pool; the field names are go-redis's.
type PoolStats struct {
	Hits, Misses, Timeouts            uint32
	TotalConns, IdleConns, StaleConns uint32
}

// pool shows PoolStats.
type pool struct {
	ask   func() PoolStats
	conns *prometheus.Desc
	gets  *prometheus.Desc
	stale *prometheus.Desc
}

func newPool(ask func() PoolStats) *pool {
	return &pool{
		ask:   ask,
		conns: prometheus.NewDesc("circuit_breaker_redis_connections", "Connections to Redis.", []string{"state"}, nil),
		gets: prometheus.NewDesc("circuit_breaker_redis_pool_gets_total",
			"Requests for a connection: hit, miss (a new one was made), timeout.", []string{"result"}, nil),
		stale: prometheus.NewDesc("circuit_breaker_redis_stale_connections_total", "Connections that were closed for being stale.", nil, nil),
	}
}

// Describe implements prometheus.Collector.
func (p *pool) Describe(out chan<- *prometheus.Desc) {
	out <- p.conns
	out <- p.gets
	out <- p.stale
}

// Collect implements prometheus.Collector.
func (p *pool) Collect(out chan<- prometheus.Metric) {
	s := p.ask()
	gauge := func(v uint32, state string) {
		out <- prometheus.MustNewConstMetric(p.conns, prometheus.GaugeValue, float64(v), state)
	}
	gets := func(v uint32, result string) {
		out <- prometheus.MustNewConstMetric(p.gets, prometheus.CounterValue, float64(v), result)
	}
	gauge(s.IdleConns, "idle")
	gauge(s.TotalConns-min(s.IdleConns, s.TotalConns), "busy")
	gets(s.Hits, "hit")
	gets(s.Misses, "miss")
	gets(s.Timeouts, "timeout")
	out <- prometheus.MustNewConstMetric(p.stale, prometheus.CounterValue, float64(s.StaleConns))
}
