package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
)

const (
	maxRounds  = 3 // through all servers
	firstPause = 100 * time.Millisecond
	maxPause   = 5 * time.Second  // between rounds
	maxWait    = 30 * time.Second // for a Retry-After; one that is longer is the caller's to wait for
	maxSeconds = 1 << 30          // of a Retry-After
	maxAnswer  = 64 << 20         // bytes
)

// call is one request of an operation.
type call struct {
	method, path string
	query        query
	header       [][2]string
	in           any // of the body; nil: none
	upload       *upload

	repeatable bool // a second execution changes nothing
	change     bool // Options.Actor makes it
	alone      bool // asks how one server is: it is sent once, and a 503 may be the answer
	endless    bool // Options.Timeout does not bound it
}

// upload is a body that is no JSON. Each attempt reads it from its beginning.
type upload struct {
	kind string
	file io.ReaderAt
	size int64
}

// query are parameters of a query.
type query struct{ url.Values }

// add adds values of a parameter, but for empty ones.
func (q *query) add(name string, values ...string) {
	for _, v := range values {
		if v == "" {
			continue
		}
		if q.Values == nil {
			q.Values = url.Values{}
		}
		q.Add(name, v)
	}
}

func get(path ...string) call {
	return call{method: http.MethodGet, path: pathOf(path), repeatable: true}
}

func post(in any, path ...string) call {
	return call{method: http.MethodPost, path: pathOf(path), in: in}
}

func put(in any, path ...string) call {
	return call{method: http.MethodPut, path: pathOf(path), in: in, change: true}
}

func remove(path ...string) call {
	return call{method: http.MethodDelete, path: pathOf(path), change: true}
}

// by has Options.Actor make the change.
func (c call) by() call {
	c.change = true
	return c
}

// with adds a header that is not "".
func (c call) with(name, value string) call {
	if value != "" {
		c.header = append(c.header, [2]string{name, value})
	}
	return c
}

// pathOf joins what is fixed, in even places, and names, which are escaped.
func pathOf(parts []string) string {
	var out strings.Builder
	for i, p := range parts {
		if i%2 == 1 {
			p = url.PathEscape(p)
		}
		out.WriteString(p)
	}
	return out.String()
}

func (c call) String() string { return c.method + " " + c.path }

// answer is a success.
type answer struct {
	http.Header

	body []byte
}

// do sends a request, as often as its kind allows, and decodes the answer into out, unless that is nil.
func (a api) do(ctx context.Context, c call, out any) (answer, error) {
	var body []byte
	if c.in != nil {
		var err error
		if body, err = json.Marshal(c.in); err != nil {
			return answer{}, fmt.Errorf("%s: %w", c, err)
		}
	}
	return retry(ctx, a.connection, c, func(server string) (got answer, err error) {
		timed, cancel := ctx, context.CancelFunc(func() {})
		if !c.endless {
			timed, cancel = context.WithTimeoutCause(ctx, a.timeout, a.late())
		}
		defer cancel()
		res, err := a.send(timed, server, c, body)
		if err != nil {
			return got, err
		}
		defer func() { _ = res.Body.Close() }()
		got = answer{Header: res.Header}
		if got.body, err = io.ReadAll(io.LimitReader(res.Body, maxAnswer+1)); err != nil {
			return got, &lostError{err: cause(timed, err), sent: true}
		}
		switch {
		case len(got.body) > maxAnswer:
			return got, fmt.Errorf("the answer is longer than %d bytes", maxAnswer)
		case !c.success(res):
			return got, newError(c.String(), res, got.body)
		case out == nil:
			return got, nil
		}
		if err = decode(got.body, out); err != nil {
			return got, fmt.Errorf("the answer cannot be read: %w", err)
		}
		return got, nil
	})
}

// late is why a request is given up.
func (c *connection) late() error {
	return fmt.Errorf("no answer within %v: %w", c.timeout, context.DeadlineExceeded)
}

func (c call) success(res *http.Response) bool {
	if c.alone && res.StatusCode == http.StatusServiceUnavailable {
		kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
		return kind == "application/json"
	}
	return res.StatusCode >= 200 && res.StatusCode < 300
}

func isJSON(res *http.Response) bool {
	kind, _, err := mime.ParseMediaType(res.Header.Get("Content-Type"))
	return err == nil && (kind == "application/json" || kind == "application/problem+json")
}

// decode passes over fields that it does not know: a newer server has more.
func decode(body []byte, out any) error { return json.Unmarshal(body, out) }

// lostError is a request without a whole answer.
type lostError struct {
	err  error
	sent bool // a server may have got it
}

func (e *lostError) Error() string { return e.err.Error() }
func (e *lostError) Unwrap() error { return e.err }

// Is reports whether target is ErrUnreachable: nobody answered.
func (e *lostError) Is(target error) bool { return target == ErrUnreachable }

