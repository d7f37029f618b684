//go:build nightly

package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
)

const proxiesDir = "../../deploy/proxies"

// proxy is a proxy that runs with one of the files in deploy/proxies.
type proxy struct {
	*process

	addr string // of its first listener
}

// runProxy starts nginx, haproxy or caddy with a file of ours, in which addresses are replaced by those of the test.
func runProxy(t testing.TB, file string, replace ...string) *proxy {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{file, "breakerd.lua"} {
		text, err := os.ReadFile(filepath.Join(proxiesDir, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.NewReplacer(replace...).Replace(string(text))), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, file)
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "XDG_DATA_HOME=" + dir, "XDG_CONFIG_HOME=" + dir}
	var argv []string
	switch {
	case strings.HasPrefix(file, "nginx"):
		need(t, "nginx")
		conf := filepath.Join(dir, "nginx.conf")
		text := fmt.Sprintf("daemon off; master_process off; pid pid; error_log stderr warn; events {} http { access_log off; "+
			"client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s; include %s; }", path)
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		argv = []string{"nginx", "-p", dir, "-c", conf, "-e", "stderr"}
	case strings.HasPrefix(file, "haproxy"):
		need(t, "haproxy")
		argv = []string{"haproxy", "-db", "-C", dir, "-f", path}
	default:
		need(t, "caddy")
		argv = []string{"caddy", "run", "--adapter", "caddyfile", "--config", path}
	}
	p := &proxy{spawn(t, argv, env), replace[1]}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s said:\n%s%s", file, tail(p.Stdout(), 4000), tail(p.Stderr(), 4000))
		}
		p.signal(syscall.SIGTERM)
		select {
		case <-p.Done():
		case <-time.After(2 * time.Second): // connections are open; the test ends it
		}
	})
	testkit.Eventually(t, file+" to listen", startTimeout, func() error {
		if !p.Running() {
			t.Fatalf("%s ended:\n%s%s", file, p.Stdout(), p.Stderr())
		}
		conn, err := net.Dial("tcp", p.addr)
		if err == nil {
			_ = conn.Close()
		}
		return err
	})
	return p
}

// upstream is an agent whose answer a test sets.
type upstream struct {
	*httptest.Server

	status atomic.Int32
	calls  atomic.Int32
	permit atomic.Value // that the last call brought
}

func newUpstream(t testing.TB) *upstream {
	t.Helper()
	u := &upstream{}
	u.status.Store(http.StatusOK)
	u.permit.Store("")
	u.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u.calls.Add(1)
		u.permit.Store(r.Header.Get("X-Circuit-Breaker-Permit"))
		if r.URL.Path == "/hang" {
			select {
			case <-r.Context().Done():
			case <-time.After(time.Second):
			}
		}
		w.WriteHeader(int(u.status.Load()))
		_, _ = io.Copy(w, r.Body)
	}))
	t.Cleanup(u.Close)
	return u
}

// behind calls the proxy, as a browser of another site would.
func (p *proxy) behind(t testing.TB) (status int, header http.Header, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+p.addr+"/a/b?deny_status=x", strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Origin", "https://a-page.example")
	req.Header.Set("Sec-Fetch-Site", "cross-site")
	req.Header.Set("X-Circuit-Breaker-Permit", "forged")
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, res.Header, string(text)
}

// eventually waits until the breaker of payments has this value.
func (d *daemon) eventually(field string, want any) {
	d.t.Helper()
	testkit.Eventually(d.t, fmt.Sprint(field, " ", want), startTimeout, func() error {
		if got := d.show("payments").get(field); got != want {
			return fmt.Errorf("%v", got)
		}
		return nil
	})
}

