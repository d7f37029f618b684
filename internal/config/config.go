// Package config turns environment variables, and the file that ENV_FILE names, into one checked Config.
// It reads nothing but what it is handed and the files that this names, so that a test needs no process.
package config

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"

	"github.com/breakerd/breakerd/internal/policy"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// Config is what the programs are told at start. Its fields are described, with names and defaults, by Table.
// It may be printed: secrets hide themselves.
type Config struct {
	Policy  breaker.Policy    // of an agent without overrides
	Origins map[string]string // of Policy's fields: "default", "environment", or "env_file PATH"

	KeyPrefix string

	FlushInterval time.Duration // of cached agents
	MaxStaleness  time.Duration // of cached agents

	RedisURL              Secret // may hold a password; redisstore.Redact prints the rest
	RedisUsername         string
	RedisPassword         Secret
	RedisSentinelPassword Secret
	RedisTTL              time.Duration
	HistoryMinutes        int
	RedisTimeout          time.Duration

	Listen           string // host:port; ask CheckListen before listening there
	Auth             string // "" or "none"
	BridgeListen     string // host:port; ask CheckBridge before listening there
	BridgeAuth       string // "" or "none"
	AgentsFile       string // "": no registry file
	WorkflowsDir     string // "": none
	ParallelSteps    int    // of one execution
	Executions       int    // at once
	Inbound          Inbound
	ReplicaID        string // "": the program makes one up
	MaxAgents        int
	MetricsMaxAgents int
	ShutdownTimeout  time.Duration
	ShutdownDelay    time.Duration // not ready, and still serving

	LogLevel  slog.Level
	LogFormat string // auto, text or json
	EnvFile   string // "": none

	Warnings []string // for the log, once: what was understood, but surely not meant
}

// Inbound is the guard in front of one API, against the agents that call it.
type Inbound struct {
	Listen     string // host:port; "": there is no guard
	URL        string // the API
	Agent      string // header:NAME, path:SEGMENT or jwt:CLAIM
	KeyFile    string // verifies tokens; "": none
	SecretFile string // instead
}

// Load makes a Config from NAME=VALUE pairs, as os.Environ returns them, and from the file that ENV_FILE names.
// A variable that is set to nothing counts as not set. The error joins one for every bad variable (an *Error), line,
// file and rule, so that one start shows all there is to mend; no error shows a secret.
func Load(environ []string) (Config, error) {
	all := newEnvironment(environ)
	var c Config
	var errs []error
	if file, ok := all.set["ENV_FILE"]; ok {
		errs = append(errs, c.readEnvFile(all, file.text)...)
	}
	errs = append(errs, all.readSecrets()...)
	c.warnUnknown(all)
	errs = append(errs, all.check()...)
	errs = append(errs, c.setPolicy(all))
	if err := errors.Join(errs...); err != nil {
		return Config{}, err
	}
	if err := c.setRest(all); err != nil {
		return Config{}, err
	}
	return c, nil
}

func (c *Config) readEnvFile(all environment, path string) []error {
	data, err := readFile(path, maxEnvFile)
	if err != nil {
		return []error{fmt.Errorf("ENV_FILE: %w", err)}
	}
	lines, errs := parseEnvFile(path, data)
	first := map[string]int{}
	for _, l := range lines {
		if first[l.name] > 0 {
			c.warnf("%s: %s stands in line %d and in line %d, which counts", path, l.name, first[l.name], l.number)
		}
		first[l.name] = l.number
	}
	all.fill(lines, path)
	return errs
}

// check reports every variable whose text is not allowed.
func (e environment) check() (errs []error) {
	for _, v := range variables() {
		s, ok := e.set[v.name]
		if !ok {
			continue
		}
		if allowed := v.problem(s.text); allowed != "" {
			errs = append(errs, &Error{Name: v.name, Value: s.text, Allowed: allowed, File: s.file})
		}
	}
	return errs
}

