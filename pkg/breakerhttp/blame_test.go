package breakerhttp_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
	"github.com/breakerd/breakerd/pkg/breakerhttp"
)

func TestStale_IsNotAStreamThatTheAgentResets(t *testing.T) {
	t.Parallel()
	srv := startAgent(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			panic(http.ErrAbortHandler) // over HTTP/2 this resets the stream, and leaves the connection
		}
	})
	r := newOutbound(t, nil)
	r.Base = newBase(t, true)
	_ = read(r.get(t, srv.URL)) //nolint:bodyclose // read closes it
	r.settledOnce(t, breaker.Success, "")
	if _, err := r.client.Do(request(t.Context(), t, http.MethodPost, srv.URL)); err == nil { //nolint:bodyclose // there is none
		t.Error("answered")
	}
	if o := <-r.seen.settled; o.Kind != breaker.Failure {
		t.Errorf("settled with %+v", o)
	}
}

// Base may meet two connections that are stale, one after a byte of which only the first call knows.
func TestStale_IsJudgedByTheLastConnection(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		last  bool // a byte came on the last connection
		kind  breaker.OutcomeKind
		class string
	}{
		"without a byte": {false, breaker.Ignored, "stale_connection"},
		"with a byte":    {true, breaker.Failure, "connection_error"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newOutbound(t, nil)
			r.Base = base(func(req *http.Request) (*http.Response, error) {
				hooks := httptrace.ContextClientTrace(req.Context())
				hooks.GotConn(httptrace.GotConnInfo{Reused: true})
				hooks.GotFirstResponseByte()
				hooks.GotConn(httptrace.GotConnInfo{Reused: true})
				if c.last {
					hooks.GotFirstResponseByte()
				}
				return nil, io.ErrUnexpectedEOF
			})
			_, _ = r.RoundTrip(request(t.Context(), t, http.MethodPost, "http://a")) //nolint:bodyclose // there is none
			r.settledOnce(t, c.kind, c.class)
		})
	}
}

func TestVerdict_OfAResponseWithoutABody(t *testing.T) {
	t.Parallel()
	srv := startAgent(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		if r.URL.Path == "/none" {
			w.WriteHeader(http.StatusNoContent)
		}
		w.Header().Set("Content-Length", "0")
	})
	r := newOutbound(t, nil)
	r.Body = breakerhttp.LLM
	for path, want := range map[string]string{"/none": "", "/empty": "incomplete_stream"} {
		resp := r.get(t, srv.URL+path)
		o, ok := breakerhttp.Verdict(resp)
		if !ok || o.Class != want {
			t.Errorf("%s: %+v, %v", path, o, ok)
		}
		if n, err := resp.Body.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("%s: read %d, %v", path, n, err)
		}
		_ = resp.Body.Close()
	}
}

// askedSlowly is a store whose answers come when the caller has left.
type askedSlowly struct {
	breaker.Store

	leave func()
}

func (s *askedSlowly) Apply(ctx context.Context, agent string, p breaker.Policy, op machine.Op) (machine.Result, error) {
	r, err := s.Store.Apply(context.WithoutCancel(ctx), agent, p, op)
	if s.leave != nil {
		s.leave()
	}
	return r, err
}

func TestTransport_CallerThatLeavesWhileTheBreakerIsAskedIsIgnored(t *testing.T) {
	t.Parallel()
	for name, ends := range map[string]error{"cancelled": context.Canceled, "deadline": context.DeadlineExceeded} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &askedSlowly{Store: breaker.NewMemory(nil, 0)}
				r := newOutboundOn(t, s, nil)
				r.Base = base(func(*http.Request) (*http.Response, error) { return nil, errors.New("called") })
				var ctx context.Context
				var cancel context.CancelFunc
				if errors.Is(ends, context.Canceled) {
					ctx, cancel = context.WithCancel(t.Context())
					s.leave = cancel
				} else {
					ctx, cancel = context.WithTimeout(t.Context(), time.Second)
					s.leave = func() { <-ctx.Done() }
				}
				defer cancel()
				resp, err := r.RoundTrip(request(ctx, t, http.MethodGet, "http://a"))
				if resp != nil || !errors.Is(err, ends) {
					t.Errorf("%v, %v", resp, err)
					_ = resp.Body.Close()
				}
				if o := <-r.seen.settled; o.Kind != breaker.Ignored || o.Class != "cancelled" {
					t.Errorf("settled with %+v", o)
				}
				r.nothingElse(t)
			})
		})
	}
}

