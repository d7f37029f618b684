package app

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/breakerd/breakerd/internal/config"
	"github.com/breakerd/breakerd/internal/httpapi"
	"github.com/breakerd/breakerd/internal/version"
)

// Breakerd runs the service until a signal, and gives the exit code. environ is as os.Environ has it; signals tells of SIGTERM
// and SIGINT: the first begins the end, the second forces it.
func Breakerd(ctx context.Context, args, environ []string, stdout, stderr io.Writer, signals <-chan os.Signal) int {
	return program{
		name: "breakerd", about: "the circuit breaker that a whole fleet shares, as an HTTP service.",
		check: config.Config.CheckListen, listen: func(c config.Config) string { return c.Listen },
		mount: mountBreakerd, banner: bannerBreakerd,
	}.run(ctx, args, environ, stdout, stderr, signals)
}

func mountBreakerd(s *core) ([]mount, error) {
	handler, err := httpapi.New(httpapi.Options{
		Manager: s.manager, Directory: s.directory, Policies: s.book,
		Health: s.checkup(nil).health, Ready: s.ready.get, LoopbackOnly: s.cfg.Auth == "",
		Metrics: s.metrics.Handler(), Version: version.String(), ReplicaID: s.replica, Logger: s.log,
	})
	if err != nil {
		return nil, fmt.Errorf("the API cannot be built: %w", err)
	}
	return []mount{{listen: s.cfg.Listen, variable: "BREAKERD_LISTEN", handler: handler}}, nil
}

func bannerBreakerd(_ *core, w io.Writer, addresses []string) {
	fmt.Fprintf(w, `Try:
  curl -X POST http://%[1]s/v1/circuit_breakers/my-agent/acquire
  curl -X POST http://%[1]s/v1/circuit_breakers/my-agent/report -H 'Content-Type: application/json' -d '{"outcome":"failure"}'
  curl http://%[1]s/v1/admin/circuit_breakers
`, addresses[0])
}
