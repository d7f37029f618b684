package breakerhttp_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// fickle is an agent that answers the first request of each connection, and closes the connection when the next one
// comes: before or after it has read it.
func fickle(t *testing.T, reads bool) (url string, answered func() int) {
	t.Helper()
	var lc net.ListenConfig
	ln, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	answers := make(chan struct{}, 100)
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				br := bufio.NewReader(conn)
				req, err := http.ReadRequest(br)
				if err != nil {
					return
				}
				_, _ = io.Copy(io.Discard, req.Body)
				answers <- struct{}{}
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
				if _, err = br.Peek(1); err == nil && reads {
					if req, err = http.ReadRequest(br); err == nil {
						_, _ = io.Copy(io.Discard, req.Body)
					}
				}
			}()
		}
	}()
	return "http://" + ln.Addr().String(), func() int { return len(answers) }
}

// caddy 6452, golang 22158.
func TestStale_ConnectionIsNoFailure(t *testing.T) {
	t.Parallel()
	for _, reads := range []bool{false, true} {
		for name, c := range map[string]struct {
			method, body, key string
			again             bool // it is sent again
		}{
			"POST":                  {"POST", "text", "", false},
			"PATCH":                 {"PATCH", "text", "", false},
			"POST with a key":       {"POST", "text", "k1", true},
			"PUT":                   {"PUT", "text", "", true},
			"DELETE":                {"DELETE", "", "", true},
			"DELETE with a body":    {"DELETE", "text", "", true},
			"GET":                   {"GET", "", "", true},
			"GET with a body":       {"GET", "text", "", true},
			"PUT that comes as one": {"PUT", "stream", "", false},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				url, answered := fickle(t, reads)
				r := newOutbound(t, nil)
				_ = read(r.get(t, url)) //nolint:bodyclose // read closes it
				r.settledOnce(t, breaker.Success, "")
				var body io.Reader = http.NoBody
				switch c.body {
				case "text":
					body = strings.NewReader(c.body)
				case "stream":
					body = io.MultiReader(strings.NewReader(c.body)) // cannot be had again
				}
				req, err := http.NewRequestWithContext(t.Context(), c.method, url, body)
				if err != nil {
					t.Fatal(err)
				}
				if c.key != "" {
					req.Header.Set("Idempotency-Key", c.key)
				}
				resp, err := r.client.Do(req)
				if !c.again {
					if err == nil {
						t.Errorf("answered %s", resp.Status)
						_ = resp.Body.Close()
					}
					r.settledOnce(t, breaker.Ignored, "stale_connection")
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				_ = read(resp)
				r.settledOnce(t, breaker.Success, "")
				if n := answered(); n != 2 {
					t.Errorf("%d requests were answered", n)
				}
			})
		}
	}
}

func TestStale_IsNotAFreshConnectionThatBreaks(t *testing.T) {
	t.Parallel()
	srv := startAgent(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	for _, h2 := range []bool{false, true} {
		r := newOutbound(t, nil)
		r.Base = newBase(t, h2)
		_, err := r.client.Do(request(t.Context(), t, http.MethodPost, srv.URL)) //nolint:bodyclose // there is none
		if err == nil {
			t.Error("answered")
		}
		if o := <-r.seen.settled; o.Kind != breaker.Failure {
			t.Errorf("settled with %+v", o)
		}
	}
}
