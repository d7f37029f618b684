package gateway

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/registry"
	"github.com/breakerd/breakerd/pkg/breaker"
)

func TestBase_ConnectionsAreKeptNoLongerThanTheAgentSays(t *testing.T) {
	t.Parallel()
	b := NewBase(0)
	for idle := time.Millisecond; idle <= registry.MaxTimeout; idle += idle/7 + time.Millisecond {
		kept := b.plain.keeping(idle).IdleConnTimeout
		if kept > idle && kept != shortest || kept <= idle/2 {
			t.Errorf("%s: %s", idle, kept)
		}
	}
	for idle, want := range map[time.Duration]time.Duration{
		0: 4 * time.Second, registry.DefaultIdleTimeout: 4 * time.Second, time.Nanosecond: shortest, -time.Second: shortest,
		time.Hour: 2048 * time.Second, 1000 * time.Hour: 4096 * time.Second,
	} {
		if got := b.plain.keeping(idle); got.IdleConnTimeout != want || got != b.plain.keeping(idle) {
			t.Errorf("%s: got %s, want %s", idle, got.IdleConnTimeout, want)
		}
	}
}

type twoAgents map[string]registry.Agent

func (a twoAgents) Agent(_ context.Context, name string) (registry.Agent, error) { return a[name], nil }

// Two agents of one gateway, at one address: only the connection of the one that says so is closed.
func TestGateway_IdleTimeoutIsThatOfTheAgent(t *testing.T) {
	t.Parallel()
	closed := make(chan string, 10)
	agent := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.RemoteAddr)
	}))
	agent.Config.ConnState = func(c net.Conn, s http.ConnState) {
		if s == http.StateClosed {
			closed <- c.RemoteAddr().String()
		}
	}
	agent.Start()
	t.Cleanup(agent.Close)
	at, err := url.Parse(agent.URL)
	if err != nil {
		t.Fatal(err)
	}
	m, err := breaker.NewManager(breaker.Options{Store: breaker.NewMemory(nil, 100)})
	if err != nil {
		t.Fatal(err)
	}
	base := NewBase(0)
	t.Cleanup(base.CloseIdleConnections)
	g, err := New(Options{Manager: m, Base: base, Agents: twoAgents{
		"Short": {Name: "Short", URL: at, Timeout: time.Minute, IdleTimeout: 50 * time.Millisecond},
		"Long":  {Name: "Long", URL: at, Timeout: time.Minute, IdleTimeout: time.Hour},
	}})
	if err != nil {
		t.Fatal(err)
	}
	call := func(name string) (from string) {
		w := httptest.NewRecorder()
		g.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, Prefix+name+"/x", http.NoBody))
		if w.Code != http.StatusOK {
			t.Fatalf("%s: %d %s", name, w.Code, w.Body)
		}
		return w.Body.String()
	}
	long, short := call("Long"), call("Short")
	if long == short {
		t.Fatal("one connection for both")
	}
	if got := <-closed; got != short {
		t.Errorf("closed %s, want that of Short, %s", got, short)
	}
	if again := call("Long"); again != long {
		t.Errorf("Long has a new connection, %s after %s", again, long)
	}
	if again := call("Short"); again == short {
		t.Error("Short's connection is used again")
	}
}
