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
	"sync"
	"time"

	"github.com/breakerd/breakerd/internal/framing"
	"github.com/breakerd/breakerd/internal/logging"
)

// Service is what a program serves.
type Service struct {
	Listeners []Listener
	Banner    func(urls []string) string // of the listeners, for a person at a terminal; nil: none
	Start     func()                     // called once every listener is bound; nil: nothing to start
	Refused   func(reason string)        // counts requests for which there is no room; nil: nobody does
	Stop      func(orderly bool)         // called last, orderly unless the end is forced; nil: nothing to stop
}

// Listener is one address and what is served there.
type Listener struct {
	Listen   string // host:port
	Variable string // the environment variable that sets it
	Handler  http.Handler
	Plain    bool // it speaks no TLS, even if the others do
	Stream   bool // bodies are not limited in time, and HTTP/2 is served as well, without TLS too
}

var errStopping = errors.New("stopping")

const (
	// lastCalls bounds the wait for calls whose connections were cut.
	lastCalls = 2 * time.Second
	// rest is what the end may take beyond the delay and the timeout: lastCalls, and what the service does last.
	rest = 5 * time.Second
	// forcedRest is what it may take after a second signal.
	forcedRest = 500 * time.Millisecond
)

// host runs one service.
type host struct {
	program string
	config  Config
	log     *slog.Logger
	stdout  io.Writer
	stderr  *logging.Queue
	calls   sync.RWMutex // read-locked by each call
	out     int          // how many connections to agents there is room for
	in      *connections
	manager manager
	sockets inherited

	stop     func() // closes stopping
	stopping chan struct{}
	forced   chan struct{} // closed by a second signal
}

func newHost(program string, c Config, log *slog.Logger, stdout io.Writer, stderr *logging.Queue) *host {
	for _, w := range c.Warnings {
		log.Warn("configuration", "warning", w)
	}
	stopping := make(chan struct{})
	in, out := room(openFiles(), c.CallsOut)
	return &host{
		program: program, config: c, log: log, stdout: stdout, stderr: stderr,
		in: newConnections(log, in, c.MaxRequests), out: out,
		stop: sync.OnceFunc(func() { close(stopping) }), stopping: stopping, forced: make(chan struct{}),
	}
}

func (h *host) ready(context.Context) error {
	select {
	case <-h.stopping:
		return errStopping
	default:
		return nil
	}
}

// run serves until a signal, the end of ctx or a failure, and gives the exit code. From then on its time is bounded,
// whatever the service, a call or Redis does: this goroutine waits for them, and calls none of them.
func (h *host) run(ctx context.Context, signals <-chan os.Signal) int {
	ended := make(chan int, 1)
	go func() { ended <- h.serve(ctx) }()
	select {
	case code := <-ended:
		return code
	case sig := <-signals:
		h.log.Info("stopping", "signal", sig.String(),
			"delay", h.config.ShutdownDelay.String(), "timeout", h.config.ShutdownTimeout.String())
	case <-ctx.Done():
	case <-h.stopping: // it failed
	}
	h.stop()
	overdue := time.NewTimer(h.config.ShutdownDelay + h.config.ShutdownTimeout + rest)
	defer overdue.Stop()
	select {
	case code := <-ended:
		return code
	case <-overdue.C:
		h.log.Error("not stopped in time, and ended", "after", rest.String())
		return exitFailed
	case sig := <-signals:
		h.log.Warn("stopped by a second signal", "signal", sig.String())
		close(h.forced)
	}
	select {
	case <-ended:
	case <-time.After(forcedRest):
	}
	return exitFailed
}

// serve serves until the program is to stop, and gives the exit code.
func (h *host) serve(ctx context.Context) (code int) {
	certificate, err := openTLS(h.config.TLS, h.log)
	if err != nil {
		return badConfig(h.stderr, h.program, err)
	}
	s, err := h.config.Open(ctx, Host{
		Log: h.log, Ready: h.ready, LinesDropped: h.stderr.Dropped, ConnectionsOut: h.out, Certificate: certificate,
	})
	if err != nil {
		return badConfig(h.stderr, h.program, err)
	}
	defer func() {
		h.stop() // the time of Stop is bounded too when there was no signal
		if s.Stop != nil {
			s.Stop(code == exitOK)
		}
		if code == exitOK {
			h.log.Info("stopped")
		}
	}()
	if s.Refused != nil {
		h.in.count = s.Refused
	}
	listeners, err := h.bind(ctx, s.Listeners)
	if err != nil {
		h.log.Error("cannot listen", "error", err)
		return exitFailed
	}
	if s.Start != nil {
		s.Start()
	}
	var all servers
	var urls []string
	served := make(chan error, len(listeners))
	for i, l := range listeners {
		server, url := h.listen(s.Listeners[i], l, certificate, served)
		all, urls = append(all, server), append(urls, url)
	}
	h.greet(s, urls)
	defer h.watch(urls)()
	h.tellReady(urls)
	select {
	case err := <-served:
		h.log.Error("the listener failed", "error", err)
		all.close()
		return exitFailed
	case <-h.stopping:
		h.tellStopping()
		return h.shutdown(all, served)
	}
}

