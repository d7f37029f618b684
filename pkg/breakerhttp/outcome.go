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

// Outcome is the default outcome of a call out [B4]. A status below 400 is a success. 408, 425, 429, 5xx, a time-out
// and a broken connection are failures. The other 4xx are the caller's own fault and are ignored, like a cancelled
// call.
//
// A failing status brings its Retry-After along [B22]: whole seconds, or a date relative to the response's own Date, or
// to this machine's clock if there is none. Anything else and a past date count as none; the most is
// breaker.MaxDuration. resp is not used if err is not nil.
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
	case status >= 500, status == http.StatusRequestTimeout, status == http.StatusTooEarly,
		status == http.StatusTooManyRequests:
		return breaker.Outcome{Kind: breaker.Failure, Class: class, RetryAfter: retryAfter(resp.Header, time.Now())}
	default:
		return ignored(class)
	}
}

// errorOutcome is breaker.Classify with classes for what breaks on a network.
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

// retryAfter parses an upstream's wait; now replaces a missing Date.
func retryAfter(h http.Header, now time.Time) time.Duration {
	text := strings.TrimSpace(h.Get("Retry-After"))
	if text == "" {
		return 0
	}
	if strings.Trim(text, "0123456789") == "" {
		seconds, err := strconv.ParseInt(text, 10, 64)
		if err != nil || seconds > int64(breaker.MaxDuration/time.Second) { // more digits than an int64 has
			return breaker.MaxDuration
		}
		return time.Duration(seconds) * time.Second
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		now = date
	}
	return min(max(at.Sub(now), 0), breaker.MaxDuration)
}

// InboundOutcome is the default outcome of a call in. 4xx are the caller's failures, but 404, 409, 410 and 412 are
// ordinary answers and so successes. 5xx are the fault of the API and are ignored. Other statuses are successes.
func InboundOutcome(status int) breaker.Outcome {
	class := fmt.Sprintf("http_%d", status)
	switch {
	case status >= 500:
		return ignored(class)
	case status < 400, status == http.StatusNotFound, status == http.StatusConflict, status == http.StatusGone,
		status == http.StatusPreconditionFailed:
		return breaker.Outcome{Kind: breaker.Success}
	default:
		return breaker.Outcome{Kind: breaker.Failure, Class: class}
	}
}
