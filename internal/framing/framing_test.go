package framing_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/breakerd/breakerd/internal/framing"
	"github.com/breakerd/breakerd/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is one under test.
type server struct {
	addr   string
	client *tls.Config // nil: no TLS
	closed <-chan struct{}
}

// with runs a test with and without TLS.
func with(t *testing.T, test func(t *testing.T, s server)) {
	t.Helper()
	t.Run("plain", func(t *testing.T) {
		t.Parallel()
		test(t, serve(t, nil, nil))
	})
	t.Run("tls", func(t *testing.T) {
		t.Parallel()
		ca := testkit.NewCA(t)
		pair := ca.ServerPair(t, "127.0.0.1")
		cert, err := tls.LoadX509KeyPair(pair.CertFile, pair.KeyFile)
		if err != nil {
			t.Fatal(err)
		}
		test(t, serve(t, &tls.Config{Certificates: []tls.Certificate{cert}}, ca.ClientConfig(t, ca.ClientPair(t), "127.0.0.1")))
	})
}

func (s server) dial(t *testing.T) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	if s.client != nil {
		return tls.Client(c, s.client)
	}
	return c
}

// serve starts a server whose handler answers with what it has read, "early" without reading.
func serve(t *testing.T, secure, client *tls.Config) server {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, ends := framing.NewListener(inner), make(chan struct{}, 100)
	l.TLS = secure
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/early":
			_ = http.NewResponseController(w).EnableFullDuplex()
			_ = http.NewResponseController(w).SetReadDeadline(time.Now())
			w.Header().Set("Connection", "close")
			w.WriteHeader(http.StatusTooManyRequests)
		case "/tunnel":
			conn, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				panic(err)
			}
			_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\n\r\n")
			_ = rw.Flush()
			_, _ = io.Copy(conn, rw)
			_ = conn.Close()
		default:
			body, err := io.ReadAll(r.Body)
			_, _ = fmt.Fprintf(w, "%s %q %v;", r.Method, body, err)
		}
	})}
	s.ConnState = func(c net.Conn, state http.ConnState) {
		framing.ConnState(c, state)
		if state == http.StateClosed {
			ends <- struct{}{}
		}
	}
	s.Protocols = new(http.Protocols)
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	t.Cleanup(func() {
		l.Hurry()
		_ = s.Close()
		<-ended
	})
	return server{inner.Addr().String(), client, ends}
}

// exchange sends bytes in pieces of size, and returns everything that comes back until the server closes.
func exchange(t *testing.T, s server, request string, size int) string {
	t.Helper()
	c := s.dial(t)
	defer func() { _ = c.Close() }()
	go func() {
		for piece := range bytes.SplitSeq([]byte(request), nil) {
			if size > 1 {
				piece = []byte(request)
			}
			if _, err := c.Write(piece); err != nil || size > 1 {
				return
			}
		}
	}()
	text, err := io.ReadAll(c)
	if err != nil {
		t.Errorf("%q: %v", request, err)
	}
	return string(text)
}

const host = "Host: x\r\n"

func TestListener_RefusesWhatHasTwoLengths(t *testing.T) {
	t.Parallel()
	with(t, func(t *testing.T, s server) {
		for _, request := range []string{
			"POST / HTTP/1.1\r\n" + host + "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n",
			"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
			"POST / HTTP/1.1\r\n" + host + "transfer-encoding:chunked\r\ncontent-length:5\r\n\r\n0\r\n\r\n",
			"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding:\r\n chunked\r\nContent-Length:\r\n 5\r\n\r\n0\r\n\r\n",
			"POST / HTTP/1.1\n" + host + "Transfer-Encoding: chunked\nContent-Length: 0\n\n0\r\n\r\n",
			"PUT / HTTP/1.1\r\n" + host + "Content-Length: 5\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
			"POST / HTTP/1.0\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
			"POST / HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: identity\r\n\r\n",
			"POST / HTTP/1.0\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc",
		} {
			for _, size := range []int{1, 1 << 20} {
				got := exchange(t, s, request, size)
				if !strings.HasPrefix(got, "HTTP/1.1 400 ") || !strings.Contains(got, "Connection: close") || strings.Count(got, "HTTP/1.1") != 1 {
					t.Errorf("%q by %d: %q", request, size, got)
				}
			}
		}
	})
}

