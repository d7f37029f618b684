package breakerhttp

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// Transport is an http.RoundTripper with a breaker for each agent that is called. Manager is required; every other
// field has a default. A Transport is safe for concurrent use as long as its fields do not change. It has no other
// state, so agents that differ in Timeout or Body may have a Transport each, even for each call, on one Base.
type Transport struct {
	// Base makes the admitted calls. It must end them when their context ends. nil: http.DefaultTransport.
	Base    http.RoundTripper
	Manager *breaker.Manager
	// Agent names whom a request calls. nil: the host and port of its URL, as written there.
	Agent func(*http.Request) string
	// Classify makes an outcome of a response's header, or of the error in its place. It is not asked about a call that
	// its caller has cancelled, and must not read the body. nil: [Outcome].
	Classify func(*http.Response, error) breaker.Outcome
	// Body looks for failures in the bodies of successful responses too. Zero: [StatusOnly].
	Body BodyClassifier
	// Timeout bounds the wait for the response's header, and then each wait for more of its body, so a stream may last as
	// long as it keeps coming. The clock stops while the request's body waits for the caller, also after the header, and
	// while the caller reads nothing; then it begins anew. A longer wait is a failure, and its error a
	// context.DeadlineExceeded. 0: only the request's context bounds the call.
	Timeout time.Duration
	// Observe receives every call that was made, once, when its body has ended or was closed. It must return quickly. It
	// may be nil.
	Observe func(Timing)
	Logger  *slog.Logger // nil: silent
}

// Timing is one call that was made, for metrics.
type Timing struct {
	Agent     string
	Status    int           // 0: no response, or an unusable one
	FirstByte time.Duration // until the response's header, or the error in its place
	Total     time.Duration // until the end of the body
	Outcome   breaker.Outcome
}

// RoundTrip implements http.RoundTripper. Without a permit, Base is not called; a refusal is a *breaker.OpenError.
// Otherwise response and error are those of Base, except that an impossible status (below 100 or above 999) and a
// switch to a protocol that the request did not ask for are errors.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	permit, err := t.acquire(req)
	if err != nil {
		if req.Body != nil {
			_ = req.Body.Close() // as every RoundTripper must, also when it fails
		}
		return nil, err
	}
	c := &call{t: t, req: req, permit: permit, endRenewal: permit.Keep(req.Context()), start: time.Now()}
	return c.roundTrip()
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

// CloseIdleConnections closes those of Base, if it can. http.Client.CloseIdleConnections calls it.
func (t *Transport) CloseIdleConnections() {
	if b, ok := t.base().(interface{ CloseIdleConnections() }); ok {
		b.CloseIdleConnections()
	}
}

func (t *Transport) base() http.RoundTripper {
	if t.Base != nil {
		return t.Base
	}
	return http.DefaultTransport
}
