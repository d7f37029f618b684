package breakerprom

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
	statesFresh   = 500 * time.Millisecond // a scrape within it uses the states of the last one
	statesTimeout = 2 * time.Second        // bounds the read of the states
)

// states shows circuit_breaker_state{agent}, which is 0 closed, 1 open, 2 half-open, and
// circuit_breaker_state_info{agent,state}.
type states struct {
	now         func() time.Time
	agents      *agents
	state, info *prometheus.Desc
	failed      prometheus.Counter

	reading sync.Mutex // held while the source answers: one scrape asks

	mu        sync.Mutex                                                  // held for moments only
	source    func(ctx context.Context) (map[string]breaker.State, error) // nil: not known
	at        time.Time
	last      map[string]breaker.State // nil: the last answer was an error
	forgotten map[string]bool          // agents that were forgotten while the source was asked
}

func newStates(a *agents) *states {
	return &states{
		now: time.Now, agents: a,
		state: prometheus.NewDesc("circuit_breaker_state",
			"State of the agent's breaker: 0 closed, 1 open, 2 half-open. Of _other the worst: open, then half-open.",
			[]string{"agent"}, nil),
		info: prometheus.NewDesc("circuit_breaker_state_info",
			"1 for the state of the agent's breaker: CLOSED, OPEN, HALF_OPEN. Of _other the worst.",
			[]string{"agent", "state"}, nil),
		failed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "circuit_breaker_state_errors_total",
			Help: "Scrapes for which the states could not be read.",
		}),
	}
}

// bind sets what the states are read from.
func (s *states) bind(source func(context.Context) (map[string]breaker.State, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.source, s.at, s.last = source, time.Time{}, nil
}

// Describe implements [prometheus.Collector].
func (s *states) Describe(out chan<- *prometheus.Desc) {
	out <- s.state
	out <- s.info
	s.failed.Describe(out)
}

// Collect implements [prometheus.Collector]. While the states cannot be read it gives none, rather than old ones.
func (s *states) Collect(out chan<- prometheus.Metric) {
	read, known := s.read()
	if !known {
		return
	}
	shown := map[string]breaker.State{}
	for _, agent := range slices.Sorted(maps.Keys(read)) { // in order: every replica has series of the same agents
		s.agents.with(agent, sight{state: read[agent]}, func(label string, _ *place) {
			if worse(read[agent], shown[label]) {
				shown[label] = read[agent]
			}
		})
	}
	for label, state := range shown {
		output(out).gauge(s.state, float64(state.Number()), label)
		output(out).gauge(s.info, 1, label, state.Upper())
	}
	s.failed.Collect(out)
}

// worse ranks open before half-open, closed and none.
func worse(a, b breaker.State) bool {
	rank := map[breaker.State]int{breaker.Open: 3, breaker.HalfOpen: 2, breaker.Closed: 1}
	return rank[a] > rank[b]
}

// read returns the states; known: there is somebody to ask.
func (s *states) read() (last map[string]breaker.State, known bool) {
	s.reading.Lock()
	defer s.reading.Unlock()
	now := s.now()
	s.mu.Lock()
	source, fresh, last := s.source, !s.at.IsZero() && now.Sub(s.at) < statesFresh, s.last
	s.forgotten = map[string]bool{}
	s.mu.Unlock()
	if source == nil || fresh {
		return last, source != nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), statesTimeout)
	defer cancel()
	last, err := source(ctx)
	if err != nil {
		s.failed.Inc()
		last = nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.forgotten) > 0 {
		last = maps.Clone(last) // it is the source's
		maps.DeleteFunc(last, func(agent string, _ breaker.State) bool { return s.forgotten[agent] })
	}
	s.at, s.last, s.forgotten = now, last, nil
	return last, true
}

// forget drops an agent from the last answer, and from the one that is awaited. It does not wait for that.
func (s *states) forget(agent string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.forgotten != nil {
		s.forgotten[agent] = true
	}
	s.last = maps.Clone(s.last) // a scrape may be reading it
	delete(s.last, agent)
}
