// Member is a Go program that has joined the fleet by package fleet. Tests drive it over HTTP.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/fleet"
)

func main() {
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil)).With("component", "Circuit Breaker")
	if err := run(log); err != nil {
		log.Error("member ends", "error", err)
		os.Exit(1)
	}
}

func run(log *slog.Logger) (err error) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	m := &member{heard: map[string][]string{}}
	m.fleet, err = fleet.Join(ctx, os.Getenv("REDIS_URL"), fleet.Options{
		FromEnv: true, Logger: log, OnStateChange: m.hear,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.fleet.Close(context.WithoutCancel(ctx))) }()
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", os.Getenv("MEMBER_LISTEN"))
	if err != nil {
		return err
	}
	server := &http.Server{Handler: m.routes(ctx), ReadHeaderTimeout: time.Minute}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	log.Info("listening", "address", l.Addr().String())
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	m.waiters.Wait()
	return nil
}

type member struct {
	fleet *fleet.Fleet

	mu    sync.Mutex
	heard map[string][]string // changes, by agent

	waiters          sync.WaitGroup
	waiting, refused atomic.Int64
}

func (m *member) hear(c breaker.Change) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.heard[c.Agent] = append(m.heard[c.Agent], fmt.Sprintf("%s>%s", c.From.Upper(), c.To.Upper()))
}

func (m *member) routes(ctx context.Context) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /call/{agent}", m.call)
	mux.HandleFunc("PUT /config/{agent}", m.configure)
	mux.HandleFunc("GET /breaker/{agent}", m.inspect)
	mux.HandleFunc("GET /list", func(w http.ResponseWriter, r *http.Request) {
		states, err := m.fleet.List(r.Context())
		answer(w, states, err)
	})
	mux.HandleFunc("GET /changes/{agent}", func(w http.ResponseWriter, r *http.Request) {
		m.mu.Lock()
		defer m.mu.Unlock()
		answer(w, map[string]any{"changes": m.heard[r.PathValue("agent")]}, nil)
	})
	mux.HandleFunc("POST /waiters/{agent}", func(w http.ResponseWriter, r *http.Request) { m.startWaiters(ctx, w, r) })
	mux.HandleFunc("GET /waiters", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{"waiting": m.waiting.Load(), "refused": m.refused.Load()}, nil)
	})
	return mux
}

// call makes one call of an agent, which fails if the query says fail=true.
func (m *member) call(w http.ResponseWriter, r *http.Request) {
	called := false
	_, err := breaker.Call(r.Context(), m.fleet, r.PathValue("agent"), func(context.Context) (int, error) {
		called = true
		if r.FormValue("fail") == "true" {
			return 0, errors.New("the agent is down")
		}
		return 1, nil
	})
	report := map[string]any{"called": called, "open": errors.Is(err, breaker.ErrOpen)}
	if err != nil {
		report["error"] = err.Error()
	}
	answer(w, report, nil)
}

func (m *member) configure(w http.ResponseWriter, r *http.Request) {
	override := struct {
		Enabled          bool `json:"enabled"`
		FailureThreshold int  `json:"failure_threshold"`
	}{Enabled: true}
	err := json.NewDecoder(r.Body).Decode(&override)
	if err == nil {
		err = m.fleet.Configure(r.Context(), r.PathValue("agent"), breaker.Policy{
			Disabled: !override.Enabled, FailureThreshold: override.FailureThreshold,
		})
	}
	answer(w, map[string]any{}, err)
}

func (m *member) inspect(w http.ResponseWriter, r *http.Request) {
	v, p, err := m.fleet.Inspect(r.Context(), r.PathValue("agent"))
	answer(w, map[string]any{
		"state": v.State.Upper(), "degraded": v.Degraded, "failure_threshold": p.FailureThreshold, "disabled": p.Disabled,
	}, err)
}

// startWaiters starts n loops as a coordinator has them: each waits until a call may be tried, tries it, and ends with
// the first call that succeeds. The agent is at url.
func (m *member) startWaiters(ctx context.Context, w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(r.FormValue("n"))
	agent, url := r.PathValue("agent"), r.FormValue("url")
	for range n {
		m.waiting.Add(1)
		m.waiters.Go(func() {
			defer m.waiting.Add(-1)
			m.loop(ctx, agent, func(ctx context.Context) error { return get(ctx, url) })
		})
	}
	answer(w, map[string]any{}, err)
}

func (m *member) loop(ctx context.Context, agent string, call func(context.Context) error) {
	for m.fleet.Wait(ctx, agent) == nil {
		err := m.fleet.Do(ctx, agent, call)
		if err == nil {
			return
		}
		if errors.Is(err, breaker.ErrOpen) {
			m.refused.Add(1)
		}
	}
}

func get(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil) //nolint:gosec // the test names its own agent
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req) //nolint:gosec // as above
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		err = errors.New(res.Status)
	}
	return errors.Join(err, res.Body.Close())
}

func answer(w http.ResponseWriter, v any, err error) {
	body, invalid := json.Marshal(v)
	if err = errors.Join(err, invalid); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body)
}
