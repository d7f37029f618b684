package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"syscall"

	"github.com/breakerd/breakerd/internal/destination"
	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// proxyStatus is the header that marks an answer of ours. That of an agent is passed on.
const proxyStatus = problem.ProxyStatus

// The error types of RFC 9209 that we use.
const (
	statusUnavailable  = "destination_unavailable"
	statusNotFound     = "destination_not_found"
	statusProhibited   = "destination_ip_prohibited"
	statusInternal     = "proxy_internal_error"
	statusLoop         = problem.ProxyLoop
	statusRequestError = "http_request_error"
	statusDenied       = "http_request_denied"
	statusSlow         = "http_response_timeout"
)

// answer writes a problem of ours.
func answer(w http.ResponseWriter, p *problem.Problem, errorType string) {
	p.ByProxy(errorType).Write(w)
}

// statusOf is the error type of a problem that no call led to.
func statusOf(c problem.Code) string {
	switch c {
	case problem.AgentUnknown, problem.AgentHasNoURL:
		return statusNotFound
	case problem.LoopDetected:
		return statusLoop
	case problem.Forbidden, problem.ForbiddenAgent, problem.RateLimited, problem.Unauthenticated:
		return statusDenied
	case problem.StoreUnavailable, problem.Internal:
		return statusInternal
	default:
		return statusRequestError
	}
}

// target is who is called: an agent, or the API behind the inbound guard.
type target struct{ name, contact string }

// fail answers a call that got no answer from an agent or an API. A caller that has left gets no answer either.
func fail(w http.ResponseWriter, r *http.Request, log *slog.Logger, who target, err error) {
	c := callerOf(r)
	c.theirs = false
	if open, refused := errors.AsType[*breaker.OpenError](err); refused {
		answer(w, problem.Refusal(open).WithContact(who.contact), statusUnavailable)
		return
	}
	if errors.Is(r.Context().Err(), context.Canceled) {
		panic(http.ErrAbortHandler)
	}
	if c.upload != nil {
		if p := c.upload.problem(); p != nil {
			answer(w, p, statusRequestError)
			return
		}
	}
	p, errorType := unanswered(who.name, err)
	if p.Code != problem.LoopDetected { // which the bridge that detected it has logged
		log.WarnContext(r.Context(), "no answer", "event", "bridge."+string(p.Code), "agent", who.name, "error", err)
	}
	answer(w, p, errorType)
}

// unanswered returns why a call got no answer, without the addresses in the error, and its type in Proxy-Status.
func unanswered(who string, err error) (p *problem.Problem, errorType string) {
	var slow net.Error
	var op *net.OpError
	switch {
	case errors.Is(err, errLoop):
		return looping(), statusLoop
	case isDenied(err):
		return problem.New(problem.AgentAddressDenied, "this bridge may not call the address of %s: an operator has to "+
			"list it in AGENT_ALLOW", who), statusProhibited
	case errors.Is(err, breaker.ErrStoreUnavailable):
		return problem.Unavailable("Redis is down, and %s was not called", who), statusInternal
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &slow) && slow.Timeout():
		if errorType = statusSlow; errors.As(err, &op) && op.Op == "dial" {
			errorType = "connection_timeout"
		}
		return problem.New(problem.UpstreamTimeout, "%s did not answer in time", who), errorType
	}
	text, errorType := reason(err)
	return problem.New(problem.UpstreamUnreachable, "%s could not be reached: %s", who, text), errorType
}

func isDenied(err error) bool {
	_, denied := errors.AsType[*destination.DeniedError](err)
	return denied
}

// reason returns the part of an error that callers may see, and its type in Proxy-Status.
func reason(err error) (text, errorType string) {
	var dns *net.DNSError
	var number syscall.Errno
	switch {
	case errors.As(err, &dns):
		return "its host name does not resolve", "dns_error"
	case errors.As(err, &number):
		return number.Error(), errnoStatus(number)
	case strings.Contains(err.Error(), "x509:"):
		return "TLS was not agreed", "tls_certificate_error"
	case strings.Contains(err.Error(), "tls:"):
		return "TLS was not agreed", "tls_protocol_error"
	case strings.Contains(err.Error(), "EOF"):
		return "it closed the connection without an answer", "connection_terminated"
	}
	return "the connection failed", "http_protocol_error"
}

func errnoStatus(number syscall.Errno) string {
	switch number {
	case syscall.ECONNREFUSED:
		return "connection_refused"
	case syscall.EHOSTUNREACH, syscall.ENETUNREACH:
		return "destination_ip_unroutable"
	default:
		return "connection_terminated"
	}
}
