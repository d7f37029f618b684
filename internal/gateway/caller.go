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

// patience bounds how long a caller may neither send the request that it has begun, nor take the answer that is there for it.
const patience = time.Minute

// caller is the one who asks, as the writer of the answer. An answer does not wait for the rest of the request, over HTTP/1 as
// little as over HTTP/2; a caller who cannot be written to has gone, and the call counts as cancelled.
type caller struct {
	http.ResponseWriter

	control *http.ResponseController
	gone    context.CancelFunc
	upload  *upload // nil: nothing comes
}

// newCaller gives the writer of an answer, and the request with what it must be read by. end is called when all is done.
func newCaller(w http.ResponseWriter, r *http.Request) (c *caller, in *http.Request, end func()) {
	ctx, cancel := context.WithCancel(r.Context())
	c = &caller{ResponseWriter: w, control: http.NewResponseController(w), gone: cancel}
	if r.ContentLength != 0 {
		if r.ProtoMajor == 1 {
			_ = c.control.EnableFullDuplex() // or net/http reads what is left of the request before it writes the answer
		}
		c.upload = &upload{ReadCloser: r.Body, control: c.control, http1: r.ProtoMajor == 1}
		ctx = context.WithValue(ctx, uploadKey{}, c.upload) // ReverseProxy shows its ErrorHandler another body
	}
	in = r.WithContext(ctx)
	if c.upload != nil {
		in.Body = c.upload
	}
	return c, in, func() {
		cancel()
		c.deadline(patience) // for what is still in a buffer
	}
}

type uploadKey struct{}

// deadline bounds writing; 0: no bound. A writer that has none is a test's.
func (c *caller) deadline(d time.Duration) { _ = c.control.SetWriteDeadline(after(d)) }

func after(d time.Duration) time.Time {
	if d == 0 {
		return time.Time{}
	}
	return time.Now().Add(d)
}

// WriteHeader implements http.ResponseWriter. An HTTP/1 connection whose request is not read to its end serves no other.
func (c *caller) WriteHeader(status int) {
	if c.upload != nil && (status >= http.StatusOK || status == http.StatusSwitchingProtocols) {
		if whole := c.upload.begin(); !whole && c.upload.http1 && status != http.StatusSwitchingProtocols {
			c.Header().Set("Connection", "close")
		}
	}
	c.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (c *caller) Write(b []byte) (int, error) {
	c.deadline(patience)
	n, err := c.ResponseWriter.Write(b)
	c.deadline(0)
	if err != nil {
		c.gone()
	}
	return n, err
}

// FlushError is what http.ResponseController looks for.
func (c *caller) FlushError() error {
	c.deadline(patience)
	err := c.control.Flush()
	c.deadline(0)
	if err != nil {
		c.gone()
	}
	return err
}

// Unwrap lets http.ResponseController reach the connection.
func (c *caller) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// upload is the caller's request as it comes. Until the answer begins the caller must not be silent for longer than patience;
// from then on it may, for the two may be talking.
type upload struct {
	io.ReadCloser

	control  *http.ResponseController
	http1    bool
	ended    atomic.Bool
	answered atomic.Bool
	broken   atomic.Pointer[error] // why it cannot be read; nil: it can
}

// begin notes that the answer begins, and says whether the request has been read to its end.
func (u *upload) begin() (whole bool) {
	if !u.answered.Swap(true) && !u.ended.Load() {
		u.deadline(0)
	}
	return u.ended.Load()
}

func (u *upload) deadline(d time.Duration) { _ = u.control.SetReadDeadline(after(d)) }

// Read implements io.Reader.
func (u *upload) Read(b []byte) (int, error) {
	if !u.answered.Load() {
		u.deadline(patience)
	}
	n, err := u.ReadCloser.Read(b)
	switch {
	case errors.Is(err, io.EOF):
		u.ended.Store(true)
		u.deadline(0) // or net/http, which listens for the caller's leaving, would take the time-out for that
	case err != nil && !errors.Is(err, http.ErrBodyReadAfterClose):
		u.broken.CompareAndSwap(nil, &err)
	}
	return n, err
}

// problem is why the caller's request cannot be passed on; nil: it can, or there is none.
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
