// Package app wires the programs: configuration, store, fallback, policies, API, and their end.
package app

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/breakerd/breakerd/internal/config"
	"github.com/breakerd/breakerd/internal/httpapi"
	"github.com/breakerd/breakerd/internal/logging"
	"github.com/breakerd/breakerd/internal/metrics"
	"github.com/breakerd/breakerd/internal/policies"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

// Exit codes of the programs.
const (
	exitOK     = 0
	exitForced = 1 // a second signal, or trouble while running
	exitConfig = 2
)

// service is one breakerd: everything that lives from start to stop.
type service struct {
	cfg      config.Config
	log      *slog.Logger
	conn     *redisstore.Conn
	store    *redisstore.Store
	fallback *breaker.Fallback
	book     *policies.Book
	manager  *breaker.Manager
	metrics  *metrics.Metrics
	samples  *quarantine
	index    *indexer
	replica  string
	ready    readiness
	tasks    sync.WaitGroup
	stop     context.CancelFunc
}

// Breakerd runs the service until a signal, and gives the exit code. environ is as os.Environ has it; signals tells of SIGTERM
// and SIGINT: the first begins the end, the second forces it.
func Breakerd(ctx context.Context, args, environ []string, stdout, stderr io.Writer, signals <-chan os.Signal) int {
	if len(args) > 0 {
		return usage(args, stdout, stderr)
	}
	cfg, err := config.Load(environ)
	if err == nil {
		err = cfg.CheckListen()
	}
	if err != nil {
		fmt.Fprintf(stderr, "breakerd: bad configuration:\n%v\n", err)
		return exitConfig
	}
	log := logging.New(stderr, cfg.LogLevel.String(), cfg.LogFormat)
	for _, w := range cfg.Warnings {
		log.Warn("configuration", "warning", w)
	}
	s, err := newService(ctx, cfg, log)
	if err != nil {
		fmt.Fprintf(stderr, "breakerd: bad configuration: %v\n", err)
		return exitConfig
	}
	return s.run(ctx, stdout, signals)
}

const help = `breakerd: the circuit breaker that a whole fleet shares, as an HTTP service.

It takes no arguments: everything is set by environment variables, or by a file that ENV_FILE names.
The table of all of them stands in README.md; .env.example has each at its default.

  breakerd            start
  breakerd --version  print the version
  breakerd --help     print this
`

func usage(args []string, stdout, stderr io.Writer) int {
	switch args[0] {
	case "--version", "-version":
		fmt.Fprintln(stdout, "breakerd", Version())
		return exitOK
	case "--help", "-help", "-h":
		fmt.Fprint(stdout, help)
		return exitOK
	}
	fmt.Fprintf(stderr, "breakerd: unknown argument %q\n\n%s", args[0], help)
	return exitConfig
}

