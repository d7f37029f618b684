package gateway

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/breakerd/breakerd/internal/problem"
)

// patience bounds how long a caller may stall: while it sends its request, and while it reads the answer.
const patience = time.Minute

// caller writes the answer. It does not wait for the rest of the request, over HTTP/1 or HTTP/2. A write that fails
// cancels the call: its caller has left.
type caller struct {
	http.ResponseWriter

	control *http.ResponseController
	cancel  context.CancelFunc
	upload  *upload // nil: the request has no body
}

// newCaller returns the writer of an answer, and the request with a body and a context that go with it. end releases
// both.
func newCaller(w http.ResponseWriter, r *http.Request) (c *caller, in *http.Request, end func()) {
	ctx, cancel := context.WithCancel(r.Context())
	c = &caller{ResponseWriter: w, control: http.NewResponseController(w), cancel: cancel}
	if r.ContentLength != 0 {
		if r.ProtoMajor == 1 {
			_ = c.control.EnableFullDuplex() // else net/http reads the rest of the request before it writes the answer
		}
		c.upload = &upload{ReadCloser: r.Body, control: c.control, http1: r.ProtoMajor == 1}
		ctx = context.WithValue(ctx, uploadKey{}, c.upload) // the request that ErrorHandler gets has another body
	}
	in = r.WithContext(ctx)
	if c.upload != nil {
		in.Body = c.upload
	}
	return c, in, func() {
		cancel()
		c.deadline(patience) // for what net/http has buffered
	}
}

type uploadKey struct{}

// deadline bounds the next write; 0: no bound. The error is of a writer without deadlines, in a test.
func (c *caller) deadline(d time.Duration) { _ = c.control.SetWriteDeadline(after(d)) }

func after(d time.Duration) time.Time {
	if d == 0 {
		return time.Time{}
	}
	return time.Now().Add(d)
}

// WriteHeader implements [http.ResponseWriter]. An HTTP/1 connection cannot be used again if the request is not read
// to its end.
func (c *caller) WriteHeader(status int) {
	if c.upload != nil && (status >= http.StatusOK || status == http.StatusSwitchingProtocols) {
		if whole := c.upload.begin(); !whole && c.upload.http1 && status != http.StatusSwitchingProtocols {
			c.Header().Set("Connection", "close")
		}
	}
	c.ResponseWriter.WriteHeader(status)
}

// Write implements [http.ResponseWriter].
func (c *caller) Write(b []byte) (int, error) {
	c.deadline(patience)
	n, err := c.ResponseWriter.Write(b)
	c.deadline(0)
	if err != nil {
		c.cancel()
	}
	return n, err
}

// FlushError serves [http.ResponseController].
func (c *caller) FlushError() error {
	c.deadline(patience)
	err := c.control.Flush()
	c.deadline(0)
	if err != nil {
		c.cancel()
	}
	return err
}

// Unwrap serves [http.ResponseController].
func (c *caller) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// upload is the body of the caller's request. Until the answer begins, the caller may pause for patience at most. After
// that it may pause for longer: it may wait for parts of the answer.
type upload struct {
	io.ReadCloser

	control  *http.ResponseController
	http1    bool
	ended    atomic.Bool
	answered atomic.Bool
	broken   atomic.Pointer[error] // why it cannot be read
}

// begin notes that the answer begins, and reports whether the body was read to its end.
func (u *upload) begin() (whole bool) {
	if !u.answered.Swap(true) && !u.ended.Load() {
		u.deadline(0)
	}
	return u.ended.Load()
}

func (u *upload) deadline(d time.Duration) { _ = u.control.SetReadDeadline(after(d)) }

// Read implements [io.Reader].
func (u *upload) Read(b []byte) (int, error) {
	if !u.answered.Load() {
		u.deadline(patience)
	}
	n, err := u.ReadCloser.Read(b)
	switch {
	case errors.Is(err, io.EOF):
		u.ended.Store(true)
		u.deadline(0) // else net/http takes the time-out for the caller's leaving
	case err != nil && !errors.Is(err, http.ErrBodyReadAfterClose):
		u.broken.CompareAndSwap(nil, &err)
	}
	return n, err
}

// problem returns why the body cannot be read to its end, nil if it can.
func (u *upload) problem() *problem.Problem {
	err := u.broken.Load()
	switch {
	case err == nil:
		return nil
	case errors.Is(*err, os.ErrDeadlineExceeded):
		return problem.New(problem.RequestTimeout, "the rest of the request did not come within %s", patience)
	default:
		return problem.New(problem.InvalidBody, "the request's body cannot be read to its end")
	}
}
