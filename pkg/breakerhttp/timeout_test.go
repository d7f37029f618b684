package breakerhttp_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// checkTimeout checks that err is a time-out of agent "a" after a minute, by every way to ask.
func checkTimeout(t *testing.T, err error) {
	t.Helper()
	var timeout interface{ Timeout() bool } // of http.Client's error too
	if !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &timeout) || !timeout.Timeout() ||
		!strings.Contains(err.Error(), `agent "a" sent nothing for 1m0s`) {
		t.Errorf("gave %v, want a time-out of agent a", err)
	}
}

func TestTimeout_NoHeaderInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newOutbound(t, nil)
		r.serveOnPipes(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		r.Timeout = time.Minute
		start := time.Now()
		_, err := r.client.Do(request(t.Context(), t, http.MethodGet, "http://a")) //nolint:bodyclose // there is none
		checkTimeout(t, err)
		if d := time.Since(start); d != time.Minute {
			t.Errorf("waited %s", d)
		}
		r.settledOnce(t, breaker.Failure, "timeout")
	})
}

func TestTimeout_StalledStreamOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newOutbound(t, nil)
		r.serveOnPipes(t, func(w http.ResponseWriter, r *http.Request) {
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
		<-time.After(time.Hour) // the reader takes its time
		text, err := io.ReadAll(resp.Body)
		checkTimeout(t, err)
		if len(text) != 99*4 {
			t.Errorf("read %d bytes", len(text))
		}
		_ = resp.Body.Close()
		if x := r.settledOnce(t, breaker.Failure, "timeout"); x.Outcome.Duration >= time.Second || x.Total < time.Hour {
			t.Errorf("observed %+v: the slow-call duration is that of the header", x)
		}
	})
}

func TestTimeout_CallersDeadlineIsOneToo(t *testing.T) {
	t.Parallel()
	for name, path := range map[string]string{"header": "/", "body": "/stream"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				for _, own := range []bool{false, true} { // a deadline of the context, or the client's Timeout
					r := newOutbound(t, nil)
					r.serveOnPipes(t, func(w http.ResponseWriter, r *http.Request) {
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
					r.settledOnce(t, breaker.Failure, "timeout")
				}
			})
		})
	}
}

func TestTimeout_StopsAtHeaderDespiteUpload(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newOutbound(t, nil)
		r.Timeout = time.Minute
		r.Base = base(func(req *http.Request) (*http.Response, error) {
			go func() { _, _ = io.ReadAll(req.Body) }() // goes on after the header
			body := readerFunc(func([]byte) (int, error) { return 0, errors.Join(req.Context().Err(), io.EOF) })
			return &http.Response{StatusCode: http.StatusOK, ContentLength: -1, Body: io.NopCloser(body)}, nil
		})
		req := request(t.Context(), t, http.MethodPost, "http://a")
		req.Body = io.NopCloser(&slowBody{parts: 1, end: io.EOF})
		resp, err := r.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		<-time.After(10 * time.Hour) // the caller takes its time
		if _, err := resp.Body.Read(make([]byte, 1)); errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("read gave %v", err)
		}
		_ = resp.Body.Close()
	})
}

func TestTimeout_ReleasesContextOnceTheBodyIsClosed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status int
		length int64
		err    error
	}{
		{http.StatusOK, -1, nil},
		{http.StatusOK, 0, nil},
		{http.StatusInternalServerError, -1, nil},
		{0, 0, io.EOF},
		{http.StatusSwitchingProtocols, -1, nil}, // without a connection
	} {
		r := newOutbound(t, nil)
		r.Timeout = time.Hour
		var ctx context.Context
		body := io.NopCloser(strings.NewReader(""))
		r.Base = base(func(req *http.Request) (*http.Response, error) {
			if ctx = req.Context(); c.err != nil {
				return nil, c.err
			}
			if c.length == 0 {
				return &http.Response{StatusCode: c.status, Body: http.NoBody}, nil
			}
			return &http.Response{StatusCode: c.status, Header: upgradeTo("echo"), ContentLength: c.length, Body: body}, nil
		})
		req := request(t.Context(), t, http.MethodGet, "http://a")
		req.Header = upgradeTo("echo")
		resp, err := r.RoundTrip(req)
		if err == nil {
			if c.length != 0 && ctx.Err() != nil {
				t.Errorf("%+v: the context ended before the body", c)
			}
			_ = resp.Body.Close()
		}
		if ctx.Err() == nil {
			t.Errorf("%+v: the context was not released", c)
		}
	}
}