func newService(ctx context.Context, cfg config.Config, log *slog.Logger) (*service, error) {
	s := &service{cfg: cfg, log: log, replica: cfg.ReplicaID}
	if s.replica == "" {
		s.replica = replicaID()
	}
	redisstore.SetClientLogger(log)
	var err error
	s.conn, err = redisstore.Open(ctx, cfg.RedisURL.Reveal(), redisstore.Options{
		Timeout: cfg.RedisTimeout, Username: cfg.RedisUsername,
		Password: cfg.RedisPassword.Reveal(), SentinelPassword: cfg.RedisSentinelPassword.Reveal(), Logger: log,
	})
	if err != nil {
		return nil, fmt.Errorf("REDIS_URL: %w", err)
	}
	s.store, err = redisstore.New(s.conn.Client, s.conn.Cluster, redisstore.Config{
		Prefix: cfg.KeyPrefix, Most: cfg.MaxAgents, TTL: cfg.RedisTTL, Timeout: cfg.RedisTimeout,
	})
	if err != nil {
		return nil, errors.Join(err, s.conn.Close())
	}
	s.fallback = breaker.NewFallback(s.store, s.store.Ping, cfg.MaxAgents, s.degradedChanged)
	s.index = newIndexer(s.store, cfg.MaxAgents, log)
	s.book = policies.New(policies.Options{
		Default: cfg.Policy, Origins: cfg.Origins, Source: directory{Store: s.store}, Logger: log,
		OnNew: s.index.note, Away: s.fallback.Degraded, Trouble: s.fallback.Report,

		Most: cfg.MaxAgents, Timeout: cfg.RedisTimeout,
	})
	s.samples = newQuarantine(s.store.PushQuarantine, s.replica)
	s.metrics = s.newMetrics()
	s.manager, err = breaker.NewManager(breaker.Options{
		Store: s.fallback, Policy: s.book.Policy, Look: s.book.Look, Disabled: !cfg.Policy.Enabled,
		Reporter: s.replica, Logger: log, Observer: observers{s.metrics, newLogObserver(log), s.samples},
	})
	if err != nil {
		s.fallback.Close()
		return nil, errors.Join(err, s.conn.Close())
	}
	log.Info("Initialized CircuitBreakerManager", "replica", s.replica, "enabled", cfg.Policy.Enabled, "redis", s.conn.Display, "version", Version())
	return s, nil
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
func (s *service) degradedChanged(degraded bool, cause error) {
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

// run serves until a signal or the end of ctx.
func (s *service) run(ctx context.Context, stdout io.Writer, signals <-chan os.Signal) int {
	defer s.close()
	handler, err := httpapi.New(httpapi.Options{
		Manager: s.manager, Directory: directory{s.store, s.index, s.forget}, Policies: s.book,
		Health: checkup{s.conn, s.store, s.fallback, 2 * s.cfg.RedisTimeout}.health,
		Ready:  s.ready.get, LoopbackOnly: s.cfg.Auth == "",
		Metrics: s.metrics.Handler(), Version: Version(), ReplicaID: s.replica, Logger: s.log,
	})
	if err != nil {
		s.log.Error("the API cannot be built", "error", err)
		return exitForced
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.cfg.Listen)
	if err != nil {
		s.log.Error("cannot listen: is another breakerd running? set BREAKERD_LISTEN to a free address", "listen", s.cfg.Listen, "error", err)
		return exitForced
	}
	s.start(ctx)
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: 60 * time.Second,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	s.banner(stdout, listener.Addr().String())
	select {
	case err := <-served:
		s.log.Error("the listener failed", "error", err)
		return exitForced
	case <-ctx.Done():
	case sig := <-signals:
		s.log.Info("stopping", "signal", sig.String(), "timeout", s.cfg.ShutdownTimeout.String())
	}
	return s.shutdown(server, signals)
}

// start begins the background tasks; close ends them.
func (s *service) start(ctx context.Context) {
	ctx, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	s.tasks.Go(func() { s.book.Run(ctx) })
	s.tasks.Go(func() { s.samples.run(ctx) })
	s.tasks.Go(func() { s.index.run(ctx, s.book.InUse) })
	s.tasks.Go(func() { s.greet(ctx) })
	s.tasks.Go(func() { heartbeat(ctx, s.store, s.replica) })
	s.tasks.Go(func() { s.store.Events(ctx, func(m string) { s.hear(ctx, m) }) })
}

// greet says how Redis was found. A Redis that is away is no reason not to start: the fallback answers.
func (s *service) greet(ctx context.Context) {
	warnings, err := s.conn.Check(ctx)
	for _, w := range warnings {
		s.log.Warn("redis", "warning", w, "redis", s.conn.Display)
	}
	if err != nil {
		s.log.Error("Redis does not answer: is it running, and is REDIS_URL right?", "redis", s.conn.Display, "error", err)
		return
	}
	s.log.Info("CircuitBreakerManager initialized with Redis connection", "redis", s.conn.Display)
}

// banner tells a person at a terminal where it listens and what to try.
func (s *service) banner(w io.Writer, addr string) {
	s.log.Info("listening", "address", addr, "redis", s.conn.Display)
	fmt.Fprintf(w, "breakerd %s listens on http://%s\n", Version(), addr)
	if s.conn.Embedded != nil {
		fmt.Fprint(w, "Redis is embedded: this process only, and NOTHING IS KEPT when it ends. Set REDIS_URL to share breakers.\n")
	}
	fmt.Fprintf(w, `Try:
  curl -X POST http://%[1]s/v1/circuit_breakers/my-agent/acquire
  curl -X POST http://%[1]s/v1/circuit_breakers/my-agent/report -H 'Content-Type: application/json' -d '{"outcome":"failure"}'
  curl http://%[1]s/v1/admin/circuit_breakers
`, addr)
}

// shutdown is: not ready, drain, tell the figures. A second signal ends it at once.
func (s *service) shutdown(server *http.Server, signals <-chan os.Signal) int {
	s.ready.set(errStopping)
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.ShutdownTimeout)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		err := server.Shutdown(ctx)
		logStats(ctx, s.manager, s.book, s.log)
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			s.log.Warn("stopped with calls still under way", "error", err)
		} else {
			s.log.Info("stopped")
		}
		return exitOK
	case sig := <-signals:
		s.log.Warn("stopped by a second signal", "signal", sig.String())
		_ = server.Close() // the end is forced; there is nobody to tell
		return exitForced
	}
}

func (s *service) close() {
	if s.stop != nil {
		s.stop()
	}
	s.tasks.Wait()
	s.fallback.Close()
	if err := s.conn.Close(); err != nil {
		s.log.Debug("redis client not closed cleanly", "error", err)
	}
}
