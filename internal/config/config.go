// Package config turns environment variables, and the file that ENV_FILE names, into one checked [Config]. It reads
// nothing but what it is handed and the files that this names.
package config

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"

	"github.com/breakerd/breakerd/internal/policy"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// Config is the configuration of breakerd and bridge. Secrets hide themselves when it is printed.
//
// Its tags are the one home of each variable's name, default, bounds and meaning; [breaker.Knobs] is the home of the
// policy's. Texts are checked before caarlos0/env parses them, so that an error can say what is allowed.
//
//	env, envDefault  name and default; an empty variable counts as not set
//	check            whole LOW HIGH | ms LOW HIGH | seconds LOW HIGH | oneof WORD… | word LONGEST | labels MOST |
//	                 text WHAT-IS-ALLOWED
//	secret           the value is never shown, and may stand in the file that NAME_FILE names
//	doc              for the table in docs/configuration.md and for .env.example
//	clause           of the machine, as B21; or where in docs there is more
type Config struct {
	Replica

	Listen            string        `env:"BREAKERD_LISTEN" envDefault:"127.0.0.1:18180" check:"text host:port; other than a loopback address only with AUTH_FILE or BREAKERD_AUTH" doc:"where breakerd listens" clause:"security.md#the-listener"`
	Auth              string        `env:"BREAKERD_AUTH" check:"oneof none" doc:"none: everyone who reaches the listener may operate the breakers" clause:"security.md#the-listener"`
	HoldDefault       time.Duration `env:"HOLD_DEFAULT_SECONDS" envDefault:"0" check:"seconds 0 31536000" doc:"how long breakerd holds an agent open if the operator does not say; 0: until the hold is lifted, and the answer says so" clause:"events.md#holds"`
	WebhooksFile      string        `env:"WEBHOOKS_FILE" check:"text the path of a file" doc:"YAML list of the webhooks that breakerd tells of events, read again when it changes" clause:"webhooks.md"`
	BridgeListen      string        `env:"BRIDGE_LISTEN" envDefault:"127.0.0.1:8000" check:"text host:port; other than a loopback address only with AUTH_FILE or BRIDGE_AUTH" doc:"where bridge listens" clause:"security.md#the-listener"`
	BridgeAuth        string        `env:"BRIDGE_AUTH" check:"oneof none" doc:"none: everyone who reaches the listener may call the agents, and register others" clause:"security.md#the-listener"`
	AgentsAuth        string        `env:"BRIDGE_AGENTS_AUTH" check:"oneof required" doc:"required: a call of bridge's /agents/ needs a token too, in X-Breaker-Token; Authorization is the agent's" clause:"security.md#the-gateway"`
	AuthFile          string        `env:"AUTH_FILE" check:"text the path of a file" doc:"who may do what at breakerd and bridge: a YAML list of tokens' hashes with roles, read again when it changes; empty: everyone who reaches the listener may do everything" clause:"security.md#tokens"`
	AgentAllow        string        `env:"AGENT_ALLOW" check:"text hosts, patterns like *.example.com, and addresses or networks like 10.0.0.0/8, with commas between them" doc:"the only destinations that bridge may call as agents; empty: any. A link-local address needs an entry of its own" clause:"bridge.md#the-gateway"`
	WorkflowsDir      string        `env:"WORKFLOWS_DIR" check:"text the path of a directory" doc:"the *.json in it are bridge's workflows, read again when they change" clause:"bridge.md#workflows"`
	ParallelSteps     int           `env:"WORKFLOW_PARALLEL_STEPS" envDefault:"8" check:"whole 1 256" doc:"steps of one execution that run at once" clause:"bridge.md#workflows"`
	Executions        int           `env:"WORKFLOW_PARALLEL_EXECUTIONS" envDefault:"32" check:"whole 1 10000" doc:"executions that run at once on a bridge; beyond it 503" clause:"bridge.md#workflows"`
	WorkflowMemory    int64         `env:"WORKFLOW_MEMORY_BYTES" envDefault:"0" check:"whole 0 1099511627776" doc:"bytes that the inputs and outputs of all executions on a bridge take together, those it keeps included; beyond it 503. 0: a quarter of GOMEMLIMIT, 64 MiB without one" clause:"capacity.md#memory"`
	InboundListen     string        `env:"INBOUND_LISTEN" check:"text host:port" doc:"where bridge guards an API of your own against the agents that call it; empty: nowhere" clause:"bridge.md#in-front-of-your-own-api"`
	InboundURL        string        `env:"INBOUND_URL" check:"text http:// or https://, host, and a path if need be" doc:"that API" clause:"bridge.md#in-front-of-your-own-api"`
	InboundAgent      string        `env:"INBOUND_AGENT" envDefault:"header:X-Agent-ID" check:"text header:NAME, path:SEGMENT or jwt:CLAIM" doc:"what names the calling agent: a header, a segment of the path (from 1), a claim of the bearer token" clause:"bridge.md#in-front-of-your-own-api"`
	InboundKeyFile    string        `env:"INBOUND_JWT_KEY_FILE" check:"text the path of a file" doc:"public key or certificate in PEM that verifies those tokens" clause:"bridge.md#in-front-of-your-own-api"`
	InboundSecretFile string        `env:"INBOUND_JWT_SECRET_FILE" check:"text the path of a file" doc:"secret that verifies those tokens by HMAC instead" clause:"bridge.md#in-front-of-your-own-api"`
	TLSCertFile       string        `env:"TLS_CERT_FILE" check:"text the path of a file" doc:"certificate in PEM, its chain behind it, of all listeners of breakerd and bridge; read again when it changes; empty: no TLS" clause:"security.md#tls"`
	TLSKeyFile        string        `env:"TLS_KEY_FILE" check:"text the path of a file" doc:"its private key in PEM" clause:"security.md#tls"`
	TLSClientCAFile   string        `env:"TLS_CLIENT_CA_FILE" check:"text the path of a file" doc:"certificates in PEM of the authorities whose client certificates count" clause:"security.md#tls"`
	ClientRate        int           `env:"CLIENT_RATE_PER_SECOND" envDefault:"0" check:"whole 0 1000000" doc:"requests that a client may send to one replica in a second, and at once: by name where callers are known, else by address; beyond it 429. 0: any number" clause:"security.md#limits"`
	MaxRequests       int           `env:"MAX_REQUESTS_IN_FLIGHT" envDefault:"0" check:"whole 0 1048576" doc:"requests that are under way at once at one replica, streams and calls of agents included; beyond it 503. 0: as many as connections" clause:"security.md#limits"`
	DebugListen       string        `env:"DEBUG_LISTEN" check:"text host:port on loopback" doc:"where breakerd and bridge serve Go's profiles, /debug/pprof/, to everyone on this machine, without TLS; empty: nowhere" clause:"security.md#profiles"`
	MetricsMaxAgents  int           `env:"METRICS_MAX_AGENTS" envDefault:"1000" check:"whole 0 1000000" doc:"agents with a label value of their own in the metrics; the rest is _other. Beyond it one that fails, is open or registered takes the place of another, whose series end" clause:"bridge.md#operating-it"`
	ShutdownTimeout   time.Duration `env:"SHUTDOWN_TIMEOUT_SECONDS" envDefault:"20" check:"seconds 0 3600" doc:"seconds to drain after SIGTERM" clause:"bridge.md#operating-it"`
	ShutdownDelay     time.Duration `env:"SHUTDOWN_DELAY_SECONDS" envDefault:"0" check:"seconds 0 3600" doc:"seconds after SIGTERM in which /readyz says 503 and calls are still taken, so that a balancer turns away first" clause:"bridge.md#operating-it"`
	LogLevel          slog.Level    `env:"LOG_LEVEL" envDefault:"info" check:"oneof debug info warn error" doc:"the least severe log line that is written"`
	LogFormat         string        `env:"LOG_FORMAT" envDefault:"auto" check:"oneof auto text json" doc:"auto: text on a terminal, else json"`
	EnvFile           string        `env:"ENV_FILE" check:"text the path of a file" doc:"file of KEY=VALUE lines, read at start: its CIRCUIT_BREAKER_*, REDIS_TTL_SECONDS and LOG_LEVEL win over the environment, the rest fills what is not set" clause:"#which-value-counts"`
}

