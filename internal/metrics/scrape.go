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
	statesFresh   = time.Second     // a scrape within it uses the states of the last one
	statesTimeout = 2 * time.Second // bounds the read of the states
)

// states shows circuit_breaker_state{agent}: 0 closed, 1 open, 2 half-open.
type states struct {
	source func(ctx context.Context) (map[string]breaker.State, error)
	now    func() time.Time
	agents *agents
	state  *prometheus.Desc
	failed prometheus.Counter

	mu   sync.Mutex
	at   time.Time
	last map[string]breaker.State // nil: the last answer was an error
}

func newStates(source func(context.Context) (map[string]breaker.State, error), a *agents) *states {
	return &states{
		source: source, now: time.Now, agents: a,
		state: prometheus.NewDesc("circuit_breaker_state",
			"State of the agent's breaker: 0 closed, 1 open, 2 half-open. Of _other the worst: open, then half-open.",
			[]string{"agent"}, nil),
		failed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "circuit_breaker_state_errors_total",
			Help: "Scrapes for which the states could not be read.",
		}),
	}
}

// Describe implements [prometheus.Collector].
func (s *states) Describe(out chan<- *prometheus.Desc) {
	out <- s.state
	s.failed.Describe(out)
}

// Collect implements [prometheus.Collector]. While the states cannot be read it gives none, rather than old ones.
func (s *states) Collect(out chan<- prometheus.Metric) {
	shown := map[string]breaker.State{}
	read := s.read()
	for _, agent := range slices.Sorted(maps.Keys(read)) { // in order: every replica has series of the same agents
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

// worse ranks open before half-open, closed and none.
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
	last, err := s.source(ctx)
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
