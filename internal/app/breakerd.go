package app

import (
	"context"
	"fmt"
	"time"

	"github.com/breakerd/breakerd/internal/config"
	"github.com/breakerd/breakerd/internal/daemon"
	"github.com/breakerd/breakerd/internal/events"
	"github.com/breakerd/breakerd/internal/httpapi"
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
		Help: help, Configure: p.configure,
	}
}

// maxStreams bounds who listens to the events of the fleet at one replica.
const maxStreams = 256

func buildBreakerd(s *service, ready func(context.Context) error) (parts, error) {
	hub := events.NewHub(s.Docs, maxStreams)
	s.OnHeard(hub.Wake)
	api, err := httpapi.New(httpapi.Options{
		Manager: s.Manager, Directory: directory{s.Docs, s.Replica}, Policies: s.Policies, InFile: s.Registry.InFile,
		HoldDefault: s.cfg.HoldDefault, Fleet: directory{s.Docs, s.Replica}, Events: s.Docs, Listen: hub.Listen,
		Calls:         directory{s.Docs, s.Replica}.Calls,
		HealthOptions: s.healthOptions(ready, nil), LoopbackOnly: s.cfg.Auth == "", Logger: s.log,
	})
	if err != nil {
		return parts{}, fmt.Errorf("the API cannot be built: %w", err)
	}
	l := daemon.Listener{Listen: s.cfg.Listen, Variable: "BREAKERD_LISTEN", Handler: logRequests(s.log, api)}
	return parts{
		listeners: []daemon.Listener{l}, banner: bannerBreakerd,
		tasks: []func(context.Context){func(ctx context.Context) { runWhile(ctx, ready, hub.Run) }},
	}, nil
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

func bannerBreakerd(addresses []string) string {
	return fmt.Sprintf(`Try:
  curl -X POST http://%[1]s/v1/circuit_breakers/my-agent/acquire
  curl -X POST http://%[1]s/v1/circuit_breakers/my-agent/report %[2]s '{"outcome":"failure"}'
  curl http://%[1]s/v1/admin/circuit_breakers
`, addresses[0], "-H 'Content-Type: application/json' -d")
}
