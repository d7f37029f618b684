package breakerhttp_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breakerhttp"
)

// parts serves texts, each after its pause, and then waits until its caller has left, or ends if the last text is end.
func parts(contentType string, texts ...any) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", contentType)
		w.(http.Flusher).Flush()
		for _, x := range texts {
			switch x := x.(type) {
			case time.Duration:
				select {
				case <-time.After(x):
				case <-r.Context().Done():
					return
				}
			case string:
				if x == end {
					return
				}
				if x == broken {
					panic(http.ErrAbortHandler)
				}
				_, _ = io.WriteString(w, x)
				w.(http.Flusher).Flush()
			}
		}
		<-r.Context().Done()
	}
}

const end, broken = "\x00end", "\x00broken"

// halfOpen makes an outbound whose breaker is half-open, with one place, on an agent in virtual time.
func halfOpen(t *testing.T, h http.HandlerFunc, edit func(*breaker.Policy)) *outbound {
	t.Helper()
	r := newOutbound(t, func(p *breaker.Policy) {
		p.HalfOpenMaxCalls, p.ProbeTimeout = 1, 3*time.Second
		if edit != nil {
			edit(p)
		}
	})
	r.serveOnPipes(t, h)
	r.open(t)
	<-time.After(time.Minute)
	return r
}

// settledAt reads a response, and returns when the call is settled after its header, and with what.
func (r *outbound) settledAt(t *testing.T, resp *http.Response) (breaker.Outcome, time.Duration) {
	t.Helper()
	begin := time.Now()
	go func() {
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}()
	o := <-r.seen.settled
	return o, time.Since(begin)
}

// OmniRoute 13836, nora 607.
func TestProbe_OfAStreamIsSettledAfterItsFirstData(t *testing.T) {
	t.Parallel()
	event := "data: {\"id\":1}\n\n"
	for name, c := range map[string]struct {
		contentType string
		by          breakerhttp.BodyClassifier
		parts       []any
		kind        breaker.OutcomeKind
		class       string
		after       time.Duration
	}{
		"SSE":                     {"text/event-stream", "", []any{event}, breaker.Success, "", time.Second},
		"SSE later":               {"text/event-stream", "", []any{20 * time.Second, event}, breaker.Success, "", 21 * time.Second},
		"SSE after comments":      {"text/event-stream", "", []any{": a\n\n", 5 * time.Second, ": b\n\n", event}, breaker.Success, "", 6 * time.Second},
		"half an event":           {"text/event-stream", "", []any{"data: {", 5 * time.Second, "}\n\n"}, breaker.Success, "", 6 * time.Second},
		"NDJSON":                  {"application/x-ndjson", "llm", []any{"{\"model\":\"m\"}\n"}, breaker.Success, "", time.Second},
		"text":                    {"text/plain", "auto", []any{"a"}, breaker.Success, "", time.Second},
		"no type":                 {"", "llm", []any{"a"}, breaker.Success, "", time.Second},
		"binary":                  {"application/octet-stream", "mcp", []any{"\x00"}, breaker.Success, "", time.Second},
		"gRPC":                    {"application/grpc", "grpc", []any{"\x00\x00\x00\x00\x01a"}, breaker.Success, "", time.Second},
		"JSON nobody looks into":  {"application/json", "", []any{"{"}, breaker.Success, "", time.Second},
		"judged JSON":             {"application/json", "mcp", []any{"{}", 7 * time.Second, end}, breaker.Success, "", 7 * time.Second},
		"judged JSON that fails":  {"application/json", "llm", []any{`{"error":{"code":500}}`, 7 * time.Second, end}, breaker.Failure, "llm_error", 7 * time.Second},
		"an end before that":      {"text/event-stream", "", []any{event, 500 * time.Millisecond, end}, breaker.Success, "", 500 * time.Millisecond},
		"an error first":          {"text/event-stream", "llm", []any{"data: {\"error\":{\"code\":500}}\n\n"}, breaker.Failure, "llm_error", 0},
		"an error before that":    {"text/event-stream", "mcp", []any{event, 500 * time.Millisecond, "data: {\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-32000}}\n\n"}, breaker.Failure, "jsonrpc_error", 500 * time.Millisecond},
		"a break before that":     {"text/event-stream", "", []any{event, 500 * time.Millisecond, broken}, breaker.Failure, "broken_stream", 500 * time.Millisecond},
		"nothing but the header":  {"text/event-stream", "", []any{5 * time.Second, end}, breaker.Success, "", 5 * time.Second},
		"no event where one must": {"text/event-stream", "llm", []any{5 * time.Second, end}, breaker.Failure, "incomplete_stream", 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := halfOpen(t, parts(c.contentType, c.parts...), nil)
				r.Body = c.by
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				resp, err := r.client.Do(request(ctx, t, http.MethodPost, "http://a")) //nolint:bodyclose // it is closed once it is read
				if err != nil {
					t.Fatal(err)
				}
				o, after := r.settledAt(t, resp)
				if o.Kind != c.kind || !strings.HasPrefix(o.Class, c.class) || after != c.after {
					t.Errorf("settled with %s %q after %s, want %s %q after %s", o.Kind, o.Class, after, c.kind, c.class, c.after)
				}
				want := breaker.Closed
				if c.kind == breaker.Failure {
					want = breaker.Open
				}
				if s := r.state(t); s != want {
					t.Errorf("state %s, want %s", s, want)
				}
			})
		})
	}
}

