package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
)

// wire is one connection of a client that never sends a request again.
type wire struct {
	conn net.Conn
	in   *bufio.Reader
}

func dialRaw(addr string) (*wire, error) {
	conn, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return nil, err
	}
	return &wire{conn, bufio.NewReader(conn)}, conn.SetDeadline(time.Now().Add(30 * time.Second))
}

// ask sends one request and reads the answer; last: the answer says that the connection ends.
func (c *wire) ask(method, path string) (status int, last bool, err error) {
	_, err = fmt.Fprintf(c.conn, "%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", method, path)
	if err != nil {
		return 0, true, err
	}
	res, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return 0, true, err
	}
	_, err = io.Copy(io.Discard, res.Body)
	return res.StatusCode, res.Close, errors.Join(err, res.Body.Close())
}

// few starts a program that may open 256 files.
func few(t *testing.T, p program, env ...string) *daemon {
	t.Helper()
	d := p.launch(t, []string{"bash", "-c", `ulimit -n 256; exec "$0"`}, env...)
	d.awaitListening()
	return d
}

// Connections that have not begun to speak TLS count, and make room.
func TestConnections_AreBoundedUnderTLS(t *testing.T) {
	t.Parallel()
	need(t, "bash")
	ca := testkit.NewCA(t)
	server, client := ca.ServerPair(t, "breakerd.internal"), ca.ClientPair(t)
	for _, p := range []program{breakerd, bridge} {
		d := few(t, p, "TLS_CERT_FILE="+server.CertFile, "TLS_KEY_FILE="+server.KeyFile, "TLS_CLIENT_CA_FILE="+ca.File)
		for range 400 {
			c, err := dialRaw(d.addr)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.conn.Close() })
		}
		tr := &http.Transport{TLSClientConfig: ca.ClientConfig(t, client, "breakerd.internal"), ForceAttemptHTTP2: true}
		t.Cleanup(tr.CloseIdleConnections)
		testkit.Eventually(t, "a new caller to be served", 5*time.Second, func() error {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+d.addr+"/health/checks", http.NoBody)
			if err != nil {
				return err
			}
			res, err := tr.RoundTrip(req)
			if err != nil {
				return err
			}
			text, err := io.ReadAll(res.Body)
			if want := server.CertFile + ", valid until "; res.StatusCode != http.StatusOK || !strings.Contains(string(text), want) {
				err = fmt.Errorf("status %d, want %s: %s", res.StatusCode, want, text)
			}
			if want := map[string]int{"breakerd": 1, "bridge": 2}[p.name]; res.ProtoMajor != want {
				err = fmt.Errorf("%s, want HTTP/%d", res.Proto, want)
			}
			return errors.Join(err, res.Body.Close())
		})
	}
}

// FIELD H10: 400 connections that nobody uses, and a limit of 256 open files.
func TestConnections_UnusedOnesMakeRoom(t *testing.T) {
	t.Parallel()
	need(t, "bash")
	for _, p := range []program{breakerd, bridge} {
		s := testkit.Start(t)
		d := few(t, p, "REDIS_URL="+s.URL())
		path := map[string]string{"breakerd": dataPath + "Worker/acquire", "bridge": "/agents/Worker/"}[p.name]
		want := map[string]int{"breakerd": http.StatusOK, "bridge": http.StatusNotFound}[p.name]
		for range 400 {
			c, err := dialRaw(d.addr)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.conn.Close() })
		}
		begin := time.Now()
		testkit.Eventually(t, "a new caller to be served", 5*time.Second, func() error {
			status, _, err := askOnce(d.addr, http.MethodPost, path)
			if err == nil && status != want {
				err = fmt.Errorf("status %d", status)
			}
			return err
		})
		t.Logf("%s: a new caller was served %v after the 400th connection", p.name, time.Since(begin))
		for _, health := range []string{"/livez", "/readyz", "/health"} {
			if status, _, err := askOnce(d.addr, http.MethodGet, health); status != http.StatusOK {
				t.Errorf("%s %s: %d %v", p.name, health, status, err)
			}
		}
		d.awaitText(`"level":"WARN"`, "no room for more connections", "ulimit -n")
		if lines := d.allLogged("cannot accept"); len(lines) > 0 {
			t.Errorf("%s: %s", p.name, lines[0])
		}
		if checks := d.call(http.MethodGet, "/health", "", "Connection", "close"); checks.get("status") != "healthy" {
			t.Errorf("%s: %s", p.name, checks.body)
		}
	}
}

