package replica

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/internal/config"
	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/redisstore/embedded"
)

func TestMain(m *testing.M) {
	redis.SetLogger(quiet{}) // these tests break connections
	os.Exit(m.Run())
}

type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

// member is a replica of the fleet, with its log. Every member is a process of its own but in name.
type member struct {
	*Replica

	t   *testing.T
	out *testkit.Buffer
}

func join(t *testing.T, url string, env ...string) *member {
	t.Helper()
	settings, err := config.LoadReplica(append([]string{"REDIS_TIMEOUT_MS=1000"}, env...), config.Own{})
	if err != nil {
		t.Fatal(err)
	}
	settings.RedisURL = config.Secret(url)
	m := &member{t: t, out: new(testkit.Buffer)}
	m.Replica, err = New(t.Context(), Options{
		Replica: settings, Logger: slog.New(slog.NewJSONHandler(m.out, nil)), Embedded: embedded.Start,
	})
	if err != nil {
		t.Fatal(err)
	}
	m.Start(t.Context(), m.Greet)
	t.Cleanup(func() {
		_ = m.Stop(context.Background(), true)
		if t.Failed() {
			t.Logf("%s said:\n%s", m.ID, m.out)
		}
	})
	return m
}

// joinAll starts so many replicas, and waits until each knows Redis.
func joinAll(t *testing.T, n int, url string, env ...string) []*member {
	t.Helper()
	members := make([]*member, n)
	for i := range members {
		members[i] = join(t, url, env...)
	}
	for _, m := range members {
		m.eventually("this replica to know Redis", func() error {
			m.holds.mu.Lock()
			defer m.holds.mu.Unlock()
			if !m.holds.current {
				return errors.New("nothing was read")
			}
			return nil
		})
	}
	return members
}

func (m *member) eventually(what string, check func() error) {
	m.t.Helper()
	testkit.Eventually(m.t, what, 20*time.Second, check)
}

// logged gives the lines of the log that belong to an event.
func (m *member) logged(event string) (lines []map[string]any) {
	for line := range strings.Lines(m.out.String()) {
		var fields map[string]any
		if json.Unmarshal([]byte(line), &fields) == nil && fields["event"] == "circuit_breaker."+event {
			lines = append(lines, fields)
		}
	}
	return lines
}

// awaitLogged waits until something has happened once.
func (m *member) awaitLogged(event string) {
	m.t.Helper()
	m.eventually("a line with "+event, func() error {
		if got := len(m.logged(event)); got != 1 {
			return fmt.Errorf("there are %d", got)
		}
		return nil
	})
}

// do is what an operator does.
func (m *member) do(agent string, f breaker.Force) {
	m.t.Helper()
	if _, err := m.Manager.Force(m.t.Context(), agent, f); err != nil {
		m.t.Fatal(err)
	}
}

func (m *member) view(agent string) breaker.View {
	m.t.Helper()
	v, err := m.Store.Inspect(m.t.Context(), agent, m.o.Policy)
	if err != nil {
		m.t.Fatal(err)
	}
	return v
}

// awaitHold waits until a hold stands, and awaitKnown until this replica knows the breaker as it is now.
func (m *member) awaitHold(agent string, kind breaker.State) (v breaker.View) {
	m.t.Helper()
	m.eventually(fmt.Sprintf("hold %q of %s", kind, agent), func() (err error) {
		v, err = m.Store.Inspect(m.t.Context(), agent, m.o.Policy)
		if err == nil && v.Hold.Kind != kind {
			err = fmt.Errorf("hold %q, state %s", v.Hold.Kind, v.State)
		}
		return err
	})
	return v
}

func (m *member) awaitKnown(agents ...string) {
	m.t.Helper()
	for _, agent := range agents {
		m.eventually(m.ID+" to know "+agent, func() error {
			m.holds.mu.Lock()
			defer m.holds.mu.Unlock()
			if _, ok := m.holds.known[agent]; !ok {
				return errors.New("it does not")
			}
			return nil
		})
	}
}

// shop is a Redis that tests break.
type shop struct {
	url    string
	client *redis.Client
}

// onEachEngine runs a test on miniredis and on a real server.
func onEachEngine(t *testing.T, test func(t *testing.T, s shop)) {
	t.Helper()
	t.Run("miniredis", func(t *testing.T) {
		t.Parallel()
		m := miniredis.NewMiniRedis()
		m.ClockTTL(true)
		if err := m.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(m.Close)
		client := redis.NewClient(&redis.Options{Addr: m.Addr()})
		t.Cleanup(func() { _ = client.Close() })
		test(t, shop{"redis://" + m.Addr() + "/0", client})
	})
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		s := testkit.Start(t)
		test(t, shop{s.URL(), s.Client(t)})
	})
}

// proxy stands before a Redis. It can be turned to another one, or away from any.
type proxy struct {
	net.Listener

	mu     sync.Mutex
	target string // "": none
	conns  []net.Conn
}

func newProxy(t *testing.T, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{Listener: l, target: target}
	go p.serve()
	t.Cleanup(func() {
		_ = l.Close()
		p.turn("")
	})
	return p
}

func (p *proxy) url() string { return "redis://" + p.Addr().String() + "/0" }

// turn breaks every connection; new ones go to target.
func (p *proxy) turn(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
}

func (p *proxy) serve() {
	for {
		in, err := p.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		out, err := net.Dial("tcp", p.target)
		if p.target == "" || err != nil {
			_ = in.Close()
			p.mu.Unlock()
			continue
		}
		p.conns = append(p.conns, in, out)
		p.mu.Unlock()
		for from, to := range map[net.Conn]net.Conn{in: out, out: in} {
			go func() {
				_, _ = io.Copy(to, from)
				_ = to.Close()
			}()
		}
	}
}

// An agent of the registry's file is known before anybody has called it.
func TestKnown_AgentOfTheFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "agents.json")
	if err := os.WriteFile(path, []byte(`{"agents":[{"name":"Filed","contact":"ops@example.org"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	m := join(t, testkit.Start(t).URL(), "AGENTS_FILE="+path)
	for agent, want := range map[string]bool{"Filed": true, "Typo": false} {
		if known, err := m.Known(t.Context(), agent); err != nil || known != want {
			t.Errorf("%s: %v, %v", agent, known, err)
		}
	}
}
