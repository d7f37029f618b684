package breakerhttp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// Outcome is the default reading of a call out [B4]: a status below 400 is a success; 408, 425, 429 and 5xx are failures, and so
// are a time-out and a connection that breaks; the other 4xx are the caller's own, and are ignored like a call that was
// cancelled. A failing status brings its Retry-After along [B22]: whole seconds, or a date relative to the response's own
// Date (to this machine's clock without one); what is neither, or is past, is nothing, and 30 days are the most.
// resp is not looked at where err is not nil.
func Outcome(resp *http.Response, err error) breaker.Outcome {
	if errors.Is(err, context.Canceled) {
		return ignored("cancelled")
	}
	if err != nil {
		return errorOutcome(context.Background(), err)
	}
	class := "http_" + strconv.Itoa(resp.StatusCode)
	switch status := resp.StatusCode; {
	case status < 400:
		return breaker.Outcome{Kind: breaker.Success}
	case status >= 500, status == http.StatusRequestTimeout, status == http.StatusTooEarly, status == http.StatusTooManyRequests:
		return breaker.Outcome{Kind: breaker.Failure, Class: class, RetryAfter: retryAfter(resp.Header, time.Now())}
	default:
		return ignored(class)
	}
}

// errorOutcome is breaker.Classify with the names that people have for what breaks on a network.
func errorOutcome(ctx context.Context, err error) breaker.Outcome {
	o := breaker.Classify(ctx, err)
	if o.Kind != breaker.Failure {
		return o
	}
	var dns *net.DNSError
	var op *net.OpError
	var bad *responseError
	switch isOp := errors.As(err, &op); {
	case isTimeout(err):
		o.Class = "timeout"
	case errors.As(err, &bad):
		o.Class = bad.class
	case errors.As(err, &dns):
		o.Class = "dns_error"
	case isOp && op.Op == "dial":
		o.Class = "connect_error"
	case isOp, errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		o.Class = "connection_error"
	}
	return o
}

// retryAfter reads an upstream's wait; now stands in for a missing Date.
func retryAfter(h http.Header, now time.Time) time.Duration {
	text := strings.TrimSpace(h.Get("Retry-After"))
	if text == "" {
		return 0
	}
	if strings.Trim(text, "0123456789") == "" {
		seconds, err := strconv.ParseInt(text, 10, 64)
		if err != nil || seconds > int64(breaker.MaxDuration/time.Second) { // more digits than a number has
			return breaker.MaxDuration
		}
		return time.Duration(seconds) * time.Second
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	if said, err := http.ParseTime(h.Get("Date")); err == nil {
		now = said
	}
	return min(max(at.Sub(now), 0), breaker.MaxDuration)
}

// InboundOutcome is the default reading of a call in: what it says of the caller. 4xx is its failure, but 404, 409, 410 and 412
// are ordinary answers to an ordinary question. 5xx is the fault of the API and is ignored. All else is a success.
func InboundOutcome(status int) breaker.Outcome {
	class := fmt.Sprintf("http_%d", status)
	switch {
	case status >= 500:
		return ignored(class)
	case status == http.StatusNotFound, status == http.StatusConflict, status == http.StatusGone, status == http.StatusPreconditionFailed,
		status < 400:
		return breaker.Outcome{Kind: breaker.Success}
	default:
		return breaker.Outcome{Kind: breaker.Failure, Class: class}
	}
}
