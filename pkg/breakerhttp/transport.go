package breakerhttp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// Transport is an http.RoundTripper that makes calls behind the breakers of those who are called. Manager is required; every
// other field has a default. It is safe for concurrent use as long as its fields do not change. It holds nothing but its fields,
// so where agents differ (in Timeout, in Body), make a Transport for each on one Base, or even for each call.
type Transport struct {
	// Base makes the calls that are admitted, and must end them when their context ends. nil: http.DefaultTransport.
	Base    http.RoundTripper
	Manager *breaker.Manager
	// Agent names whom a request calls. nil: the host and port of its URL, as written there.
	Agent func(*http.Request) string
	// Classify makes an outcome of a response's header, or of the error that came in its place. It is not asked when the caller
	// has cancelled the call. It must leave the body alone. nil: Outcome.
	Classify func(*http.Response, error) breaker.Outcome
	// Body looks for failures in the bodies of successful responses too. Zero: StatusOnly.
	Body BodyClassifier
	// Timeout bounds the wait for the response's header, and then each wait for more bytes of its body: a stream may last as
	// long as it keeps coming. The clock stands still while the request's body waits for the caller to send more, before the
	// header and after it, and while the caller reads nothing; then it begins anew. What is longer ends with a *TimeoutError, a
	// failure. 0: no bound but the request's context.
	Timeout time.Duration
	// Observe is told of every call that was made, once, when its body has ended or was closed. It must be quick. nil: nobody.
	Observe func(Timing)
	Logger  *slog.Logger // nil: silent
}

// Timing is one call that was made, for metrics.
type Timing struct {
	Agent     string
	Status    int           // 0: there was no response, or none that is of use
	FirstByte time.Duration // until the response's header, or the error that came in its place
	Total     time.Duration // until the end of the body
	Outcome   breaker.Outcome
}

// TimeoutError says that an agent let its caller wait for longer than Transport.Timeout. It is a context.DeadlineExceeded.
type TimeoutError struct {
	Agent string
	After time.Duration
}

func (e *TimeoutError) Error() string {
	return fmt.Sprintf("agent %q sent nothing for %s", e.Agent, e.After)
}

// Timeout tells net.Error's readers.
func (*TimeoutError) Timeout() bool { return true }

// Is makes it a context.DeadlineExceeded.
func (*TimeoutError) Is(target error) bool { return target == context.DeadlineExceeded }

// RoundTrip implements http.RoundTripper. A refusal is a *breaker.OpenError, and Base is not called; neither is it when there is
// no permit for another reason. Otherwise response and error are Base's own, except that a status that is none (below 100 or
// above 999) and a 101 to a protocol that the request did not ask for are errors.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	permit, err := t.acquire(req)
	if err != nil {
		if req.Body != nil {
			_ = req.Body.Close() // as every RoundTripper must, also where it fails
		}
		return nil, err
	}
	return newCall(t, req, permit).roundTrip()
}

// CloseIdleConnections has Base close its connections, if it can; http.Client's method of that name comes here.
func (t *Transport) CloseIdleConnections() {
	if b, ok := t.base().(interface{ CloseIdleConnections() }); ok {
		b.CloseIdleConnections()
	}
}

func (t *Transport) acquire(req *http.Request) (breaker.Permit, error) {
	if t.Manager == nil {
		return breaker.Permit{}, errors.New("breakerhttp: Transport.Manager is required")
	}
	agent := req.URL.Host
	if t.Agent != nil {
		agent = t.Agent(req)
	}
	permit, err := t.Manager.Acquire(req.Context(), agent)
	var open *breaker.OpenError
	if err != nil && !errors.As(err, &open) { // a refusal names the agent itself
		err = fmt.Errorf("ask the breaker of agent %q: %w", agent, err)
	}
	return permit, err
}

func (t *Transport) base() http.RoundTripper {
	if t.Base != nil {
		return t.Base
	}
	return http.DefaultTransport
}
