package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"syscall"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breakerhttp"
)

// The stable codes of this package's problems; refusals have breakerhttp's.
const (
	codeAgentUnknown        = "agent_unknown"
	codeAgentNoURL          = "agent_has_no_url"
	codeInternal            = "internal"
	codeInvalidBody         = "invalid_body"
	codeInvalidAgentName    = "invalid_agent_name"
	codeInvalidPath         = "invalid_path"
	codeInvalidToken        = "invalid_token"
	codeMethodNotAllowed    = "method_not_allowed"
	codeRequestTimeout      = "request_timeout"
	codeStoreUnavailable    = "store_unavailable"
	codeUpstreamTimeout     = "upstream_timeout"
	codeUpstreamUnreachable = "upstream_unreachable"
)

// problem is an answer of ours.
type problem struct {
	status       int
	code, detail string
}

func newProblem(status int, code, format string, args ...any) *problem {
	return &problem{status, code, fmt.Sprintf(format, args...)}
}

func (p *problem) write(w http.ResponseWriter) {
	if p.code == codeStoreUnavailable {
		breakerhttp.WriteStoreUnavailable(w)
		return
	}
	breakerhttp.WriteProblem(w, p.status, p.code, p.detail)
}

// fail answers for an agent, or an API, that gave no answer. A caller who has gone gets none.
func fail(w http.ResponseWriter, r *http.Request, log *slog.Logger, who string, err error) {
	if open, refused := errors.AsType[*breaker.OpenError](err); refused {
		breakerhttp.WriteRefusal(w, open)
		return
	}
	if errors.Is(r.Context().Err(), context.Canceled) {
		panic(http.ErrAbortHandler)
	}
	if u, ok := r.Context().Value(uploadKey{}).(*upload); ok {
		if p := u.problem(); p != nil {
			p.write(w)
			return
		}
	}
	p := unanswered(who, err)
	log.WarnContext(r.Context(), "no answer", "event", "bridge."+p.code, "agent", who, "error", err)
	p.write(w)
}

// unanswered says why a call had no answer, without the addresses that the error holds.
func unanswered(who string, err error) *problem {
	var slow net.Error
	switch {
	case errors.Is(err, breaker.ErrStoreUnavailable):
		return newProblem(http.StatusServiceUnavailable, codeStoreUnavailable, "Redis is away, and %s was not called", who)
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &slow) && slow.Timeout():
		return newProblem(http.StatusGatewayTimeout, codeUpstreamTimeout, "%s did not answer in time", who)
	}
	return newProblem(http.StatusBadGateway, codeUpstreamUnreachable, "%s could not be reached: %s", who, reason(err))
}

// reason is the part of an error that callers may see.
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
