package app

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/breakerd/breakerd/internal/config"
	"github.com/breakerd/breakerd/internal/daemon"
	"github.com/breakerd/breakerd/internal/metrics"
	"github.com/breakerd/breakerd/internal/policycache"
	"github.com/breakerd/breakerd/internal/redisdocs"
	"github.com/breakerd/breakerd/internal/registry"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/redisstore"
	"github.com/breakerd/breakerd/pkg/redisstore/embedded"
)

// replica is one process of the fleet. Its parts are built in the order of the fields, each on those above it.
type replica struct {
	cfg        config.Config
	log        *slog.Logger
	id         string
	conn       *redisstore.Conn
	store      *redisstore.Store
	docs       *redisdocs.Docs
	fallback   *breaker.Fallback
	index      *index
	registry   *registry.Registry
	policies   *policycache.Cache
	metrics    *metrics.Metrics
	quarantine *quarantine
	manager    *breaker.Manager
	directory  directory

	tasks  sync.WaitGroup
	cancel context.CancelFunc // of tasks; nil: they have not started
}

// newReplica builds a replica. Redis need not be up.
func newReplica(ctx context.Context, cfg config.Config, log *slog.Logger) (*replica, error) {
	r := &replica{cfg: cfg, log: log, id: cfg.ReplicaID}
	if r.id == "" {
		r.id = newReplicaID()
	}
	if err := r.openStore(ctx); err != nil {
		return nil, err
	}
	if err := r.build(); err != nil {
		r.stop(false)
		return nil, err
	}
	log.Info("Initialized CircuitBreakerManager", "replica", r.id, "enabled", !cfg.Policy.Disabled,
		"redis", r.conn.Display, "version", daemon.Version())
	return r, nil
}

// openStore opens the connection to Redis, and what stands on it alone.
func (r *replica) openStore(ctx context.Context) (err error) {
	redisstore.SetClientLogger(r.log)
	r.conn, err = redisstore.Open(ctx, r.cfg.RedisURL.Reveal(), redisstore.Options{
		Timeout: r.cfg.RedisTimeout, Username: r.cfg.RedisUsername, Password: r.cfg.RedisPassword.Reveal(),
		SentinelPassword: r.cfg.RedisSentinelPassword.Reveal(), Embedded: embedded.Start, Logger: r.log,
	})
	if err != nil {
		return fmt.Errorf("REDIS_URL: %w", err)
	}
	r.store, err = redisstore.New(r.conn.Client, r.conn.Cluster, redisstore.Config{
		Prefix: r.cfg.KeyPrefix, MaxAgents: r.cfg.MaxAgents, TTL: r.cfg.RedisTTL, Timeout: r.cfg.RedisTimeout,
		History: r.cfg.HistoryMinutes, OnRetry: func(err error) { r.log.Debug("store call sent again", "error", err) },
	})
	if err != nil {
		return errors.Join(err, r.conn.Close())
	}
	r.docs = redisdocs.New(r.store, r.conn.Client, redisdocs.Config{
		MaxAgents: r.cfg.MaxAgents, Timeout: r.cfg.RedisTimeout,
	})
	r.fallback = breaker.NewFallback(loggedStore{r.store, r.log}, r.store.Ping, r.cfg.MaxAgents, r.logDegraded)
	return nil
}

func (r *replica) build() (err error) {
	cfg := r.cfg
	r.index = newIndex(r.docs, cfg.MaxAgents, r.log)
	r.registry, err = registry.New(registry.Options{
		Path: cfg.AgentsFile, Default: cfg.Policy, Origins: cfg.Origins, Profiles: r.docs, Logger: r.log,
		Timeout: cfg.RedisTimeout, MaxAgents: cfg.MaxAgents, StoreDown: r.fallback.Degraded, OnError: r.fallback.Report,
	})
	if err != nil {
		return fmt.Errorf("AGENTS_FILE: %w", err)
	}
	r.policies = policycache.New(policycache.Options{
		Default: cfg.Policy, Origins: cfg.Origins, Registry: r.registry.Override, Source: r.docs, Logger: r.log,
		OnNew: r.index.note, StoreDown: r.fallback.Degraded, OnError: r.fallback.Report,
		MaxAgents: cfg.MaxAgents, Timeout: cfg.RedisTimeout,
	})
	r.metrics = metrics.New(daemon.Version(), cfg.MetricsMaxAgents)
	r.quarantine = newQuarantine(r.docs, r.id)
	r.manager, err = breaker.NewManager(breaker.Options{
		Store: r.fallback, Policy: cfg.Policy, PerAgent: r.policies.Policy, Look: r.policies.Look,
		Disabled: cfg.Policy.Disabled, Reporter: r.id, Logger: r.log,
		Observer:      &observer{Metrics: r.metrics, log: r.log, quarantine: r.quarantine},
		FlushInterval: cfg.FlushInterval, MaxStaleness: cfg.MaxStaleness, MaxAgents: cfg.MaxAgents,
	})
	if err != nil {
		return err
	}
	r.directory = directory{r.docs, r}
	r.metrics.Register(metrics.Sources{
		States: r.states, Degraded: r.fallback.Degraded, Pool: r.conn.Client.PoolStats, Backlog: r.manager.Backlog,
	})
	return nil
}

