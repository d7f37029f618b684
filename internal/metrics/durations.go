package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// Durations measures how long calls took, as the outcomes that were reported say. It is for a program that makes no
// calls itself: the calls of one that does are too many to be looked up one by one.
type Durations struct {
	breaker.NopObserver

	m    *Metrics
	took *prometheus.HistogramVec
}

var (
	_ breaker.DurationObserver = (*Durations)(nil)
	_ breaker.QuietObserver    = (*Durations)(nil)
)

// NewDurations adds the durations to m.
func NewDurations(m *Metrics) *Durations {
	d := &Durations{m: m, took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "circuit_breaker_call_duration_seconds",
		Help: "How long calls took that succeeded or failed, as their callers report it.", Buckets: durationBuckets(),
	}, []string{"agent"})}
	m.registry.MustRegister(d.took)
	m.Breakers.Share(d.took.MetricVec)
	return d
}

// Quiet implements [breaker.QuietObserver].
func (*Durations) Quiet() bool { return true }

// Took implements [breaker.DurationObserver].
func (d *Durations) Took(agent string, took time.Duration, calls int) {
	d.m.Breakers.With(agent, false, func(label string) {
		h := d.took.WithLabelValues(label)
		for range calls {
			h.Observe(took.Seconds())
		}
	})
}

// durationBuckets are the upper bounds of histograms of calls, in seconds.
func durationBuckets() []float64 {
	return []float64{.001, .005, .025, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300}
}
