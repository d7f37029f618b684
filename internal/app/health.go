package app

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/internal/daemon"
	"github.com/breakerd/breakerd/internal/health"
	"github.com/breakerd/breakerd/internal/redisdocs"
	"github.com/breakerd/breakerd/internal/route"
	"github.com/breakerd/breakerd/internal/workflow"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

const (
	fullFrom    = 0.7                 // the share of its memory from which Redis is degraded
	fullUpFrom  = 0.9                 // from which it is critical
	lagMost     = 10 * time.Second    // of a replica of Redis
	clockMost   = 5 * time.Second     // by which this machine's clock and Redis' may differ
	waitingMost = 10 * time.Second    // for an outcome
	certWarns   = 25 * 24 * time.Hour // before the end of a certificate
	certFails   = 7 * 24 * time.Hour
	gateWithin  = 3 * time.Second  // of the start, in which the gate is read
	lostWithin  = 10 * time.Minute // for which a replica that went without a word, and dropped log lines, are shown
)

// healthOptions is what the health routes show of this replica; library is nil in a program without workflows.
func (s *service) healthOptions(ready func(context.Context) error, library *workflow.Library) route.HealthOptions {
	for name, judge := range map[string]health.Judge{
		"redis": s.judgeRedis, "redis_data": s.judgeData, "redis_memory": s.judgeMemory, "redis_clients": s.judgeClients,
		"redis_replication": s.judgeReplication, "scripts": s.judgeScripts, "replicas": s.judgeReplicas,
		"fleet_gate": s.judgeGate(), "global_switch": s.judgeSwitch, "clock": s.judgeClock, "outcomes": s.judgeOutcomes,
		"log": s.judgeLog(), "tls": s.judgeCertificate, "registry": s.judgeRegistry,
	} {
		s.monitor.Add(name, judge)
	}
	if s.webhooks != nil {
		s.monitor.Add("webhooks", s.judgeWebhooks)
	}
	if s.access != nil {
		s.monitor.Add("access", func(context.Context) (health.Check, bool) {
			return checkFile(s.access.Path(), s.access.Problem()), s.access.Path() != ""
		})
	}
	if library != nil {
		s.monitor.Add("workflows", func(context.Context) (health.Check, bool) {
			f := library.Status()
			return checkFile(f.Dir, f.Problem), f.Dir != ""
		})
	}
	return route.HealthOptions{
		Health: s.monitor.Report, Ready: ready, Metrics: s.metrics.Handler(), Version: daemon.Version(), ReplicaID: s.ID,
	}
}

// judgeRedis is degraded, not unhealthy, while Redis is down: calls are still answered.
func (s *service) judgeRedis(ctx context.Context) (health.Check, bool) {
	h := s.CheckRedis(ctx)
	ms := float64(h.Latency.Microseconds()) / 1000
	c := health.OK("%s", s.Conn.Display)
	switch {
	case h.Err != nil:
		c = health.Bad("is Redis running, and are REDIS_URL and its password right?", "%v", h.Err).Critical().
			Named(redisFault(h.Err))
	case h.Degraded:
		c = health.Bad("it answers again: this replica returns by itself", "%s", s.Conn.Display).Critical().
			Named("returning")
	}
	c = c.Of(s.Conn.Display)
	c.LatencyMs, c.Degraded = &ms, h.Degraded
	if h.Unsent.Outcomes > 0 {
		oldest := h.Unsent.Oldest.Round(time.Millisecond).Seconds()
		c.Unsent = &health.Unsent{Outcomes: h.Unsent.Outcomes, Agents: h.Unsent.Agents, OldestSeconds: oldest}
	}
	return c.Warn(h.Warnings...), true
}

// redisFault names why Redis is of no use: nothing answers, or what does answers wrongly.
func redisFault(err error) string {
	_, settings := errors.AsType[*redisstore.SettingsError](err)
	if reply := redis.Error(nil); settings || errors.As(err, &reply) {
		return "wrong_answer"
	}
	return "unreachable"
}

