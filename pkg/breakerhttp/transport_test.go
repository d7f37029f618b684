package breakerhttp_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
)

func TestTransport_SettlesSuccessBeforeReaderSeesTheEnd(t *testing.T) {
	t.Parallel()
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("h2=%v", h2), func(t *testing.T) {
			t.Parallel()
			more := make(chan struct{})
			srv := startAgent(t, func(w http.ResponseWriter, _ *http.Request) {
				_, _ = io.WriteString(w, "first")
				w.(http.Flusher).Flush()
				<-more
				_, _ = io.WriteString(w, "last")
			})
			r := newOutbound(t, nil)
			r.Base = newBase(t, h2)
			resp := r.get(t, srv.URL)
			first := make([]byte, 5)
			if _, err := io.ReadFull(resp.Body, first); err != nil {
				t.Fatal(err)
			}
			r.nothingElse(t)
			close(more)
			if rest, err := io.ReadAll(resp.Body); err != nil || string(rest) != "last" {
				t.Fatalf("read %q, %v", rest, err)
			}
			if len(r.seen.settled) != 1 {
				t.Error("the reader knows of the end, the breaker does not")
			}
			_ = resp.Body.Close()
			_ = resp.Body.Close()
			x := r.settledOnce(t, breaker.Success, "")
			if x.Status != 200 || x.FirstByte <= 0 || x.Outcome.Duration != x.FirstByte {
				t.Errorf("observed %+v", x)
			}
		})
	}
}

func TestTransport_SettlesOtherStatusesAtHeader(t *testing.T) {
	t.Parallel()
	for status, kind := range map[int]breaker.OutcomeKind{
		400: breaker.Ignored, 401: breaker.Ignored, 404: breaker.Ignored, 408: breaker.Failure, 425: breaker.Failure, 429: breaker.Failure,
		500: breaker.Failure, 503: breaker.Failure, 599: breaker.Failure,
	} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			t.Parallel()
			more := make(chan struct{})
			srv := startAgent(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(status)
				w.(http.Flusher).Flush()
				<-more
				_, _ = io.WriteString(w, "why")
			})
			r := newOutbound(t, nil)
			resp, err := r.RoundTrip(request(t.Context(), t, http.MethodGet, srv.URL))
			if err != nil {
				t.Fatal(err)
			}
			if len(r.seen.settled) != 1 || len(r.timings) != 0 {
				t.Errorf("settled %d times, observed %d times before the body", len(r.seen.settled), len(r.timings))
			}
			close(more)
			if text, err := io.ReadAll(resp.Body); err != nil || string(text) != "why" {
				t.Errorf("read %q, %v", text, err)
			}
			_ = resp.Body.Close()
			if x := r.settledOnce(t, kind, fmt.Sprint("http_", status)); x.Status != status {
				t.Errorf("observed %+v", x)
			}
		})
	}
}

func TestTransport_RefusalDoesNotReachAgent(t *testing.T) {
	t.Parallel()
	r := newOutbound(t, nil)
	r.open(t)
	r.Base = base(func(*http.Request) (*http.Response, error) { t.Error("called"); return nil, io.EOF })
	body := &closer{Reader: strings.NewReader("text")}
	req := request(t.Context(), t, http.MethodPost, "http://a.example")
	req.Body = body
	_, err := r.client.Do(req) //nolint:bodyclose // there is none
	var open *breaker.OpenError
	if !errors.As(err, &open) || open.Agent != "a" || open.Reason != breaker.ReasonOpen {
		t.Errorf("call gave %v, want a refusal", err)
	}
	if !body.closed {
		t.Error("the request's body is still open")
	}
	r.nothingElse(t)
}

type closer struct {
	io.Reader

	closed bool
}

func (c *closer) Close() error { c.closed = true; return nil }

func TestTransport_NoPermitNoCall(t *testing.T) {
	t.Parallel()
	r := newOutbound(t, nil)
	r.Base = base(func(*http.Request) (*http.Response, error) { t.Error("called"); return nil, io.EOF })
	r.Agent = func(*http.Request) string { return "no name" }
	if _, err := r.RoundTrip(request(t.Context(), t, http.MethodGet, "http://x")); !errors.Is(err, breaker.ErrBadName) || !strings.Contains(err.Error(), `"no name"`) { //nolint:bodyclose // there is none
		t.Errorf("bad name gave %v", err)
	}
	r.Manager = nil
	if _, err := r.RoundTrip(request(t.Context(), t, http.MethodGet, "http://x")); err == nil { //nolint:bodyclose // there is none
		t.Error("no manager, no error")
	}
}