// Replica is the part of a [Config] that every replica of a fleet has, a Go program included.
type Replica struct {
	Policy   breaker.Policy    // of an agent without overrides
	Origins  map[string]string // of Policy's fields: "default", "environment", or "env_file PATH"
	Warnings []string          // what was understood and is probably not meant

	// The files that hold the two passwords, if they do: they may change while a program runs.
	RedisPasswordFile, RedisSentinelPasswordFile string

	KeyPrefix             string            `env:"CIRCUIT_BREAKER_KEY_PREFIX" envDefault:"circuit_breaker" check:"word 64" doc:"how every key in Redis begins" clause:"keys.md"`
	FlushInterval         time.Duration     `env:"CIRCUIT_BREAKER_FLUSH_INTERVAL_MS" envDefault:"10" check:"ms 1 1000" doc:"cached: milliseconds that a success waits at most before it is sent, if Redis keeps up" clause:"consistency.md#cached"`
	MaxStaleness          time.Duration     `env:"CIRCUIT_BREAKER_MAX_STALENESS_MS" envDefault:"1000" check:"ms 20 60000" doc:"cached: milliseconds that a breaker counts as closed after Redis last said so" clause:"consistency.md#cached"`
	RedisURL              Secret            `env:"REDIS_URL" envDefault:"embedded://" secret:"true" check:"text embedded://, redis://, rediss://, unix://, redis+cluster:// or rediss+cluster://; several hosts and a name as path: Sentinel" doc:"where the breakers live; embedded:// is an in-process store for one process, which keeps nothing" clause:"#redis_url"`
	RedisUsername         string            `env:"REDIS_USERNAME" check:"text any text" doc:"user of the data nodes, when REDIS_URL names none" clause:"#redis_url"`
	RedisPassword         Secret            `env:"REDIS_PASSWORD" secret:"true" check:"text any text" doc:"password of the data nodes, when REDIS_URL has none" clause:"#redis_url"`
	RedisSentinelPassword Secret            `env:"REDIS_SENTINEL_PASSWORD" secret:"true" check:"text any text" doc:"password of the Sentinels, when REDIS_URL has none" clause:"#redis_url"`
	RedisTTL              time.Duration     `env:"REDIS_TTL_SECONDS" envDefault:"3600" check:"seconds 1 2592000" doc:"how long an agent's keys outlive its last call: garbage collection only" clause:"B25"`
	HistoryMinutes        int               `env:"HISTORY_MINUTES" envDefault:"0" check:"whole 0 1440" doc:"minutes of calls and failures that are kept of each agent; 0 keeps none" clause:"keys.md"`
	RedisTimeout          time.Duration     `env:"REDIS_TIMEOUT_MS" envDefault:"250" check:"ms 1 60000" doc:"milliseconds that a call waits for Redis at most" clause:"consistency.md#when-redis-is-down"`
	OnStoreReset          string            `env:"ON_STORE_RESET" envDefault:"restore" check:"oneof restore forget" doc:"what replicas do when Redis has lost its data: restore puts protected holds and the fleet gate back, forget does not" clause:"consistency.md#when-redis-loses-its-data"`
	AgentsFile            string            `env:"AGENTS_FILE" check:"text the path of a file" doc:"agents.json: the agent registry, read again when it changes; breakerd takes the policies in it, bridge the addresses too" clause:"bridge.md#the-agent-registry"`
	ReplicaID             string            `env:"REPLICA_ID" check:"word 64" doc:"name of this replica, unique in the fleet; empty: host name and a random suffix" clause:"B23"`
	ReplicaLabels         map[string]string `env:"REPLICA_LABELS" envKeyValSeparator:"=" check:"labels 16" doc:"labels of this replica, as canary=true,zone=a: its heartbeat shows them" clause:"fleet.md#see-the-replicas"`
	MaxAgents             int               `env:"MAX_AGENTS" envDefault:"100000" check:"whole 1 10000000" doc:"agents that are tracked at most; registered, overridden and held ones always are" clause:"capacity.md#many-agents"`
	NewAgents             int               `env:"NEW_AGENTS_PER_SECOND" envDefault:"1000" check:"whole 0 1000000" doc:"new names that a replica begins to track in a second; 0: any number" clause:"capacity.md#many-agents"`
	UnknownAgents         string            `env:"UNKNOWN_AGENTS" envDefault:"track" check:"oneof track refuse" doc:"what becomes of a call of an agent for which that leaves no room. track: it goes on, and counts nowhere. refuse: 429 too_many_agents" clause:"capacity.md#many-agents"`
}

