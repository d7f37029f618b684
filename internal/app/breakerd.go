package app

import (
	"fmt"

	"github.com/breakerd/breakerd/internal/config"
	"github.com/breakerd/breakerd/internal/daemon"
	"github.com/breakerd/breakerd/internal/httpapi"
)

// Breakerd is the circuit breaker as an HTTP service.
func Breakerd() daemon.Program {
	p := program{
		check: config.Config.CheckListen, listen: func(c config.Config) string { return c.Listen },
		mount: mountBreakerd, banner: bannerBreakerd,
	}
	return daemon.Program{
		Name: "breakerd", About: "the circuit breaker that a whole fleet shares, as an HTTP service.", Help: help, Configure: p.configure,
	}
}

func mountBreakerd(s *core) ([]daemon.Listener, error) {
	handler, err := httpapi.New(httpapi.Options{
		Manager: s.manager, Directory: s.directory, Policies: s.book,
		HealthOptions: s.healthOptions(nil), LoopbackOnly: s.cfg.Auth == "", Logger: s.log,
	})
	if err != nil {
		return nil, fmt.Errorf("the API cannot be built: %w", err)
	}
	return []daemon.Listener{{Listen: s.cfg.Listen, Variable: "BREAKERD_LISTEN", Handler: handler}}, nil
}

func bannerBreakerd(_ *core, addresses []string) string {
	return fmt.Sprintf(`Try:
  curl -X POST http://%[1]s/v1/circuit_breakers/my-agent/acquire
  curl -X POST http://%[1]s/v1/circuit_breakers/my-agent/report -H 'Content-Type: application/json' -d '{"outcome":"failure"}'
  curl http://%[1]s/v1/admin/circuit_breakers
`, addresses[0])
}
