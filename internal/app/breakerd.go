package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/breakerd/breakerd/internal/access"
	"github.com/breakerd/breakerd/internal/config"
	"github.com/breakerd/breakerd/internal/daemon"
	"github.com/breakerd/breakerd/internal/events"
	"github.com/breakerd/breakerd/internal/httpapi"
	"github.com/breakerd/breakerd/internal/metrics"
	"github.com/breakerd/breakerd/internal/permits"
	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/webhook"
)

// Breakerd is the circuit breaker as an HTTP service.
func Breakerd() daemon.Program {
	p := program{
		name:  "breakerd",
		check: config.Config.CheckListen, build: buildBreakerd,
		listen: func(c config.Config) string { return c.Listen },
	}
	return daemon.Program{
		Name: p.name, About: "the circuit breaker that a whole fleet shares, as an HTTP service.",
		Help: help, Configure: p.configure, Commands: []daemon.Command{newToken()},
		Sockets: []string{"BREAKERD_LISTEN", "DEBUG_LISTEN"},
	}
}

// newToken is the command that makes a token for AUTH_FILE.
func newToken() daemon.Command {
	return daemon.Command{
		Name: "token new",
		About: `--name NAME --role read|report|operate|admin [--expires TIME] [--agents PATTERN,PATTERN]
                   print a token, once, and its entry for AUTH_FILE below it`,
		Run: func(args []string, stdout io.Writer) error { return access.NewToken(args, stdout, time.Now()) },
	}
}

// maxStreams bounds who listens to the events of the fleet at one replica.
const maxStreams = 256

func buildBreakerd(s *service, ready func(context.Context) error) (parts, error) {
	s.warnOfAccess("BREAKERD", s.cfg.Listen, s.cfg.Auth, "operate the breakers")
	var signer *permits.Signer // permits are signed where it counts who reports
	if s.access != nil {
		signer = permits.NewSigner(s.Docs, s.log)
	}
	hub := events.NewHub(s.Docs, maxStreams)
	var err error
	s.webhooks, err = webhook.New(webhook.Options{
		Path: s.cfg.WebhooksFile, Store: s.Docs, Replica: s.ID, Version: daemon.Version(), Log: s.log,
		Count: metrics.CountWebhooks(s.metrics),
	})
	if err != nil {
		return parts{}, fmt.Errorf("WEBHOOKS_FILE: %w", err)
	}
	s.OnHeard(func() { hub.Wake(); s.webhooks.Wake() })
	api, err := httpapi.New(httpapi.Options{
		Manager: s.Manager, Directory: directory{s.Docs, s.Replica}, Policies: s.Policies, InFile: s.Registry.InFile,
		HoldDefault: s.cfg.HoldDefault, Fleet: directory{s.Docs, s.Replica}, Keys: s.Docs, Events: s.Docs,
		HistoryMinutes: s.cfg.HistoryMinutes,
		Listen:         s.countedListen(hub), Permits: signer,
		Backups:  backups{s},
		Webhooks: s.webhooks.List, Calls: directory{s.Docs, s.Replica}.Calls, Latency: s.Latency,
		HealthOptions: s.healthOptions(ready, nil), Judges: s.monitor.Add, Logger: s.log,
		Access: s.access, Rate: s.rate, LoopbackOnly: s.cfg.Auth == "" && s.access == nil,
	})
	if err != nil {
		return parts{}, fmt.Errorf("the API cannot be built: %w", err)
	}
	l := daemon.Listener{Listen: s.cfg.Listen, Variable: "BREAKERD_LISTEN", Handler: logRequests(s.log, api)}
	return parts{
		listeners: []daemon.Listener{l}, banner: bannerBreakerd,
		tasks: []func(context.Context){
			func(ctx context.Context) { runWhile(ctx, ready, hub.Run) }, s.webhooks.Run, signer.Run,
		},
	}, nil
}

type listen = func(context.Context, *events.ID) (*events.Listener, events.ID, *events.Reset, error)

// countedListen counts who finds no place to listen.
func (s *service) countedListen(hub *events.Hub) listen {
	return func(ctx context.Context, after *events.ID) (*events.Listener, events.ID, *events.Reset, error) {
		l, at, reset, err := hub.Listen(ctx, after)
		if errors.Is(err, events.ErrTooMany) {
			s.refused(string(problem.TooManyStreams))
		}
		return l, at, reset, err
	}
}

// runWhile runs a task until ctx ends or the program is stopping: the end of the program would wait for streams.
func runWhile(ctx context.Context, ready func(context.Context) error, run func(context.Context)) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer cancel()
		t := time.NewTicker(100 * time.Millisecond)
		defer t.Stop()
		for ready(ctx) == nil {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
			}
		}
	}()
	run(ctx)
}

func bannerBreakerd(urls []string) string {
	return fmt.Sprintf(`Try:
  curl -X POST %[1]s/v1/circuit_breakers/my-agent/acquire
  curl -X POST %[1]s/v1/circuit_breakers/my-agent/report %[2]s '{"outcome":"failure"}'
  curl %[1]s/v1/admin/circuit_breakers
`, urls[0], "-H 'Content-Type: application/json' -d")
}