// judgeData says for a while what becomes of a loss of Redis' data.
func (s *service) judgeData(context.Context) (health.Check, bool) {
	text, pending := s.DataLoss()
	c := health.OK("Redis lost its data").Warn(text).Named("put_back")
	if pending {
		c = health.Bad("wait: one replica is putting protected holds and the gate back", "Redis lost its data").
			Critical().Warn(text).Named("lost")
	}
	return c, text != ""
}

// readServers asks the servers of themselves, once for the judges that ask at the same moment.
func (s *service) readServers(ctx context.Context) ([]redisstore.Server, error) {
	read, err, _ := s.servers.Do("", func() (any, error) { return s.Conn.Servers(ctx) })
	servers, _ := read.([]redisstore.Server)
	return servers, err
}

// judgeMemory judges whether Redis has room, and whether it would evict breakers to make some.
func (s *service) judgeMemory(ctx context.Context) (health.Check, bool) {
	servers, err := s.readServers(ctx)
	if err != nil {
		return health.NotKnown(err), true
	}
	c := health.OK("no limit is set, or none is known")
	fullest := 0.0
	for _, r := range servers {
		if r.MaxBytes == 0 {
			continue
		}
		share := float64(r.UsedBytes) / float64(r.MaxBytes)
		fullest = max(fullest, share)
		detail := fmt.Sprintf("%s uses %.0f %% of %d MiB", r.Name, 100*share, r.MaxBytes>>20)
		switch {
		case share >= fullUpFrom:
			c = health.Bad("raise maxmemory now: when it is full, no breaker opens and none closes", "%s", detail).
				Critical().Named("full").Of(r.Name)
		case c.Code == "full":
		case share >= fullFrom:
			c = health.Bad("raise maxmemory, or lower MAX_AGENTS: see docs/capacity.md", "%s", detail).
				Named("filling").Of(r.Name)
		case r.Policy != "" && r.Policy != "noeviction":
			c = health.Bad("CONFIG SET maxmemory-policy noeviction, and in its configuration file",
				"%s has maxmemory-policy %s: it may evict the state of breakers", r.Name, r.Policy).
				Named("evicts").Of(r.Name)
		case c.Status == health.Healthy:
			c.Detail = detail
		}
	}
	if fullest > 0 {
		c = c.With(health.RedisMemory, fullest)
	}
	return c, len(servers) > 0
}

// judgeClients judges whether Redis has room for connections.
func (s *service) judgeClients(ctx context.Context) (health.Check, bool) {
	servers, err := s.readServers(ctx)
	if err != nil {
		return health.NotKnown(err), true
	}
	fullest, detail, name := -1.0, "", ""
	for _, r := range servers {
		if r.MaxClients == 0 {
			continue
		}
		if share := float64(r.Clients) / float64(r.MaxClients); share > fullest {
			fullest, name = share, r.Name
			detail = fmt.Sprintf("%s has %d of %d connections", r.Name, r.Clients, r.MaxClients)
		}
	}
	c := health.OK("%s", detail)
	switch {
	case fullest >= fullUpFrom:
		c = health.Bad("raise maxclients now: a replica that finds no place is degraded", "%s", detail).
			Critical().Named("full").Of(name)
	case fullest >= fullFrom:
		c = health.Bad("raise maxclients, and the limit of open files of Redis: see docs/capacity.md", "%s", detail).
			Named("filling").Of(name)
	}
	return c.With(health.RedisClients, fullest), fullest >= 0
}

