package e2e

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
)

// manager receives what a program notifies systemd of.
type manager struct {
	t    testing.TB
	conn *net.UnixConn
	path string
}

func newManager(t testing.TB) *manager {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &manager{t, conn, path}
}

// next is the next message, "" if there is none within the time.
func (m *manager) next(within time.Duration) string {
	m.t.Helper()
	buf := make([]byte, 4096)
	if err := m.conn.SetReadDeadline(time.Now().Add(within)); err != nil {
		m.t.Fatal(err)
	}
	n, err := m.conn.Read(buf)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		m.t.Fatal(err)
	}
	return string(buf[:n])
}

// await reads up to a message that begins so; those before it begin with other.
func (m *manager) await(want, other string) string {
	m.t.Helper()
	for {
		got := m.next(startTimeout)
		if strings.HasPrefix(got, want) {
			return got
		}
		if other == "" || !strings.HasPrefix(got, other) {
			m.t.Fatalf("systemd was told %q, want %q", got, want)
		}
	}
}

func TestSystemd_IsToldOfTheLifeOfEachProgram(t *testing.T) {
	t.Parallel()
	s := testkit.Start(t)
	for _, p := range []program{breakerd, bridge} {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			m := newManager(t)
			const watchdog = time.Second
			d := p.start(t, "REDIS_URL="+s.URL(), "NOTIFY_SOCKET="+m.path, fmt.Sprintf("WATCHDOG_USEC=%d", watchdog.Microseconds()))
			if got := m.await("READY=1", ""); got != "READY=1\nSTATUS=serves at http://"+d.addr {
				t.Errorf("%q", got)
			}
			if r, err := d.try(http.MethodGet, "/readyz", ""); err != nil || r.status != http.StatusOK {
				t.Errorf("READY=1, but /readyz: %d %v", r.status, err)
			}
			m.await("WATCHDOG=1", "")
			m.await("WATCHDOG=1", "")
			d.signal(syscall.SIGSTOP)
			d.signalled = false
			for sent := "before"; sent != ""; {
				sent = m.next(watchdog)
			}
			// One whole time of the watchdog has passed without a sign of life: systemd would have ended it.
			d.signal(syscall.SIGCONT)
			m.await("WATCHDOG=1", "")
			d.signal(syscall.SIGTERM)
			m.await("STOPPING=1\nSTATUS=stopping, calls have 20s to end\nEXTEND_TIMEOUT_USEC=25000000", "WATCHDOG=1")
			if code := d.ExitCode(); code != 0 {
				t.Errorf("exit code %d", code)
			}
		})
	}
}

// socket listens as systemd does for a socket unit: it accepts nothing itself.
func socket(t testing.TB, network, address string) (f *os.File, addr string) {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err = l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f, l.Addr().String()
}

// activate starts a program with a socket of this name. LISTEN_PID is of the process that runs the program in the end.
func (p program) activate(t testing.TB, name string, f *os.File, env ...string) *daemon {
	t.Helper()
	argv := []string{"/bin/sh", "-c", `LISTEN_PID=$$ exec "$0"`, p.binary()}
	return p.launchFiles(t, argv, []*os.File{f}, append(env, "LISTEN_FDS=1", "LISTEN_FDNAMES="+name)...)
}

// restarts counts what comes of calls, each over a connection of its own, while a program is restarted.
type restarts struct{ calls, failed atomic.Int64 }

func (n *restarts) run(ctx context.Context, t testing.TB, url string, secure *tls.Config) {
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: secure}}
	for ctx.Err() == nil {
		n.calls.Add(1)
		res, err := client.Get(url) // without ctx: the last call counts too
		if err == nil {
			_, err = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
			if res.StatusCode != http.StatusOK {
				err = fmt.Errorf("status %d", res.StatusCode)
			}
		}
		if err != nil && n.failed.Add(1) < 10 {
			t.Errorf("a call failed: %v", err)
		}
	}
}

