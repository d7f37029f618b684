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

func TestOwnClassifyDecides(t *testing.T) {
	t.Parallel()
	srv := agent(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	r := newRig(t, nil)
	r.Classify = func(resp *http.Response, err error) breaker.Outcome {
		if err != nil {
			return breaker.Outcome{Kind: breaker.Ignored, Class: "own_error"}
		}
		return breaker.Outcome{Kind: breaker.Failure, Class: resp.Status, Duration: time.Hour}
	}
	_ = r.get(t, srv.URL).Body.Close()
	if x := r.once(t, breaker.Failure, "418 I'm a teapot"); x.Outcome.Duration != time.Hour {
		t.Errorf("settled with %+v", x.Outcome)
	}
	r.Base = base(func(*http.Request) (*http.Response, error) { return nil, io.EOF })
	if _, err := r.RoundTrip(request(t.Context(), t, http.MethodGet, srv.URL)); !errors.Is(err, io.EOF) { //nolint:bodyclose // there is none
		t.Error(err)
	}
	r.once(t, breaker.Ignored, "own_error")
}

// mute is a store that admits, and then does not answer.
type mute struct{ breaker.Store }

func (s mute) Apply(ctx context.Context, agent string, p breaker.Policy, op machine.Op) (machine.Result, error) {
	if op.Verb != machine.VerbRecord {
		return s.Store.Apply(ctx, agent, p, op)
	}
	if ctx.Err() != nil {
		return machine.Result{}, errors.New("asked with a context that has ended")
	}
	return machine.Result{}, &breaker.StoreError{Verb: op.Verb, Agent: agent, Err: errors.New("store is mute")}
}

func TestTroubleWithTheStoreIsForTheLogAlone(t *testing.T) {
	t.Parallel()
	srv := agent(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "text") })
	r := rigOn(t, mute{breaker.NewMemory(nil, 0)}, nil)
	resp := r.get(t, srv.URL)
	if text, err := io.ReadAll(resp.Body); err != nil || string(text) != "text" {
		t.Errorf("read %q, %v", text, err)
	}
	_ = resp.Body.Close()
	if !strings.Contains(r.log.String(), "store is mute") {
		t.Errorf("logged %q", r.log)
	}

	ctx, cancel := context.WithCancel(t.Context()) // settling outlives it
	r.log.Reset()
	r.Base = base(func(*http.Request) (*http.Response, error) { cancel(); return nil, ctx.Err() })
	if _, err := r.RoundTrip(request(ctx, t, http.MethodGet, "http://x")); !errors.Is(err, context.Canceled) { //nolint:bodyclose // there is none
		t.Error(err)
	}
	if !strings.Contains(r.log.String(), "store is mute") {
		t.Errorf("logged %q", r.log)
	}
	r.Logger = nil
	_, _ = r.RoundTrip(request(t.Context(), t, http.MethodGet, "http://x")) //nolint:bodyclose // there is none
}

func TestBaseThatGivesNothingIsAFailure(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.Base = base(func(*http.Request) (*http.Response, error) { return nil, nil })              //nolint:nilnil // as it must not be
	if _, err := r.RoundTrip(request(t.Context(), t, http.MethodGet, "http://x")); err == nil { //nolint:bodyclose // there is none
		t.Error("no error")
	}
	r.once(t, breaker.Failure, "*errors.errorString")
}