// Each proxy asks before each call; nginx and HAProxy report each outcome, Caddy hands the agent the permit.
func TestProxies_AskTheGateAndReport(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		file    string
		reports bool
		left    float64 // successes of a call whose caller left
	}{
		{"nginx-gate.conf", true, 0}, // which ends the call
		{"haproxy-gate.cfg", true, 1},
		{"Caddyfile-gate", false, 0},
	} {
		t.Run(c.file, func(t *testing.T) {
			t.Parallel()
			d := start(t, "CIRCUIT_BREAKER_TIMEOUT_SECONDS=1")
			u := newUpstream(t)
			addr := testkit.FreeAddress(t)
			p := runProxy(t, c.file, "127.0.0.1:8080", addr, "127.0.0.1:9000", u.Listener.Addr().String(), "127.0.0.1:18180", d.addr)
			call := func(want int, outcome string) {
				t.Helper()
				before := u.calls.Load()
				if status, _, body := p.behind(t); status != want || body != "hello" || u.calls.Load() != before+1 {
					t.Errorf("status %d %q, the agent was called %d times", status, body, u.calls.Load()-before)
				}
				if !c.reports {
					permit := u.permit.Load().(string)
					d.report("payments", permit, outcome).want(http.StatusOK).has("counted", true)
				}
			}
			call(http.StatusOK, "success")
			d.eventually("totals.successes", 1.0)
			u.status.Store(http.StatusForbidden) // of the agent, which is no refusal
			call(http.StatusForbidden, "success")
			d.eventually("totals.successes", 2.0)
			u.status.Store(http.StatusInternalServerError)
			for n := range 5 {
				call(http.StatusInternalServerError, "failure")
				d.eventually("totals.failures", float64(n+1))
			}
			calls := u.calls.Load()
			d.eventually("state", "OPEN")
			status, header, body := p.behind(t)
			if status != http.StatusServiceUnavailable || u.calls.Load() != calls {
				t.Errorf("open: status %d %s, %d calls of the agent", status, body, u.calls.Load()-calls)
			}
			if header.Get("Retry-After") != "1" || !strings.EqualFold(header.Get("X-Circuit-Breaker-State"), "open") || !strings.Contains(body, `"code":"circuit_breaker_open"`) {
				t.Errorf("open: %v %s", header, body)
			}
			u.status.Store(http.StatusOK)
			time.Sleep(1100 * time.Millisecond) // the wait of the breaker
			if c.reports {                      // a caller that leaves gives the place of its probe back, and counts as nothing
				ctx, leave := context.WithCancel(t.Context())
				go func() {
					defer leave()
					testkit.Eventually(t, "a probe", startTimeout, func() error {
						if d.show("payments").get("probes.live") != 1.0 {
							return errors.New("none")
						}
						return nil
					})
				}()
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.addr+"/hang", http.NoBody)
				if err != nil {
					t.Fatal(err)
				}
				if res, err := http.DefaultTransport.RoundTrip(req); err == nil {
					_ = res.Body.Close()
					t.Errorf("status %d", res.StatusCode)
				}
				d.eventually("probes.live", 0.0)
				d.show("payments").has("state", "HALF_OPEN").has("probes.succeeded", c.left).has("probes.failed", 0.0)
			}
			for range 3 - int(c.left) { // as many as the round takes
				call(http.StatusOK, "success")
			}
			d.eventually("state", "CLOSED")
			if c.reports {
				u.Close() // the agent is away: a failure without an answer of the agent's
				failures, _ := d.show("payments").get("totals.failures").(float64)
				if status, _, _ := p.behind(t); status < 500 {
					t.Errorf("status %d without an agent", status)
				}
				d.eventually("totals.failures", failures+1)
			}
		})
	}
}

// Where breakerd is away, nginx and HAProxy let calls pass, and Caddy does not.
func TestProxies_WithoutBreakerd(t *testing.T) {
	t.Parallel()
	for file, want := range map[string]int{"nginx-gate.conf": 200, "haproxy-gate.cfg": 200, "Caddyfile-gate": 502} {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			u := newUpstream(t)
			p := runProxy(t, file, "127.0.0.1:8080", testkit.FreeAddress(t), "127.0.0.1:9000", u.Listener.Addr().String(), "127.0.0.1:18180", testkit.FreeAddress(t))
			if status, _, body := p.behind(t); status != want {
				t.Errorf("status %d %s, want %d", status, body, want)
			}
			// HAProxy asks in vain for three seconds, and then does not ask for a while.
			begin := time.Now()
			if status, _, body := p.behind(t); status != want || time.Since(begin) > 2*time.Second {
				t.Errorf("the next call: status %d %s, want %d, after %s", status, body, want, time.Since(begin))
			}
		})
	}
}

// rolling are two replicas of a program on one Redis, at addresses that stay.
type rolling struct {
	program
	env  []string
	both [2]*daemon
}

func newRolling(t testing.TB, p program, env ...string) *rolling {
	t.Helper()
	two := &rolling{program: p, env: env}
	for i := range two.both {
		two.both[i] = p.start(t, two.env...)
	}
	return two
}

