package breakerhttp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breakerhttp"
)

// answering is a Base that answers every call with a status.
func alwaysAnswers(status int) base {
	return func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: status, Body: http.NoBody, Header: http.Header{}, Request: r}, nil
	}
}

// One agent has one breaker, however its host is written.
func TestTransport_NamesTheAgentByItsHost(t *testing.T) {
	t.Parallel()
	for want, urls := range map[string][]string{
		"example.com": {
			"http://example.com/x", "http://Example.COM", "http://example.com:80", "http://example.com.", "http://example.com:080/",
			"HTTP://EXAMPLE.com.:80", "https://example.com:443/", "https://example.com:", "http://user:pw@example.com/?a=b",
		},
		"example.com:8080":      {"http://example.com:8080", "http://EXAMPLE.com:8080", "https://example.com.:8080", "http://example.com:08080"},
		"example.com:443":       {"http://example.com:443"},
		"example.com:80":        {"https://example.com:80"},
		"xn--bcher-kva.example": {"http://bücher.example", "http://BÜCHER.example", "http://xn--bcher-kva.example", "http://bu\u0308cher.example:80", "http://b%C3%BCcher.example", "https://XN--bcher-kva.example."},
		"ip6---1":               {"http://[::1]", "http://[::1]:80", "http://[0:0:0:0:0:0:0:1]/", "https://[::1]:443", "http://[0000::0001]"},
		"ip6-2001-db8--1":       {"http://[2001:db8::1]", "http://[2001:DB8::1]:80", "http://[2001:0db8:0:0:0:0:0:1]", "https://[2001:db8:0::1]", "http://[2001:db8::0001]/"},
		"ip6-2001-db8--1:8080":  {"http://[2001:db8::1]:8080"},
		"ip6-fe80--1@eth0:9":    {"http://[fe80::1%25eth0]:9"},
		"127.0.0.1:8080":        {"http://127.0.0.1:8080", "http://[::ffff:127.0.0.1]:8080", "http://１２７.0.0.1:8080"},
		"my_service:9":          {"http://my_service:9", "http://MY_Service:9"},
		strings.Repeat("a", 63): {"http://" + strings.Repeat("A", 63)},
	} {
		for _, raw := range urls {
			u, err := url.Parse(raw)
			if err != nil {
				t.Fatal(err)
			}
			r := newOutbound(t, nil)
			r.Agent, r.Base = nil, alwaysAnswers(http.StatusOK)
			resp, err := r.RoundTrip(&http.Request{Method: http.MethodGet, URL: u, Host: "other.example"})
			if err != nil {
				t.Errorf("%s: %v", raw, err)
				continue
			}
			_ = resp.Body.Close()
			if x := <-r.timings; x.Agent != want {
				t.Errorf("%s: agent %q, want %q", raw, x.Agent, want)
			}
		}
	}
}

