package demo

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/caarlos0/env/v11"

	"github.com/breakerd/breakerd/internal/config"
	"github.com/breakerd/breakerd/internal/daemon"
)

// drainTimeout is short: a hanging call never ends.
const drainTimeout = 5 * time.Second

const help = `Whoever reaches its address may call it and may switch it.

Environment:
  DEMO_LISTEN  host:port (127.0.0.1:9000)
  DEMO_AGENTS  how agents begin, as FailingAgent=failing,Other=slow:250; of all others the name decides:
               Failing, Slow, Flaky, RateLimited, Streaming, Hanging or Broken in it, else healthy
  LOG_LEVEL    debug, info, warn or error (info)
  LOG_FORMAT   auto, text or json (auto)

  curl http://127.0.0.1:9000/FailingAgent/any/path
  curl -X PUT http://127.0.0.1:9000/modes/FailingAgent -H 'Content-Type: application/json' -d '{"mode":"healthy"}'
  curl http://127.0.0.1:9000/modes
`

type variables struct {
	Listen string `env:"DEMO_LISTEN" envDefault:"127.0.0.1:9000"`
	Agents string `env:"DEMO_AGENTS"`

	LogLevel  string `env:"LOG_LEVEL" envDefault:"info"`
	LogFormat string `env:"LOG_FORMAT" envDefault:"auto"`
}

// Program is demo-agent.
func Program() daemon.Program {
	return daemon.Program{
		Name:  "demo-agent",
		About: "an agent that can be healthy, slow, flaky, failing and worse, FOR DEMONSTRATIONS AND TESTS.",
		Help:  help, Configure: configure,
	}
}

func configure(environ []string) (daemon.Config, error) {
	v, err := env.ParseAsWithOptions[variables](env.Options{Environment: env.ToMap(environ)})
	a, errAgents := newAgents(v.Agents)
	level, errLog := v.log()
	errListen := config.HostPort("DEMO_LISTEN", v.Listen, "127.0.0.1:9000")
	if err := errors.Join(err, errListen, errAgents, errLog); err != nil {
		return daemon.Config{}, err
	}
	return daemon.Config{
		Listen: v.Listen, LogLevel: level, LogFormat: v.LogFormat, ShutdownTimeout: drainTimeout,
		Open: func(_ context.Context, h daemon.Host) (daemon.Service, error) {
			// Stream: a stream and a delay last as long as the agent's mode says.
			l := daemon.Listener{Listen: v.Listen, Variable: "DEMO_LISTEN", Handler: &server{a, h.Log}, Stream: true}
			return daemon.Service{Listeners: []daemon.Listener{l}}, nil
		},
	}, nil
}

// log checks how the log is written.
func (v variables) log() (level slog.Level, err error) {
	if level.UnmarshalText([]byte(v.LogLevel)) != nil {
		err = &config.Error{Name: "LOG_LEVEL", Value: v.LogLevel, Allowed: "debug, info, warn or error"}
	}
	if !slices.Contains([]string{"auto", "text", "json"}, v.LogFormat) {
		err = errors.Join(err, &config.Error{Name: "LOG_FORMAT", Value: v.LogFormat, Allowed: "auto, text or json"})
	}
	return level, err
}