// restart ends one replica and starts it again.
func (two *rolling) restart(t testing.TB, i int) {
	t.Helper()
	d := two.both[i]
	d.signal(syscall.SIGTERM)
	if code := d.ExitCode(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	two.both[i] = two.start(t, append(two.env, two.listen+"="+d.addr)...)
}

// Behind each proxy, no call is lost while replicas are restarted one after the other, no report counts twice, and what
// streams arrives as it is sent.
func TestProxies_BalanceReplicas(t *testing.T) {
	t.Parallel()
	s := testkit.Start(t)
	// The delay is longer than any of the proxies needs to notice that a replica is not ready.
	core, gateways := newRolling(t, breakerd, "REDIS_URL="+s.URL(), "SHUTDOWN_DELAY_SECONDS=3"), newRolling(t, bridge, "REDIS_URL="+s.URL())
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	calls := map[string]*atomic.Int64{}
	for _, file := range []string{"nginx-balance.conf", "haproxy-balance.cfg", "Caddyfile-balance"} {
		front, gatewayFront := testkit.FreeAddress(t), testkit.FreeAddress(t)
		runProxy(t, file, "127.0.0.1:8180", front, "127.0.0.1:8100", gatewayFront,
			"127.0.0.1:18180", core.both[0].addr, "127.0.0.1:18181", core.both[1].addr,
			"127.0.0.1:8000", gateways.both[0].addr, "127.0.0.1:8001", gateways.both[1].addr)
		b := &daemon{process: core.both[0].process, program: breakerd, addr: front, client: core.both[0].client}
		awaitEvent(t, b, "Held-"+file)
		awaitChunks(t, "Streamer-"+file, &daemon{process: gateways.both[0].process, program: bridge, addr: gatewayFront, client: gateways.both[0].client})
		name := strings.ReplaceAll(file, ".", "-")
		n := &atomic.Int64{}
		calls[name] = n
		all.Go(func() { b.calls(ctx, name, n) })
	}
	core.restart(t, 0)
	core.restart(t, 1)
	time.Sleep(200 * time.Millisecond)
	cancel()
	all.Wait()
	for name, n := range calls {
		if got, _ := core.both[0].show(name).get("totals.successes").(float64); int64(got) != n.Load() {
			t.Errorf("%s: %v outcomes counted, %d reported", name, got, n.Load())
		}
		t.Logf("%s: %d calls while both replicas were restarted", name, n.Load())
	}
	for _, d := range append(core.both[:], core.both[:]...) { // a second signal cuts the delay short
		d.signal(syscall.SIGTERM)
	}
}

// calls acquires and reports until ctx ends.
func (d *daemon) calls(ctx context.Context, agent string, reports *atomic.Int64) {
	for ctx.Err() == nil {
		time.Sleep(5 * time.Millisecond) // three of these and six programs share the machine
		r, err := d.try(http.MethodPost, dataPath+agent+"/acquire", "")
		if err == nil && r.status == http.StatusOK {
			r, err = d.try(http.MethodPost, dataPath+agent+"/report", reportBody(r.text("permit"), "success"))
			reports.Add(1)
		}
		if err != nil || r.status != http.StatusOK {
			d.t.Errorf("%s, call %d: status %d, %v: %s", agent, reports.Load(), r.status, err, r.body)
			return
		}
	}
}

// awaitEvent wants an event of the stream while the stream is open.
func awaitEvent(t *testing.T, b *daemon, agent string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+b.addr+"/v1/events", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	res, err := (&http.Client{Timeout: 20 * time.Second}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	b.call(http.MethodPost, adminPath+agent+"/open", `{"reason":"stream"}`).want(http.StatusOK)
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		if strings.Contains(lines.Text(), agent) {
			return
		}
	}
	t.Errorf("no event came: %v", lines.Err())
}

// awaitChunks wants the beginning of an agent's answer before the agent sends the rest.
func awaitChunks(t *testing.T, name string, g *daemon) {
	t.Helper()
	release := make(chan struct{})
	agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "one\n")
		_ = http.NewResponseController(w).Flush()
		select {
		case <-release:
			_, _ = io.WriteString(w, "two\n")
		case <-r.Context().Done():
		}
	}))
	defer agent.Close()
	profile, err := json.Marshal(map[string]string{"name": name, "url": agent.URL})
	if err != nil {
		t.Fatal(err)
	}
	g.call(http.MethodPost, "/api/v1/agents", string(profile)).want(http.StatusCreated)
	res, err := (&http.Client{Timeout: 20 * time.Second}).Get("http://" + g.addr + "/agents/" + name + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	in := bufio.NewReader(res.Body)
	first, err := in.ReadString('\n')
	close(release)
	rest, errRest := io.ReadAll(in)
	if err := errors.Join(err, errRest); err != nil || first+string(rest) != "one\ntwo\n" {
		t.Errorf("%q %q %v", first, rest, err)
	}
}
