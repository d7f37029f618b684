package startdev

import (
	"strconv"
	"time"

	"github.com/breakerd/breakerd/pkg/client"
)

// agent is one agent of the fleet.
type agent struct {
	name, team, contact string

	path  string        // that its callers call
	rate  float64       // calls a second
	takes time.Duration // until a healthy answer
	does  client.Override
}

// agents are those of the fleet. Times are short, so that there is something to see within a minute.
func agents() []agent {
	quick := client.Override{
		TimeoutSeconds: new(10.0), WindowSizeSeconds: new(30.0), HalfOpenMaxCalls: new(int64(8)),
		RecoveryRampSeconds: new(8.0),
	}
	slowCounts, observed := quick, quick
	slowCounts.WindowSizeSeconds = new(15.0)
	slowCounts.SlowCallDurationSeconds, slowCounts.SlowCallRateThreshold = new(1.0), new(0.5)
	observed.Mode = "observe"
	const ms = time.Millisecond
	return []agent{
		{"payments", "checkout", "payments-oncall@example.org", "charge", 4, 40 * ms, quick},
		{"inventory", "checkout", "checkout@example.org", "reserve", 3, 15 * ms, quick},
		{"search", "discovery", "discovery@example.org", "query", 3, 25 * ms, quick},
		{"geo", "discovery", "discovery@example.org", "lookup", 1, 30 * ms, quick},
		{"llm-gpt", "assistants", "assistants@example.org", "chat", 2, 300 * ms, slowCounts},
		{"translate", "assistants", "assistants@example.org", "text", 2, 80 * ms, observed},
		{"mailer", "platform", "platform@example.org", "send", 1, 60 * ms, quick},
		{"pdf-render", "platform", "platform@example.org", "render", 1, 150 * ms, quick},
	}
}

// registration is what the bridge is told of an agent that answers at a server.
func (a agent) registration(server string) client.Registration {
	return client.Registration{
		Name: a.name, URL: server + "/" + a.name, Contact: a.contact, Labels: map[string]string{"team": a.team},
		TimeoutSeconds: 5, CircuitBreakerConfig: &a.does,
	}
}

// first is how it begins, for the agents' control API.
func (a agent) first() string {
	return `{"mode": "healthy", "delay_ms": ` + strconv.FormatInt(a.takes.Milliseconds(), 10) + `}`
}
