package metrics

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/breakerd/breakerd/internal/workflow"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breakerhttp"
)

// Bridge counts what only bridge does. It is safe for concurrent use.
type Bridge struct {
	m          *Metrics
	header     *prometheus.HistogramVec
	firstByte  *prometheus.HistogramVec
	total      *prometheus.HistogramVec
	status     *prometheus.CounterVec
	late       *prometheus.CounterVec
	shadow     *prometheus.CounterVec
	executions *prometheus.CounterVec
}

// NewBridge adds bridge's metrics to m.
func NewBridge(m *Metrics) *Bridge {
	histogram := func(name, help string, labels ...string) *prometheus.HistogramVec {
		v := prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: name, Help: help, Buckets: durationBuckets(),
		}, append([]string{"agent"}, labels...))
		m.registry.MustRegister(v)
		m.Breakers.Share(v.MetricVec)
		return v
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, append([]string{"agent"}, labels...))
		m.registry.MustRegister(v)
		m.Breakers.Share(v.MetricVec)
		return v
	}
	b := &Bridge{
		m:         m,
		header:    histogram("bridge_upstream_header_seconds", "Time until an agent's response header."),
		firstByte: histogram("bridge_upstream_first_byte_seconds", "Time until the first data of an agent's answer."),
		total:     histogram("bridge_upstream_duration_seconds", "Time until the end of an agent's response.", "outcome"),
		status: counter("bridge_upstream_responses_total",
			"Calls that were made, by what was answered: 2xx, 5xx, …, none.", "status"),
		late: counter("bridge_upstream_late_total",
			"Failures that came after their probe was settled, by class, such as a stream that broke later.", "class"),
		shadow: counter("bridge_upstream_classify_observed_total",
			"Calls by what the classifier of classify_observe would have made of them.", "outcome", "class"),
		executions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "bridge_workflow_executions_total", Help: "Executions of workflows that have ended, by how.",
		}, []string{"status"}),
	}
	m.registry.MustRegister(b.executions)
	return b
}

// Upstream counts a call of an agent.
func (b *Bridge) Upstream(t breakerhttp.Timing) {
	b.m.Breakers.With(t.Agent, t.Outcome.Kind == breaker.Failure, func(label string) {
		b.header.WithLabelValues(label).Observe(t.Header.Seconds())
		b.firstByte.WithLabelValues(label).Observe(t.FirstByte.Seconds())
		b.total.WithLabelValues(label, string(t.Outcome.Kind)).Observe(t.Total.Seconds())
		b.status.WithLabelValues(label, class(t.Status)).Inc()
		if t.Late != "" {
			b.late.WithLabelValues(label, t.Late).Inc()
		}
		if t.Shadow != nil {
			b.shadow.WithLabelValues(label, string(t.Shadow.Kind), t.Shadow.Class).Inc()
		}
	})
}

func class(status int) string {
	if status == 0 {
		return "none"
	}
	return strconv.Itoa(status/100) + "xx"
}

// Executed counts an execution that has ended.
func (b *Bridge) Executed(s workflow.Status) { b.executions.WithLabelValues(string(s)).Inc() }
