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
	"testing/synctest"
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

func TestUpgrade_SettledByFirstByteAndStaysConnection(t *testing.T) {
	t.Parallel()
	r := newOutbound(t, nil)
	r.Timeout, r.Body = time.Hour, breakerhttp.MCP
	resp := r.upgrade(t, startAgent(t, upgrade(t)).URL) //nolint:bodyclose // the caller closes it
	conn, ok := resp.Body.(io.ReadWriteCloser)
	if !ok {
		t.Fatalf("the body is a %T", resp.Body)
	}
	_, _ = io.WriteString(conn, "hello\n")
	if line, err := bufio.NewReader(conn).ReadString('\n'); line != "echo hello\n" || err != nil {
		t.Errorf("read %q, %v", line, err)
	}
	o := <-r.seen.settled // while it stands
	r.seen.settled <- o
	_ = conn.Close()
	if x := r.settledOnce(t, breaker.Success, ""); x.Status != http.StatusSwitchingProtocols {
		t.Errorf("observed %+v", x)
	}
}

func (r *outbound) upgrade(t *testing.T, url string) *http.Response {
	t.Helper()
	req := request(t.Context(), t, http.MethodGet, url)
	req.Header = upgradeTo("echo")
	resp, err := r.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	return resp
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
	_ = conn.Close()
	r.settledOnce(t, breaker.Success, "")
	if o := <-in.settled; o.Kind != breaker.Success { // the connection is still there
		t.Errorf("calls in: settled with %+v", o)
	}
}

// traefik 452.
func TestUpgrade_TunnelThatIsDroppedWithoutAByteIsAFailure(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		half  bool
		say   string        // by the agent
		stand time.Duration // until the agent drops it; 0: at once
		kind  breaker.OutcomeKind
		class string
		after time.Duration
	}{
		"at once":                       {false, "", 0, breaker.Failure, "tunnel_dropped", 0},
		"soon":                          {false, "", 900 * time.Millisecond, breaker.Failure, "tunnel_dropped", 900 * time.Millisecond},
		"after a second":                {false, "", 5 * time.Second, breaker.Success, "", time.Second},
		"after a byte":                  {false, "x", 0, breaker.Success, "", 0},
		"half-open, at once":            {true, "", 0, breaker.Failure, "tunnel_dropped", 0},
		"half-open, after a byte":       {true, "x", 500 * time.Millisecond, breaker.Success, "", 500 * time.Millisecond},
		"half-open, stands with a byte": {true, "x", time.Hour, breaker.Success, "", time.Second},
		"half-open, stands":             {true, "", time.Hour, breaker.Success, "", time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				agent := func(w http.ResponseWriter, _ *http.Request) {
					conn, _, err := http.NewResponseController(w).Hijack()
					if err != nil {
						t.Error(err)
						return
					}
					defer conn.Close()
					_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
					_, _ = io.WriteString(conn, c.say)
					<-time.After(c.stand)
				}
				r := newOutbound(t, func(p *breaker.Policy) { p.HalfOpenMaxCalls = 1 })
				r.serveOnPipes(t, agent)
				if c.half {
					r.open(t)
					<-time.After(time.Minute)
				}
				resp := r.upgrade(t, "http://a") //nolint:bodyclose // the caller closes it
				if o, after := r.settledAt(t, resp); o.Kind != c.kind || o.Class != c.class || after != c.after {
					t.Errorf("settled with %+v after %s", o, after)
				}
				<-r.timings
			})
		})
	}
}

func TestUpgrade_CallerWhoLeavesASilentTunnelIsIgnored(t *testing.T) {
	t.Parallel()
	r := newOutbound(t, nil)
	_ = r.upgrade(t, startAgent(t, upgrade(t)).URL).Body.Close()
	r.settledOnce(t, breaker.Ignored, "cancelled")
}
