package breakerhttp_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breakerhttp"
)

// Each misuse ends in a typed error or a documented answer, and without a panic of ours.
func TestHostileUses_EndInATypedErrorOrAnAnswer(t *testing.T) {
	t.Parallel()
	r := newOutbound(t, nil)
	r.Base, r.Observe = alwaysAnswers(http.StatusOK), nil
	m := r.Manager
	ended, end := context.WithCancel(t.Context())
	end()
	req := request(t.Context(), t, http.MethodGet, "http://x")
	trip := func(tr *breakerhttp.Transport, req *http.Request) error {
		resp, err := tr.RoundTrip(req)
		if err == nil {
			_ = resp.Body.Close()
		}
		return err
	}
	serve := func(m *breakerhttp.Middleware, next http.Handler, req *http.Request) error {
		w := httptest.NewRecorder()
		m.Wrap(next).ServeHTTP(w, req)
		if w.Header().Get("Content-Type") != "application/problem+json" && w.Code != http.StatusOK {
			return errors.New(w.Body.String())
		}
		return statusError(w.Code)
	}
	named := func(name string) func(*http.Request) (string, error) {
		return func(*http.Request) (string, error) { return name, nil }
	}
	ok := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	unset := func(err error) bool { return errors.Is(err, breaker.ErrUnset) }
	badName := func(err error) bool { return errors.Is(err, breaker.ErrBadName) }
	status := func(code int) func(error) bool { return func(err error) bool { return err == statusError(code) } } //nolint:errorlint // a value
	for name, u := range map[string]struct {
		call func() error
		want func(error) bool
	}{
		"zero Transport": {func() error { return trip(new(breakerhttp.Transport), req) }, unset},
		"nil Transport":  {func() error { return trip(nil, req) }, unset},
		"zero Manager":   {func() error { return trip(&breakerhttp.Transport{Manager: new(breaker.Manager)}, req) }, unset},
		"nil request":    {func() error { return trip(r.Transport, nil) }, unset},
		"zero request":   {func() error { return trip(r.Transport, new(http.Request)) }, unset},
		"zero Transport, client": {func() error {
			c := http.Client{Transport: new(breakerhttp.Transport)}
			_, err := c.Do(req) //nolint:bodyclose // there is none
			return err
		}, unset},
		"zero Transport, idle": {func() error { (*breakerhttp.Transport)(nil).CloseIdleConnections(); return nil }, func(err error) bool { return err == nil }},
		"ended":                {func() error { return trip(r.Transport, request(ended, t, http.MethodGet, "http://x")) }, func(err error) bool { return err == context.Canceled }}, //nolint:errorlint // the plain error is promised
		"Agent gives nothing": {func() error {
			return trip(&breakerhttp.Transport{Manager: m, Agent: func(*http.Request) string { return "" }}, req)
		}, badName},
		"Agent gives a URL": {func() error {
			return trip(&breakerhttp.Transport{Manager: m, Agent: func(r *http.Request) string { return r.URL.String() }}, req)
		}, badName},
		"negative Timeout":      {func() error { return trip(&breakerhttp.Transport{Base: r.Base, Manager: m, Timeout: -time.Hour}, req) }, func(err error) bool { return err == nil }},
		"unknown Body":          {func() error { return trip(&breakerhttp.Transport{Base: r.Base, Manager: m, Body: "soap"}, req) }, func(err error) bool { return err == nil }},
		"zero Middleware":       {func() error { return serve(new(breakerhttp.Middleware), ok, req) }, status(http.StatusInternalServerError)},
		"nil Middleware":        {func() error { return serve(nil, ok, req) }, status(http.StatusInternalServerError)},
		"no Agent":              {func() error { return serve(&breakerhttp.Middleware{Manager: m}, ok, req) }, status(http.StatusInternalServerError)},
		"no Manager":            {func() error { return serve(&breakerhttp.Middleware{Agent: named("a")}, ok, req) }, status(http.StatusInternalServerError)},
		"no handler":            {func() error { return serve(&breakerhttp.Middleware{Manager: m, Agent: named("a")}, nil, req) }, status(http.StatusInternalServerError)},
		"caller without a name": {func() error { return serve(&breakerhttp.Middleware{Manager: m, Agent: named("")}, ok, req) }, status(http.StatusBadRequest)},
		"caller of a megabyte": {func() error {
			return serve(&breakerhttp.Middleware{Manager: m, Agent: named(strings.Repeat("a", 1<<20))}, ok, req)
		}, status(http.StatusBadRequest)},
		"caller who has left": {func() error {
			return serve(&breakerhttp.Middleware{Manager: m, Agent: named("a")}, ok, request(ended, t, http.MethodGet, "/"))
		}, status(http.StatusRequestTimeout)},
		"segment that is not":  {func() error { _, err := breakerhttp.FromPath(-1)(req); return err }, badName},
		"header that is not":   {func() error { _, err := breakerhttp.FromHeader("")(req); return err }, badName},
		"Outcome of nothing":   {func() error { return fmt.Errorf("%s", breakerhttp.Outcome(nil, nil).Class) }, func(err error) bool { return err.Error() == "no_response" }},
		"Outcome of a zero":    {func() error { return breakerhttp.Outcome(new(http.Response), nil).Validate() }, func(err error) bool { return err == nil }},
		"outcome of status −1": {func() error { return breakerhttp.InboundOutcome(-1).Validate() }, func(err error) bool { return err == nil }},
		"zero refusal": {func() error {
			w := httptest.NewRecorder()
			breakerhttp.WriteRefusal(w, new(breaker.OpenError))
			return statusError(w.Code)
		}, status(http.StatusTooManyRequests)},
		"nil refusal": {func() error {
			w := httptest.NewRecorder()
			breakerhttp.WriteRefusal(w, nil)
			return statusError(w.Code)
		}, status(http.StatusTooManyRequests)},
		"URL without host": {func() error {
			return trip(&breakerhttp.Transport{Base: r.Base, Manager: m}, &http.Request{URL: &url.URL{}})
		}, func(err error) bool { return err == nil }},
	} {
		func() {
			defer func() {
				if v := recover(); v != nil {
					t.Errorf("%s: panic: %v", name, v)
				}
			}()
			if err := u.call(); !u.want(err) {
				t.Errorf("%s: %v", name, err)
			}
		}()
	}
	for len(r.seen.settled) > 0 {
		if o := <-r.seen.settled; o.Kind == breaker.Failure {
			t.Errorf("settled %+v", o)
		}
	}
}

type statusError int

func (s statusError) Error() string { return fmt.Sprint("status ", int(s)) }
