package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/breakerd/breakerd/internal/logging"
	"github.com/breakerd/breakerd/internal/text"
	"github.com/breakerd/breakerd/internal/version"
)

// Exit codes, as the other programs have them.
const (
	exitOK     = 0
	exitForced = 1 // a second signal, or trouble while running; of --health: not well
	exitConfig = 2
)

const (
	defaultListen = "127.0.0.1:9000"
	drainTimeout  = 5 * time.Second
	healthTimeout = 3 * time.Second
)

const help = `demo-agent: an agent that can be healthy, slow, flaky, failing and worse, FOR DEMONSTRATIONS AND TESTS.
Whoever reaches its address may call it and may switch it. It holds nothing.

  demo-agent            start
  demo-agent --health   ask the one that runs at DEMO_LISTEN whether it is ready: exit code 0, else 1
  demo-agent --version  print the version
  demo-agent --help     print this

Environment:
  DEMO_LISTEN  host:port (127.0.0.1:9000)
  DEMO_AGENTS  how agents begin, as FailingAgent=failing,Other=slow:250; of all others the name decides:
               Failing, Slow, Flaky, RateLimited, Streaming, Hanging or Broken in it, else healthy

  curl http://127.0.0.1:9000/FailingAgent/any/path
  curl -X PUT http://127.0.0.1:9000/modes/FailingAgent -H 'Content-Type: application/json' -d '{"mode":"healthy"}'
  curl http://127.0.0.1:9000/modes
`

// Run is the program demo-agent, until a signal; it gives the exit code. environ is as os.Environ has it; signals tells of SIGTERM
// and SIGINT: the first begins the end, the second forces it.
func Run(ctx context.Context, args, environ []string, stdout, stderr io.Writer, signals <-chan os.Signal) int {
	if len(args) > 0 && args[0] != "--health" && args[0] != "-health" {
		return usage(args, stdout, stderr)
	}
	listen := variable(environ, "DEMO_LISTEN", defaultListen)
	log := logging.New(stderr, "info", logging.Auto)
	handler, err := New(variable(environ, "DEMO_AGENTS", ""), log)
	if err = errors.Join(checkListen(listen), err); err != nil {
		fmt.Fprintf(stderr, "demo-agent: bad configuration:\n%v\n", err)
		return exitConfig
	}
	if len(args) > 0 {
		return askHealth(ctx, listen, stdout, stderr)
	}
	return serve(ctx, listen, handler, log, stdout, signals)
}

func usage(args []string, stdout, stderr io.Writer) int {
	switch args[0] {
	case "--version", "-version":
		fmt.Fprintln(stdout, "demo-agent", version.String())
		return exitOK
	case "--help", "-help", "-h":
		fmt.Fprint(stdout, help)
		return exitOK
	}
	fmt.Fprintf(stderr, "demo-agent: unknown argument %q\n\n%s", args[0], help)
	return exitConfig
}

// variable is one of the environment's; of two of the same name the last counts, and one that is set to nothing is not set.
func variable(environ []string, name, otherwise string) string {
	text := ""
	for _, pair := range environ {
		if value, ok := strings.CutPrefix(pair, name+"="); ok {
			text = strings.TrimSpace(value)
		}
	}
	if text == "" {
		return otherwise
	}
	return text
}

func checkListen(listen string) error {
	host, port, err := net.SplitHostPort(listen)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil || strings.ContainsAny(host, " /@?#") {
		return fmt.Errorf("DEMO_LISTEN=%q is not allowed: want host:port, as 127.0.0.1:9000 or 0.0.0.0:9000", text.Short(listen))
	}
	return nil
}

// askHealth asks the demo agent that listens there whether it is ready.
func askHealth(ctx context.Context, listen string, stdout, stderr io.Writer) int {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	url := "http://" + reachable(listen) + "/readyz"
	if err := ready(ctx, url); err != nil {
		fmt.Fprintf(stderr, "demo-agent: not ready: %v\n", err)
		return exitForced
	}
	fmt.Fprintln(stdout, "ready")
	return exitOK
}

// reachable is an address at which what listens everywhere can be asked.
func reachable(listen string) string {
	host, port, _ := net.SplitHostPort(listen) // was checked
	switch ip := net.ParseIP(host); {
	case host == "" || ip.Equal(net.IPv4zero):
		host = "127.0.0.1"
	case ip.Equal(net.IPv6zero):
		host = "::1"
	}
	return net.JoinHostPort(host, port)
}

func ready(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req) // no proxy stands between a program and itself
	if err != nil {
		return fmt.Errorf("ask %s: %w", url, err)
	}
	_ = res.Body.Close() // the status is the answer
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("ask %s: %s", url, res.Status)
	}
	return nil
}

// serve listens until a signal or the end of ctx. No time limits a call: a stream and a delay may take as long as they were told to.
func serve(ctx context.Context, listen string, h http.Handler, log *slog.Logger, stdout io.Writer, signals <-chan os.Signal) int {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", listen)
	if err != nil {
		log.Error("cannot listen: is another demo-agent running? set DEMO_LISTEN to a free address", "listen", listen, "error", err)
		return exitForced
	}
	server := &http.Server{
		Handler: h, Protocols: new(http.Protocols), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 64 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	log.Info("listening", "address", listener.Addr().String(), "version", version.String())
	fmt.Fprintf(stdout, "demo-agent %s listens on http://%s\n", version.String(), listener.Addr())
	select {
	case err := <-served:
		log.Error("the listener failed", "error", err)
		return exitForced
	case <-ctx.Done():
	case sig := <-signals:
		log.Info("stopping", "signal", sig.String(), "timeout", drainTimeout.String())
	}
	return drain(server, log, signals)
}

// drain lets calls under way end, for a while: a hanging one never would. A second signal ends it at once.
func drain(server *http.Server, log *slog.Logger, signals <-chan os.Signal) int {
	ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- server.Shutdown(ctx) }()
	defer func() { _ = server.Close() }() // cuts what is left; there is nobody to tell
	select {
	case err := <-done:
		if err != nil {
			log.Warn("stopped with calls still under way", "error", err)
		} else {
			log.Info("stopped")
		}
		return exitOK
	case sig := <-signals:
		log.Warn("stopped by a second signal", "signal", sig.String())
		return exitForced
	}
}
