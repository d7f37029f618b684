package breakerhttp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// stream sends a first word, and then nothing until its caller has left.
func stream(t *testing.T) (url string) {
	t.Helper()
	return startAgent(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "first")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}).URL
}

func TestCancel_UnreadStreamIsIgnoredAtOnce(t *testing.T) {
	t.Parallel()
	r := newOutbound(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	resp, err := r.client.Do(request(ctx, t, http.MethodGet, stream(t)))
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	o := <-r.seen.settled // before the body is read or closed
	r.seen.settled <- o
	if _, err := io.ReadAll(resp.Body); !errors.Is(err, context.Canceled) {
		t.Errorf("read gave %v", err)
	}
	_ = resp.Body.Close()
	r.settledOnce(t, breaker.Ignored, "cancelled")
}

func TestCancel_OfFlowingStreamIsSuccess(t *testing.T) {
	t.Parallel()
	r := newOutbound(t, nil)
	r.Timeout = time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	resp, err := r.client.Do(request(ctx, t, http.MethodGet, stream(t)))
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 5)
	if _, err = io.ReadFull(resp.Body, buf); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(0, cancel)
	if _, err = resp.Body.Read(buf); !errors.Is(err, context.Canceled) {
		t.Errorf("read gave %v", err)
	}
	_ = resp.Body.Close()
	r.settledOnce(t, breaker.Success, "")
}

func TestCancel_BeforeHeaderIsIgnored(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	srv := startAgent(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	r := newOutbound(t, nil)
	_, err := r.client.Do(request(ctx, t, http.MethodGet, srv.URL)) //nolint:bodyclose // there is none
	if !errors.Is(err, context.Canceled) {
		t.Errorf("call gave %v", err)
	}
	r.settledOnce(t, breaker.Ignored, "cancelled")
}

func TestCancel_ByBaseIsFailure(t *testing.T) {
	t.Parallel()
	r := newOutbound(t, nil)
	r.Base = base(func(*http.Request) (*http.Response, error) { return nil, context.Canceled }) // such as a time-out of its own
	_, err := r.RoundTrip(request(t.Context(), t, http.MethodGet, "http://x"))                  //nolint:bodyclose // there is none
	if !errors.Is(err, context.Canceled) {
		t.Errorf("call gave %v", err)
	}
	r.settledOnce(t, breaker.Failure, fmt.Sprintf("%T", context.Canceled))
}

func TestCancel_ThenCloseIsIgnored(t *testing.T) {
	t.Parallel()
	r := newOutbound(t, nil)
	r.Base = base(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusOK, ContentLength: -1, Body: io.NopCloser(strings.NewReader("text"))}, nil
	})
	for range 200 {
		ctx, cancel := context.WithCancel(t.Context())
		resp, err := r.RoundTrip(request(ctx, t, http.MethodGet, "http://a"))
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		_ = resp.Body.Close()
		r.settledOnce(t, breaker.Ignored, "cancelled")
	}
}

func TestClose_EarlyKeepsOutcomeOfStatus(t *testing.T) {
	t.Parallel()
	for _, h2 := range []bool{false, true} {
		r := newOutbound(t, nil)
		r.Base = newBase(t, h2)
		resp := r.get(t, stream(t))
		_ = resp.Body.Close()
		if _, err := resp.Body.Read(make([]byte, 9)); err == nil {
			t.Error("a closed body can be read")
		}
		r.settledOnce(t, breaker.Success, "")
	}
}

// blockingBody is a body whose Read waits for Close, and whose Close waits until that Read has returned.
type blockingBody struct{ closed, heard chan struct{} }

func (l blockingBody) Read([]byte) (int, error) { <-l.closed; return 0, io.ErrUnexpectedEOF }

func (l blockingBody) Close() error { close(l.closed); <-l.heard; return nil }

func TestClose_BreakingReadIsNoFailure(t *testing.T) {
	t.Parallel()
	r := newOutbound(t, nil)
	l := blockingBody{closed: make(chan struct{}), heard: make(chan struct{})}
	r.Base = base(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusOK, ContentLength: -1, Body: l}, nil
	})
	resp, err := r.RoundTrip(request(t.Context(), t, http.MethodGet, "http://a")) //nolint:bodyclose // closed below, once
	if err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.ReadAll(resp.Body); close(l.heard) }()
	_ = resp.Body.Close()
	r.settledOnce(t, breaker.Success, "")
}

func TestClose_DuringReadSettlesOnce(t *testing.T) {
	t.Parallel()
	url := stream(t)
	for range 20 {
		r := newOutbound(t, nil)
		ctx, cancel := context.WithCancel(t.Context())
		resp, err := r.client.Do(request(ctx, t, http.MethodGet, url))
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = io.Copy(io.Discard, resp.Body) })
		wg.Go(func() { _ = resp.Body.Close() })
		wg.Go(cancel)
		wg.Wait()
		if o := <-r.seen.settled; o.Kind == breaker.Failure {
			t.Errorf("settled with %+v", o)
		}
		<-r.timings
		r.nothingElse(t)
	}
}