func TestAbandoned_AgentThatDoesNotReadTheRequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newOutbound(t, nil)
		stop := make(chan struct{})
		defer close(stop)
		r.serveOnPipes(t, func(http.ResponseWriter, *http.Request) { <-stop })
		for leaves, kind := range map[time.Duration]breaker.OutcomeKind{
			9 * time.Second: breaker.Ignored, 11 * time.Second: breaker.Failure,
		} {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(leaves, cancel)
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://a", strings.NewReader(strings.Repeat("x", 1<<20)))
			if err != nil {
				t.Fatal(err)
			}
			_, _ = r.client.Do(req) //nolint:bodyclose // there is none
			if o := <-r.seen.settled; o.Kind != kind {
				t.Errorf("left after %s: settled with %+v", leaves, o)
			}
			<-r.timings
		}
	})
}

func TestAbandoned_NotAfterAnInformationalAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newOutbound(t, nil)
		r.serveOnPipes(t, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusEarlyHints)
			<-r.Context().Done()
		})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Minute, cancel)
		_, _ = r.client.Do(request(ctx, t, http.MethodGet, "http://a")) //nolint:bodyclose // there is none
		r.settledOnce(t, breaker.Ignored, "cancelled")
	})
}

func TestProbe_GoesOnAfterRequestCancel(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := halfOpen(t, answerAfter(5*time.Second, 200, "{}"), nil)
		req := request(t.Context(), t, http.MethodGet, "http://a")
		cancel := make(chan struct{})
		req.Cancel = cancel //nolint:staticcheck // old callers close it
		time.AfterFunc(time.Second, func() { close(cancel) })
		begin := time.Now()
		resp, err := r.RoundTrip(req) //nolint:bodyclose // there is none
		if resp != nil || !errors.Is(err, context.Canceled) || time.Since(begin) != time.Second {
			t.Errorf("%v, %v after %s", resp, err, time.Since(begin))
		}
		if o := <-r.seen.settled; o.Kind != breaker.Success || time.Since(begin) != 5*time.Second {
			t.Errorf("settled with %+v after %s", o, time.Since(begin))
		}
		<-r.timings
	})
}

func TestProbe_RequestCancelEndsTheBody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := halfOpen(t, parts("text/event-stream"), nil)
		req := request(t.Context(), t, http.MethodGet, "http://a")
		cancel := make(chan struct{})
		req.Cancel = cancel //nolint:staticcheck // old callers close it
		resp, err := r.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Second, func() { close(cancel) })
		if _, err = io.ReadAll(resp.Body); err == nil {
			t.Error("read to its end")
		}
		_ = resp.Body.Close()
		r.settledOnce(t, breaker.Ignored, "cancelled")
	})
}

// A panic in a goroutine of the probe would end the process.
func TestProbe_PanicWithoutItsCallerIsAFailure(t *testing.T) {
	t.Parallel()
	for name, reply := range map[string]func() *http.Response{
		"of Base": func() *http.Response { panic("of Base") },
		"of the body": func() *http.Response {
			return &http.Response{
				StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(panics{}),
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := halfOpen(t, nil, nil)
				r.Body = breakerhttp.MCP
				r.Base = base(func(*http.Request) (*http.Response, error) {
					<-time.After(2 * time.Second)
					return reply(), nil
				})
				ctx, cancel := context.WithTimeoutCause(t.Context(), time.Hour, nil)
				time.AfterFunc(time.Second, cancel)
				_, _ = r.RoundTrip(request(ctx, t, http.MethodGet, "http://a")) //nolint:bodyclose // there is none
				if o := <-r.seen.settled; o.Kind != breaker.Failure || o.Class != "panic" {
					t.Errorf("settled with %+v", o)
				}
				if x := <-r.timings; x.Header != 2*time.Second {
					t.Errorf("observed %+v", x)
				}
				synctest.Wait()
				if !strings.Contains(r.log.String(), "of Base") && !strings.Contains(r.log.String(), "of the body") {
					t.Errorf("logged %q", r.log)
				}
			})
		})
	}
}

type panics struct{}

func (panics) Read([]byte) (int, error) { panic("of the body") }

func TestProbe_AbandonedSaysHowLongItsHeaderWasWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := halfOpen(t, answerAfter(time.Hour, 200, ""), nil)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		_, _ = r.client.Do(request(ctx, t, http.MethodGet, "http://a")) //nolint:bodyclose // there is none
		if x := r.settledOnce(t, breaker.Failure, "abandoned"); x.Header != 10*time.Second {
			t.Errorf("observed %+v", x)
		}
	})
}
