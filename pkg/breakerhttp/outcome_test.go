package breakerhttp_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breakerhttp"
)

// [B4]
func TestOutcome_OfStatuses(t *testing.T) {
	t.Parallel()
	for status := 100; status < 600; status++ {
		want := breaker.Outcome{Kind: breaker.Success}
		switch {
		case status == 408, status == 425, status == 429, status >= 500 && status != 501:
			want = breaker.Outcome{Kind: breaker.Failure, Class: fmt.Sprint("http_", status), RetryAfter: time.Second}
		case status >= 400:
			want = breaker.Outcome{Kind: breaker.Ignored, Class: fmt.Sprint("http_", status)}
		}
		got := breakerhttp.Outcome(&http.Response{StatusCode: status, Header: http.Header{"Retry-After": {"1"}}}, nil)
		if got != want {
			t.Errorf("%d: %+v, want %+v", status, got, want)
		}
	}
}

type waitError struct{}

func (waitError) Error() string             { return "slow down" }
func (waitError) RetryAfter() time.Duration { return time.Minute }

type ignoredError struct{}

func (ignoredError) Error() string          { return "my own fault" }
func (ignoredError) IgnoredByBreaker() bool { return true }

// [B4]
func TestOutcome_OfErrors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		want breaker.Outcome
	}{
		{context.Canceled, breaker.Outcome{Kind: breaker.Ignored, Class: "cancelled"}},
		{fmt.Errorf("call: %w", context.Canceled), breaker.Outcome{Kind: breaker.Ignored, Class: "cancelled"}},
		{context.DeadlineExceeded, breaker.Outcome{Kind: breaker.Failure, Class: "timeout"}},
		{os.ErrDeadlineExceeded, breaker.Outcome{Kind: breaker.Failure, Class: "timeout"}},
		{&net.DNSError{IsTimeout: true}, breaker.Outcome{Kind: breaker.Failure, Class: "timeout"}},
		{&net.OpError{Op: "dial", Err: &net.DNSError{}}, breaker.Outcome{Kind: breaker.Failure, Class: "dns_error"}},
		{&net.OpError{Op: "dial", Err: syscall.EMFILE}, breaker.Outcome{Kind: breaker.Ignored, Class: "no_open_files"}},
		{&net.OpError{Op: "dial", Err: io.EOF}, breaker.Outcome{Kind: breaker.Failure, Class: "connect_error"}},
		{&net.OpError{Op: "read", Err: errors.New("reset")}, breaker.Outcome{Kind: breaker.Failure, Class: "connection_error"}},
		{io.EOF, breaker.Outcome{Kind: breaker.Failure, Class: "connection_error"}},
		{io.ErrUnexpectedEOF, breaker.Outcome{Kind: breaker.Failure, Class: "connection_error"}},
		{&tls.CertificateVerificationError{}, breaker.Outcome{Kind: breaker.Failure, Class: "*tls.CertificateVerificationError"}},
		{ignoredError{}, breaker.Outcome{Kind: breaker.Ignored, Class: "cancelled"}},
		{waitError{}, breaker.Outcome{Kind: breaker.Failure, Class: "breakerhttp_test.waitError", RetryAfter: time.Minute}},
	} {
		if got := breakerhttp.Outcome(nil, c.err); got != c.want {
			t.Errorf("%v: %+v, want %+v", c.err, got, c.want)
		}
	}
}

