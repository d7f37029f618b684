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

// core is what every program stands on: one replica of the fleet, from start to stop.
type core struct {
	cfg       config.Config
	log       *slog.Logger
	conn      *redisstore.Conn
	store     *redisstore.Store
	docs      *redisdocs.Docs
	fallback  *breaker.Fallback
	registry  *registry.Registry
	book      *policycache.Cache
	manager   *breaker.Manager
	metrics   *metrics.Metrics
	samples   *quarantine
	index     *indexer
	directory directory
	replica   string
	ready     func(context.Context) error // an error while this replica stops
	also      []func(ctx context.Context) // background tasks of the program at hand
	tasks     sync.WaitGroup
	cancel    context.CancelFunc // of tasks
}

func newCore(ctx context.Context, cfg config.Config, log *slog.Logger, ready func(context.Context) error) (s *core, err error) {
	s = &core{cfg: cfg, log: log, ready: ready, replica: cfg.ReplicaID}
	if s.replica == "" {
		s.replica = replicaID()
	}
	if err := s.openStore(ctx); err != nil {
		return nil, err
	}
	opened := s // for a return of nil sets s to that
	defer func() {
		if err != nil {
			opened.stop(false)
		}
	}()
	s.index = newIndexer(s.docs, cfg.MaxAgents, log)
	s.directory = directory{s.docs, s.store, s.index, func(ctx context.Context, agent string) error { return s.manager.Flush(ctx, agent) }, s.forget}
	s.registry, err = registry.New(registry.Options{
		Path: cfg.AgentsFile, Default: cfg.Policy, Origins: cfg.Origins, Profiles: s.directory,
		Logger: log, Timeout: cfg.RedisTimeout, MaxAgents: cfg.MaxAgents, StoreDown: s.fallback.Degraded, OnError: s.fallback.Report,
		OnChange: func() { s.book.Rebase() },
	})
	if err != nil {
		return nil, fmt.Errorf("AGENTS_FILE: %w", err)
	}
	s.book = policycache.New(policycache.Options{
		Default: cfg.Policy, Origins: cfg.Origins, Registry: s.registry.Override, Source: s.directory, Logger: log,
		OnNew: s.index.note, StoreDown: s.fallback.Degraded, OnError: s.fallback.Report, MaxAgents: cfg.MaxAgents, Timeout: cfg.RedisTimeout,
	})
	s.samples = newQuarantine(s.docs.PushQuarantine, s.replica)
	s.metrics = s.newMetrics()
	s.manager, err = breaker.NewManager(breaker.Options{
		Store: s.fallback, Policy: cfg.Policy, PerAgent: s.book.Policy, Look: s.book.Look, Disabled: cfg.Policy.Disabled,
		Reporter: s.replica, Logger: log, Observer: observers{s.metrics, newLogObserver(log), s.samples},
		FlushInterval: cfg.FlushInterval, MaxStaleness: cfg.MaxStaleness, MaxAgents: cfg.MaxAgents,
	})
	if err != nil {
		return nil, err
	}
	log.Info("Initialized CircuitBreakerManager", "replica", s.replica, "enabled", !cfg.Policy.Disabled, "redis", s.conn.Display, "version", daemon.Version())
	return s, nil
}

// openStore connects to Redis, which need not be there yet.
func (s *core) openStore(ctx context.Context) (err error) {
	redisstore.SetClientLogger(s.log)
	s.conn, err = redisstore.Open(ctx, s.cfg.RedisURL.Reveal(), redisstore.Options{
		Timeout: s.cfg.RedisTimeout, Username: s.cfg.RedisUsername,
		Password: s.cfg.RedisPassword.Reveal(), SentinelPassword: s.cfg.RedisSentinelPassword.Reveal(), Embedded: embedded.Start, Logger: s.log,
	})
	if err != nil {
		return fmt.Errorf("REDIS_URL: %w", err)
	}
	s.store, err = redisstore.New(s.conn.Client, s.conn.Cluster, redisstore.Config{
		Prefix: s.cfg.KeyPrefix, MaxAgents: s.cfg.MaxAgents, TTL: s.cfg.RedisTTL, Timeout: s.cfg.RedisTimeout,
		History: s.cfg.HistoryMinutes,
	})
	if err != nil {
		return errors.Join(err, s.conn.Close())
	}
	s.docs = redisdocs.New(s.store, s.conn.Client, redisdocs.Config{MaxAgents: s.cfg.MaxAgents, Timeout: s.cfg.RedisTimeout})
	s.fallback = breaker.NewFallback(s.store, s.store.Ping, s.cfg.MaxAgents, s.degradedChanged)
	return nil
}

// replicaID is this machine's name and eight random digits, so that two replicas on one machine differ.
func replicaID() string {
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

// degradedChanged is told by the fallback, once a change.
func (s *core) degradedChanged(degraded bool, cause error) {
	if degraded {
		s.log.Error("Redis is away: answering from this replica's memory", "event", "circuit_breaker.degraded", "redis", s.conn.Display, "error", cause)
	} else {
		s.log.Warn("Redis is back: the fleet's state holds again", "event", "circuit_breaker.recovered", "redis", s.conn.Display)
	}
}

// start begins the background tasks; stop ends them.
func (s *core) start(ctx context.Context) {
	ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	for _, task := range append(s.also, s.registry.Run, s.book.Run, s.samples.run, s.greet) {
		s.tasks.Go(func() { task(ctx) })
	}
	s.tasks.Go(func() { s.index.run(ctx, s.book.InUse) })
	s.tasks.Go(func() { heartbeat(ctx, s.docs, s.store, s.replica) })
	s.tasks.Go(func() { s.store.Events(ctx, func(agent string, e breaker.Event) { s.hear(ctx, agent, e) }) })
}

// greet says how Redis was found. A Redis that is away is no reason not to start: the fallback answers.
func (s *core) greet(ctx context.Context) {
	warnings, err := s.conn.Check(ctx)
	for _, w := range warnings {
		s.log.Warn("redis", "warning", w, "redis", s.conn.Display)
	}
	if err != nil {
		s.log.Error("Redis does not answer: is it running, and is REDIS_URL right?", "redis", s.conn.Display, "error", err)
		return
	}
	born, err := s.store.Born(ctx)
	if err != nil {
		s.log.Warn("the identity of Redis' data could not be read", "redis", s.conn.Display, "error", err)
	}
	s.log.Info("CircuitBreakerManager initialized with Redis connection", "redis", s.conn.Display, "born", born)
}

// lastCalls bounds each of the last two things that are asked of Redis: to take what was not sent, and to tell the figures.
const lastCalls = 2 * time.Second

// stop sends what cached mode has not sent yet, ends the background tasks and closes everything. An orderly one logs each agent's figures.
func (s *core) stop(orderly bool) {
	if s.manager != nil {
		s.sendAll()
	}
	if orderly {
		logStats(s.manager, s.book, s.log)
	}
	if s.cancel != nil {
		s.cancel()
	}
	s.tasks.Wait()
	s.fallback.Close()
	if err := s.conn.Close(); err != nil {
		s.log.Debug("redis client not closed cleanly", "error", err)
	}
}

// sendAll sends what cached mode has not sent yet.
func (s *core) sendAll() {
	ctx, cancel := context.WithTimeout(context.Background(), lastCalls)
	defer cancel()
	if err := s.manager.Close(ctx); err != nil {
		s.log.Error("outcomes were not sent", "agents", s.manager.Backlog().Agents, "error", err)
	}
}
