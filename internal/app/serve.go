package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"
)

// serve listens until a signal or the end of ctx, and gives the exit code. up is told the addresses.
func (s *core) serve(ctx context.Context, mounts []mount, signals <-chan os.Signal, up func(addresses []string)) int {
	var listeners []net.Listener
	var addresses []string
	for _, m := range mounts {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", m.listen)
		if err != nil {
			s.log.Error("cannot listen: is another one running? set "+m.variable+" to a free address", "listen", m.listen, "error", err)
			for _, l := range listeners {
				_ = l.Close() // never used
			}
			return exitForced
		}
		listeners, addresses = append(listeners, l), append(addresses, l.Addr().String())
	}
	s.start(ctx)
	servers := servers{}
	served := make(chan error, len(mounts))
	for i, m := range mounts {
		server := s.server(m)
		servers = append(servers, server)
		go func() { served <- server.Serve(listeners[i]) }()
		s.log.Info("listening", "address", addresses[i], "for", m.variable, "redis", s.conn.Display)
	}
	up(addresses)
	select {
	case err := <-served:
		s.log.Error("the listener failed", "error", err)
		_ = servers.close() // what is left of them
		return exitForced
	case <-ctx.Done():
	case sig := <-signals:
		s.log.Info("stopping", "signal", sig.String(), "delay", s.cfg.ShutdownDelay.String(), "timeout", s.cfg.ShutdownTimeout.String())
	}
	return s.shutdown(servers, signals)
}

func (s *core) server(m mount) *http.Server {
	server := &http.Server{
		Handler: s.counted(m.handler), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: 60 * time.Second,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	if m.stream {
		server.ReadTimeout, server.WriteTimeout = 0, 0
		server.Protocols = new(http.Protocols)
		server.Protocols.SetHTTP1(true)
		server.Protocols.SetUnencryptedHTTP2(true)
	}
	return server
}

// counted lets shutdown wait for every call: net/http knows nothing of those that have taken over their connection, as WebSockets.
func (s *core) counted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.serving.RLock()
		defer s.serving.RUnlock()
		next.ServeHTTP(w, r)
	})
}

// servers are all of a program's.
type servers []*http.Server

// shutdown ends them together, each when its calls have ended.
func (list servers) shutdown(ctx context.Context) error {
	done := make(chan error, len(list))
	for _, s := range list {
		go func() { done <- s.Shutdown(ctx) }()
	}
	var errs []error
	for range list {
		errs = append(errs, <-done)
	}
	return errors.Join(errs...)
}

func (list servers) close() error {
	var errs []error
	for _, s := range list {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

// shutdown is: not ready, a moment for the balancers to notice, drain, tell the figures. A second signal ends it at once.
func (s *core) shutdown(list servers, signals <-chan os.Signal) int {
	s.ready.set(errStopping)
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.ShutdownDelay+s.cfg.ShutdownTimeout)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		pause := time.NewTimer(s.cfg.ShutdownDelay)
		defer pause.Stop()
		select {
		case <-pause.C:
		case <-ctx.Done():
		}
		done <- errors.Join(list.shutdown(ctx), s.settled(ctx))
	}()
	select {
	case err := <-done:
		if err != nil {
			s.log.Warn("stopped with calls still under way", "error", err)
			_ = list.close() // said above
		}
		last, cancel := context.WithTimeout(context.Background(), lastWords)
		defer cancel()
		_ = s.settled(last) // what was cut settles
		s.sendAll()
		logStats(last, s.manager, s.book, s.log)
		s.log.Info("stopped")
		return exitOK
	case sig := <-signals:
		s.log.Warn("stopped by a second signal", "signal", sig.String())
		_ = list.close() // the end is forced; there is nobody to tell
		return exitForced
	}
}

// sendAll sends what cached mode has not sent yet.
func (s *core) sendAll() {
	ctx, cancel := context.WithTimeout(context.Background(), lastWords)
	defer cancel()
	if err := s.manager.Close(ctx); err != nil {
		s.log.Error("outcomes were not sent", "agents", s.manager.Backlog().Agents, "error", err)
	}
}

// lastWords bounds what is left to do once nobody is served any more.
const lastWords = 2 * time.Second

// settled waits until no call is under way.
func (s *core) settled(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		s.serving.Lock()
		defer s.serving.Unlock()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("calls are under way: %w", ctx.Err())
	}
}
