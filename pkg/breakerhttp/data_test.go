package breakerhttp_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breakerhttp"
)

const sse = "text/event-stream"

// read reads a response to its end, and returns the error of that.
func read(resp *http.Response) error {
	_, err := io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return err
}

// CLIProxyAPI 2447, model-hotel 60.
func TestFirstData_IsWaitedForNoLongerThanItsBound(t *testing.T) {
	t.Parallel()
	second := time.Second
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		class   string // of the failure; "": success
		after   time.Duration
	}{
		"in time":             {parts(sse, 4*second, "data: 1\n\n", end), "", 4 * second},
		"late":                {parts(sse, time.Hour), "first_token_timeout", 5 * second},
		"only comments":       {parts(sse, 2*second, ": ping\n\n", 2*second, ": ping\n\n", 2*second, "data: 1\n\n"), "first_token_timeout", 5 * second},
		"only blank lines":    {parts(sse, 2*second, "\n\n", 2*second, "\r\n", 2*second, "data: 1\n\n"), "first_token_timeout", 5 * second},
		"no header either":    {after(time.Hour, parts(sse)), "first_token_timeout", 5 * second},
		"header, then late":   {after(4*second, parts(sse, 4*second, "data: 1\n\n")), "first_token_timeout", 5 * second},
		"slow afterwards":     {parts(sse, 4*second, "data: 1\n\n", 8*second, "data: 2\n\n", end), "", 12 * second},
		"JSON, late":          {parts("application/json", time.Hour), "first_token_timeout", 5 * second},
		"blank lines of JSON": {parts("application/x-ndjson", 2*second, "\n", 2*second, "\n", 2*second, "{}\n"), "first_token_timeout", 5 * second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newOutbound(t, nil)
				r.serveOnPipes(t, c.handler)
				r.Timeout, r.FirstData = 10*second, 5*second
				begin := time.Now()
				resp, err := r.client.Do(request(t.Context(), t, http.MethodPost, "http://a"))
				if err == nil {
					err = read(resp)
				}
				kind := breaker.Success
				if c.class != "" {
					kind = breaker.Failure
				}
				if r.settledOnce(t, kind, c.class); time.Since(begin) != c.after {
					t.Errorf("ended after %s, want %s", time.Since(begin), c.after)
				}
				if c.class != "" && !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("the caller got %v", err)
				}
				<-time.After(time.Hour) // agents that do not look whether anybody is there
			})
		})
	}
}

func TestFirstData_ClockBeginsWithTheWholeRequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newOutbound(t, nil)
		r.serveOnPipes(t, parts(sse, 4*time.Second, "data: 1\n\n", end))
		r.FirstData = 5 * time.Second
		reader, writer := io.Pipe()
		time.AfterFunc(time.Minute, func() { _ = writer.Close() })
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://a", reader)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := r.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if err := read(resp); err != nil {
			t.Error(err)
		}
		r.settledOnce(t, breaker.Success, "")
	})
}

func TestTimeout_CommentsDoNotFeedTheClock(t *testing.T) {
	t.Parallel()
	second := time.Second
	pings := func(texts ...any) (out []any) {
		for range 10 {
			out = append(out, texts...)
		}
		return append(out, end)
	}
	for name, c := range map[string]struct {
		contentType string
		parts       []any
		class       string
	}{
		"comments":          {sse, pings(3*second, ": ping\n\n"), "timeout"},
		"cut comments":      {sse, pings(3*second, ": pi", 3*second, "ng\n\n"), "timeout"},
		"blank lines":       {sse, pings(3*second, "\n"), "timeout"},
		"after some data":   {sse, append([]any{"data: 1\n\n"}, pings(3*second, ":\n")...), "timeout"},
		"events":            {sse, pings(3*second, "data: 1\n\n"), ""},
		"parts of an event": {sse, append([]any{"data: "}, pings(8*second, "x")...), ""},
		"named pings":       {sse, pings(8*second, "event: ping\n\n"), ""},
		"text like comment": {"text/plain", pings(8*second, ": ping\n\n"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newOutbound(t, nil)
				r.serveOnPipes(t, parts(c.contentType, c.parts...))
				r.Timeout = 10 * second
				begin := time.Now()
				err := read(r.get(t, "http://a")) //nolint:bodyclose // read closes it
				if c.class == "" {
					r.settledOnce(t, breaker.Success, "")
					return
				}
				if r.settledOnce(t, breaker.Failure, c.class); time.Since(begin) != 10*second || !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("the caller got %v after %s", err, time.Since(begin))
				}
			})
		})
	}
}

func TestSlow_GoesByTheFirstData(t *testing.T) {
	t.Parallel()
	second := time.Second
	for name, c := range map[string]struct {
		handler            http.HandlerFunc
		header, firstBytes time.Duration
	}{
		"stream":      {parts(sse, 2*second, "data: 1\n\n", 5*second, end), 0, 2 * second},
		"comments":    {parts(sse, ": a\n", 2*second, "data: 1\n\n", 5*second, end), 0, 2 * second},
		"JSON":        {parts("application/json", 2*second, "{}", 5*second, end), 0, 2 * second},
		"slow header": {after(3*second, parts("application/json", "{}", end)), 3 * second, 3 * second},
		"no body":     {after(3*second, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }), 3 * second, 3 * second},
		"an error":    {after(3*second, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }), 3 * second, 3 * second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newOutbound(t, func(p *breaker.Policy) { p.SlowCallDuration = 2*second - time.Millisecond })
				r.serveOnPipes(t, c.handler)
				_ = read(r.get(t, "http://a")) //nolint:bodyclose // read closes it
				o, x := <-r.seen.settled, <-r.timings
				if !o.Slow || o.Duration != c.firstBytes || x.Header != c.header || x.FirstByte.Round(time.Millisecond) != c.firstBytes {
					t.Errorf("settled with %+v, observed %+v", o, x)
				}
			})
		})
	}
}