func askOnce(addr, method, path string) (status int, last bool, err error) {
	c, err := dialRaw(addr)
	if err != nil {
		return 0, true, err
	}
	defer func() { _ = c.conn.Close() }()
	return c.ask(method, path)
}

// All connections are in use, by requests whose bodies do not end: health is answered, others are told.
func TestConnections_HealthIsAnsweredWhenAllAreInUse(t *testing.T) {
	t.Parallel()
	need(t, "bash")
	d := few(t, breakerd)
	permit := d.acquire("Worker").want(http.StatusOK).text("permit")
	d.client.CloseIdleConnections()
	const bound = 192
	for range bound {
		beginReport(d, "Worker", permit)
	}
	for range 50 { // more often than there are extras
		for path, want := range map[string]int{
			"/livez": http.StatusOK, "/readyz": http.StatusOK, "/health": http.StatusOK,
			dataPath + "Worker": http.StatusServiceUnavailable,
		} {
			if status, last, err := askOnce(d.addr, http.MethodGet, path); status != want || !last {
				t.Fatalf("%s: %d, last %v, %v", path, status, last, err)
			}
		}
	}
	d.call(http.MethodGet, dataPath+"Worker", "").want(http.StatusServiceUnavailable).has("code", "too_many_connections")
}

// With a limit below what the program itself needs, the listener fails, and says so.
func TestConnections_AcceptErrorsAreErrors(t *testing.T) {
	t.Parallel()
	need(t, "bash")
	d := breakerd.launch(t, []string{"bash", "-c", `ulimit -n 14; exec "$0"`})
	d.awaitListening()
	for range 30 {
		if c, err := dialRaw(d.addr); err == nil {
			t.Cleanup(func() { _ = c.conn.Close() })
		}
	}
	d.awaitText(`"level":"ERROR"`, "cannot accept connections", "too many open files", "LimitNOFILE")
	if n := len(d.allLogged("cannot accept connections")); n != 1 {
		t.Errorf("%d lines, want 1 in 10 s", n)
	}
}

// balanced is a client without retries of several replicas. As a balancer does, it polls /readyz, keeps connections,
// and gives up one whose answer said so.
type balanced struct {
	addrs []string
	ready []atomic.Bool
	turn  atomic.Int64
	kept  []chan *wire
}

func newBalanced(addrs ...string) *balanced {
	b := &balanced{addrs: addrs, ready: make([]atomic.Bool, len(addrs))}
	for range addrs {
		b.kept = append(b.kept, make(chan *wire, 64))
	}
	return b
}

// poll asks until stop is closed.
func (b *balanced) poll(stop <-chan struct{}) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		for i, addr := range b.addrs {
			status, _, err := askOnce(addr, http.MethodGet, "/readyz")
			b.ready[i].Store(err == nil && status == http.StatusOK)
		}
		select {
		case <-stop:
			return
		case <-tick.C:
		}
	}
}

// take returns a kept connection to a replica; nil: there is none. One that the replica has closed meanwhile is left
// out, as every pool does.
func (b *balanced) take(i int) *wire {
	for {
		select {
		case c := <-b.kept[i]:
			if !c.ended() {
				return c
			}
			_ = c.conn.Close()
		default:
			return nil
		}
	}
}

// ended reports whether the other side has closed a connection on which nothing is under way.
func (c *wire) ended() (ended bool) {
	raw, err := c.conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return true
	}
	err = raw.Read(func(fd uintptr) bool {
		_, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		ended = !errors.Is(err, syscall.EAGAIN)
		return true
	})
	return ended || err != nil
}

// call acquires at one of the replicas that are ready.
func (b *balanced) call(path string) error {
	i := int(b.turn.Add(1)) % len(b.addrs)
	for n := 0; !b.ready[i].Load(); n++ {
		if n == len(b.addrs) {
			return errors.New("no replica is ready")
		}
		i = (i + 1) % len(b.addrs)
	}
	c := b.take(i)
	if c == nil {
		var err error
		if c, err = dialRaw(b.addrs[i]); err != nil {
			return err
		}
	}
	status, last, err := c.ask(http.MethodPost, path)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("status %d", status)
	}
	if last || err != nil {
		return errors.Join(err, c.conn.Close())
	}
	select {
	case b.kept[i] <- c:
	default:
		_ = c.conn.Close()
	}
	return err
}

