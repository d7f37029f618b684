package breakerhttp_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breakerhttp"
)

// isTimeout checks that an error says so to everybody who asks.
func isTimeout(t *testing.T, err error) {
	t.Helper()
	var own *breakerhttp.TimeoutError
	var timeout net.Error
	if !errors.As(err, &own) || own.Agent != "a" || own.After != time.Minute || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("gave %v, want a TimeoutError of agent a", err)
	}
	if text := own.Error(); !strings.Contains(text, `"a"`) || !strings.Contains(text, "1m0s") || !own.Timeout() {
		t.Errorf("text %q", text)
	}
	if errors.As(err, &timeout) && !timeout.Timeout() {
		t.Error("the client's own error does not say that it is a time-out")
	}
}

func TestAgentThatDoesNotAnswerTimesOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.inBubble(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		r.Timeout = time.Minute
		start := time.Now()
		_, err := r.client.Do(request(t.Context(), t, http.MethodGet, "http://a")) //nolint:bodyclose // there is none
		isTimeout(t, err)
		if d := time.Since(start); d != time.Minute {
			t.Errorf("waited %s", d)
		}
		r.once(t, breaker.Failure, "timeout")
	})
}

func TestStreamThatStopsTimesOutAndOneThatGoesOnDoesNot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.inBubble(t, func(w http.ResponseWriter, r *http.Request) {
			for range 100 {
				_, _ = io.WriteString(w, "more")
				w.(http.Flusher).Flush()
				<-time.After(59 * time.Second)
			}
			<-r.Context().Done()
		})
		r.Timeout = time.Minute
		resp := r.get(t, "http://a")
		buf := make([]byte, 4)
		if _, err := io.ReadFull(resp.Body, buf); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Hour) // the reader's own pace
		text, err := io.ReadAll(resp.Body)
		isTimeout(t, err)
		if len(text) != 99*4 {
			t.Errorf("read %d bytes", len(text))
		}
		_ = resp.Body.Close()
		if x := r.once(t, breaker.Failure, "timeout"); x.Outcome.Duration >= time.Second || x.Total < time.Hour {
			t.Errorf("observed %+v: the slow-call duration is that of the header", x)
		}
	})
}

func TestCallersDeadlineIsATimeout(t *testing.T) {
	t.Parallel()
	for name, path := range map[string]string{"header": "/", "body": "/stream"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				for _, own := range []bool{false, true} { // a deadline of the context, or the client's Timeout
					r := newRig(t, nil)
					r.inBubble(t, func(w http.ResponseWriter, r *http.Request) {
						if r.URL.Path == "/stream" {
							_, _ = io.WriteString(w, "first")
							w.(http.Flusher).Flush()
						}
						<-r.Context().Done()
					})
					ctx := t.Context()
					if own {
						var cancel context.CancelFunc
						ctx, cancel = context.WithTimeout(ctx, time.Minute)
						defer cancel()
					} else {
						r.client.Timeout = time.Minute
					}
					resp, err := r.client.Do(request(ctx, t, http.MethodGet, "http://a"+path))
					if err == nil {
						_, err = io.ReadAll(resp.Body)
						_ = resp.Body.Close()
					}
					if err == nil {
						t.Error("no error")
					}
					r.once(t, breaker.Failure, "timeout")
				}
			})
		})
	}
}

// slowly is a request's body whose caller takes its time.
type slowly struct {
	parts int
	end   error
}

func (s *slowly) Read(p []byte) (int, error) {
	if s.parts == 0 {
		return 0, s.end
	}
	s.parts--
	<-time.After(time.Hour)
	p[0] = 'x'
	return 1, nil
}

func TestTimeThatTheCallerTakesToSendIsNotTheAgents(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.inBubble(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			<-time.After(59 * time.Second)
			_, _ = io.WriteString(w, "done")
		})
		r.Timeout = time.Minute
		req := request(t.Context(), t, http.MethodPost, "http://a")
		req.Body, req.ContentLength = io.NopCloser(&slowly{parts: 3, end: io.EOF}), -1
		resp, err := r.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if text, err := io.ReadAll(resp.Body); err != nil || string(text) != "done" {
			t.Errorf("read %q, %v", text, err)
		}
		_ = resp.Body.Close()
		r.once(t, breaker.Success, "")
	})
}

func TestAgentThatTakesNothingOfTheRequestTimesOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		over := make(chan struct{}) // a server that does not read notices nothing
		defer close(over)
		r.inBubble(t, func(http.ResponseWriter, *http.Request) { <-over })
		r.Timeout = time.Minute
		req := request(t.Context(), t, http.MethodPost, "http://a")
		req.Body, req.ContentLength = io.NopCloser(strings.NewReader(strings.Repeat("x", 1<<20))), 1<<20
		_, err := r.client.Do(req) //nolint:bodyclose // there is none
		isTimeout(t, err)
		r.once(t, breaker.Failure, "timeout")
	})
}