// greet says to a person at a terminal where the program listens.
func (h *host) greet(s Service, urls []string) {
	if !logging.Terminal(h.stdout) {
		return
	}
	text := fmt.Sprintf("%s %s listens on %s\n", h.program, Version(), urls[0])
	if s.Banner != nil {
		text += s.Banner(urls)
	}
	go fmt.Fprint(h.stdout, text) // a terminal that was stopped (Ctrl-S) takes nothing
}

// listen serves on a listener that is bound.
func (h *host) listen(l Listener, bound net.Listener, c Certificate, served chan<- error) (s server, url string) {
	s = server{h.server(l), framing.NewListener(bound)}
	if !l.Plain {
		s.listener.TLS = c.config(l.Stream)
	}
	bounded, address, scheme := h.in.listen(s.listener), bound.Addr().String(), "http://"
	if s.listener.TLS != nil {
		scheme = "https://"
	}
	go func() { served <- s.Serve(bounded) }()
	h.log.Info("listening", "address", address, "for", l.Variable, "version", Version(), "max_connections", h.in.most,
		"tls", s.listener.TLS != nil, "inherited", h.sockets[l.Variable] != nil)
	return s, scheme + address
}

// bind listens on every address, or on none. What systemd has opened listens already.
func (h *host) bind(ctx context.Context, want []Listener) (bound []net.Listener, err error) {
	for _, w := range want {
		if l := h.sockets[w.Variable]; l != nil {
			bound = append(bound, l)
			continue
		}
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", w.Listen)
		if err != nil {
			for _, l := range bound {
				_ = l.Close() // nobody used it
			}
			return nil, fmt.Errorf("%w: is another one running? set %s to a free address", err, w.Variable)
		}
		bound = append(bound, l)
	}
	return bound, nil
}

func (h *host) server(l Listener) *http.Server {
	server := &http.Server{
		Handler:           h.counted(h.in.serve(l.Handler)),
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: 60 * time.Second,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10, ConnState: h.in.state, ConnContext: h.in.context,
		ErrorLog: slog.NewLogLogger(h.log.Handler(), slog.LevelDebug),
	}
	if l.Stream {
		server.ReadTimeout, server.WriteTimeout = 0, 0
		server.Protocols = new(http.Protocols)
		server.Protocols.SetHTTP1(true)
		server.Protocols.SetUnencryptedHTTP2(true)
	}
	return server
}

// counted lets shutdown wait for every call: net/http does not wait for calls that took over their connection, as
// WebSockets do.
func (h *host) counted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.calls.RLock()
		defer h.calls.RUnlock()
		next.ServeHTTP(w, r)
	})
}

// idle waits until no call is under way.
func (h *host) idle(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		h.calls.Lock()
		defer h.calls.Unlock()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("calls are under way: %w", ctx.Err())
	}
}

// shutdown waits for balancers to notice that the program is not ready, and drains.
func (h *host) shutdown(all servers, served <-chan error) int {
	h.in.leave()
	ctx, cancel := context.WithTimeout(context.Background(), h.config.ShutdownDelay+h.config.ShutdownTimeout)
	defer cancel()
	drained := make(chan error, 1)
	go func() {
		delay := time.NewTimer(h.config.ShutdownDelay)
		defer delay.Stop()
		select {
		case <-delay.C:
		case <-ctx.Done():
		}
		for _, s := range all {
			_ = s.listener.Close()
		}
		for range all {
			h.log.Debug("no more connections are accepted", "error", <-served)
		}
		h.in.awaitFirst(ctx)
		drained <- errors.Join(all.shutdown(ctx), h.idle(ctx))
	}()
	select {
	case err := <-drained:
		if err != nil {
			h.log.Warn("stopped with calls still under way", "error", err)
			all.close()
			last, cancel := context.WithTimeout(context.Background(), lastCalls)
			defer cancel()
			_ = h.idle(last) // a call that was cut settles its permit
		}
		return exitOK
	case <-h.forced:
		all.close()
		return exitFailed
	}
}

// server is one of a program's.
type server struct {
	*http.Server

	listener *framing.Listener
}

// servers are all of a program's.
type servers []server

// shutdown ends them together, each when its calls have ended.
func (all servers) shutdown(ctx context.Context) error {
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, s := range all {
		wg.Go(func() { errs[i] = s.Shutdown(ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// close cuts their connections.
func (all servers) close() {
	for _, s := range all {
		s.listener.Hurry()
		_ = s.Close() // its listener was closed before, or fails
	}
}