// newReplicaID is the name of the machine and eight random digits: two replicas on one machine differ.
func newReplicaID() string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "replica"
	}
	host = strings.Map(func(r rune) rune {
		if breaker.ValidWord(string(r)) {
			return r
		}
		return '-'
	}, host)
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails
	return host[:min(len(host), 50)] + "-" + hex.EncodeToString(b[:])
}

// logDegraded is called by the fallback at each change.
func (r *replica) logDegraded(degraded bool, cause error) {
	if degraded {
		r.log.Error("Redis is down: answering from this replica's memory", "event", "circuit_breaker.degraded",
			"redis", r.conn.Display, "error", cause)
	} else {
		r.log.Warn("Redis is up again: the fleet's state holds", "event", "circuit_breaker.recovered",
			"redis", r.conn.Display)
	}
}

// start begins the background tasks; more are those of the program.
func (r *replica) start(ctx context.Context, more []func(context.Context)) {
	ctx, r.cancel = context.WithCancel(context.WithoutCancel(ctx))
	for _, task := range append(more,
		func(ctx context.Context) { r.registry.Run(ctx, r.policies.Rebase) },
		func(ctx context.Context) { r.index.run(ctx, r.policies.InUse) },
		r.policies.Run, r.quarantine.run, r.heartbeat, r.listen, r.greet,
	) {
		r.tasks.Go(func() { task(ctx) })
	}
}

// greet logs whether Redis answers, and whether it takes our settings. A replica starts in any case: the fallback
// answers, and a password may be corrected on either side.
func (r *replica) greet(ctx context.Context) {
	log := r.log.With("redis", r.conn.Display)
	warnings, err := r.conn.Check(ctx)
	for _, w := range warnings {
		log.Warn("redis", "warning", w)
	}
	if settings, is := errors.AsType[*redisstore.SettingsError](err); is {
		log.Error("Redis answers, but refuses these settings", "advice", settings.Advice, "error", settings.Err)
		return
	}
	if err != nil {
		log.Error("Redis does not answer: is it running, and is REDIS_URL right?", "error", err)
		return
	}
	born, err := r.store.Born(ctx)
	if err != nil {
		log.Warn("the identity of Redis' data could not be read", "error", err)
	}
	log.Info("CircuitBreakerManager initialized with Redis connection", "born", born)
}

// lastCalls bounds each of the last things that are asked of Redis.
const lastCalls = 2 * time.Second

// stop sends what cached mode has not sent yet, ends the background tasks and closes everything. An orderly stop also
// logs the figures of each agent, and ends the heartbeat, so that no trip waits for this replica any more [B23].
func (r *replica) stop(orderly bool) {
	if r.manager != nil {
		ctx, cancel := context.WithTimeout(context.Background(), lastCalls)
		defer cancel()
		if err := r.manager.Close(ctx); err != nil {
			r.log.Error("outcomes were not sent", "agents", r.manager.Backlog().Agents, "error", err)
		}
	}
	if orderly {
		r.logStats()
	}
	if r.cancel != nil {
		r.cancel()
		r.tasks.Wait()
	}
	if orderly {
		if err := r.docs.EndHeartbeat(context.Background(), r.id); err != nil {
			r.log.Debug("heartbeat not ended: this replica counts for some seconds more", "error", err)
		}
	}
	r.fallback.Close()
	if err := r.conn.Close(); err != nil {
		r.log.Debug("redis client not closed cleanly", "error", err)
	}
}