// cause says why a request ended: a context's error says less than its cause.
func cause(ctx context.Context, err error) error {
	if why := context.Cause(ctx); why != nil {
		return why
	}
	if u, ok := errors.AsType[*url.Error](err); ok { // it says what was asked, as we do
		return u.Err
	}
	return err
}

// send sends a request to one server. Its error is a *lostError, or one of this side.
func (a api) send(ctx context.Context, server string, c call, body []byte) (*http.Response, error) {
	token, err := a.token.read()
	if err != nil {
		return nil, err
	}
	// net/http sends a request again by itself, which begins with another connection, only if none of it was sent before,
	// or it is a GET or has an idempotency key.
	var sent atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { sent.Store(false) },
		GotConn: func(httptrace.GotConnInfo) { sent.Store(true) },
	})
	address := server + c.path
	if len(c.query.Values) > 0 {
		address += "?" + c.query.Encode()
	}
	var in io.Reader
	if c.in != nil {
		in = bytes.NewReader(body)
	}
	if c.upload != nil && c.upload.file != nil {
		in = io.NewSectionReader(c.upload.file, 0, c.upload.size)
	}
	r, err := http.NewRequestWithContext(ctx, c.method, address, in)
	if err != nil {
		return nil, err
	}
	a.dress(r, c, token)
	res, err := a.http.Do(r)
	if err != nil {
		return nil, &lostError{err: fmt.Errorf("%s: %w", server, cause(ctx, err)), sent: sent.Load()}
	}
	return res, nil
}

func (a api) dress(r *http.Request, c call, token string) {
	if c.in != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if c.upload != nil {
		r.ContentLength = c.upload.size
		r.Header.Set("Content-Type", c.upload.kind)
	}
	r.Header.Set("User-Agent", a.userAgent)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if c.change && a.actor != "" {
		r.Header.Set("X-Actor", a.actor)
	}
	for _, h := range c.header {
		r.Header.Set(h[0], h[1])
	}
}

// rounds pauses after each round through the servers.
type rounds struct {
	*backoff.ExponentialBackOff

	servers, tried int
}

func (r *rounds) NextBackOff() time.Duration {
	if r.complete() {
		return r.ExponentialBackOff.NextBackOff()
	}
	return 0
}

func (r *rounds) complete() bool { return r.tried%r.servers == 0 }

func newPause(first, most time.Duration) *backoff.ExponentialBackOff {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = first, most
	return pause
}

// retry calls try with one server after the other, beginning with the one that answered last, until it succeeds, or
// trying again is not allowed.
func retry[T any](ctx context.Context, to *connection, c call, try func(server string) (T, error)) (out T, err error) {
	r := &rounds{ExponentialBackOff: newPause(firstPause, maxPause), servers: len(to.servers)}
	var last error
	out, err = backoff.Retry(ctx, func() (T, error) {
		current := to.current.Load()
		got, err := try(to.servers[int(current)%len(to.servers)])
		r.tried++
		again, wait := c.again(err)
		last = c.told(err)
		if err == nil || c.alone {
			return got, permanent(last)
		}
		if _, lost := errors.AsType[*lostError](err); lost || again {
			to.current.CompareAndSwap(current, current+1) // also for the next call: this server may hang
		}
		deadline, bounded := ctx.Deadline()
		switch {
		case !again, ctx.Err() != nil, wait > maxWait, bounded && time.Until(deadline) < wait:
			return got, permanent(last)
		case wait > 0 && r.complete():
			return got, &backoff.RetryAfterError{Duration: wait}
		}
		return got, last
	}, backoff.WithBackOff(r), backoff.WithMaxTries(uint(maxRounds*len(to.servers))), backoff.WithMaxElapsedTime(0))
	switch over := ctx.Err(); {
	case err == nil || last == nil:
		return out, err
	case over != nil && !errors.Is(last, over):
		return out, fmt.Errorf("%w: %w", last, over)
	}
	return out, last // it tells more than that the time is up
}

func permanent(err error) error {
	if err == nil {
		return nil
	}
	return backoff.Permanent(err)
}

// again says whether a request that ended so may be sent again, and how long to wait if every server ended it so.
func (c call) again(err error) (again bool, wait time.Duration) {
	if lost, ok := errors.AsType[*lostError](err); ok {
		return !lost.sent || c.repeatable, 0
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.nothingDone() || c.repeatable && e.passing(), e.RetryAfter
	}
	return false, 0
}

// told is the error as the caller gets it.
func (c call) told(err error) error {
	lost, isLost := errors.AsType[*lostError](err)
	_, answered := errors.AsType[*Error](err)
	switch {
	case err == nil, answered:
		return err
	case isLost && lost.sent && !c.repeatable:
		err = fmt.Errorf("%w: %w", ErrUnknown, lost.err)
	}
	return fmt.Errorf("%s: %w", c, err)
}