// A host that gives no valid name is called without a breaker, and logged once.
func TestTransport_HostWithoutANameIsCalledWithoutABreaker(t *testing.T) {
	t.Parallel()
	for name, host := range map[string]string{
		"service": "_svc.x", "star": "*.example.com", "too long": strings.Repeat("a.", 80) + "example", "bad IDNA": "xn--\u00e9.example",
		"none": "", "plus": "a+b", "symbols": "(a)", "dash": "-a", "bidi": "\u202ea",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newOutbound(t, nil)
			r.Agent, r.Base = nil, alwaysAnswers(http.StatusInternalServerError)
			for range 10 {
				resp, err := r.RoundTrip(&http.Request{Method: http.MethodGet, URL: &url.URL{Scheme: "http", Host: host}})
				if err != nil || resp.StatusCode != http.StatusInternalServerError {
					t.Fatal(err)
				}
				_ = resp.Body.Close()
				if x := <-r.timings; x.Agent != "" || x.Outcome.Kind != breaker.Failure {
					t.Errorf("observed %+v", x)
				}
			}
			if n := strings.Count(r.log.String(), "called without a breaker"); n != 1 || strings.Count(r.log.String(), "\n") != 1 || len(r.log.String()) > 600 {
				t.Errorf("logged %s", r.log)
			}
			select {
			case o := <-r.seen.settled:
				t.Errorf("settled %+v", o)
			default:
			}
		})
	}
	r := newOutbound(t, nil)
	r.Agent, r.Base, r.Observe = nil, alwaysAnswers(http.StatusOK), nil
	for i := range 500 {
		resp, err := r.RoundTrip(&http.Request{Method: http.MethodGet, URL: &url.URL{Scheme: "http", Host: fmt.Sprint("_", i)}})
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
	}
	if n := strings.Count(r.log.String(), "\n"); n != 100 {
		t.Errorf("%d lines for 500 hosts", n)
	}
	r.Agent = func(*http.Request) string { return "_svc" }                                                                                           // what the user's function says is not guessed at
	if _, err := r.RoundTrip(&http.Request{Method: http.MethodGet, URL: &url.URL{Scheme: "http", Host: "x"}}); !errors.Is(err, breaker.ErrBadName) { //nolint:bodyclose // there is none
		t.Error(err)
	}
}

// A Transport inside a probe of Do, and one on another, ride on it; so does a Middleware's handler.
func TestTransport_RidesOnAProbe(t *testing.T) {
	t.Parallel()
	for name, calls := range map[string]func(t *testing.T, r *outbound, do func(*http.Request) error) error{
		"Transport in Do": func(t *testing.T, r *outbound, do func(*http.Request) error) error {
			t.Helper()
			return r.Manager.Do(t.Context(), "a", func(ctx context.Context) error {
				return errors.Join(do(request(ctx, t, http.MethodGet, "http://x")), do(request(ctx, t, http.MethodPost, "http://x")))
			})
		},
		"Transport in Transport": func(t *testing.T, r *outbound, do func(*http.Request) error) error {
			t.Helper()
			inner := &breakerhttp.Transport{Base: r.Base, Manager: r.Manager, Agent: r.Agent}
			r.Base = inner
			return do(request(t.Context(), t, http.MethodGet, "http://x"))
		},
		"Do in Transport": func(t *testing.T, r *outbound, do func(*http.Request) error) error {
			t.Helper()
			inner := r.Base
			r.Base = base(func(req *http.Request) (resp *http.Response, err error) {
				err = r.Manager.Do(req.Context(), "a", func(context.Context) error { resp, err = inner.RoundTrip(req); return err }) //nolint:bodyclose // it is returned
				return resp, err
			})
			return do(request(t.Context(), t, http.MethodGet, "http://x"))
		},
		"Transport in Middleware": func(t *testing.T, r *outbound, do func(*http.Request) error) error {
			t.Helper()
			m := breakerhttp.Middleware{Manager: r.Manager, Agent: func(*http.Request) (string, error) { return "a", nil }}
			var err error
			m.Wrap(http.HandlerFunc(func(_ http.ResponseWriter, in *http.Request) {
				err = do(request(in.Context(), t, http.MethodGet, "http://x"))
			})).ServeHTTP(httptest.NewRecorder(), request(t.Context(), t, http.MethodGet, "/"))
			return err
		},
		"Middleware in Middleware": func(t *testing.T, r *outbound, _ func(*http.Request) error) error {
			t.Helper()
			m := breakerhttp.Middleware{Manager: r.Manager, Agent: func(*http.Request) (string, error) { return "a", nil }}
			w := httptest.NewRecorder()
			m.Wrap(m.Wrap(http.NotFoundHandler())).ServeHTTP(w, request(t.Context(), t, http.MethodGet, "/"))
			if w.Code != http.StatusNotFound {
				return fmt.Errorf("status %d", w.Code)
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newOutbound(t, func(p *breaker.Policy) { p.HalfOpenMaxCalls = 1 })
				r.Base, r.Observe = alwaysAnswers(http.StatusOK), nil
				r.open(t)
				<-time.After(time.Minute)
				err := calls(t, r, func(req *http.Request) error {
					resp, err := r.RoundTrip(req.WithContext(context.WithValue(req.Context(), stateKey{}, 1)))
					if err != nil {
						return err
					}
					return resp.Body.Close()
				})
				if state := r.state(t); err != nil || state != breaker.Closed {
					t.Errorf("%v, %s", err, state)
				}
				if n := len(r.seen.settled); n != 1 {
					t.Errorf("%d outcomes", n)
				}
			})
		})
	}
}

