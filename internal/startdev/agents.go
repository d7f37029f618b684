package startdev

import (
	"strconv"
	"time"

	"github.com/breakerd/breakerd/pkg/client"
)

// agent is one agent of the fleet.
type agent struct {
	name, team, contact string

	path  string           // that its callers call
	rate  float64          // calls a second
	takes time.Duration    // until a healthy answer
	does  *client.Override // nil: as all do
}

// shortTimes are the policy of all agents, so that there is something to see within a minute.
func shortTimes() []string {
	return []string{
		"CIRCUIT_BREAKER_TIMEOUT_SECONDS=10", "CIRCUIT_BREAKER_WINDOW_SIZE_SECONDS=30",
		"CIRCUIT_BREAKER_HALF_OPEN_MAX_CALLS=8", "CIRCUIT_BREAKER_RECOVERY_RAMP_SECONDS=8",
	}
}

// agents are those of the fleet.
func agents() []agent {
	slowCounts := &client.Override{
		WindowSizeSeconds: new(15.0), SlowCallDurationSeconds: new(1.0), SlowCallRateThreshold: new(0.5),
	}
	observed := &client.Override{Mode: "observe"}
	const ms = time.Millisecond
	return []agent{
		{"payments", "checkout", "payments-oncall@example.org", "charge", 4, 40 * ms, nil},
		{"inventory", "checkout", "checkout@example.org", "reserve", 3, 15 * ms, nil},
		{"search", "discovery", "discovery@example.org", "query", 3, 25 * ms, nil},
		{"geo", "discovery", "discovery@example.org", "lookup", 1, 30 * ms, nil},
		{"llm-gpt", "assistants", "assistants@example.org", "chat", 2, 300 * ms, slowCounts},
		{"translate", "assistants", "assistants@example.org", "text", 2, 80 * ms, observed},
		{"mailer", "platform", "platform@example.org", "send", 1, 60 * ms, nil},
		{"pdf-render", "platform", "platform@example.org", "render", 1, 150 * ms, nil},
	}
}

// registration is what the bridge is told of an agent that answers at a server.
func (a agent) registration(server string) client.Registration {
	return client.Registration{
		Name: a.name, URL: server + "/" + a.name, Contact: a.contact, Labels: map[string]string{"team": a.team},
		TimeoutSeconds: 5, CircuitBreakerConfig: a.does,
	}
}

// first is how it begins, for the agents' control API.
func (a agent) first() string {
	return `{"mode": "healthy", "delay_ms": ` + strconv.FormatInt(a.takes.Milliseconds(), 10) + `}`
}
