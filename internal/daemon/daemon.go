// Package daemon is what every program shares: arguments, exit codes, version, health probe, listeners, signals and
// drain.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/breakerd/breakerd/internal/logging"
)

// Exit codes of every program.
const (
	exitOK     = 0
	exitFailed = 1 // a second signal, or trouble while running; of --health: not ready
	exitConfig = 2 // bad arguments or a bad configuration
)

const (
	healthTimeout = 3 * time.Second        // bounds --health
	lastLines     = 500 * time.Millisecond // bounds the wait for the last lines of stderr to be read
)

// Program is one command.
type Program struct {
	Name  string
	About string // for --help: a sentence on what it does
	Help  string // for --help: how to configure it

	// Configure reads NAME=VALUE pairs, as [os.Environ] gives them. It opens nothing.
	Configure func(environ []string) (Config, error)
}

// Config is a program's configuration as far as this package needs it.
type Config struct {
	Listen          string // host:port of the listener that answers /readyz
	LogLevel        slog.Level
	LogFormat       string
	Warnings        []string      // logged at the start
	ShutdownDelay   time.Duration // between the signal and the end of listening: not ready, and still serving
	ShutdownTimeout time.Duration // for calls to end after ShutdownDelay
	CallsOut        bool          // it calls agents on behalf of its callers

	// Open makes the service. Its error counts as a bad configuration.
	Open func(ctx context.Context, h Host) (Service, error)
}

// Host is what the program gives its service.
type Host struct {
	Log          *slog.Logger
	Ready        func(context.Context) error // an error once the program is stopping
	LinesDropped func() int64                // log lines that were dropped so far

	ConnectionsOut int // for how many connections to agents there is room; 0 without Config.CallsOut
}

// Run runs the program until SIGTERM or SIGINT, or until ctx ends, and gives the exit code. A second signal ends it at
// once. Run returns in time whatever hangs; what hangs then is left behind.
func (p Program) Run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	signal.Ignore(syscall.SIGPIPE) // it would end the process when a reader of stdout or stderr has gone
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	defer signal.Stop(signals)
	return p.run(ctx, args, environ, stdout, stderr, signals)
}

func (p Program) run(
	ctx context.Context, args, environ []string, stdout, out io.Writer, signals <-chan os.Signal,
) int {
	stderr := logging.NewQueue(out)
	defer stderr.Close(lastLines)
	probe := false
	switch arg := strings.Join(args, " "); arg {
	case "":
	case "--version", "-version":
		fmt.Fprintln(stdout, p.Name, Version())
		return exitOK
	case "--help", "-help", "-h":
		fmt.Fprint(stdout, p.help())
		return exitOK
	case "--health", "-health":
		probe = true
	default:
		fmt.Fprintf(stderr, "%s: unknown argument %q\n\n%s", p.Name, arg, p.help())
		return exitConfig
	}
	c, err := p.Configure(environ)
	if err != nil {
		return badConfig(stderr, p.Name, err)
	}
	if probe {
		if err := ready(ctx, c.Listen); err != nil {
			fmt.Fprintf(stderr, "%s: not ready: %v\n", p.Name, err)
			return exitFailed
		}
		fmt.Fprintln(stdout, "ready")
		return exitOK
	}
	log := stderr.Logger(c.LogLevel, c.LogFormat)
	// Libraries that log with the package log, as net/http's Transport does, would write to stderr themselves.
	slog.SetLogLoggerLevel(slog.LevelDebug)
	slog.SetDefault(log)
	for _, w := range c.Warnings {
		log.Warn("configuration", "warning", w)
	}
	return newHost(p.Name, c, log, stdout, stderr).run(ctx, signals)
}

func badConfig(stderr io.Writer, program string, err error) int {
	fmt.Fprintf(stderr, "%s: bad configuration:\n%v\n", program, err)
	return exitConfig
}

func (p Program) help() string {
	return fmt.Sprintf(`%[1]s: %[2]s

  %[1]s            start
  %[1]s --health   exit 0 if the one that runs with this configuration is ready, else 1
  %[1]s --version  print the version
  %[1]s --help     print this

%[3]s`, p.Name, p.About, p.Help)
}

// ready asks the program that listens there whether it is ready: the health check of a container that has no curl.
func ready(ctx context.Context, listen string) error {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	url := "http://" + reachable(listen) + "/readyz"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	res, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req) // HTTP_PROXY does not apply
	if err != nil {
		return fmt.Errorf("ask %s: %w", url, err)
	}
	err = res.Body.Close() // the status is the answer
	if res.StatusCode != http.StatusOK {
		err = errors.New("ask " + url + ": " + res.Status)
	}
	return err
}

// reachable is an address that reaches a listener: one on all addresses is reached on loopback.
func reachable(listen string) string {
	host, port, _ := net.SplitHostPort(listen) // Configure checked it
	switch ip := net.ParseIP(host); {
	case host == "" || ip.Equal(net.IPv4zero):
		host = "127.0.0.1"
	case ip.Equal(net.IPv6zero):
		host = "::1"
	}
	return net.JoinHostPort(host, port)
}