// judgeReplication judges whether the servers that hold breakers have replicas that keep up. A single server needs
// none.
func (s *service) judgeReplication(ctx context.Context) (health.Check, bool) {
	servers, err := s.readServers(ctx)
	if err != nil {
		return health.NotKnown(err), true
	}
	c := health.OK("a single server without replicas")
	known := false
	for _, r := range servers {
		known = known || r.Role != ""
		switch {
		case r.BrokenLink || r.Role == "slave":
			c = health.Bad("point REDIS_URL at the master, or at its Sentinels", "%s is a replica", r.Name)
			return c.Critical().Named("is_replica").Of(r.Name), true
		case r.Replicas > 0 && r.Lag > lagMost:
			c = health.Bad("look at the replica's log and network", "a replica of %s is %s behind: a failover loses as much",
				r.Name, r.Lag).Named("lags").Of(r.Name)
		case r.Replicas == 0 && s.Conn.Sentinel && r.Role != "":
			c = health.Bad("start a replica: a failover finds none", "%s has no replica", r.Name).
				Named("no_replica").Of(r.Name)
		case r.Replicas > 0 && c.Status == health.Healthy:
			c.Detail = fmt.Sprintf("%s has %d replicas", r.Name, r.Replicas)
		}
	}
	return c, known
}

// judgeScripts judges whether Redis carries scripts out for every agent.
func (s *service) judgeScripts(context.Context) (health.Check, bool) {
	if n := s.Fallback.Refusals().Agents; n > 0 {
		return health.Bad("the log names the agents and what Redis answers: an ACL, a full or a broken server",
			"Redis refuses the operations of %d agents", n).Critical(), true
	}
	return health.OK("Redis carries them out"), true
}

func (s *service) judgeReplicas(ctx context.Context) (health.Check, bool) {
	heard, err := s.Docs.Replicas(ctx)
	if err != nil {
		return health.NotKnown(err), true
	}
	alive, behind, policies := 0, 0, map[string]bool{}
	gate, _ := s.Gate()
	var missing, degraded []string
	for _, h := range heard {
		switch {
		case h.State() == redisdocs.Alive:
			alive++
			policies[h.Policy] = true
			if h.DegradedMs > 0 {
				degraded = append(degraded, h.ID)
			}
			if h.Enabled && h.Gate != gate.Version {
				behind++
			}
		case h.Age < lostWithin:
			missing = append(missing, h.ID)
		}
	}
	c := health.OK("%d are alive", alive)
	switch {
	case len(missing) > 0:
		c = health.Bad("look at the machine and the log of each: it did not say that it ends",
			"%d are alive, missing: %s", alive, strings.Join(missing, ", "))
	case len(degraded) > 0:
		c = health.Bad("Redis is down for these: look at the network between", "degraded: %s", strings.Join(degraded, ", "))
	}
	if len(policies) > 1 {
		c = c.Warn(fmt.Sprintf("they have %d different policies: give all the same defaults and AGENTS_FILE; "+
			"GET /v1/admin/replicas shows which one drifts", len(policies)))
	}
	return c.With(health.ReplicasAlive, float64(alive)).With(health.ReplicasMissing, float64(len(missing))).
		With(health.ReplicasDegraded, float64(len(degraded))).With(health.ReplicaPolicies, float64(len(policies))).
		With(health.GateBehind, float64(behind)), true
}

func (s *service) judgeGate() health.Judge {
	started := time.Now()
	return func(context.Context) (health.Check, bool) {
		g, read := s.Gate()
		const none = "none: every call is admitted as its breaker says"
		switch {
		case !read && time.Since(started) < gateWithin:
			return health.OK(none).Warn("it is being read"), true
		case !read:
			return health.Bad("it is read as soon as Redis answers", "not read yet: calls are admitted without it"), true
		case g.Problem != "":
			return health.Bad("PUT or DELETE /v1/admin/fleet", "a hand wrote what was not understood: %s", g.Problem), true
		case s.Manager.Share() < 1:
			return health.Bad("PUT /v1/admin/fleet with action recover, once the reason is gone",
				"%g of all calls are admitted: %s (%s)", s.Manager.Share(), g.Reason, g.Actor), true
		}
		return health.OK(none), true
	}
}