func TestTransport_AgentIsHostByDefault(t *testing.T) {
	t.Parallel()
	srv := startAgent(t, func(http.ResponseWriter, *http.Request) {})
	r := newOutbound(t, nil)
	r.Agent = nil
	_ = r.get(t, srv.URL).Body.Close()
	if x := <-r.timings; x.Agent != srv.Listener.Addr().String() {
		t.Errorf("agent %q", x.Agent)
	}
}

func TestTransport_BrokenBodyIsFailure(t *testing.T) {
	t.Parallel()
	hangUp := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = io.WriteString(conn, text)
			_ = conn.Close()
		}
	}
	for name, h := range map[string]http.HandlerFunc{
		"length":    hangUp("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"),
		"chunks":    hangUp("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"),
		"bad chunk": hangUp("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n"),
		"HTTP/2 half": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "half")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newOutbound(t, nil)
			r.Base = newBase(t, strings.HasPrefix(name, "HTTP/2"))
			resp := r.get(t, startAgent(t, h).URL)
			if text, err := io.ReadAll(resp.Body); err == nil || string(text) != "half" {
				t.Errorf("read %q, %v", text, err)
			}
			_ = resp.Body.Close()
			r.settledOnce(t, breaker.Failure, "broken_stream")
		})
	}
}

func TestTransport_SettlesResponseWithoutBody(t *testing.T) {
	t.Parallel()
	srv := startAgent(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/204":
			w.WriteHeader(http.StatusNoContent)
		case "/304":
			w.WriteHeader(http.StatusNotModified)
		case "/head":
			w.Header().Set("Content-Length", "1000")
		}
	})
	for _, h2 := range []bool{false, true} {
		for _, path := range []string{"/204", "/304", "/head", "/empty"} {
			r := newOutbound(t, nil)
			r.Base, r.Timeout = newBase(t, h2), time.Hour
			r.Counts = func(*http.Request) bool { return true } // HEAD too
			method := http.MethodGet
			if path == "/head" {
				method = http.MethodHead
			}
			resp, err := r.client.Do(request(t.Context(), t, method, srv.URL+path))
			if err != nil {
				t.Fatal(err)
			}
			if h2 { // may have trailers
				if len(r.seen.settled) > 0 {
					t.Errorf("%s: settled before it is over", path)
				}
				_ = resp.Body.Close()
			}
			r.settledOnce(t, breaker.Success, "")
			_ = resp.Body.Close()
			r.nothingElse(t)
		}
	}
}

func TestTransport_PassesTrailersWithoutBody(t *testing.T) {
	t.Parallel()
	goOn := make(chan struct{})
	srv := startAgent(t, func(w http.ResponseWriter, r *http.Request) { // as gRPC servers tell an error
		status, _ := strconv.Atoi(r.URL.Path[1:])
		w.Header().Set("Trailer", "Grpc-Status")
		if status == http.StatusOK {
			w.Header().Set("Content-Length", "0")
		}
		w.WriteHeader(status)
		w.(http.Flusher).Flush()
		select {
		case <-goOn:
		case <-r.Context().Done():
			t.Errorf("%d: the call is cancelled", status)
			<-goOn
		}
		w.Header().Set("Grpc-Status", "5")
	})
	for _, status := range []string{"200", "204", "304"} {
		r := newOutbound(t, nil)
		r.Base, r.Timeout = newBase(t, true), time.Hour
		resp := r.get(t, srv.URL+"/"+status)
		if len(r.seen.settled) > 0 {
			t.Errorf("%s: settled before its trailers", status)
		}
		goOn <- struct{}{}
		if _, err := io.ReadAll(resp.Body); err != nil || resp.Trailer.Get("Grpc-Status") != "5" {
			t.Errorf("%s: trailers %v, %v", status, resp.Trailer, err)
		}
		r.settledOnce(t, breaker.Success, "")
		_ = resp.Body.Close()
		r.nothingElse(t)
	}
}

