package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/breakerd/breakerd/internal/health"
)

// RegisterHealth adds how well this replica is: the newest report of a Monitor, which nobody waits for.
func (m *Metrics) RegisterHealth(monitor *health.Monitor) {
	figures := map[health.Figure]*prometheus.Desc{}
	for f, help := range health.Figures() {
		figures[f] = prometheus.NewDesc("circuit_breaker_"+string(f), help, nil, nil)
	}
	m.registry.MustRegister(healthCollector{
		monitor: monitor, figures: figures,
		score: prometheus.NewDesc("circuit_breaker_health_score",
			"How well this replica is, 0 to 1: the lowest score of its components.", nil, nil),
		component: prometheus.NewDesc("circuit_breaker_component_health_score",
			"How well a component is: 1 healthy, 0.6 degraded, 0.3 degraded where the fleet cannot do without, 0 unhealthy.",
			[]string{"component"}, nil),
		fault: prometheus.NewDesc("circuit_breaker_component_fault",
			"Always 1: the component has the fault of this code, as docs/health.md lists them.",
			[]string{"component", "code"}, nil),
		passed: prometheus.NewDesc("circuit_breaker_health_checks_passed_total",
			"Checks of components that found them healthy.", nil, nil),
		failed: prometheus.NewDesc("circuit_breaker_health_checks_failed_total",
			"Checks of components that found them degraded or unhealthy.", nil, nil),
	})
}

type healthCollector struct {
	monitor                                 *health.Monitor
	score, component, fault, passed, failed *prometheus.Desc
	figures                                 map[health.Figure]*prometheus.Desc
}

// Describe implements [prometheus.Collector].
func (c healthCollector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.score, c.component, c.fault, c.passed, c.failed} {
		to <- d
	}
	for _, d := range c.figures {
		to <- d
	}
}

// Collect implements [prometheus.Collector]. Before the first report there is no score.
func (c healthCollector) Collect(to chan<- prometheus.Metric) {
	report, passed, failed := c.monitor.Last()
	if len(report.Checks) > 0 {
		to <- prometheus.MustNewConstMetric(c.score, prometheus.GaugeValue, report.Score)
	}
	for name, check := range report.Checks {
		to <- prometheus.MustNewConstMetric(c.component, prometheus.GaugeValue, check.Score, name)
		if check.Code != "" {
			to <- prometheus.MustNewConstMetric(c.fault, prometheus.GaugeValue, 1, name, check.Code)
		}
		for f, value := range check.Figures {
			to <- prometheus.MustNewConstMetric(c.figures[f], prometheus.GaugeValue, value)
		}
	}
	to <- prometheus.MustNewConstMetric(c.passed, prometheus.CounterValue, float64(passed))
	to <- prometheus.MustNewConstMetric(c.failed, prometheus.CounterValue, float64(failed))
}