func TestCounts_OthersNeitherAskNorTell(t *testing.T) {
	t.Parallel()
	srv := startAgent(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	r := newOutbound(t, nil)
	r.open(t)
	for _, method := range []string{http.MethodOptions, http.MethodHead} {
		resp, err := r.client.Do(request(t.Context(), t, method, srv.URL))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if x := <-r.timings; x.Status != 500 || x.Agent != "a" {
			t.Errorf("%s: observed %+v", method, x)
		}
	}
	r.nothingElse(t)
	if _, err := r.client.Do(request(t.Context(), t, http.MethodGet, srv.URL)); !errors.Is(err, breaker.ErrOpen) { //nolint:bodyclose // there is none
		t.Errorf("GET gave %v", err)
	}
	r.Counts = func(req *http.Request) bool { return req.Method == http.MethodPost }
	_ = r.get(t, srv.URL).Body.Close()
	<-r.timings
	r.nothingElse(t)
}

func TestShadow_OnlyObserves(t *testing.T) {
	t.Parallel()
	failure := `{"jsonrpc":"2.0","id":1,"error":{"code":-32000}}`
	srv := startAgent(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Path == "/503" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_, _ = io.WriteString(w, failure)
	})
	for path, want := range map[string]breaker.Outcome{
		"/200": {Kind: breaker.Failure, Class: "jsonrpc_error"}, "/503": {Kind: breaker.Failure, Class: "http_503"},
	} {
		r := newOutbound(t, nil)
		r.Shadow = breakerhttp.MCP
		_ = read(r.get(t, srv.URL+path)) //nolint:bodyclose // read closes it
		o, x := <-r.seen.settled, <-r.timings
		if x.Shadow == nil || *x.Shadow != want {
			t.Errorf("%s: observed %+v, shadow %+v", path, x, x.Shadow)
		}
		if path == "/200" && o.Kind != breaker.Success {
			t.Errorf("settled with %+v", o)
		}
	}
	r := newOutbound(t, nil)
	_ = read(r.get(t, srv.URL)) //nolint:bodyclose // read closes it
	if x := <-r.timings; x.Shadow != nil {
		t.Errorf("observed %+v", x)
	}
}

func TestShadow_AStreamThatBreaksIsAFailureToEveryReader(t *testing.T) {
	t.Parallel()
	srv := startAgent(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: "+r.URL.Query().Get("data")+"\n\n")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	for _, c := range []struct {
		shadow      breakerhttp.BodyClassifier
		data, class string
	}{
		{breakerhttp.StatusOnly, `{}`, "broken_stream"},
		{breakerhttp.LLM, `{}`, "broken_stream"},
		{breakerhttp.LLM, `{"error":{"code":429}}`, "llm_error_429"},
	} {
		r := newOutbound(t, nil)
		r.Shadow = c.shadow
		_ = read(r.get(t, srv.URL+"?data="+url.QueryEscape(c.data))) //nolint:bodyclose // read closes it
		want := breaker.Outcome{Kind: breaker.Failure, Class: c.class}
		if x := <-r.timings; x.Shadow == nil || *x.Shadow != want {
			t.Errorf("%s of %s: shadow %+v, want %+v", c.shadow, c.data, x.Shadow, want)
		}
	}
}

func TestVerdict_IsWhatTheBreakerWasTold(t *testing.T) {
	t.Parallel()
	srv := startAgent(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, strings.Repeat(" ", 1<<16)+`{"jsonrpc":"2.0","id":1,"error":{"code":-32000}}`)
	})
	r := newOutbound(t, nil)
	r.Body = breakerhttp.JSONRPC
	resp := r.get(t, srv.URL) //nolint:bodyclose // read closes it
	if o, ok := breakerhttp.Verdict(resp); ok {
		t.Errorf("%+v before the end", o)
	}
	_ = read(resp)
	if o, ok := breakerhttp.Verdict(resp); !ok || o.Kind != breaker.Failure || o.Class != "jsonrpc_error" {
		t.Errorf("%+v, %t", o, ok)
	}
	for _, other := range []*http.Response{nil, {Body: http.NoBody}, {}} {
		if o, ok := breakerhttp.Verdict(other); ok {
			t.Errorf("%+v of %v", o, other)
		}
	}
}

func TestStatuses_AreTheAgents(t *testing.T) {
	t.Parallel()
	srv := startAgent(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) })
	r := newOutbound(t, nil)
	r.Statuses = breakerhttp.Statuses{Failure: []breakerhttp.StatusRange{{From: 401, To: 403}}}
	_ = read(r.get(t, srv.URL)) //nolint:bodyclose // read closes it
	r.settledOnce(t, breaker.Failure, "http_401")
}
