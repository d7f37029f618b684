package httpapi

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
)

// nginxConfig is section "Behind another proxy" of docs/bridge.md, in nginx's words. Its %s are where it listens, the
// API behind it, and breakerd.
const nginxConfig = `
daemon off;
master_process off;
pid nginx.pid;
error_log stderr warn;
events { worker_connections 64; }
http {
  access_log off;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  server {
    listen %s;
    location / {
      auth_request /gate;
      auth_request_set $permit $upstream_http_x_circuit_breaker_permit;
      proxy_set_header X-Circuit-Breaker-Permit $permit;
      proxy_pass %s;
    }
    location = /gate {
      internal;
      proxy_pass %s/v1/gate/agent?deny_status=403;
      proxy_pass_request_body off;
      proxy_set_header Content-Length "";
      proxy_set_header X-Breaker-Gate 1;
    }
  }
}
`

// nginx starts an nginx before an API, which asks this breakerd, and gives its address. It ends with the test.
func (f *fixture) nginx(upstream string) string {
	f.Helper()
	path, err := exec.LookPath("nginx")
	if err != nil {
		f.Fatal("nginx is missing: apt-get install nginx-light")
	}
	l, err := (&net.ListenConfig{}).Listen(f.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	dir := f.TempDir()
	config := fmt.Sprintf(nginxConfig, address, upstream, f.URL)
	if err := os.WriteFile(filepath.Join(dir, "nginx.conf"), []byte(config), 0o600); err != nil {
		f.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "stderr"))
	if err != nil {
		f.Fatal(err)
	}
	cmd := exec.CommandContext(context.WithoutCancel(f.Context()), path, "-p", dir, "-c", "nginx.conf", "-e", "stderr")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait() // it ends by a signal of ours
		_ = log.Close()
	})
	testkit.Eventually(f.TB, "nginx", 20*time.Second, func() error {
		conn, err := (&net.Dialer{}).DialContext(f.Context(), "tcp", address)
		if err != nil {
			text, _ := os.ReadFile(log.Name())
			return fmt.Errorf("%w\n%s", err, text)
		}
		return conn.Close()
	})
	return "http://" + address
}

func TestGate_ServesNginx(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(o *Options) { o.LoopbackOnly = true })
	calls, permit := atomic.Int32{}, atomic.Value{}
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		permit.Store(r.Header.Get("X-Circuit-Breaker-Permit"))
		body, _ := io.ReadAll(r.Body)
		_, _ = w.Write(body)
	}))
	t.Cleanup(api.Close)
	address := f.nginx(api.URL)
	call := func() (status int, body string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address+"/a/b?deny_status=x", strings.NewReader("hello"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Origin", "https://a-page.example") // nginx hands it to the gate
		req.Header.Set("Sec-Fetch-Site", "cross-site")
		res, err := http.DefaultTransport.RoundTrip(req) //nolint:bodyclose // Read closes it
		if err != nil {
			t.Fatal(err)
		}
		g := f.Read(res)
		return g.Status, g.Text
	}
	for range 5 {
		if status, body := call(); status != 200 || body != "hello" {
			t.Fatalf("%d %s", status, body)
		}
		p, _ := permit.Load().(string)
		f.Do("POST", "/v1/circuit_breakers/agent/report", `{"permit":"`+p+`","outcome":"failure"}`).Want(200, "counted=true")
	}
	if status, _ := call(); status != 403 || calls.Load() != 5 {
		t.Errorf("%d after %d calls", status, calls.Load())
	}
}