func (s *service) judgeSwitch(context.Context) (health.Check, bool) {
	if s.cfg.Policy.Disabled {
		return health.Bad("set CIRCUIT_BREAKER_ENABLED=true and restart",
			"CIRCUIT_BREAKER_ENABLED is false: this replica admits every call and records none").Critical(), true
	}
	return health.OK("on"), true
}

// judgeClock compares this machine's clock with Redis'. Breakers go by Redis' alone; logs, tokens and certificates do
// not.
func (s *service) judgeClock(ctx context.Context) (health.Check, bool) {
	begin := time.Now()
	ms, err := s.Docs.ClockMs(ctx)
	if err != nil {
		return health.NotKnown(err), true
	}
	middle := begin.Add(time.Since(begin) / 2)
	if off := time.UnixMilli(ms).Sub(middle).Abs(); off > clockMost {
		return health.Bad("set the clocks of both by NTP", "this machine's clock and Redis' differ by %s",
			off.Round(time.Second)), true
	}
	return health.OK("as Redis'"), true
}

func (s *service) judgeOutcomes(context.Context) (health.Check, bool) {
	b := s.Manager.Backlog()
	detail := fmt.Sprintf("%d of %d agents wait for Redis, the oldest for %s", b.Outcomes, b.Agents,
		b.Oldest.Round(time.Millisecond))
	if b.Outcomes > 0 && b.Oldest > waitingMost {
		return health.Bad("see the check redis: they are sent when it answers, and lost if this process ends first", "%s",
			detail), true
	}
	return health.OK("%s", detail), true
}

// judgeLog is degraded for a while after lines were dropped.
func (s *service) judgeLog() health.Judge {
	var seen int64
	var at time.Time
	return func(context.Context) (health.Check, bool) {
		n := s.linesDropped()
		if n > seen {
			seen, at = n, time.Now()
		}
		if n > 0 && time.Since(at) < lostWithin {
			return health.Bad("who reads stderr is too slow, or its disk is full", "%d lines were dropped", n), true
		}
		return health.OK("%d lines were dropped", n), true
	}
}

func (s *service) judgeCertificate(context.Context) (health.Check, bool) {
	until, ok, problem := s.certificate.Status()
	left := time.Until(until)
	c := checkFile(s.cfg.TLSCertFile+", valid until "+until.UTC().Format(time.RFC3339), problem)
	const advice = "renew it: the file is read again by itself"
	switch {
	case left <= 0:
		c = health.Bad(advice, "the certificate has expired: %s", c.Detail).Critical()
	case left < certFails:
		c = health.Bad(advice, "the certificate ends soon: %s", c.Detail)
	case left < certWarns:
		c = c.Warn(fmt.Sprintf("the certificate ends in %d days", int(left.Hours()/24)))
	}
	return c.With(health.CertificateEnd, float64(until.Unix())), ok
}

func (s *service) judgeRegistry(context.Context) (health.Check, bool) {
	f := s.Registry.Status()
	return checkFile(f.Path, f.Problem), f.Path != ""
}

// judgeWebhooks judges the file, and whether receivers take what is sent.
func (s *service) judgeWebhooks(ctx context.Context) (health.Check, bool) {
	c := checkFile(s.cfg.WebhooksFile, s.webhooks.Problem())
	hooks, err := s.webhooks.List(ctx)
	if err != nil {
		return health.NotKnown(err), s.cfg.WebhooksFile != ""
	}
	for _, h := range hooks {
		if h.Tries > 0 && c.Status == health.Healthy {
			c = health.Bad("look at its receiver: GET /v1/admin/webhooks has the last error",
				"%s has not taken a message that was sent %d times", h.Name, h.Tries)
		}
	}
	return c, s.cfg.WebhooksFile != ""
}

// checkFile is the check of a file whose last good version is in force.
func checkFile(path string, problem error) health.Check {
	if problem != nil {
		const advice = "correct the file: the last good version is in force, and it is read again by itself"
		return health.Bad(advice, "%s", path).Warn(problem.Error())
	}
	return health.OK("%s", path)
}