func TestListener_LetsEverythingElsePass(t *testing.T) {
	t.Parallel()
	with(t, func(t *testing.T, s server) {
		const last = "GET /last HTTP/1.1\r\n" + host + "Connection: close\r\n\r\n"
		const both = "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n"
		for request, want := range map[string][]string{
			"GET / HTTP/1.1\r\n" + host + "\r\n" + last:                                                                               {`GET "" <nil>;`},
			"POST / HTTP/1.1\r\n" + host + "Content-Length: 3\r\n\r\nabc" + last:                                                      {`POST "abc" <nil>;`},
			"POST / HTTP/1.1\r\n" + host + "Content-Length:\r\n 3\r\n\r\nabc" + last:                                                  {`POST "abc" <nil>;`},
			"POST / HTTP/1.1\r\n" + host + "Content-Length: 49\r\n\r\n" + both + last:                                                 {`POST "Transfer-`},
			"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n31;x=y\r\n" + both + "\r\n0\r\n\r\n" + last: {`POST "abcTransfer`},
			"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n0\r\nX-Length: 1\r\nX-B: 2\r\n\r\n" + last:              {`POST "" <nil>;`},
			"GET / HTTP/1.1\r\n" + host + "X-A: Transfer-Encoding: chunked\r\nX-B: 1\r\n Content-Length: 9\r\n\r\n" + last:            {`GET "" <nil>;`},
			"POST / HTTP/1.0\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\nabc" + last:                                        {`POST "abc" <nil>;`},
			"POST / HTTP/1.1\r\n" + host + "Content-Length: x\r\n\r\n":                                                                {"HTTP/1.1 400 "},
			"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n":                                             {"HTTP/1.1 501 "},
		} {
			if strings.HasSuffix(request, last) {
				want = append(want, `GET "" <nil>;`)
			}
			for _, size := range []int{1, 1 << 20} {
				got := exchange(t, s, request, size)
				for rest, i := got, 0; i < len(want); i++ {
					_, after, ok := strings.Cut(rest, want[i])
					if rest = after; !ok {
						t.Errorf("%q by %d: %q lacks %q", request, size, got, want[i])
					}
				}
			}
		}
	})
}

func TestListener_LeavesHTTP2AndTunnelsAlone(t *testing.T) {
	t.Parallel()
	with(t, func(t *testing.T, s server) {
		client := &http.Transport{Protocols: new(http.Protocols)}
		client.Protocols.SetUnencryptedHTTP2(true)
		client.DialContext = func(context.Context, string, string) (net.Conn, error) { return s.dial(t), nil }
		defer client.CloseIdleConnections()
		text := strings.Repeat("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", 3)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.addr, strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if want := fmt.Sprintf("POST %q <nil>;", text); resp.ProtoMajor != 2 || string(body) != want {
			t.Errorf("HTTP/2: got %s, %s", resp.Proto, body)
		}

		c := s.dial(t)
		defer func() { _ = c.Close() }()
		in := bufio.NewReader(c)
		_, _ = io.WriteString(c, "GET /tunnel HTTP/1.1\r\n"+host+"\r\n")
		if line, _ := in.ReadString('\n'); !strings.Contains(line, "101") {
			t.Fatal(line)
		}
		_, _ = in.ReadString('\n')
		_, _ = io.WriteString(c, text)
		echo := make([]byte, len(text))
		if _, err := io.ReadFull(in, echo); err != nil || string(echo) != text {
			t.Errorf("tunnel: %q, %v", echo, err)
		}
	})
}

// A client that sends its whole request before it reads, as Python's http.client does, finds the answer.
func TestListener_ReadsOnWhenClosedInTheMiddleOfARequest(t *testing.T) {
	t.Parallel()
	with(t, func(t *testing.T, s server) {
		for _, size := range []int{5 << 20, 30 << 20} {
			for name, head := range map[string]string{
				"sized": fmt.Sprintf("Content-Length: %d\r\n\r\n", size), "chunked": fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n", size),
			} {
				c := s.dial(t)
				if _, err := io.WriteString(c, "POST /early HTTP/1.1\r\n"+host+head); err != nil {
					t.Fatal(err)
				}
				if _, err := c.Write(make([]byte, size)); err != nil {
					t.Errorf("%s %d: %v", name, size, err)
				}
				resp, err := http.ReadResponse(bufio.NewReader(c), nil)
				if err != nil || resp.StatusCode != http.StatusTooManyRequests {
					t.Errorf("%s %d: %v, %v", name, size, resp, err)
				} else {
					_ = resp.Body.Close()
				}
				_ = c.Close()
			}
		}
	})
}

func TestListener_LingersForABoundedTime(t *testing.T) {
	t.Parallel()
	with(t, func(t *testing.T, s server) {
		const request = "POST /early HTTP/1.1\r\n" + host + "Content-Length: 100\r\n\r\n"
		c := s.dial(t)
		defer func() { _ = c.Close() }()
		_, _ = io.WriteString(c, request)
		if got, err := io.ReadAll(c); err != nil || !bytes.HasPrefix(got, []byte("HTTP/1.1 429 ")) {
			t.Errorf("%q, %v", got, err)
		}
		<-s.closed // the client still has its side open
	})
}

func TestListener_TellsWhoDoesNotSpeakTLS(t *testing.T) {
	t.Parallel()
	with(t, func(t *testing.T, s server) {
		if s.client == nil {
			return
		}
		plain := s
		plain.client = nil
		if got := exchange(t, plain, "GET / HTTP/1.1\r\n"+host+"\r\n", 1<<20); !strings.HasPrefix(got, "HTTP/1.0 400 ") || !strings.Contains(got, "https://") {
			t.Errorf("%q", got)
		}
		s.client = s.client.Clone()
		s.client.MaxVersion = tls.VersionTLS11
		s.client.MinVersion = tls.VersionTLS11
		if _, err := s.dial(t).Write([]byte("x")); err == nil || !strings.Contains(err.Error(), "protocol version") {
			t.Errorf("TLS 1.1: %v", err)
		}
	})
}