// [B22]
func TestOutcome_ReadsRetryAfter(t *testing.T) {
	t.Parallel()
	const date = "Sun, 06 Nov 1994 08:49:37 GMT"
	for _, c := range []struct {
		text, date string
		want       time.Duration
	}{
		{"", "", 0},
		{"0", "", 0},
		{"120", "", 2 * time.Minute},
		{" 7 ", "", 7 * time.Second},
		{"-1", "", 0},
		{"+1", "", 0},
		{"90.5", "", 91 * time.Second}, // FIELD G14
		{"90.0", "", 90 * time.Second},
		{"0.001", "", time.Second},
		{"0.0", "", 0},
		{"86400", "", 24 * time.Hour},
		{"2592000.5", "", breaker.MaxDuration},
		{"1.5.5", "", 0},
		{"1.", "", 0},
		{".", "", 0},
		{"-1.5", "", 0},
		{"1,5", "", 0},
		{"5, 10", "", 0},
		{"0x10", "", 0},
		{"Inf", "", 0},
		{"1e3", "", 0},
		{"soon", "", 0},
		{"99999999", "", breaker.MaxDuration},
		{"99999999999999999999999999", "", breaker.MaxDuration},
		{"Sun, 06 Nov 1994 08:51:37 GMT", date, 2 * time.Minute},
		{"Sunday, 06-Nov-94 08:51:37 GMT", date, 2 * time.Minute},
		{"Sun Nov  6 08:51:37 1994", date, 2 * time.Minute},
		{"Sun, 06 Nov 1994 08:49:00 GMT", date, 0},
		{"Sun, 06 Nov 2094 08:49:00 GMT", date, breaker.MaxDuration},
		{"Sun, 06 Nov 1994 08:51:37 GMT", "", 0},        // long past on this machine's clock
		{"Sun, 06 Nov 1994 08:51:37 GMT", "garbage", 0}, // the same
	} {
		h := http.Header{"Retry-After": {c.text}, "Date": {c.date}}
		if got := breakerhttp.Outcome(&http.Response{StatusCode: http.StatusServiceUnavailable, Header: h}, nil).RetryAfter; got != c.want {
			t.Errorf("%q at %q: %s, want %s", c.text, c.date, got, c.want)
		}
	}
	h := http.Header{"Retry-After": {time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)}}
	if got := breakerhttp.Outcome(&http.Response{StatusCode: http.StatusServiceUnavailable, Header: h}, nil).RetryAfter; got < 59*time.Minute || got > time.Hour {
		t.Errorf("in an hour, without a Date: %s", got)
	}
}

// FIELD G14
func TestOutcome_ReadsRetryAfterMs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		ms, seconds string
		want        time.Duration
	}{
		{"1500", "", 1500 * time.Millisecond},
		{"1500", "2", 1500 * time.Millisecond},
		{"0.2", "", time.Millisecond},
		{"0", "2", 0},
		{"soon", "2", 2 * time.Second},
		{"-1", "2", 2 * time.Second},
		{"", "2", 2 * time.Second},
		{"99999999999999999999", "", breaker.MaxDuration},
	} {
		h := http.Header{"Retry-After-Ms": {c.ms}, "Retry-After": {c.seconds}}
		if got := breakerhttp.Outcome(&http.Response{StatusCode: http.StatusTooManyRequests, Header: h}, nil).RetryAfter; got != c.want {
			t.Errorf("%q ms, %q s: %s, want %s", c.ms, c.seconds, got, c.want)
		}
	}
}

func TestTransport_UpstreamWaitReachesBreaker(t *testing.T) {
	t.Parallel()
	srv := startAgent(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "1800")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	r := newOutbound(t, nil)
	for range 5 {
		_ = r.get(t, srv.URL).Body.Close()
	}
	_, err := r.client.Do(request(t.Context(), t, http.MethodGet, srv.URL)) //nolint:bodyclose // there is none
	var open *breaker.OpenError
	if !errors.As(err, &open) || open.RetryAfter() < 14*time.Minute || open.RetryAfter() > 15*time.Minute {
		t.Errorf("sixth call gave %v, want a refusal for the cap of a quarter of an hour", err)
	}
}

func TestInboundOutcome_OfStatuses(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]breaker.OutcomeKind{
		101: breaker.Success, 200: breaker.Success, 302: breaker.Success, 304: breaker.Success, 404: breaker.Success, 409: breaker.Success,
		410: breaker.Success, 412: breaker.Success, 400: breaker.Failure, 401: breaker.Failure, 403: breaker.Failure, 408: breaker.Failure,
		413: breaker.Failure, 422: breaker.Failure, 429: breaker.Failure, 500: breaker.Ignored, 503: breaker.Ignored,
	} {
		if got := breakerhttp.InboundOutcome(status); got.Kind != want || (got.Class == "") != (want == breaker.Success) {
			t.Errorf("%d: %+v, want %s", status, got, want)
		}
	}
}