func (b *balanced) close() {
	for _, kept := range b.kept {
		close(kept)
		for c := range kept {
			_ = c.conn.Close()
		}
	}
}

// FIELD H13: two replicas are restarted, one after the other, three times, behind a client without retries.
func TestDrain_RollingRestartLosesNoCall(t *testing.T) {
	t.Parallel()
	s := testkit.Start(t)
	env := []string{"REDIS_URL=" + s.URL(), "SHUTDOWN_DELAY_SECONDS=1"}
	replicas := []*daemon{start(t, env...), start(t, env...)}
	b := newBalanced(replicas[0].addr, replicas[1].addr)
	stop := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() { b.poll(stop) })
	testkit.Eventually(t, "both to be ready", 10*time.Second, func() error {
		if b.ready[0].Load() && b.ready[1].Load() {
			return nil
		}
		return errors.New("not yet")
	})
	var calls, lost atomic.Int64
	for i := range 8 {
		running.Go(func() {
			path := fmt.Sprintf("%sWorker%d/acquire", dataPath, i)
			for {
				select {
				case <-stop:
					return
				default:
				}
				calls.Add(1)
				if err := b.call(path); err != nil {
					lost.Add(1)
					t.Errorf("a call was lost: %v", err)
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
	for range 3 {
		for i, r := range replicas {
			r.signal(syscall.SIGTERM)
			if code := r.ExitCode(); code != 0 {
				t.Errorf("exit code %d", code)
			}
			replicas[i] = start(t, append([]string{"BREAKERD_LISTEN=" + r.addr}, env...)...)
			testkit.Eventually(t, "it to be ready again", 10*time.Second, func() error {
				if !b.ready[i].Load() {
					return errors.New("not yet")
				}
				return nil
			})
		}
	}
	close(stop)
	running.Wait()
	b.close()
	t.Logf("%d calls, %d lost", calls.Load(), lost.Load())
	if calls.Load() < 1000 {
		t.Errorf("only %d calls", calls.Load())
	}
}

// A connection that was idle when SIGTERM came is served once more, and told; one of HTTP/2 gets GOAWAY.
func TestDrain_TellsConnectionsThatTheyEnd(t *testing.T) {
	t.Parallel()
	for _, p := range []program{breakerd, bridge} {
		d := p.start(t, "SHUTDOWN_DELAY_SECONDS=2")
		c, err := dialRaw(d.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.conn.Close() })
		if status, last, err := c.ask(http.MethodGet, "/livez"); status != http.StatusOK || last || err != nil {
			t.Fatalf("%d %v %v", status, last, err)
		}
		d.signal(syscall.SIGTERM)
		d.awaitText(`"msg":"stopping"`, `"delay":"2s"`)
		if status, last, err := c.ask(http.MethodGet, "/livez"); status != http.StatusOK || !last || err != nil {
			t.Errorf("%s: an idle connection: %d, last %v, %v", p.name, status, last, err)
		}
		if status, last, err := askOnce(d.addr, http.MethodGet, "/livez"); status != http.StatusOK || !last || err != nil {
			t.Errorf("%s: a new connection: %d, last %v, %v", p.name, status, last, err)
		}
		if p.name == bridge.name {
			two := &http.Transport{Protocols: new(http.Protocols)}
			two.Protocols.SetUnencryptedHTTP2(true)
			t.Cleanup(two.CloseIdleConnections)
			for range 2 {
				if reused := getTraced(t, two, "http://"+d.addr+"/livez"); reused {
					t.Error("HTTP/2: the connection of the answer before was used again")
				}
			}
		}
	}
}

// getTraced sends a request and reports whether its connection had been used before.
func getTraced(t *testing.T, client http.RoundTripper, url string) (reused bool) {
	t.Helper()
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		GotConn: func(got httptrace.GotConnInfo) { reused = got.Reused },
	})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	res, err := client.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != http.StatusOK || res.ProtoMajor != 2 {
		t.Errorf("%s: %s %v", res.Proto, res.Status, err)
	}
	_ = res.Body.Close()
	return reused
}