func TestTransport_PanicInBaseIsFailureAndGoesOn(t *testing.T) {
	t.Parallel()
	for name, how := range map[string]func(){"panic": func() { panic("boom") }, "exit": runtime.Goexit} {
		r := newOutbound(t, nil)
		r.Timeout = time.Hour
		r.Base = base(func(*http.Request) (*http.Response, error) { how(); return nil, io.EOF })
		var recovered any
		var wg sync.WaitGroup
		wg.Go(func() {
			defer func() { recovered = recover() }()
			_, _ = r.RoundTrip(request(t.Context(), t, http.MethodGet, "http://x")) //nolint:bodyclose // there is none
		})
		wg.Wait()
		if (recovered == "boom") != (name == "panic") {
			t.Errorf("%s: recovered %v", name, recovered)
		}
		r.settledOnce(t, breaker.Failure, "panic")
	}
}

func TestTransport_NamesConnectionFailures(t *testing.T) {
	t.Parallel()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + closed.Addr().String()
	_ = closed.Close()
	r := newOutbound(t, nil)
	if _, err := r.client.Do(request(t.Context(), t, http.MethodGet, url)); err == nil { //nolint:bodyclose // there is none
		t.Error("no error")
	}
	r.settledOnce(t, breaker.Failure, "connect_error")

	hangsUp := startAgent(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	if _, err := r.client.Do(request(t.Context(), t, http.MethodGet, hangsUp.URL)); err == nil { //nolint:bodyclose // there is none
		t.Error("no error")
	}
	r.settledOnce(t, breaker.Failure, "connection_error")
}

func TestTransport_PassesTrailers(t *testing.T) {
	t.Parallel()
	srv := startAgent(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		_, _ = io.WriteString(w, "text")
		w.(http.Flusher).Flush()
		w.Header().Set("X-Sum", "42")
	})
	for _, h2 := range []bool{false, true} {
		r := newOutbound(t, nil)
		r.Base = newBase(t, h2)
		resp := r.get(t, srv.URL)
		if _, err := io.ReadAll(resp.Body); err != nil || resp.Trailer.Get("X-Sum") != "42" {
			t.Errorf("trailers %v, %v", resp.Trailer, err)
		}
		_ = resp.Body.Close()
		r.settledOnce(t, breaker.Success, "")
	}
}

func TestTransport_PassesInformationalResponses(t *testing.T) {
	t.Parallel()
	srv := startAgent(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</x.css>")
		w.WriteHeader(http.StatusEarlyHints)
		text, _ := io.ReadAll(r.Body) // sends 100 Continue
		_, _ = w.Write(bytes.ToUpper(text))
	})
	r := newOutbound(t, nil)
	r.Timeout = time.Hour
	r.Base.(*http.Transport).ExpectContinueTimeout = time.Hour
	var hints, goOn int
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, _ textproto.MIMEHeader) error {
			if code == http.StatusEarlyHints {
				hints++
			}
			return nil
		},
		Got100Continue: func() { goOn++ },
	})
	req, _ := http.NewRequestWithContext(ctx, http.MethodPost, srv.URL, strings.NewReader("text"))
	req.Header.Set("Expect", "100-continue")
	resp, err := r.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(resp.Body); err != nil || string(text) != "TEXT" || hints != 1 || goOn != 1 {
		t.Errorf("read %q, %v; %d hints, %d times told to go on", text, err, hints, goOn)
	}
	_ = resp.Body.Close()
	r.settledOnce(t, breaker.Success, "")
}

func TestTransport_ClosesIdleConnectionsOfBase(t *testing.T) {
	t.Parallel()
	srv := startAgent(t, func(http.ResponseWriter, *http.Request) {})
	r := newOutbound(t, nil)
	for range 2 {
		var reused bool
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(c httptrace.GotConnInfo) { reused = c.Reused }})
		resp, err := r.client.Do(request(ctx, t, http.MethodGet, srv.URL))
		if err != nil || reused {
			t.Fatalf("reused %v, %v", reused, err)
		}
		_ = resp.Body.Close()
		r.client.CloseIdleConnections()
	}
	r.Base = base(nil) // has none
	r.client.CloseIdleConnections()
}
