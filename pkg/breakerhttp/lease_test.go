package breakerhttp_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
)

func TestTransport_RenewsLeaseWhileStreamIsOpen(t *testing.T) {
	t.Parallel()
	for _, end := range []string{"read", "close"} {
		t.Run(end, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newOutbound(t, func(p *breaker.Policy) { p.HalfOpenMaxCalls, p.ProbeTimeout = 1, 3*time.Second })
				r.serveOnPipes(t, func(w http.ResponseWriter, r *http.Request) {
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
				r.settledOnce(t, breaker.Success, "")
				if s := r.state(t); s != breaker.Closed {
					t.Errorf("state %s", s)
				}
			})
		})
	}
}

func TestTransport_CancelledProbeGivesItsPlaceBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newOutbound(t, func(p *breaker.Policy) { p.HalfOpenMaxCalls = 1 })
		r.serveOnPipes(t, func(w http.ResponseWriter, r *http.Request) {
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
