// Package daemon is what every program shares: arguments, exit codes, version, health probe, listeners, signals and
// drain.
package daemon

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/breakerd/breakerd/internal/logging"
	"github.com/breakerd/breakerd/internal/tlsfile"
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

	Commands []Command // what it does instead of serving

	// Sockets are the variables of the listeners that take a socket from systemd; the first is of the one that answers
	// /livez and /readyz.
	Sockets []string

	// Configure reads NAME=VALUE pairs, as [os.Environ] gives them. It opens nothing.
	Configure func(environ []string) (Config, error)
}

// Command does one thing, and ends. It needs no configuration.
type Command struct {
	Name  string // words: "token new"
	About string // for --help: its arguments, and what it does
	Run   func(args []string, stdout io.Writer) error
}

// Config is a program's configuration as far as this package needs it.
type Config struct {
	Listen          string // host:port of the listener that answers /readyz
	LogLevel        slog.Level
	LogFormat       string
	Warnings        []string      // logged at the start
	ShutdownDelay   time.Duration // between the signal and the end of listening: not ready, and still serving
	ShutdownTimeout time.Duration // for calls to end after ShutdownDelay
	MaxRequests     int           // under way at once; 0: as many as connections
	CallsOut        bool          // it calls agents on behalf of its callers
	TLS             tlsfile.Files // of the listeners; no Cert: they speak no TLS. CA is of clients

	// Open makes the service. Its error counts as a bad configuration.
	Open func(ctx context.Context, h Host) (Service, error)
}

// Host is what the program gives its service.
type Host struct {
	Log          *slog.Logger
	Ready        func(context.Context) error // an error once the program is stopping
	LinesDropped func() int64                // log lines that were dropped so far

	ConnectionsOut int // for how many connections to agents there is room; 0 without Config.CallsOut

	Certificate Certificate
}

// Run runs the program until SIGTERM or SIGINT, or until ctx ends, and gives the exit code. A second signal ends it at
// once. Run returns in time whatever hangs; what hangs then is left behind.
func (p Program) Run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	signal.Ignore(syscall.SIGPIPE) // it would end the process when a reader of stdout or stderr has gone
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	defer signal.Stop(signals)
	m, err := newManager()
	if err != nil {
		return badConfig(stderr, p.Name, err)
	}
	return p.run(ctx, args, environ, stdout, stderr, signals, m)
}

func (p Program) run(
	ctx context.Context, args, environ []string, stdout, out io.Writer, signals <-chan os.Signal, m manager,
) int {
	stderr := logging.NewQueue(out)
	defer stderr.Close(lastLines)
	for _, c := range p.Commands {
		if words := strings.Fields(c.Name); len(args) >= len(words) && slices.Equal(args[:len(words)], words) {
			if err := c.Run(args[len(words):], stdout); err != nil {
				fmt.Fprintf(stderr, "%s %s: %v\n\n%s", p.Name, c.Name, err, p.help())
				return exitConfig
			}
			return exitOK
		}
	}
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
	if probe {
		return p.probe(ctx, environ, stdout, stderr)
	}
	sockets, err := p.inherit(m.sockets)
	if err != nil {
		return badConfig(stderr, p.Name, err)
	}
	c, err := p.Configure(sockets.environ(environ))
	if err != nil {
		return badConfig(stderr, p.Name, err)
	}
	log := stderr.Logger(c.LogLevel, c.LogFormat)
	SetDefaultLogger(log)
	h := newHost(p.Name, c, log, stdout, stderr)
	h.manager, h.sockets = m, sockets
	return h.run(ctx, signals)
}

// SetDefaultLogger takes the lines of libraries that log with the package log, as net/http's Transport does, which
// would write to stderr themselves. They are of level debug. A process has one default logger.
func SetDefaultLogger(log *slog.Logger) {
	slog.SetLogLoggerLevel(slog.LevelDebug)
	slog.SetDefault(log)
}

// probe asks the one that runs with this configuration whether it is ready: the health check of a container that has
// no curl.
func (p Program) probe(ctx context.Context, environ []string, stdout, stderr io.Writer) int {
	c, err := p.Configure(environ)
	if err != nil {
		return badConfig(stderr, p.Name, err)
	}
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	if err := reach(ctx, c.Listen, "/readyz", c.TLS.Cert.Path != ""); err != nil {
		fmt.Fprintf(stderr, "%s: not ready: %v\n", p.Name, err)
		return exitFailed
	}
	fmt.Fprintln(stdout, "ready")
	return exitOK
}

func badConfig(stderr io.Writer, program string, err error) int {
	fmt.Fprintf(stderr, "%s: bad configuration:\n%v\n", program, err)
	return exitConfig
}

func (p Program) help() string {
	var commands strings.Builder
	for _, c := range p.Commands {
		fmt.Fprintf(&commands, "  %s %s %s\n", p.Name, c.Name, c.About)
	}
	return fmt.Sprintf(`%[1]s: %[2]s

  %[1]s            start
  %[1]s --health   exit 0 if the one that runs with this configuration is ready, else 1
  %[1]s --version  print the version
  %[1]s --help     print this
%[4]s
%[3]s`, p.Name, p.About, p.Help, commands.String())
}

// reach asks the program that listens there: the answer at path must be 200.
func reach(ctx context.Context, listen, path string, secure bool) (err error) {
	for _, address := range reachable(listen) {
		if err = reachAt(ctx, address, path, secure); err == nil {
			return nil
		}
	}
	return err
}

func reachAt(ctx context.Context, address, path string, secure bool) error {
	url := "http://" + address + path
	transport := &http.Transport{DisableKeepAlives: true} // HTTP_PROXY does not apply
	if secure {
		url = "https" + strings.TrimPrefix(url, "http")
		// The certificate is for the name that callers use, and this asks by address. Nothing is sent that is secret, and
		// who listens in this program's place would only seem ready.
		transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true} //nolint:gosec // see above
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	res, err := transport.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("ask %s: %w", url, err)
	}
	err = res.Body.Close() // the status is the answer
	if res.StatusCode != http.StatusOK {
		err = errors.New("ask " + url + ": " + res.Status)
	}
	return err
}

// reachable are addresses that reach a listener: one on all addresses is reached on loopback. One on all addresses of
// IPv6 mostly takes IPv4 too, and loopback may lack IPv6.
func reachable(listen string) []string {
	host, port, _ := net.SplitHostPort(listen) // Configure checked it
	hosts := []string{host}
	switch ip := net.ParseIP(host); {
	case host == "" || ip.Equal(net.IPv4zero):
		hosts = []string{"127.0.0.1"}
	case ip.Equal(net.IPv6zero):
		hosts = []string{"::1", "127.0.0.1"}
	}
	for i, h := range hosts {
		hosts[i] = net.JoinHostPort(h, port)
	}
	return hosts
}
