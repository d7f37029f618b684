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

	"github.com/breakerd/breakerd/internal/config"
	"github.com/breakerd/breakerd/internal/metrics"
	"github.com/breakerd/breakerd/internal/policycache"
	"github.com/breakerd/breakerd/internal/redisdocs"
	"github.com/breakerd/breakerd/internal/registry"
	"github.com/breakerd/breakerd/internal/version"
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
	ready     readiness
	also      []func(ctx context.Context) // background tasks of the program at hand
	serving   sync.RWMutex                // held for reading by each call that is served
	tasks     sync.WaitGroup
	stop      context.CancelFunc
}

func newCore(ctx context.Context, cfg config.Config, log *slog.Logger) (s *core, err error) {
	s = &core{cfg: cfg, log: log, replica: cfg.ReplicaID}
	if s.replica == "" {
		s.replica = replicaID()
	}
	if err := s.openStore(ctx); err != nil {
		return nil, err
	}
	opened := s // for a return of nil sets s to that
	defer func() {
		if err != nil {
			opened.close()
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
	log.Info("Initialized CircuitBreakerManager", "replica", s.replica, "enabled", !cfg.Policy.Disabled, "redis", s.conn.Display, "version", version.String())
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

// readiness is what /readyz says.
type readiness struct {
	mu  sync.Mutex
	err error
}

func (r *readiness) set(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
}

func (r *readiness) get(context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

var errStopping = errors.New("stopping")

// start begins the background tasks; close ends them.
func (s *core) start(ctx context.Context) {
	ctx, s.stop = context.WithCancel(context.WithoutCancel(ctx))
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

func (s *core) close() {
	if s.stop != nil {
		s.stop()
	}
	s.tasks.Wait()
	if s.manager != nil {
		s.sendAll()
	}
	s.fallback.Close()
	if err := s.conn.Close(); err != nil {
		s.log.Debug("redis client not closed cleanly", "error", err)
	}
}
