// Package app builds the programs breakerd and bridge: a replica of the fleet, what each program serves on it, and
// their end.
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

const embeddedBanner = "Redis is embedded: this process only, and NOTHING IS KEPT when it ends. " +
	"Set REDIS_URL to share breakers.\n"

// program is what differs between the programs.
type program struct {
	check  func(config.Config) error  // of the listeners' addresses
	listen func(config.Config) string // of the listener that answers /readyz
	build  func(r *replica, ready func(context.Context) error) (parts, error)
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
		ShutdownDelay: cfg.ShutdownDelay, ShutdownTimeout: cfg.ShutdownTimeout,
		Open: func(
			ctx context.Context, log *slog.Logger, ready func(context.Context) error,
		) (daemon.Service, error) {
			r, err := newReplica(ctx, cfg, log)
			if err != nil {
				return daemon.Service{}, err
			}
			p, err := p.build(r, ready)
			if err != nil {
				r.stop(false)
				return daemon.Service{}, err
			}
			return r.service(ctx, p), nil
		},
	}, nil
}

func (r *replica) service(ctx context.Context, p parts) daemon.Service {
	return daemon.Service{
		Listeners: p.listeners, Start: func() { r.start(ctx, p.tasks) }, Stop: r.stop,
		Banner: func(addresses []string) string {
			text := p.banner(addresses)
			if r.conn.Embedded {
				text = embeddedBanner + text
			}
			return text
		},
	}
}
