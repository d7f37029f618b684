package breakerhttp_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

func TestTransport_ClassifyDecides(t *testing.T) {
	t.Parallel()
	srv := startAgent(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	r := newOutbound(t, nil)
	r.Classify = func(resp *http.Response, err error) breaker.Outcome {
		if err != nil {
			return breaker.Outcome{Kind: breaker.Ignored, Class: "own_error"}
		}
		return breaker.Outcome{Kind: breaker.Failure, Class: resp.Status, Duration: time.Hour}
	}
	_ = r.get(t, srv.URL).Body.Close()
	if x := r.settledOnce(t, breaker.Failure, "418 I'm a teapot"); x.Outcome.Duration != time.Hour {
		t.Errorf("settled with %+v", x.Outcome)
	}
	r.Base = base(func(*http.Request) (*http.Response, error) { return nil, io.EOF })
	if _, err := r.RoundTrip(request(t.Context(), t, http.MethodGet, srv.URL)); !errors.Is(err, io.EOF) { //nolint:bodyclose // there is none
		t.Error(err)
	}
	r.settledOnce(t, breaker.Ignored, "own_error")
}

// brokenStore admits calls and fails to record them.
type brokenStore struct{ breaker.Store }

func (s brokenStore) Apply(ctx context.Context, agent string, p breaker.Policy, op machine.Op) (machine.Result, error) {
	if op.Verb != machine.VerbRecord {
		return s.Store.Apply(ctx, agent, p, op)
	}
	if ctx.Err() != nil {
		return machine.Result{}, errors.New("asked with a context that has ended")
	}
	return machine.Result{}, &breaker.StoreError{Verb: op.Verb, Agent: agent, Err: errors.New("cannot record")}
}

func TestTransport_StoreErrorIsOnlyLogged(t *testing.T) {
	t.Parallel()
	srv := startAgent(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "text") })
	r := newOutboundOn(t, brokenStore{breaker.NewMemory(nil, 0)}, nil)
	resp := r.get(t, srv.URL)
	if text, err := io.ReadAll(resp.Body); err != nil || string(text) != "text" {
		t.Errorf("read %q, %v", text, err)
	}
	_ = resp.Body.Close()
	if !strings.Contains(r.log.String(), "cannot record") {
		t.Errorf("logged %q", r.log)
	}

	ctx, cancel := context.WithCancel(t.Context()) // has ended when the call is settled
	r.log.Reset()
	r.Base = base(func(*http.Request) (*http.Response, error) { cancel(); return nil, ctx.Err() })
	if _, err := r.RoundTrip(request(ctx, t, http.MethodGet, "http://x")); !errors.Is(err, context.Canceled) { //nolint:bodyclose // there is none
		t.Error(err)
	}
	if r.log.Len() > 0 { // the outcome is ignored, so nothing is lost
		t.Errorf("logged %q", r.log)
	}
	r.Logger = nil
	_, _ = r.RoundTrip(request(t.Context(), t, http.MethodGet, "http://x")) //nolint:bodyclose // there is none
}

func TestTransport_NilResponseIsFailure(t *testing.T) {
	t.Parallel()
	r := newOutbound(t, nil)
	r.Base = base(func(*http.Request) (*http.Response, error) { return nil, nil })              //nolint:nilnil // as it must not be
	if _, err := r.RoundTrip(request(t.Context(), t, http.MethodGet, "http://x")); err == nil { //nolint:bodyclose // there is none
		t.Error("no error")
	}
	r.settledOnce(t, breaker.Failure, "*errors.errorString")
}