type stateKey struct{}

// resilience4j 1065: a refusal inside a call says nothing about the agent that was called.
func TestTransport_RefusalInsideACallIsIgnored(t *testing.T) {
	t.Parallel()
	refusal := &breaker.OpenError{Agent: "back", Reason: breaker.ReasonOpen}
	for name, err := range map[string]error{
		"plain": refusal, "wrapped": fmt.Errorf("back: %w", refusal), "url": &url.Error{Op: "Get", URL: "http://x", Err: refusal},
		"joined": errors.Join(io.EOF, refusal), "net": &net.OpError{Op: "dial", Err: refusal},
	} {
		r := newOutbound(t, nil)
		r.Base = base(func(*http.Request) (*http.Response, error) { return nil, err })
		if _, got := r.RoundTrip(request(t.Context(), t, http.MethodGet, "http://x")); !errors.Is(got, err) { //nolint:bodyclose // there is none
			t.Errorf("%s: %v", name, got)
		}
		r.settledOnce(t, breaker.Ignored, "refused")
	}
}

// Kevlar 24: a panic in the user's functions costs no lease, and a bad outcome is replaced.
func TestTransport_UserFunctionsThatFailAreReplaced(t *testing.T) {
	t.Parallel()
	for name, classify := range map[string]func(*http.Response, error) breaker.Outcome{
		"panic": func(*http.Response, error) breaker.Outcome { panic("classify") },
		"nil response": func(r *http.Response, _ error) breaker.Outcome {
			return breaker.Outcome{Kind: breaker.OutcomeKind(r.Status[:1000])}
		},
		"zero": func(*http.Response, error) breaker.Outcome { return breaker.Outcome{} },
		"kind": func(*http.Response, error) breaker.Outcome { return breaker.Outcome{Kind: "ok"} },
		"bad reporter": func(*http.Response, error) breaker.Outcome {
			return breaker.Outcome{Kind: breaker.Success, Reporter: "host 1"}
		},
	} {
		r := newOutbound(t, nil)
		r.Classify, r.Base = classify, alwaysAnswers(http.StatusServiceUnavailable)
		observe := r.Observe
		r.Observe = func(x breakerhttp.Timing) { observe(x); panic("observe") }
		resp, err := r.RoundTrip(request(t.Context(), t, http.MethodGet, "http://x"))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if o := <-r.seen.settled; o.Kind != breaker.Failure || o.Class != "http_503" {
			t.Errorf("%s: settled %+v", name, o)
		}
		if log := r.log.String(); !strings.Contains(log, "function=Transport.Observe") || !strings.Contains(log, "lassify") {
			t.Errorf("%s: logged %s", name, log)
		}
		m := breakerhttp.Middleware{
			Manager: r.Manager, Agent: func(*http.Request) (string, error) { return "b", nil },
			Classify: func(int) breaker.Outcome { return classify(nil, nil) },
		}
		m.Wrap(http.NotFoundHandler()).ServeHTTP(httptest.NewRecorder(), request(t.Context(), t, http.MethodGet, "/"))
		if o := <-r.seen.settled; o.Kind != breaker.Success {
			t.Errorf("%s: the Middleware settled %+v", name, o)
		}
	}
}