// Load makes a Config from NAME=VALUE pairs, as [os.Environ] returns them, and from the file that ENV_FILE names. The
// error joins one for every bad variable (an [*Error]), line, file and rule, so that one start shows all of them. No
// error shows a secret.
func Load(environ []string) (Config, error) {
	var c Config
	if err := load(&c, &c.Replica, newEnvironment(environ)); err != nil {
		return Config{}, err
	}
	return c, nil
}

// Own is what a program sets itself. A variable that is set wins over it.
type Own struct {
	Prefix    string // of all keys
	ReplicaID string
	Policy    breaker.Policy // its fields that are not zero
}

// ownOrigin is the origin of what a program sets itself.
const ownOrigin = "program"

// LoadReplica is Load for a program of somebody else's: it reads the variables of a [Replica] but for REDIS_URL, and
// ENV_FILE, and knows nothing of the others.
func LoadReplica(environ []string, own Own) (Replica, error) {
	var r Replica
	all := newEnvironment(environ)
	all.own, all.theirs = own, true
	all.keepOurs()
	if err := load(&r, &r, all); err != nil {
		return Replica{}, err
	}
	return r, nil
}

// load fills in into, of which c is a part.
func load(into any, c *Replica, all environment) error {
	var errs []error
	if file, ok := all.set["ENV_FILE"]; ok {
		warnings, bad := all.readEnvFile(file.text)
		c.Warnings, errs = warnings, bad
	}
	all.keepOurs()
	all.fillOwn()
	errs = append(errs, all.readSecrets()...)
	errs = append(errs, all.check()...)
	errs = append(errs, c.setPolicy(all))
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := env.ParseWithOptions(into, env.Options{Environment: all.texts()}); err != nil {
		return fmt.Errorf("environment: %w", err)
	}
	c.RedisPasswordFile = all.set["REDIS_PASSWORD_FILE"].text
	c.RedisSentinelPasswordFile = all.set["REDIS_SENTINEL_PASSWORD_FILE"].text
	c.warnOfNames(all)
	c.warnOfPolicy()
	return nil
}

