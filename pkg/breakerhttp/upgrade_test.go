package breakerhttp_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breakerhttp"
)

func upgradeTo(protocol string) http.Header {
	return http.Header{"Connection": {"keep-alive, upgrade"}, "Upgrade": {protocol}}
}

// upgrade answers 101 and echoes lines.
func upgrade(t *testing.T) http.HandlerFunc {
	t.Helper()
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		for {
			line, err := rw.ReadString('\n')
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, "echo "+line)
		}
	}
}

func TestUpgrade_SettledAtOnceAndStaysConnection(t *testing.T) {
	t.Parallel()
	r := newOutbound(t, nil)
	r.Timeout, r.Body = time.Hour, breakerhttp.MCP
	req := request(t.Context(), t, http.MethodGet, startAgent(t, upgrade(t)).URL)
	req.Header = upgradeTo("echo")
	resp, err := r.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if x := r.settledOnce(t, breaker.Success, ""); x.Status != http.StatusSwitchingProtocols {
		t.Errorf("observed %+v", x)
	}
	conn, ok := resp.Body.(io.ReadWriteCloser)
	if !ok {
		t.Fatalf("the body is a %T", resp.Body)
	}
	_, _ = io.WriteString(conn, "hello\n")
	if line, err := bufio.NewReader(conn).ReadString('\n'); line != "echo hello\n" || err != nil {
		t.Errorf("read %q, %v", line, err)
	}
	r.nothingElse(t)
}

// The proxy must hijack the connection through a Middleware, and calls the agent through a Transport.
func TestUpgrade_ThroughMiddlewareProxyAndTransport(t *testing.T) {
	t.Parallel()
	r := newOutbound(t, nil)
	r.Timeout = time.Hour
	target, _ := url.Parse(startAgent(t, upgrade(t)).URL)
	proxy := &httputil.ReverseProxy{Transport: r.Transport, Rewrite: func(p *httputil.ProxyRequest) { p.SetURL(target) }}
	in := &recorder{settled: make(chan breaker.Outcome, 10)}
	m := &breakerhttp.Middleware{Manager: newManager(t, breaker.NewMemory(nil, 0), in, nil), Agent: breakerhttp.FromHeader("X-Agent")}
	front := httptest.NewServer(m.Wrap(proxy))
	defer front.Close()

	var d net.Dialer
	conn, err := d.DialContext(context.Background(), "tcp", front.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nX-Agent: caller\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	br := bufio.NewReader(conn)
	resp, err := http.ReadResponse(br, nil) //nolint:bodyclose // it is the connection
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("response %v, %v", resp, err)
	}
	_, _ = io.WriteString(conn, "hello\n")
	if line, err := br.ReadString('\n'); line != "echo hello\n" || err != nil {
		t.Errorf("read %q, %v", line, err)
	}
	r.settledOnce(t, breaker.Success, "")
	if o := <-in.settled; o.Kind != breaker.Success { // the connection is still there
		t.Errorf("calls in: settled with %+v", o)
	}
}
