package client_test

import (
	"context"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"go.uber.org/goleak"

	"github.com/breakerd/breakerd/internal/app"
	"github.com/breakerd/breakerd/internal/clientgen"
	"github.com/breakerd/breakerd/internal/daemon"
	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/client"
)

// asBreakerd makes this test's binary a breakerd.
const asBreakerd = "CLIENT_TEST_AS_BREAKERD"

func TestMain(m *testing.M) {
	if os.Getenv(asBreakerd) != "" {
		os.Exit(app.Breakerd().Run(context.Background(), os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
	}
	goleak.VerifyTestMain(m)
}

// patient keeps a busy machine from looking like a Redis that is down.
const patient = "REDIS_TIMEOUT_MS=10000"

// replica is a breakerd in a process of its own.
type replica struct {
	*testkit.Process

	address string
	environ []string
}

func startReplica(t *testing.T, redis string, env ...string) *replica {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := replica{address: l.Addr().String()}
	r.environ = append(slices.Clip(env), asBreakerd+"=1", "BREAKERD_LISTEN="+r.address, "REDIS_URL="+redis, patient, "TMPDIR="+t.TempDir())
	l.Close()
	r.start(t)
	return &r
}

// start starts it at its address.
func (r *replica) start(t *testing.T) {
	t.Helper()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r.Process = testkit.Run(t, []string{binary}, r.environ)
	testkit.Eventually(t, "breakerd to be ready", 30*time.Second, func() error {
		cmd := exec.CommandContext(t.Context(), binary, "--health")
		cmd.Env = r.environ
		return cmd.Run()
	})
}

func (r *replica) url() string { return "http://" + r.address }

// end ends it by a signal.
func (r *replica) end(t *testing.T, sig syscall.Signal) {
	t.Helper()
	r.Signal(sig)
	select {
	case <-r.Done():
	case <-time.After(30 * time.Second):
		t.Fatalf("breakerd still runs after %v: %s", sig, r.Stderr())
	}
}

// onEachEngine runs a test on miniredis and on a real server.
func onEachEngine(t *testing.T, test func(t *testing.T, redis string)) {
	t.Helper()
	t.Run("miniredis", func(t *testing.T) {
		t.Parallel()
		m := miniredis.NewMiniRedis()
		m.ClockTTL(true)
		if err := m.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(m.Close)
		test(t, "redis://"+m.Addr()+"/0")
	})
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		test(t, testkit.Start(t).URL())
	})
}

// serve serves a program in this process, and returns its address.
func serve(t *testing.T, program daemon.Program, env ...string) string {
	t.Helper()
	p, err := clientgen.Open(t.Context(), program, env...)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(p.Handler)
	p.Start()
	t.Cleanup(func() {
		p.Stop()
		server.CloseClientConnections()
		server.Close()
	})
	return server.URL
}

func newClient(t testing.TB, servers ...string) *client.Client {
	t.Helper()
	c, err := client.New(client.Options{Servers: servers, Actor: "alice"})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// breakerdOn is a client of a breakerd in this process.
func breakerdOn(t *testing.T, redis string) *client.Client {
	t.Helper()
	return newClient(t, serve(t, app.Breakerd(), "REDIS_URL="+redis, patient))
}

// must fails the test if there is an error, and returns the value.
func must[T any](v T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// has fails unless a text contains another.
func has(t *testing.T, text, part string) {
	t.Helper()
	if !strings.Contains(text, part) {
		t.Errorf("%q lacks %q", text, part)
	}
}
