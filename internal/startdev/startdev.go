// Package startdev runs a whole fleet in one process, for a first look: breakerd, bridge and agents on one Redis, with
// a little traffic, so that a breaker opens, probes and closes within a minute.
//
// agents.go has the agents, script.go what happens to them and when, traffic.go their callers, program.go how the
// programs start and end.
package startdev

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/breakerd/breakerd/internal/app"
	"github.com/breakerd/breakerd/internal/config"
	"github.com/breakerd/breakerd/internal/daemon"
	"github.com/breakerd/breakerd/internal/demo"
	"github.com/breakerd/breakerd/internal/logging"
	"github.com/breakerd/breakerd/pkg/redisstore"
	"github.com/breakerd/breakerd/pkg/redisstore/embedded"
)

const (
	// startTimeout bounds the wait for the programs to be ready.
	startTimeout = 20 * time.Second
	// lastLines bounds the wait for the last lines of the log to be read.
	lastLines = 500 * time.Millisecond
	// redisTimeout is long: a laptop may be busy, and that Redis is slow is not what is shown.
	redisTimeout = 10 * time.Second
	// ownPrefix begins the keys in a Redis that may hold a real fleet.
	ownPrefix = "circuit_breaker_dev"
)

// Options say where everything listens. Listen, BridgeListen and AgentsListen are loopback addresses, host:port; port 0
// takes a free one.
type Options struct {
	Listen, BridgeListen, AgentsListen string

	Redis     string // its URL; "": one in this process, which keeps nothing
	LogLevel  string // "": error, for a refused call is a warning
	LogFormat string // "": auto
	Command   string // how the banner calls breakerctl
	Stdout    io.Writer
	Stderr    io.Writer // takes the logs of all programs, in whole lines
}

// The addresses that are taken where nobody chooses others.
const (
	DefaultListen       = "127.0.0.1:18180"
	DefaultBridgeListen = "127.0.0.1:8000"
	DefaultAgentsListen = "127.0.0.1:9000"
)

// FlagError says that what a flag of the command asks for cannot be had.
type FlagError struct {
	Flag  string
	Fault Fault
	Err   error
}

// Fault is what is wrong with the value of a flag.
type Fault int

// The faults.
const (
	BadValue    Fault = iota
	Taken             // nobody can listen at the address: mostly somebody else does
	Unreachable       // the server does not answer, or does not suit
)

func (e *FlagError) Error() string { return e.Flag + ": " + e.Err.Error() }

// Unwrap gives the cause.
func (e *FlagError) Unwrap() error { return e.Err }

// Run runs everything until ctx ends, and then ends it in order. It returns nil if ctx ended it; a [*FlagError] if a
// flag has to be changed; another error if a program failed. The process's default logger becomes its own.
func Run(ctx context.Context, o Options) error {
	f, err := newFleet(ctx, o)
	if err != nil {
		return err
	}
	return f.run(ctx, o)
}

// run is Run, once everything is open.
func (f *fleet) run(ctx context.Context, o Options) (err error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	defer f.end()
	stderr := logging.NewQueue(o.Stderr)
	defer stderr.Close(lastLines)
	f.log = stderr.Logger(f.level, cmp.Or(o.LogFormat, "auto"))
	daemon.SetDefaultLogger(f.log)
	redisstore.SetClientLogger(f.log) // before the process's first client
	if err := checkRedis(ctx, o.Redis); err != nil {
		return err
	}
	f.start(stop)
	if err = f.prepare(ctx); err == nil {
		fmt.Fprint(o.Stdout, f.banner(o.Command))
		f.play(ctx)
	}
	switch cause := context.Cause(ctx); {
	case ctx.Err() == nil:
		return err
	case errors.Is(cause, context.Canceled):
		return nil
	default:
		return cause // a program failed, and all that err knows of is what followed
	}
}

