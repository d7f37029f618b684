package fleet

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/breakerd/breakerd/internal/config"
	"github.com/breakerd/breakerd/internal/replica"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breakerlog"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

// Options configures a [Fleet]. The zero value is usable.
type Options struct {
	// Prefix begins every key in Redis. All replicas of a fleet have the same. It has up to 64 characters of A-Z a-z 0-9
	// . _ : @ -. "": circuit_breaker.
	Prefix string
	// ReplicaID names this replica, see [breaker.ValidWord]; no other replica has the same. "": the host's name and a
	// random suffix.
	ReplicaID string

	// Policy is the policy of each agent for which nobody has set another: by PerAgent, the environment, the agent
	// registry or an override. A zero field means its default.
	Policy breaker.Policy
	// PerAgent returns an agent's policy in place of Policy and of the environment's. It is called when an agent comes
	// into use and about twice a second from then on, concurrently, and must be fast. An invalid policy is replaced by
	// the agent's last valid one, and logged. It may use the Fleet, but for another agent: a call of its own asks for
	// this agent's policy again. nil: none.
	PerAgent func(agent string) breaker.Policy
	// FromEnv takes settings from the environment, over those of Options: CIRCUIT_BREAKER_*, REDIS_TTL_SECONDS,
	// REDIS_TIMEOUT_MS, REDIS_USERNAME, REDIS_PASSWORD, REDIS_SENTINEL_PASSWORD, REPLICA_ID, REPLICA_LABELS,
	// MAX_AGENTS, NEW_AGENTS_PER_SECOND, UNKNOWN_AGENTS, HISTORY_MINUTES, ON_STORE_RESET, AGENTS_FILE, and the file
	// that ENV_FILE names, as docs/configuration.md describes them for breakerd.
	FromEnv bool

	// RequireStore makes Join fail while Redis does not answer.
	RequireStore bool
	// Embedded starts the Redis of embedded://: Start of package redisstore/embedded. nil: such a URL is an error, and
	// the program does not link it.
	Embedded func(listen string) (redisstore.Engine, error)

	// Logger receives transitions and whatever an operator should know. go-redis' own lines, of every client of the
	// process, go to that of the last Join as well, at level debug. nil: [slog.Default].
	Logger *slog.Logger
	// Observer is notified of what this replica does; of several see [breaker.Observers]. nil: none.
	Observer breaker.Observer
	// OnStateChange is called for each transition of a breaker of the fleet from Join on, whoever caused it, once and in
	// order, on a goroutine of its own: a slow function delays itself alone. It may use the Fleet, but not close it. On a
	// Redis Cluster a transition may be missed. What this replica decides in its memory while Redis is down comes as
	// Degraded; when Redis is back its breakers count again, without a Change: List shows them. Close drops what the
	// function was not called with yet. nil: nobody.
	OnStateChange func(breaker.Change)
	// Classify turns a call into an outcome; see [breaker.Options]. nil: [breaker.Classify].
	Classify func(ctx context.Context, c breaker.CallInfo) breaker.Outcome
}

// replica returns the options of the replica. The error names what is wrong.
func (o Options) replica(url string) (replica.Options, error) {
	var environ []string
	if o.FromEnv {
		environ = os.Environ()
	}
	if err := o.Policy.Validate(); err != nil {
		return replica.Options{}, fmt.Errorf("Options.Policy: %w", err)
	}
	settings, err := config.LoadReplica(environ, config.Own{Prefix: o.Prefix, ReplicaID: o.ReplicaID, Policy: o.Policy})
	if err != nil {
		return replica.Options{}, err
	}
	settings.RedisURL = config.Secret(url)
	log := o.Logger
	if log == nil {
		log = slog.Default()
	}
	log = breakerlog.Component(log)
	for _, w := range settings.Warnings {
		log.Warn("configuration", "warning", w)
	}
	return replica.Options{
		Replica: settings, Version: "library", Logger: log, Embedded: o.Embedded, PerAgent: o.PerAgent,
		Classify: o.Classify, Observer: o.Observer, OnStateChange: o.OnStateChange,
	}, nil
}
