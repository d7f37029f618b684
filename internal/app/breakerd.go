package app

import (
	"context"
	"fmt"

	"github.com/breakerd/breakerd/internal/config"
	"github.com/breakerd/breakerd/internal/daemon"
	"github.com/breakerd/breakerd/internal/httpapi"
)

// Breakerd is the circuit breaker as an HTTP service.
func Breakerd() daemon.Program {
	p := program{
		check: config.Config.CheckListen, build: buildBreakerd,
		listen: func(c config.Config) string { return c.Listen },
	}
	return daemon.Program{
		Name: "breakerd", About: "the circuit breaker that a whole fleet shares, as an HTTP service.",
		Help: help, Configure: p.configure,
	}
}

func buildBreakerd(s *service, ready func(context.Context) error) (parts, error) {
	api, err := httpapi.New(httpapi.Options{
		Manager: s.Manager, Directory: directory{s.Docs, s.Replica}, Policies: s.Policies, InFile: s.Registry.InFile,
		HealthOptions: s.healthOptions(ready, nil), LoopbackOnly: s.cfg.Auth == "", Logger: s.log,
	})
	if err != nil {
		return parts{}, fmt.Errorf("the API cannot be built: %w", err)
	}
	l := daemon.Listener{Listen: s.cfg.Listen, Variable: "BREAKERD_LISTEN", Handler: logRequests(s.log, api)}
	return parts{listeners: []daemon.Listener{l}, banner: bannerBreakerd}, nil
}

func bannerBreakerd(addresses []string) string {
	return fmt.Sprintf(`Try:
  curl -X POST http://%[1]s/v1/circuit_breakers/my-agent/acquire
  curl -X POST http://%[1]s/v1/circuit_breakers/my-agent/report %[2]s '{"outcome":"failure"}'
  curl http://%[1]s/v1/admin/circuit_breakers
`, addresses[0], "-H 'Content-Type: application/json' -d")
}