func TestProbe_RoundOfStreamsClosesWhileTheyFlow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := halfOpen(t, parts("text/event-stream", "data: 1\n\n"), func(p *breaker.Policy) { p.HalfOpenMaxCalls = 3 })
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for i := range 3 {
			resp, err := r.client.Do(request(ctx, t, http.MethodPost, "http://a")) //nolint:bodyclose // it is closed once it is read
			if err != nil {
				t.Fatal(err)
			}
			if o, after := r.settledAt(t, resp); o.Kind != breaker.Success || after != time.Second {
				t.Errorf("%d: settled with %+v after %s", i, o, after)
			}
		}
		if s := r.state(t); s != breaker.Closed {
			t.Errorf("state %s", s)
		}
	})
}

func TestProbe_SettleSecondsAreThePolicys(t *testing.T) {
	t.Parallel()
	for settle, want := range map[time.Duration]time.Duration{5 * time.Second: 5 * time.Second, breaker.Off: 0} {
		synctest.Test(t, func(t *testing.T) {
			r := halfOpen(t, parts("text/event-stream", "data: 1\n\n"), func(p *breaker.Policy) { p.ProbeSettle = settle })
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			resp, err := r.client.Do(request(ctx, t, http.MethodPost, "http://a")) //nolint:bodyclose // it is closed once it is read
			if err != nil {
				t.Fatal(err)
			}
			if o, after := r.settledAt(t, resp); o.Kind != breaker.Success || after != want {
				t.Errorf("settled with %+v after %s, want %s", o, after, want)
			}
		})
	}
}

func TestProbe_BreakAfterTheSettlingIsLate(t *testing.T) {
	t.Parallel()
	for name, last := range map[string]any{"broken_stream": broken, "timeout": time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := halfOpen(t, parts("text/event-stream", "data: 1\n\n", 10*time.Second, last), nil)
				r.Timeout = time.Minute
				resp := r.get(t, "http://a")
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
				if x := r.settledOnce(t, breaker.Success, ""); x.Late != name {
					t.Errorf("observed %+v", x)
				}
				if s := r.state(t); s != breaker.Closed {
					t.Errorf("state %s", s)
				}
			})
		})
	}
}

// envoy 41985, 288.
func TestAbandoned_CallThatNobodyWaitedForIsAFailure(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		leaves time.Duration
		policy func(*breaker.Policy)
		method string
		kind   breaker.OutcomeKind
		class  string
	}{
		"after ten seconds":      {10 * time.Second, nil, "POST", breaker.Failure, "abandoned"},
		"after an hour":          {time.Hour, nil, "GET", breaker.Failure, "abandoned"},
		"before ten seconds":     {9999 * time.Millisecond, nil, "POST", breaker.Ignored, "cancelled"},
		"after half a second":    {500 * time.Millisecond, func(p *breaker.Policy) { p.Abandoned = 500 * time.Millisecond }, "POST", breaker.Failure, "abandoned"},
		"off":                    {time.Hour, func(p *breaker.Policy) { p.Abandoned = breaker.Off }, "POST", breaker.Ignored, "cancelled"},
		"a method without count": {time.Hour, nil, "OPTIONS", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newOutbound(t, c.policy)
				r.serveOnPipes(t, func(_ http.ResponseWriter, r *http.Request) {
					_, _ = io.Copy(io.Discard, r.Body)
					<-r.Context().Done()
				})
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(c.leaves, cancel)
				req, err := http.NewRequestWithContext(ctx, c.method, "http://a", strings.NewReader("question"))
				if err != nil {
					t.Fatal(err)
				}
				if _, err = r.client.Do(req); !errors.Is(err, context.Canceled) { //nolint:bodyclose // there is none
					t.Error(err)
				}
				if c.kind == "" {
					<-r.timings
					r.nothingElse(t)
					return
				}
				r.settledOnce(t, c.kind, c.class)
			})
		})
	}
}

