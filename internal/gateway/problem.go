package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"syscall"

	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// fail answers a call that got no answer from an agent or an API. A caller that has left gets no answer either.
func fail(w http.ResponseWriter, r *http.Request, log *slog.Logger, who string, err error) {
	if open, refused := errors.AsType[*breaker.OpenError](err); refused {
		problem.Refusal(open).Write(w)
		return
	}
	if errors.Is(r.Context().Err(), context.Canceled) {
		panic(http.ErrAbortHandler)
	}
	if u, ok := r.Context().Value(uploadKey{}).(*upload); ok {
		if p := u.problem(); p != nil {
			p.Write(w)
			return
		}
	}
	p := unanswered(who, err)
	log.WarnContext(r.Context(), "no answer", "event", "bridge."+string(p.Code), "agent", who, "error", err)
	p.Write(w)
}

// unanswered returns why a call got no answer, without the addresses in the error.
func unanswered(who string, err error) *problem.Problem {
	var slow net.Error
	switch {
	case errors.Is(err, breaker.ErrStoreUnavailable):
		return problem.Unavailable("Redis is down, and %s was not called", who)
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &slow) && slow.Timeout():
		return problem.New(problem.UpstreamTimeout, "%s did not answer in time", who)
	}
	return problem.New(problem.UpstreamUnreachable, "%s could not be reached: %s", who, reason(err))
}

// reason returns the part of an error that callers may see.
func reason(err error) string {
	var dns *net.DNSError
	var number syscall.Errno
	switch {
	case errors.As(err, &dns):
		return "its host name does not resolve"
	case errors.As(err, &number):
		return number.Error()
	case strings.Contains(err.Error(), "tls:"), strings.Contains(err.Error(), "x509:"):
		return "TLS was not agreed"
	case strings.Contains(err.Error(), "EOF"):
		return "it closed the connection without an answer"
	}
	return "the connection failed"
}
