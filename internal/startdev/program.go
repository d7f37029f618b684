package startdev

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/breakerd/breakerd/internal/daemon"
	"github.com/breakerd/breakerd/pkg/client"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

// fleet is everything that runs.
type fleet struct {
	breakerd, bridge, agents *program

	engine redisstore.Engine // nil: Redis is elsewhere
	redis  string            // its URL
	prefix string            // of its keys
	level  slog.Level
	log    *slog.Logger
	http   http.Client // of the agents' callers
}

// program is one that runs in this process.
type program struct {
	daemon.Program

	part              daemon.Part
	variable, address string // of its listener

	stop  context.CancelFunc // nil: it has not started
	ended chan struct{}      // closed when it has ended
}

func (p *program) url() string { return "http://" + p.address }

// start starts the programs. fail is called when one ends by itself.
func (f *fleet) start(fail func(error)) {
	f.http.Transport = &http.Transport{MaxIdleConnsPerHost: mostCalls} // HTTP_PROXY does not apply
	for _, p := range []*program{f.breakerd, f.bridge, f.agents} {
		// Each has a context of its own: they end one after the other.
		ctx, stop := context.WithCancel(context.Background())
		p.stop = stop
		go func() {
			defer close(p.ended)
			code := p.RunPart(ctx, p.part)
			if ctx.Err() == nil {
				fail(fmt.Errorf("%s has ended by itself with exit code %d: its log says why", p.Name, code))
			}
		}()
	}
}

// end ends what runs: those who call before those who are called, and Redis, which all of them use, last. Each takes a
// bounded time.
func (f *fleet) end() {
	for _, p := range []*program{f.bridge, f.agents, f.breakerd} {
		switch {
		case p == nil:
		case p.stop == nil:
			for _, l := range p.part.Listeners {
				_ = l.Close() // nobody used it
			}
		default:
			p.stop()
			<-p.ended
		}
	}
	f.http.CloseIdleConnections()
	if f.engine != nil {
		f.engine.Close()
	}
}

// prepare waits until every program is ready, and gives the fleet its agents and an operator's hold.
func (f *fleet) prepare(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, errors.New("not ready in time"))
	defer cancel()
	for _, p := range []*program{f.breakerd, f.bridge, f.agents} {
		if err := f.await(ctx, p); err != nil {
			return fmt.Errorf("%s is not ready: %w", p.Name, err)
		}
	}
	bridge, err := client.NewBridge(client.Options{Servers: []string{f.bridge.url()}, Actor: "start-dev"})
	if err != nil {
		return err
	}
	defer bridge.CloseIdleConnections()
	for _, a := range agents() {
		if _, err := bridge.RegisterAgent(ctx, a.registration(f.agents.url())); err != nil {
			return fmt.Errorf("register agent %s: %w", a.name, err)
		}
		if err := f.put(ctx, a.name, a.first()); err != nil {
			return err
		}
	}
	return f.hold(ctx)
}

// hold has an operator keep one agent's breaker open.
func (f *fleet) hold(ctx context.Context) error {
	held := byOperator()
	breakerd, err := client.New(client.Options{Servers: []string{f.breakerd.url()}, Actor: held.actor})
	if err != nil {
		return err
	}
	defer breakerd.CloseIdleConnections()
	_, err = breakerd.OpenCircuitBreaker(ctx, held.agent, client.HoldRequest{Reason: held.reason})
	if errors.Is(err, client.ErrConflict) { // somebody's, in a Redis that has seen this fleet before
		return nil
	}
	return err
}

// await waits until a program says that it is ready.
func (f *fleet) await(ctx context.Context, p *program) error {
	t := time.NewTicker(20 * time.Millisecond)
	defer t.Stop()
	for {
		err := f.ask(ctx, http.MethodGet, p.url()+"/readyz", "")
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-t.C:
		}
	}
}
