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
	"syscall"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// Outcome is the default outcome of a call out [B4]. A status below 400 is a success. 408, 425, 429, 5xx but 501, a
// time-out and a broken connection are failures. The other 4xx and 501 are the caller's own fault and are ignored, like
// a cancelled call.
//
// A failing status brings its wait along [B22]: Retry-After-Ms in milliseconds, else Retry-After in seconds, decimals
// rounded up, or as a date relative to the response's own Date, or to this machine's clock if there is none. Anything
// else and a past date count as none; the most is breaker.MaxDuration. resp is not used if err is not nil. An error
// that wraps a *breaker.OpenError is ignored, class refused; so is a process without a file for another connection,
// class no_open_files.
func Outcome(resp *http.Response, err error) breaker.Outcome {
	switch {
	case errors.Is(err, context.Canceled):
		return ignored("cancelled")
	case err != nil:
		return errorOutcome(context.Background(), err)
	case resp == nil: // as no RoundTripper may answer
		return breaker.Outcome{Kind: breaker.Failure, Class: "no_response"}
	}
	return Statuses{}.outcome(resp)
}

// outcome is the outcome of a response's header.
func (s Statuses) outcome(resp *http.Response) breaker.Outcome {
	class := "http_" + strconv.Itoa(resp.StatusCode)
	switch s.kind(resp.StatusCode) {
	case breaker.Failure:
		return breaker.Outcome{Kind: breaker.Failure, Class: class, RetryAfter: retryAfter(resp.Header, time.Now())}
	case breaker.Ignored:
		return ignored(class)
	default:
		return breaker.Outcome{Kind: breaker.Success}
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
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE): // this process, or its host, has no file left
		return ignored("no_open_files")
	case timeoutClass(err) != "":
		o.Class = timeoutClass(err)
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
	if wait, ok := decimal(h.Get("Retry-After-Ms"), time.Millisecond); ok { // as some LLM providers send beside the other
		return wait
	}
	text := strings.TrimSpace(h.Get("Retry-After"))
	if wait, ok := decimal(text, time.Second); ok {
		return wait
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

// decimal parses a number of units, such as 90 or 90.5, and rounds it up to a whole one.
func decimal(text string, unit time.Duration) (d time.Duration, ok bool) {
	whole, fraction, dot := strings.Cut(strings.TrimSpace(text), ".")
	if !isDigits(whole) || dot && !isDigits(fraction) {
		return 0, false
	}
	n, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || n >= int64(breaker.MaxDuration/unit) { // more digits than an int64 has
		return breaker.MaxDuration, true
	}
	if strings.Trim(fraction, "0") != "" {
		n++
	}
	return time.Duration(n) * unit, true
}

func isDigits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

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