func TestAbandoned_NotWhileTheAgentAnswersOthers(t *testing.T) {
	t.Parallel()
	for name, shared := range map[string]bool{"a Transport": false, "Transports that share an Activity": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newOutbound(t, nil)
				r.serveOnPipes(t, func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path != "/other" {
						<-r.Context().Done()
						return
					}
					for range 20 {
						_, _ = io.WriteString(w, "a byte")
						w.(http.Flusher).Flush()
						<-time.After(time.Second)
					}
				})
				other := r.client
				if shared {
					r.Activity = new(breakerhttp.Activity)
					other = &http.Client{Transport: &breakerhttp.Transport{
						Base: r.Base, Manager: r.Manager, Agent: r.Agent, Activity: r.Activity,
					}}
				}
				resp, err := other.Do(request(t.Context(), t, http.MethodGet, "http://a/other")) //nolint:bodyclose // it is closed once it is read
				if err != nil {
					t.Fatal(err)
				}
				done := make(chan struct{})
				go func() {
					defer close(done)
					_, _ = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
				}()
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(15*time.Second, cancel)
				_, _ = r.client.Do(request(ctx, t, http.MethodPost, "http://a/hangs")) //nolint:bodyclose // there is none
				if o := <-r.seen.settled; o.Kind != breaker.Ignored || o.Class != "cancelled" {
					t.Errorf("settled with %+v", o)
				}
				<-done
				<-r.seen.settled
			})
		})
	}
}

func TestAbandoned_NotBeforeTheAgentHasTheRequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newOutbound(t, nil)
		r.serveOnPipes(t, func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		})
		for _, c := range []struct {
			upload time.Duration
			kind   breaker.OutcomeKind
		}{{time.Hour, breaker.Ignored}, {55 * time.Second, breaker.Ignored}, {49 * time.Second, breaker.Failure}} {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Minute, cancel)
			reader, writer := io.Pipe()
			time.AfterFunc(c.upload, func() { _ = writer.Close() })
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://a", reader)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = r.client.Do(req) //nolint:bodyclose // there is none
			if o := <-r.seen.settled; o.Kind != c.kind {
				t.Errorf("uploaded in %s: settled with %+v", c.upload, o)
			}
			<-r.timings
			_ = writer.Close()
		}
		<-time.After(time.Hour)
	})
}

func TestAbandoned_ProbeGoesOnWithoutItsCaller(t *testing.T) {
	t.Parallel()
	rpcError := `{"jsonrpc":"2.0","id":1,"error":{"code":-32000}}`
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		by      breakerhttp.BodyClassifier
		kind    breaker.OutcomeKind
		class   string
		after   time.Duration // from the start
	}{
		"answers":              {answerAfter(5*time.Second, 200, "{}"), "", breaker.Success, "", 5 * time.Second},
		"answers an error":     {answerAfter(5*time.Second, 503, ""), "", breaker.Failure, "http_503", 5 * time.Second},
		"answers a 404":        {answerAfter(5*time.Second, 404, ""), "", breaker.Ignored, "http_404", 5 * time.Second},
		"answers one inside":   {answerAfter(5*time.Second, 200, rpcError), "mcp", breaker.Failure, "jsonrpc_error", 5 * time.Second},
		"answers nobody":       {answerAfter(time.Hour, 200, ""), "", breaker.Failure, "abandoned", 10 * time.Second},
		"closes":               {answerAfter(5*time.Second, 0, ""), "", breaker.Failure, "connection_error", 5 * time.Second},
		"streams":              {after(2*time.Second, parts("text/event-stream", 2*time.Second, "data: {}\n\n")), "llm", breaker.Success, "", 4 * time.Second},
		"streams without data": {after(2*time.Second, parts("text/event-stream")), "llm", breaker.Ignored, "cancelled", 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := halfOpen(t, c.handler, nil)
				r.Body = c.by
				begin := time.Now()
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(time.Second, cancel)
				req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://a", strings.NewReader("question"))
				if err != nil {
					t.Fatal(err)
				}
				resp, err := r.client.Do(req)
				if err == nil {
					_ = resp.Body.Close()
				}
				if !errors.Is(err, context.Canceled) || time.Since(begin) != time.Second {
					t.Errorf("the caller got %v after %s", err, time.Since(begin))
				}
				o := <-r.seen.settled
				if after := time.Since(begin); o.Kind != c.kind || o.Class != c.class || after != c.after {
					t.Errorf("settled with %s %q after %s, want %s %q after %s", o.Kind, o.Class, after, c.kind, c.class, c.after)
				}
				<-r.timings
				want := map[breaker.OutcomeKind]breaker.State{
					breaker.Success: breaker.Closed, breaker.Failure: breaker.Open, breaker.Ignored: breaker.HalfOpen,
				}[c.kind]
				if s := r.state(t); s != want {
					t.Errorf("state %s, want %s", s, want)
				}
			})
		})
	}
}

