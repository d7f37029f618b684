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
	"strings"
	"testing"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// raw answers one request with text. hungUp then gives what becomes of the connection: nil if the caller sends more.
func raw(t *testing.T, text string) (address string, hungUp <-chan error) {
	t.Helper()
	var c net.ListenConfig
	l, err := c.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	over := make(chan error, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			over <- err
			return
		}
		defer conn.Close()
		br := bufio.NewReader(conn)
		if _, err = http.ReadRequest(br); err == nil {
			_, _ = io.WriteString(conn, text)
			_, err = br.ReadByte()
		}
		over <- err
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return "http://" + l.Addr().String(), over
}

func TestResponse_UnusableIsFailure(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, ask, text, class string }{
		{"099", "", "HTTP/1.1 099 What\r\nContent-Length: 4\r\n\r\ntext", "bad_status"},
		{"000", "", "HTTP/1.1 000 What\r\n\r\n", "bad_status"},
		{"unasked", "", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n", "bad_upgrade"},
		{"other protocol", "echo", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n", "bad_upgrade"},
		{"one too many", "echo", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo, other\r\n\r\n", "bad_upgrade"},
		{"no protocol", "echo", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\r\n", "bad_upgrade"},
		{"no upgrade", "echo", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\n\r\n", "bad_upgrade"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newOutbound(t, nil)
			url, hungUp := raw(t, c.text)
			req := request(t.Context(), t, http.MethodGet, url)
			if c.ask != "" {
				req.Header = upgradeTo(c.ask)
			}
			if resp, err := r.RoundTrip(req); err == nil {
				_ = resp.Body.Close()
				t.Fatalf("gave %+v", resp)
			} else if !strings.Contains(err.Error(), "the agent") {
				t.Errorf("gave %v", err)
			}
			if err := <-hungUp; err == nil {
				t.Error("the connection is still open")
			}
			if x := r.settledOnce(t, breaker.Failure, c.class); x.Status != 0 {
				t.Errorf("observed %+v", x)
			}
		})
	}
}

func TestResponse_FourDigitStatusIsFailure(t *testing.T) {
	t.Parallel()
	r := newOutbound(t, nil)
	body := &closer{Reader: strings.NewReader("text")}
	r.Base = base(func(*http.Request) (*http.Response, error) { return &http.Response{StatusCode: 1000, Body: body}, nil })
	if _, err := r.RoundTrip(request(t.Context(), t, http.MethodGet, "http://a")); err == nil || !body.closed { //nolint:bodyclose // checked
		t.Fatalf("gave %v, closed %v", err, body.closed)
	}
	r.settledOnce(t, breaker.Failure, "bad_status")
}

func TestResponse_SwitchToRequestedProtocolIsPassedOn(t *testing.T) {
	t.Parallel()
	r := newOutbound(t, nil)
	req := request(t.Context(), t, http.MethodGet, startAgent(t, upgrade(t)).URL)
	req.Header = upgradeTo("other/1.0, Echo")
	resp, err := r.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if x := r.settledOnce(t, breaker.Ignored, "cancelled"); x.Status != http.StatusSwitchingProtocols {
		t.Errorf("observed %+v", x)
	}
}

func TestResponse_ProxyAnswers502ForUnusable(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"HTTP/1.1 099 What\r\n\r\n", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n",
	} {
		r := newOutbound(t, nil)
		agent, hungUp := raw(t, text)
		target, _ := url.Parse(agent)
		proxy := &httputil.ReverseProxy{Transport: r.Transport, Rewrite: func(p *httputil.ProxyRequest) { p.SetURL(target) }}
		proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
		w := httptest.NewRecorder()
		proxy.ServeHTTP(w, request(context.Background(), t, http.MethodGet, "http://proxy/"))
		if err := <-hungUp; err == nil || w.Code != http.StatusBadGateway {
			t.Errorf("%q: answered %d, hung up with %v", text, w.Code, err)
		}
		r.settledOnce(t, breaker.Failure, "bad_"+map[bool]string{true: "status", false: "upgrade"}[strings.Contains(text, "099")])
	}
}
