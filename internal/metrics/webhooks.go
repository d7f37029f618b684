package metrics

import "github.com/prometheus/client_golang/prometheus"

// CountWebhooks adds the metric of webhooks to m, and returns what counts n results of a webhook.
func CountWebhooks(m *Metrics) func(webhook, result string, n int) {
	messages := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "circuit_breaker_webhook_messages_total",
		Help: "Messages of this replica to webhooks: sent (it was taken), failed (a try in vain), " +
			"dead (it was given up, or its event was lost).",
	}, []string{"webhook", "result"})
	m.registry.MustRegister(messages)
	return func(webhook, result string, n int) { messages.WithLabelValues(webhook, result).Add(float64(n)) }
}