// after serves h once it has the request, after a pause.
func after(pause time.Duration, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-time.After(pause)
		h(w, r)
	}
}

// answerAfter answers after a pause; status 0: it closes the connection.
func answerAfter(pause time.Duration, status int, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case <-time.After(pause):
		case <-r.Context().Done():
			return
		}
		if status == 0 {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text)
	}
}

func TestProbe_PanicInBaseIsTheCallers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := halfOpen(t, nil, nil)
		r.Base = base(func(*http.Request) (*http.Response, error) { panic("of Base") })
		func() {
			defer func() {
				if v := recover(); v != "of Base" {
					t.Errorf("panic %v", v)
				}
			}()
			_, _ = r.RoundTrip(request(t.Context(), t, http.MethodGet, "http://a")) //nolint:bodyclose // there is none
		}()
		r.settledOnce(t, breaker.Failure, "panic")
		ended := make(chan struct{})
		<-time.After(time.Minute)
		r.Base = base(func(*http.Request) (*http.Response, error) { runtime.Goexit(); return nil, nil }) //nolint:nilnil // never
		go func() {
			defer close(ended)
			_, _ = r.RoundTrip(request(t.Context(), t, http.MethodGet, "http://a")) //nolint:bodyclose // there is none
			t.Error("returned")
		}()
		<-ended
		r.settledOnce(t, breaker.Failure, "panic")
	})
}

// FIELD H2: three uploads of a byte a second.
func TestProbe_SlowUploadGivesItsPlaceBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := halfOpen(t, func(w http.ResponseWriter, r *http.Request) {
			text, _ := io.ReadAll(r.Body)
			_, _ = fmt.Fprintf(w, "%d bytes", len(text))
		}, nil)
		begin := time.Now()
		reader, writer := io.Pipe()
		go func() {
			for range 20 {
				<-time.After(time.Second)
				_, _ = writer.Write([]byte("a"))
			}
			_ = writer.Close()
		}()
		answered := make(chan string, 1)
		go func() {
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://a", reader)
			resp, err := r.client.Do(req)
			if err != nil {
				answered <- err.Error()
				return
			}
			text, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			answered <- string(text)
		}()
		if o := <-r.seen.settled; o.Kind != breaker.Ignored || o.Class != "slow_request_body" || time.Since(begin) != 3*time.Second {
			t.Errorf("settled with %+v after %s", o, time.Since(begin))
		}
		resp, err := r.client.Do(request(t.Context(), t, http.MethodGet, "http://a")) // the place is free
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if o := <-r.seen.settled; o.Kind != breaker.Success {
			t.Errorf("settled with %+v", o)
		}
		if text := <-answered; text != "20 bytes" {
			t.Errorf("the call gave %q", text)
		}
	})
}

func TestProbe_SlowAgentKeepsItsPlace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := halfOpen(t, answerAfter(30*time.Second, 200, "{}"), nil)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://a", bytes.NewReader(make([]byte, 1<<20)))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := r.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		r.settledOnce(t, breaker.Success, "")
	})
}
