// Package app wires the programs: configuration, store, fallback, policies, listeners, and their end.
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/breakerd/breakerd/internal/config"
	"github.com/breakerd/breakerd/internal/logging"
	"github.com/breakerd/breakerd/internal/version"
)

// Exit codes of the programs.
const (
	exitOK     = 0
	exitForced = 1 // a second signal, or trouble while running
	exitConfig = 2
)

// program is what differs between the services.
type program struct {
	name, about string
	check       func(config.Config) error        // of the listeners' addresses
	listen      func(config.Config) string       // the main listener, which answers /readyz
	mount       func(*core) ([]mount, error)     // what listens where
	banner      func(*core, io.Writer, []string) // words for a person at a terminal, given the addresses
}

// mount is one listener.
type mount struct {
	listen, variable string
	handler          http.Handler
	stream           bool // bodies may take as long as they like
}

// run is a program from start to exit code. environ is as os.Environ has it; signals tells of SIGTERM and SIGINT: the first
// begins the end, the second forces it.
func (p program) run(ctx context.Context, args, environ []string, stdout, stderr io.Writer, signals <-chan os.Signal) int {
	if len(args) > 0 && (len(args) > 1 || args[0] != "--health") {
		return p.usage(args, stdout, stderr)
	}
	cfg, err := config.Load(environ)
	if err == nil {
		err = p.check(cfg)
	}
	if err != nil {
		fmt.Fprintf(stderr, "%s: bad configuration:\n%v\n", p.name, err)
		return exitConfig
	}
	if len(args) > 0 {
		return health(ctx, p.listen(cfg), stderr)
	}
	log := logging.New(stderr, cfg.LogLevel.String(), cfg.LogFormat)
	for _, w := range cfg.Warnings {
		log.Warn("configuration", "warning", w)
	}
	c, err := newCore(ctx, cfg, log)
	if err != nil {
		fmt.Fprintf(stderr, "%s: bad configuration: %v\n", p.name, err)
		return exitConfig
	}
	defer c.close()
	mounts, err := p.mount(c)
	if err != nil {
		fmt.Fprintf(stderr, "%s: bad configuration: %v\n", p.name, err)
		return exitConfig
	}
	return c.serve(ctx, mounts, signals, func(addresses []string) {
		fmt.Fprintf(stdout, "%s %s listens on http://%s\n", p.name, version.String(), addresses[0])
		if c.conn.Embedded {
			fmt.Fprint(stdout, "Redis is embedded: this process only, and NOTHING IS KEPT when it ends. Set REDIS_URL to share breakers.\n")
		}
		p.banner(c, stdout, addresses)
	})
}

func (p program) usage(args []string, stdout, stderr io.Writer) int {
	help := fmt.Sprintf(`%[1]s: %[2]s

It takes no arguments: everything is set by environment variables, or by a file that ENV_FILE names.
The table of all of them stands in README.md; .env.example has each at its default.

  %[1]s            start
  %[1]s --health   exit 0 if the one that runs with this configuration is ready, else 1
  %[1]s --version  print the version
  %[1]s --help     print this
`, p.name, p.about)
	switch args[0] {
	case "--version", "-version":
		fmt.Fprintln(stdout, p.name, version.String())
		return exitOK
	case "--help", "-help", "-h":
		fmt.Fprint(stdout, help)
		return exitOK
	}
	fmt.Fprintf(stderr, "%s: unknown argument %q\n\n%s", p.name, args[0], help)
	return exitConfig
}

const healthTimeout = 3 * time.Second

// health asks whether the service that listens there is ready: for a container's health check, where there is no curl.
func health(ctx context.Context, listen string, stderr io.Writer) int {
	host, port, _ := net.SplitHostPort(listen) // checked before
	if ip := net.ParseIP(host); host == "" || ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/readyz", http.NoBody)
	var resp *http.Response
	if err == nil {
		resp, err = (&http.Transport{DisableKeepAlives: true}).RoundTrip(req) // not by HTTP_PROXY
	}
	if err == nil {
		_ = resp.Body.Close() // only the status counts
		if resp.StatusCode != http.StatusOK {
			err = errors.New(resp.Status)
		}
	}
	if err != nil {
		fmt.Fprintf(stderr, "not ready: %v\n", err)
		return exitForced
	}
	return exitOK
}