// setRest takes over, apart from the policy, texts that were checked.
func (c *Config) setRest(all environment) error {
	texts := map[string]string{}
	for name, s := range all.set {
		texts[name] = s.text
	}
	var v vars
	if err := env.ParseWithOptions(&v, env.Options{Environment: texts}); err != nil {
		return fmt.Errorf("environment: %w", err)
	}
	c.KeyPrefix, c.EnvFile = v.KeyPrefix, v.EnvFile
	c.RedisURL, c.RedisUsername = Secret(strings.TrimSpace(v.RedisURL)), v.RedisUsername
	c.RedisPassword, c.RedisSentinelPassword = Secret(v.RedisPassword), Secret(v.RedisSentinelPassword)
	c.RedisTTL, c.RedisTimeout = time.Duration(v.RedisTTL), time.Duration(v.RedisTimeoutMs)*time.Millisecond
	c.FlushInterval, c.MaxStaleness = time.Duration(v.FlushIntervalMs)*time.Millisecond, time.Duration(v.MaxStalenessMs)*time.Millisecond
	c.Listen, c.Auth, c.ReplicaID = v.Listen, strings.ToLower(v.Auth), v.ReplicaID
	c.MaxAgents, c.MetricsMaxAgents, c.HistoryMinutes = v.MaxAgents, v.MetricsAgents, v.HistoryMinutes
	c.ShutdownTimeout, c.ShutdownDelay = time.Duration(v.ShutdownTimeout), time.Duration(v.ShutdownDelay)
	c.BridgeListen, c.BridgeAuth = v.BridgeListen, strings.ToLower(v.BridgeAuth)
	c.AgentsFile, c.WorkflowsDir, c.ParallelSteps, c.Executions = v.AgentsFile, v.WorkflowsDir, v.ParallelSteps, v.Executions
	c.Inbound = Inbound{Listen: v.InboundListen, URL: v.InboundURL, Agent: v.InboundAgent, KeyFile: v.InboundKeyFile, SecretFile: v.InboundSecret}
	c.LogFormat = strings.ToLower(v.LogFormat)
	if err := c.LogLevel.UnmarshalText([]byte(v.LogLevel)); err != nil {
		return fmt.Errorf("LOG_LEVEL: %w", err)
	}
	if c.RedisTTL < c.Policy.WindowSize {
		c.warnf("REDIS_TTL_SECONDS (%v) is less than %sWINDOW_SIZE_SECONDS (%v): an agent that is seldom called loses its history early",
			c.RedisTTL, policyPrefix, c.Policy.WindowSize)
	}
	if c.MaxStaleness < 4*c.FlushInterval {
		c.warnf("CIRCUIT_BREAKER_MAX_STALENESS_MS (%d) is less than four times CIRCUIT_BREAKER_FLUSH_INTERVAL_MS (%d): "+
			"cached agents ask Redis again before it was told of them", c.MaxStaleness.Milliseconds(), c.FlushInterval.Milliseconds())
	}
	return nil
}

// setPolicy lays the variables of the policy over breaker.DefaultPolicy. Environment and ENV_FILE are one layer.
// What check has reported is not reported again.
func (c *Config) setPolicy(all environment) error {
	var o policy.Override
	reported := false
	c.Origins = map[string]string{}
	for _, v := range variables() {
		s, ok := all.set[v.name]
		switch {
		case v.field == "":
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
	c.Policy = o.Apply(breaker.DefaultPolicy())
	bad, is := errors.AsType[*breaker.PolicyError](c.Policy.Validate())
	if !is || reported { // beside a bad value a rule between fields would speak of the wrong one
		return nil
	}
	name, longest := policyPrefix+strings.ToUpper(bad.Field), policyPrefix+"TIMEOUT_MAX_SECONDS"
	allowed := strings.ReplaceAll(bad.Allowed, "timeout_max_seconds", longest)
	return &Error{Name: name, Value: bad.Value, Allowed: allowed, File: all.set[name].file}
}

// warnUnknown finds the names that look like ours and are not, and what they may have been meant to be.
func (c *Config) warnUnknown(all environment) {
	var known, unknown []string
	for _, v := range variables() {
		if strings.HasPrefix(v.name, policyPrefix) {
			known = append(known, v.name)
		}
	}
	for name := range all.set {
		if strings.HasPrefix(name, policyPrefix) && !slices.Contains(known, name) {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	for _, name := range unknown {
		c.warnf("%s is unknown and changes nothing; the nearest known name is %s", name, nearest(name, known))
	}
}

func (c *Config) warnf(format string, args ...any) {
	c.Warnings = append(c.Warnings, fmt.Sprintf(format, args...))
}
