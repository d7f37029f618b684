// Package app builds the programs breakerd and bridge: a replica of the fleet, what each program serves on it, and
// their end.
package app

import (
	"context"
	"log/slog"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/breakerd/breakerd/internal/access"
	"github.com/breakerd/breakerd/internal/config"
	"github.com/breakerd/breakerd/internal/daemon"
	"github.com/breakerd/breakerd/internal/health"
	"github.com/breakerd/breakerd/internal/metrics"
	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/replica"
	"github.com/breakerd/breakerd/internal/tlsfile"
	"github.com/breakerd/breakerd/internal/webhook"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/redisstore"
	"github.com/breakerd/breakerd/pkg/redisstore/embedded"
)

const help = `Everything is set by environment variables, or by a file that ENV_FILE names.
docs/configuration.md has a table of all of them; .env.example has each at its default.
`

const embeddedBanner = "Redis is embedded: this process only, and NOTHING IS KEPT when it ends. " +
	"Set REDIS_URL to share breakers.\n"

// program is what differs between the programs.
type program struct {
	name   string
	check  func(config.Config) error  // of the listeners' addresses
	listen func(config.Config) string // of the listener that answers /readyz
	build  func(s *service, ready func(context.Context) error) (parts, error)

	callsOut bool // it calls agents on behalf of its callers
}

// parts are what a program adds to a replica.
type parts struct {
	listeners []daemon.Listener
	tasks     []func(ctx context.Context) // run in the background until ctx ends
	banner    func(urls []string) string
}

func (p program) configure(environ []string) (daemon.Config, error) {
	cfg, err := config.Load(environ)
	if err == nil {
		err = p.check(cfg)
	}
	if err != nil {
		return daemon.Config{}, err
	}
	return daemon.Config{
		Listen: p.listen(cfg), LogLevel: cfg.LogLevel, LogFormat: cfg.LogFormat, Warnings: cfg.Warnings,
		ShutdownDelay: cfg.ShutdownDelay, ShutdownTimeout: cfg.ShutdownTimeout, CallsOut: p.callsOut,
		MaxRequests: cfg.MaxRequests,
		TLS: tlsfile.Files{
			CA:   tlsfile.File{Name: "TLS_CLIENT_CA_FILE", Path: cfg.TLSClientCAFile},
			Cert: tlsfile.File{Name: "TLS_CERT_FILE", Path: cfg.TLSCertFile},
			Key:  tlsfile.File{Name: "TLS_KEY_FILE", Path: cfg.TLSKeyFile},
		},
		Open: func(ctx context.Context, h daemon.Host) (daemon.Service, error) {
			s, err := newService(ctx, p, cfg, h)
			if err != nil {
				return daemon.Service{}, err
			}
			p, err := p.build(s, h.Ready)
			if err != nil {
				s.stop(false)
				return daemon.Service{}, err
			}
			return s.serve(ctx, p), nil
		},
	}, nil
}

// service is a replica of the fleet that serves others.
type service struct {
	*replica.Replica

	cfg      config.Config
	log      *slog.Logger
	metrics  *metrics.Metrics
	webhooks *webhook.Hooks // nil: not of this program

	connectionsOut int
	certificate    daemon.Certificate
	access         *access.Guard // nil: everybody may do everything
	rate           *access.Rate  // nil: no bound
	refused        func(reason string)
	monitor        *health.Monitor
	linesDropped   func() int64
	servers        singleflight.Group // see readServers
}

func newService(ctx context.Context, p program, cfg config.Config, h daemon.Host) (s *service, err error) {
	limitMemory(h.Log)
	redisstore.SetClientLogger(h.Log)
	s = &service{
		cfg: cfg, log: h.Log, connectionsOut: h.ConnectionsOut, certificate: h.Certificate,
		monitor: health.New(), linesDropped: h.LinesDropped,
	}
	important := func(agent string) bool { return s.Important(agent) }
	if cfg.Guarded() {
		if s.access, err = access.New(access.Options{
			File: cfg.AuthFile, Certificates: cfg.TLSClientCAFile != "", Logger: h.Log,
		}); err != nil {
			return nil, err
		}
	}
	s.metrics = metrics.New(daemon.Version(), cfg.MetricsMaxAgents, important)
	observer := breaker.Observer(s.metrics.Breakers)
	if !p.callsOut { // bridge has histograms that know more
		observer = breaker.Observers(observer, metrics.NewDurations(s.metrics))
	}
	s.refused = s.metrics.Refused()
	s.rate = access.NewRate(cfg.ClientRate, func() { s.refused(string(problem.RateLimited)) })
	var listen []string
	if p.listen != nil {
		listen = []string{p.listen(cfg)}
	}
	s.Replica, err = replica.New(ctx, replica.Options{
		Replica: cfg.Replica, Program: p.name, Version: daemon.Version(), Logger: h.Log, Embedded: embedded.Start,
		Observer: observer, TimesCalls: p.callsOut, Listen: listen, Certificates: s.certificate.Held,
	})
	if err != nil {
		return nil, err
	}
	s.metrics.RegisterLog(h.LinesDropped)
	s.metrics.RegisterHealth(s.monitor)
	s.metrics.RegisterPool(s.Conn.Client.PoolStats, cfg.RedisTimeout)
	return s, nil
}

// warnOfAccess says loudly what an operator may not have meant: that a listener which other machines reach asks nobody
// who he is, and may is what everyone may do then; or that auth, which is "none", has no effect.
func (s *service) warnOfAccess(program, listen, auth, may string) {
	switch {
	case s.access != nil && auth != "":
		s.log.Warn(program+"_AUTH=none has no effect: AUTH_FILE or TLS_CLIENT_CA_FILE is set",
			"event", "access.none_ignored")
	case s.access == nil && !config.Loopback(listen):
		s.log.Warn("everyone who reaches the listener may "+may, "event", "access.open", "listen", listen)
	}
}

// lastCalls bounds all of the last things that are asked of Redis together.
const lastCalls = 2 * time.Second

func (s *service) stop(orderly bool) {
	ctx, cancel := context.WithTimeout(context.Background(), lastCalls)
	defer cancel()
	_ = s.Stop(ctx, orderly) // which logs what it could not send
}

func (s *service) serve(ctx context.Context, p parts) daemon.Service {
	if s.access != nil {
		p.tasks = append(p.tasks, s.access.Run)
	}
	if s.cfg.DebugListen != "" {
		p.listeners = append(p.listeners, debugListener(s.cfg.DebugListen))
	}
	return daemon.Service{
		Listeners: p.listeners, Start: func() { s.Start(ctx, append(p.tasks, s.Greet, s.monitor.Run)...) }, Stop: s.stop,
		Refused: s.refused,
		Banner: func(urls []string) string {
			text := p.banner(urls)
			if s.Conn.Embedded {
				text = embeddedBanner + text
			}
			return text
		},
	}
}