func TestSystemd_RestartRefusesNoConnection(t *testing.T) {
	t.Parallel()
	s, ca := testkit.Start(t), testkit.NewCA(t)
	pair := ca.ServerPair(t, "127.0.0.1")
	for name, c := range map[string]struct {
		program
		path string
		tls  bool
	}{
		"breakerd":          {breakerd, "/v1/admin/circuit_breakers", false},
		"breakerd with TLS": {breakerd, "/v1/admin/circuit_breakers", true},
		"bridge":            {bridge, "/api/v1/agents", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, addr := socket(t, "tcp", "127.0.0.1:0")
			env, url, secure := []string{"REDIS_URL=" + s.URL()}, "http://"+addr+c.path, (*tls.Config)(nil)
			if c.tls {
				env = append(env, "TLS_CERT_FILE="+pair.CertFile, "TLS_KEY_FILE="+pair.KeyFile)
				url, secure = "https://"+addr+c.path, ca.ClientConfig(t, ca.ClientPair(t), "127.0.0.1")
			}
			d := c.activate(t, c.listen, f, env...)
			d.awaitListening()
			if d.addr != addr {
				t.Fatalf("it listens at %s, want the socket's %s", d.addr, addr)
			}
			var n restarts
			ctx, cancel := context.WithCancel(t.Context())
			var all sync.WaitGroup
			defer all.Wait()
			defer cancel()
			for range 4 {
				all.Go(func() { n.run(ctx, t, url, secure) })
			}
			flow := func() {
				t.Helper()
				begin := n.calls.Load()
				testkit.Eventually(t, "calls", startTimeout, func() error {
					if n.calls.Load() < begin+40 {
						return errors.New("too few")
					}
					return nil
				})
			}
			for range 3 {
				flow()
				d.signal(syscall.SIGTERM)
				if code := d.ExitCode(); code != 0 {
					t.Errorf("exit code %d", code)
				}
				d = c.activate(t, c.listen, f, env...)
				d.awaitListening()
			}
			flow()
			cancel()
			all.Wait()
			t.Logf("%d calls over connections of their own during three restarts, %d failed", n.calls.Load(), n.failed.Load())
		})
	}
}

// The variable says loopback, and the socket is for everybody: the socket counts.
func TestSystemd_SocketsAreJudgedByTheirAddress(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		program
		network, address, auth string
	}{
		{breakerd, "tcp4", "0.0.0.0:0", "BREAKERD_AUTH"},
		{breakerd, "tcp", "[::]:0", "BREAKERD_AUTH"},
		{bridge, "tcp4", "0.0.0.0:0", "BRIDGE_AUTH"},
	} {
		f, addr := socket(t, c.network, c.address)
		d := c.activate(t, c.listen, f)
		if code := d.ExitCode(); code != 2 {
			t.Errorf("%s at %s: exit code %d", c.name, addr, code)
		}
		d.awaitText(c.listen + `="` + addr + `": other machines could use it`)
		d = c.activate(t, c.listen, f, c.auth+"=none")
		d.awaitText(`"event":"access.open"`, `"listen":"`+addr+`"`)
		d.awaitListening()
		d.end()
	}
	f, _ := socket(t, "tcp", "127.0.0.1:0")
	d := breakerd.activate(t, "web.socket", f)
	if code := d.ExitCode(); code != 2 {
		t.Errorf("exit code %d", code)
	}
	if text := d.Stderr(); !strings.Contains(text, `socket "web.socket" of systemd: breakerd has no such listener: want FileDescriptorName to be BREAKERD_LISTEN or DEBUG_LISTEN`) {
		t.Error(text)
	}
}

const unitsDir = "../../deploy/systemd"

// installed puts the units and drop-ins where a machine has them, with the programs of this test, into a directory.
func installed(t testing.TB) (root string) {
	t.Helper()
	root = t.TempDir()
	for from, to := range map[string]string{
		"breakerd.service": "breakerd.service", "breakerd.socket": "breakerd.socket", "bridge.service": "bridge.service",
		"bridge.socket": "bridge.socket", "credentials.conf": "breakerd.service.d/credentials.conf",
		"log-to-file.conf": "bridge.service.d/log-to-file.conf",
	} {
		text, err := os.ReadFile(filepath.Join(unitsDir, from))
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(root, to)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(text), "/usr/local/bin/", binaries+"/")), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestSystemd_UnitsAreValidAndHardened(t *testing.T) {
	t.Parallel()
	need(t, "systemd-analyze")
	dir := installed(t)
	for _, name := range []string{"breakerd", "bridge"} {
		units := []string{filepath.Join(dir, name+".service"), filepath.Join(dir, name+".socket")}
		cmd := exec.Command("systemd-analyze", append([]string{"verify", "--man=no", "--generators=no", "--recursive-errors=no"}, units...)...)
		cmd.Env = append(os.Environ(), "SYSTEMD_LOG_LEVEL=notice", "SYSTEMD_UNIT_PATH="+dir+":")
		if text, err := cmd.CombinedOutput(); err != nil || len(text) > 0 {
			t.Errorf("systemd-analyze verify %s: %v\n%s", name, err, text)
		}
		// systemd's own figure: 0 is all that it knows to forbid, 10 nothing.
		cmd = exec.Command("systemd-analyze", "security", "--offline=yes", "--no-pager", "--threshold=15", units[0])
		text, err := cmd.CombinedOutput()
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		if err != nil {
			t.Errorf("systemd-analyze security %s: %v\n%s", name, err, text)
		}
		t.Logf("%s: %s", name, lines[len(lines)-1])
	}
}