func TestCallerThatCannotSendIsNotTheAgentsFault(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		errDisk := errors.New("disk is gone")
		r := newRig(t, nil)
		r.inBubble(t, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
		req := request(t.Context(), t, http.MethodPost, "http://a")
		req.Body, req.ContentLength = io.NopCloser(&slowly{parts: 1, end: errDisk}), -1
		if _, err := r.client.Do(req); !errors.Is(err, errDisk) { //nolint:bodyclose // there is none
			t.Errorf("gave %v", err)
		}
		r.once(t, breaker.Ignored, "request_body")
	})
}

func TestWhatAnAgentMakesOfHalfARequestIsNotItsFault(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusOK, http.StatusServiceUnavailable} {
		r := newRig(t, nil)
		r.Base = base(func(req *http.Request) (*http.Response, error) {
			if status != http.StatusOK { // else it answers before it has read
				_, _ = io.ReadAll(req.Body)
			}
			more := readerFunc(func([]byte) (int, error) {
				_, _ = io.ReadAll(req.Body)
				return 0, io.ErrUnexpectedEOF
			})
			return &http.Response{StatusCode: status, ContentLength: -1, Body: io.NopCloser(more)}, nil
		})
		req := request(t.Context(), t, http.MethodPost, "http://a")
		req.Body = io.NopCloser(readerFunc(func([]byte) (int, error) { return 0, io.ErrClosedPipe }))
		resp, err := r.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(resp.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("read gave %v", err)
		}
		_ = resp.Body.Close()
		r.once(t, breaker.Ignored, "request_body")
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestAgentThatHangsUpWhileTheCallerSendsFails(t *testing.T) {
	t.Parallel()
	srv := agent(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = r.Body.Read(make([]byte, 1))
		panic(http.ErrAbortHandler)
	})
	r := newRig(t, nil)
	send, write := io.Pipe()
	go func() { _, _ = io.Copy(write, strings.NewReader(strings.Repeat("x", 8<<20))) }() // ends when send is closed
	req := request(t.Context(), t, http.MethodPost, srv.URL)
	req.Body, req.ContentLength = send, -1
	if _, err := r.client.Do(req); err == nil { //nolint:bodyclose // there is none
		t.Error("no error")
	}
	if o := <-r.seen.settled; o.Kind != breaker.Failure {
		t.Errorf("settled with %+v", o)
	}
}

func TestRequestCanBeSentOnceMore(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.Timeout = time.Hour
	r.Base = base(func(req *http.Request) (*http.Response, error) {
		for range 2 {
			if text, err := io.ReadAll(req.Body); err != nil || string(text) != "text" {
				t.Errorf("sent %q, %v", text, err)
			}
			_ = req.Body.Close()
			req.Body, _ = req.GetBody()
		}
		return httptest.NewRecorder().Result(), nil
	})
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://x", strings.NewReader("text"))
	resp, err := r.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	r.once(t, breaker.Success, "")
	req.GetBody = func() (io.ReadCloser, error) { return nil, io.ErrNoProgress }
	r.Base = base(func(req *http.Request) (*http.Response, error) { _, err := req.GetBody(); return nil, err })
	if _, err := r.RoundTrip(req); !errors.Is(err, io.ErrNoProgress) { //nolint:bodyclose // there is none
		t.Error(err)
	}
}

func TestProbesLeaseIsKeptWhileItsStreamIsOpen(t *testing.T) {
	t.Parallel()
	for _, end := range []string{"read", "close"} {
		t.Run(end, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, func(p *breaker.Policy) { p.HalfOpenMaxCalls, p.ProbeTimeout = 1, 3*time.Second })
				r.inBubble(t, func(w http.ResponseWriter, r *http.Request) {
					for range 10 {
						_, _ = io.WriteString(w, "more")
						w.(http.Flusher).Flush()
						select {
						case <-time.After(time.Minute):
						case <-r.Context().Done():
							return
						}
					}
				})
				r.open(t)
				<-time.After(time.Minute)
				resp := r.get(t, "http://a")
				<-time.After(5 * time.Minute)                                              // many times the lease
				_, err := r.client.Do(request(t.Context(), t, http.MethodGet, "http://a")) //nolint:bodyclose // there is none
				var busy *breaker.OpenError
				if !errors.As(err, &busy) || busy.Reason != breaker.ReasonProbesBusy {
					t.Errorf("second probe gave %v, want probes_busy", err)
				}
				if end == "read" {
					_, _ = io.Copy(io.Discard, resp.Body)
				}
				_ = resp.Body.Close()
				r.once(t, breaker.Success, "")
				if s := r.state(t); s != breaker.Closed {
					t.Errorf("state %s", s)
				}
			})
		})
	}
}

func TestCancelledProbeGivesItsPlaceBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(p *breaker.Policy) { p.HalfOpenMaxCalls = 1 })
		r.inBubble(t, func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			if r.URL.Path == "/stream" {
				<-r.Context().Done()
			}
		})
		r.open(t)
		<-time.After(time.Minute)
		ctx, cancel := context.WithCancel(t.Context())
		resp, err := r.client.Do(request(ctx, t, http.MethodGet, "http://a/stream"))
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		synctest.Wait() // nobody reads, nobody closes
		other := r.get(t, "http://a")
		_, _ = io.Copy(io.Discard, other.Body)
		_ = other.Body.Close()
		if s := r.state(t); s != breaker.Closed {
			t.Errorf("state %s", s)
		}
		_ = resp.Body.Close()
	})
}