// setPolicy applies the variables of the policy to [breaker.DefaultPolicy]. Environment and ENV_FILE are one layer. It
// does not report again what check has reported.
func (c *Replica) setPolicy(all environment) error {
	var o policy.Override
	own, err := policy.Of(all.own.Policy)
	if err != nil {
		return err
	}
	reported := false
	c.Origins = map[string]string{}
	for _, v := range variables() {
		s, ok := all.set[v.name]
		switch {
		case v.field == "":
			continue
		case !ok && own.Value(v.field) != nil:
			c.Origins[v.field] = ownOrigin
			continue
		case !ok:
			c.Origins[v.field] = policy.DefaultOrigin
			continue
		case s.file == "":
			c.Origins[v.field] = "environment"
		default:
			c.Origins[v.field] = "env_file " + s.file
		}
		reported = o.Set(v.field, s.text) != nil || reported
	}
	c.Policy = o.Apply(own.Apply(breaker.DefaultPolicy()))
	bad, is := errors.AsType[*breaker.PolicyError](c.Policy.Validate())
	if !is || reported { // beside a bad value a rule between two fields would name the wrong one
		return nil
	}
	name, longest := policyPrefix+strings.ToUpper(bad.Field), policyPrefix+"TIMEOUT_MAX_SECONDS"
	allowed := strings.ReplaceAll(bad.Allowed, "timeout_max_seconds", longest)
	return &Error{Name: name, Value: bad.Value, Allowed: allowed, File: all.set[name].file}
}
