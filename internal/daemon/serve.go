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
	"sync/atomic"
	"time"

	"github.com/breakerd/breakerd/internal/logging"
)

// Service is what a program serves.
type Service struct {
	Listeners []Listener
	Banner    func(addresses []string) string // for a person at a terminal; nil: none
	Start     func()                          // called once every listener is bound; nil: nothing to start
	Stop      func(orderly bool)              // called last, orderly unless the end is forced; nil: nothing to stop
}

// Listener is one address and what is served there.
type Listener struct {
	Listen   string // host:port
	Variable string // the environment variable that sets it
	Handler  http.Handler
	Stream   bool // bodies are not limited in time, and HTTP/2 without TLS is served as well
}

var errStopping = errors.New("stopping")

// lastCalls bounds the wait for calls whose connections were cut.
const lastCalls = 2 * time.Second

// host runs one service.
type host struct {
	program  string
	config   Config
	log      *slog.Logger
	signals  <-chan os.Signal
	stdout   io.Writer
	stopping atomic.Bool
	calls    sync.RWMutex // read-locked by each call
}

func (h *host) ready(context.Context) error {
	if h.stopping.Load() {
		return errStopping
	}
	return nil
}

// serve serves until a signal or the end of ctx, and gives the exit code.
func (h *host) serve(ctx context.Context, s Service) (code int) {
	defer func() {
		if s.Stop != nil {
			s.Stop(code == exitOK)
		}
		if code == exitOK {
			h.log.Info("stopped")
		}
	}()
	listeners, err := bind(ctx, s.Listeners)
	if err != nil {
		h.log.Error("cannot listen", "error", err)
		return exitFailed
	}
	if s.Start != nil {
		s.Start()
	}
	var all servers
	var addresses []string
	served := make(chan error, len(listeners))
	for i, l := range listeners {
		server := h.server(s.Listeners[i])
		all, addresses = append(all, server), append(addresses, l.Addr().String())
		go func() { served <- server.Serve(l) }()
		h.log.Info("listening", "address", addresses[i], "for", s.Listeners[i].Variable, "version", Version())
	}
	if logging.Terminal(h.stdout) {
		fmt.Fprintf(h.stdout, "%s %s listens on http://%s\n", h.program, Version(), addresses[0])
		if s.Banner != nil {
			fmt.Fprint(h.stdout, s.Banner(addresses))
		}
	}
	select {
	case err := <-served:
		h.log.Error("the listener failed", "error", err)
		all.close()
		return exitFailed
	case <-ctx.Done():
	case sig := <-h.signals:
		h.log.Info("stopping", "signal", sig.String(),
			"delay", h.config.ShutdownDelay.String(), "timeout", h.config.ShutdownTimeout.String())
	}
	return h.shutdown(all)
}

// bind listens on every address, or on none.
func bind(ctx context.Context, want []Listener) (bound []net.Listener, err error) {
	for _, w := range want {
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
		Handler:           h.counted(l.Handler),
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: 60 * time.Second,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
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

// shutdown reports not ready, waits for balancers to notice, and drains. A second signal ends it at once.
func (h *host) shutdown(all servers) int {
	h.stopping.Store(true)
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
	case sig := <-h.signals:
		h.log.Warn("stopped by a second signal", "signal", sig.String())
		all.close()
		return exitFailed
	}
}

// servers are all of a program's.
type servers []*http.Server

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
		_ = s.Close() // its listener was closed before, or fails
	}
}
