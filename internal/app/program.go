// Package app builds the programs breakerd and bridge: a replica of the fleet, what each program serves on it, and
// their end.
package app

import (
	"context"
	"log/slog"
	"time"

	"github.com/breakerd/breakerd/internal/config"
	"github.com/breakerd/breakerd/internal/daemon"
	"github.com/breakerd/breakerd/internal/metrics"
	"github.com/breakerd/breakerd/internal/replica"
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
	banner    func(addresses []string) string
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
		Open: func(ctx context.Context, h daemon.Host) (daemon.Service, error) {
			s, err := newService(ctx, p.name, cfg, h)
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

	cfg     config.Config
	log     *slog.Logger
	metrics *metrics.Metrics

	connectionsOut int
}

func newService(ctx context.Context, name string, cfg config.Config, h daemon.Host) (s *service, err error) {
	limitMemory(h.Log)
	redisstore.SetClientLogger(h.Log)
	s = &service{cfg: cfg, log: h.Log, connectionsOut: h.ConnectionsOut}
	important := func(agent string) bool { return s.Important(agent) }
	s.metrics = metrics.New(daemon.Version(), cfg.MetricsMaxAgents, important)
	s.Replica, err = replica.New(ctx, replica.Options{
		Replica: cfg.Replica, Program: name, Version: daemon.Version(), Logger: h.Log, Embedded: embedded.Start,
		Observer: s.metrics.Breakers,
	})
	if err != nil {
		return nil, err
	}
	s.metrics.RegisterLog(h.LinesDropped)
	s.metrics.RegisterPool(s.Conn.Client.PoolStats)
	return s, nil
}

// lastCalls bounds all of the last things that are asked of Redis together.
const lastCalls = 2 * time.Second

func (s *service) stop(orderly bool) {
	ctx, cancel := context.WithTimeout(context.Background(), lastCalls)
	defer cancel()
	_ = s.Stop(ctx, orderly) // which logs what it could not send
}

func (s *service) serve(ctx context.Context, p parts) daemon.Service {
	return daemon.Service{
		Listeners: p.listeners, Start: func() { s.Start(ctx, append(p.tasks, s.Greet)...) }, Stop: s.stop,
		Banner: func(addresses []string) string {
			text := p.banner(addresses)
			if s.Conn.Embedded {
				text = embeddedBanner + text
			}
			return text
		},
	}
}
