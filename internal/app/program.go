// Package app wires the programs: configuration, store, fallback, policies, listeners, and their end.
package app

import (
	"context"
	"log/slog"

	"github.com/breakerd/breakerd/internal/config"
	"github.com/breakerd/breakerd/internal/daemon"
)

const help = `Everything is set by environment variables, or by a file that ENV_FILE names.
docs/configuration.md has a table of all of them; .env.example has each at its default.
`

const embeddedBanner = "Redis is embedded: this process only, and NOTHING IS KEPT when it ends. Set REDIS_URL to share breakers.\n"

// program is what differs between the services.
type program struct {
	check  func(config.Config) error              // of the listeners' addresses
	listen func(config.Config) string             // the main listener, which answers /readyz
	mount  func(*core) ([]daemon.Listener, error) // what listens where
	banner func(*core, []string) string           // given the addresses
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
		ShutdownDelay: cfg.ShutdownDelay, ShutdownTimeout: cfg.ShutdownTimeout,
		Open: func(ctx context.Context, log *slog.Logger, ready func(context.Context) error) (daemon.Service, error) {
			return p.open(ctx, cfg, log, ready)
		},
	}, nil
}

func (p program) open(ctx context.Context, cfg config.Config, log *slog.Logger, ready func(context.Context) error) (daemon.Service, error) {
	c, err := newCore(ctx, cfg, log, ready)
	if err != nil {
		return daemon.Service{}, err
	}
	listeners, err := p.mount(c)
	if err != nil {
		c.stop(false)
		return daemon.Service{}, err
	}
	return daemon.Service{
		Listeners: listeners, Start: func() { c.start(ctx) }, Stop: c.stop,
		Banner: func(addresses []string) string {
			text := p.banner(c, addresses)
			if c.conn.Embedded {
				text = embeddedBanner + text
			}
			return text
		},
	}, nil
}