// newFleet opens everything that can be refused, and starts nothing.
func newFleet(ctx context.Context, o Options) (f *fleet, err error) {
	f = &fleet{redis: o.Redis}
	defer func() {
		if err != nil {
			f.end()
		}
	}()
	if err := f.listen(ctx, o); err != nil {
		return f, err
	}
	shared := append(shortTimes(),
		"LOG_LEVEL="+cmp.Or(o.LogLevel, "error"), "LOG_FORMAT="+cmp.Or(o.LogFormat, "auto"),
		"HISTORY_MINUTES=60", "SHUTDOWN_TIMEOUT_SECONDS=1",
		"REDIS_TIMEOUT_MS="+strconv.FormatInt(redisTimeout.Milliseconds(), 10),
	)
	switch {
	case strings.HasPrefix(o.Redis, "embedded:"):
		return f, &FlagError{Flag: "--redis", Err: errors.New("want the URL of a server; without the flag it is embedded")}
	case o.Redis != "":
		f.prefix = ownPrefix
		shared = append(shared, "CIRCUIT_BREAKER_KEY_PREFIX="+ownPrefix)
	default:
		f.prefix = "circuit_breaker"
		if f.engine, err = embedded.Start("127.0.0.1:0"); err != nil {
			return f, err
		}
		f.redis = "redis://" + f.engine.Addr()
	}
	shared = append(shared, "REDIS_URL="+f.redis)
	for _, p := range []*program{f.breakerd, f.bridge, f.agents} {
		p.part.Stderr, p.part.Environ = o.Stderr, append([]string{p.variable + "=" + p.address}, shared...)
		c, err := p.Configure(p.part.Environ)
		if err != nil {
			return f, fmt.Errorf("%s cannot be configured: %w", p.Name, err)
		}
		f.level = c.LogLevel
	}
	return f, nil
}

// checkRedis asks a Redis that is not in this process whether it suits.
func checkRedis(ctx context.Context, url string) error {
	if url == "" {
		return nil
	}
	conn, err := redisstore.Open(ctx, url, redisstore.Options{Timeout: redisTimeout})
	if err != nil {
		return &FlagError{Flag: "--redis", Err: err}
	}
	defer func() { _ = conn.Close() }() // nothing was written
	if _, err := conn.Check(ctx); err != nil && ctx.Err() == nil {
		return &FlagError{Flag: "--redis", Fault: Unreachable, Err: err}
	}
	return nil
}

// listen opens all listeners, so that every address is known, and is had, before anything starts.
func (f *fleet) listen(ctx context.Context, o Options) error {
	for _, l := range []struct {
		to                            **program
		program                       daemon.Program
		variable, flag, address, such string
	}{
		{&f.breakerd, app.Breakerd(), "BREAKERD_LISTEN", "--listen", o.Listen, DefaultListen},
		{&f.bridge, app.Bridge(), "BRIDGE_LISTEN", "--bridge-listen", o.BridgeListen, DefaultBridgeListen},
		{&f.agents, demo.Program(), "DEMO_LISTEN", "--agents-listen", o.AgentsListen, DefaultAgentsListen},
	} {
		if config.HostPort(l.flag, l.address, l.such) != nil || !config.Loopback(l.address) {
			return &FlagError{Flag: l.flag, Err: fmt.Errorf("%q is not allowed: want a port of loopback, as %s, "+
				"for nobody is asked who he is", l.address, l.such)}
		}
		bound, err := (&net.ListenConfig{}).Listen(ctx, "tcp", l.address)
		if err != nil {
			return &FlagError{Flag: l.flag, Fault: Taken, Err: err}
		}
		tcp, ok := bound.(*net.TCPListener)
		if !ok {
			return fmt.Errorf("%s: %s is no TCP listener", l.flag, bound.Addr())
		}
		*l.to = &program{
			Program: l.program, variable: l.variable, address: tcp.Addr().String(), ended: make(chan struct{}),
			part: daemon.Part{Listeners: map[string]*net.TCPListener{l.variable: tcp}},
		}
	}
	return nil
}

// play calls the agents and follows the script until ctx ends.
func (f *fleet) play(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { f.follow(ctx, script()) })
	for _, a := range agents() {
		wg.Go(func() { f.call(ctx, a) })
	}
}

// banner says where everything is, and what to try.
func (f *fleet) banner(command string) string {
	redis := f.redis + ", in this process: NOTHING IS KEPT when it ends"
	cli := "-p " + f.redis[strings.LastIndex(f.redis, ":")+1:]
	if f.engine == nil { // its URL may hold a password
		redis, cli = "yours: keys begin with "+f.prefix+", and stay there", "-u URL"
	}
	command = cmp.Or(command, "breakerctl") + " get"
	if f.breakerd.address != DefaultListen {
		command += " --server " + f.breakerd.url()
	}
	return fmt.Sprintf(`breakerd %s: a fleet to play with, in one process. Ctrl-C ends it.

  page    %[2]s/ui/
  bridge  %[3]s
  agents  %[4]s/modes
  redis   %[5]s

%[6]s
Try:
  curl -i %[3]s/agents/payments/charge
  %[7]s
  redis-cli %[8]s HGETALL %[9]s:payments:control
`, daemon.Version(), f.breakerd.url(), f.bridge.url(), f.agents.url(), redis, plot, command, cli, f.prefix)
}
