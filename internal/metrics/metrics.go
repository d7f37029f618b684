package metrics

import (
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/pkg/breakerprom"
)

// Metrics are those of one program.
type Metrics struct {
	// Breakers counts as an Observer of the replica, which binds it to what it reads.
	Breakers *breakerprom.Collector

	registry *prometheus.Registry
}

// New makes Metrics with a registry of its own, in which the Go and process collectors are as well. At most maxAgents
// agents have series of their own. important says which of them never make room for others, such as registered ones; it
// must be quick. nil: none.
func New(version string, maxAgents int, important func(agent string) bool) *Metrics {
	if maxAgents == 0 {
		maxAgents = -1 // none: a zero Options.MaxAgents is the default
	}
	c := breakerprom.New(breakerprom.Options{MaxAgents: maxAgents, Important: important})
	m := &Metrics{Breakers: c, registry: prometheus.NewRegistry()}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "circuit_breaker_build_info", Help: "Always 1.",
		ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version()},
	})
	build.Set(1)
	m.registry.MustRegister(collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), build, c)
	return m
}

// Refused returns what counts a request that was refused before anything was done, by why.
func (m *Metrics) Refused() func(reason string) {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "circuit_breaker_requests_refused_total",
		Help: "Requests that were refused for want of room, by why: rate_limited, overloaded, too_many_connections, " +
			"too_many_streams.",
	}, []string{"reason"})
	m.registry.MustRegister(v)
	return func(reason string) { v.WithLabelValues(reason).Inc() }
}

// RegisterLog adds the log; dropped counts the lines that were dropped.
func (m *Metrics) RegisterLog(dropped func() int64) {
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "circuit_breaker_log_lines_dropped_total",
		Help: "Log lines that were dropped, because nobody read them or they could not be written.",
	}, func() float64 { return float64(dropped()) }))
}

// RegisterPool adds the connections to Redis, and the time that an operation of Redis has.
func (m *Metrics) RegisterPool(read func() *redis.PoolStats, timeout time.Duration) {
	gauge := func(o prometheus.GaugeOpts, value func() float64) {
		m.registry.MustRegister(prometheus.NewGaugeFunc(o, value))
	}
	gauge(prometheus.GaugeOpts{
		Name: "circuit_breaker_redis_timeout_seconds", Help: "Time that an operation of Redis has: REDIS_TIMEOUT_MS.",
	}, timeout.Seconds)
	for state, of := range map[string]func(*redis.PoolStats) uint32{
		"idle": func(s *redis.PoolStats) uint32 { return s.IdleConns },
		"busy": func(s *redis.PoolStats) uint32 { return s.TotalConns - min(s.IdleConns, s.TotalConns) },
	} {
		gauge(prometheus.GaugeOpts{
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
