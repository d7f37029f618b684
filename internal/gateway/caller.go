package gateway

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/breakerd/breakerd/internal/framing"
	"github.com/breakerd/breakerd/internal/problem"
)

// patience bounds how long a caller may stall: while it sends its request, and while it reads the answer.
const patience = time.Minute

// The bounds of reading the rest of a small request before an answer of ours, so that its connection can be used again.
const (
	restBytes = 256 << 10
	restTime  = 100 * time.Millisecond
)

// grace bounds how long net/http waits, after the answer, for the rest of a request that nobody reads.
const grace = time.Second

// caller writes the answer. It does not wait for the rest of the request, over HTTP/1 or HTTP/2, but for a short moment
// before an answer of ours. A write that fails cancels the call: its caller has left.
type caller struct {
	http.ResponseWriter

	control *http.ResponseController
	cancel  context.CancelFunc
	upload  *upload // nil: the request has no body
	theirs  bool    // the answer is that of the agent, or of the API
	host    string  // the name that the caller has for this bridge
	refused string  // the error type of an answer of ours that has no Proxy-Status yet
}

// newCaller returns the writer of an answer, and the request with a body and a context that go with it. end releases
// both.
func newCaller(w http.ResponseWriter, r *http.Request) (c *caller, in *http.Request, end func()) {
	c = &caller{
		ResponseWriter: w, control: http.NewResponseController(w), refused: statusRequestError,
		host: cmp.Or(r.Header.Get("X-Forwarded-Host"), r.Host),
	}
	// The request that ErrorHandler gets has another body, and the response's request is not the caller's.
	ctx, cancel := context.WithCancel(context.WithValue(r.Context(), callerKey{}, c))
	c.cancel = cancel
	in = r.WithContext(ctx)
	if r.ContentLength != 0 {
		if r.ProtoMajor == 1 {
			_ = c.control.EnableFullDuplex() // else net/http reads the rest of the request before it writes the answer
		}
		c.upload = &upload{ReadCloser: r.Body, control: c.control, http1: r.ProtoMajor == 1}
		c.upload.short = r.ContentLength <= restBytes && r.Header.Get("Expect") == ""
		in.Body = c.upload
	}
	return c, in, func() {
		cancel()
		renameTrailers(c.Header(), c.theirs)
		c.deadline(patience) // for what net/http has buffered
		if c.upload != nil {
			c.linger()
			c.upload.leave()
		}
	}
}

type callerKey struct{}

// callerOf returns the caller of a request, or of one that was made of it.
func callerOf(r *http.Request) *caller {
	c, _ := r.Context().Value(callerKey{}).(*caller)
	return c
}

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
	switch {
	case status < http.StatusOK && status != http.StatusSwitchingProtocols: // the agent's
		renameHeaders(c.Header())
	case !c.theirs:
		c.own()
		fallthrough
	default:
		c.begin(status)
	}
	c.ResponseWriter.WriteHeader(status)
}

// pass prepares the header of an answer that is not ours.
func (c *caller) pass(resp *http.Response, at place) error {
	c.theirs = true
	at.rewrite(resp.Header, resp.Request.URL)
	renameHeaders(resp.Trailer)
	return nil
}

// own completes an answer of ours.
func (c *caller) own() {
	h := c.Header()
	if h.Get(proxyStatus) == "" && len(h[strings.ToLower(proxyStatus)]) == 0 {
		h.Set(proxyStatus, problem.ProxyStatusOf(c.refused))
	}
	if c.upload != nil {
		c.upload.finish()
	}
}

func (c *caller) begin(status int) {
	if c.upload == nil {
		return
	}
	if whole := c.upload.begin(); !whole && c.upload.http1 && status != http.StatusSwitchingProtocols {
		c.Header().Set("Connection", "close")
	}
}

// linger reads on after an answer over HTTP/2, whose stream net/http resets when the handler returns: some clients then
// drop the answer. It does not after an answer whose end only the end of the stream tells, as a trailer. Over HTTP/1
// package framing lingers.
func (c *caller) linger() {
	if c.upload.http1 || c.upload.ended.Load() || c.Header().Get("Content-Length") == "" || c.control.Flush() != nil {
		return
	}
	framing.Linger(c.upload.ReadCloser, c.control.SetReadDeadline)
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
// that it may pause for longer: it may wait for parts of the answer. Once the answer has ended, nobody reads on.
type upload struct {
	io.ReadCloser

	control *http.ResponseController
	http1   bool
	short   bool                  // it has restBytes at most if its length is known, and the caller sends it unasked
	ended   atomic.Bool           // it was read to its end
	closed  atomic.Bool           // by the transport to the agent
	broken  atomic.Pointer[error] // why it cannot be read

	reading sync.Mutex // held by who reads
	mu      sync.Mutex // guards phase, and what it says about the deadline
	phase   uploadPhase
}

type uploadPhase uint8

const (
	awaited  uploadPhase = iota // the answer has not begun
	answered                    // it has
	left                        // it has ended
)

// enter begins a phase, unless it or a later one has begun, with d for the next reads; 0: no bound.
func (u *upload) enter(p uploadPhase, d time.Duration) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.phase < p {
		u.phase = p
		if !u.ended.Load() {
			u.deadline(d)
		}
	}
}

// begin notes that the answer begins, and reports whether the body was read to its end.
func (u *upload) begin() (whole bool) {
	u.enter(answered, 0)
	return u.ended.Load()
}

// leave notes that the answer has ended, and ends a Read that waits: net/http would do so by the deadline too, and
// leave none for what it reads then.
func (u *upload) leave() {
	u.enter(left, -grace) // past
	u.reading.Lock()
	defer u.reading.Unlock()
	if !u.ended.Load() {
		u.deadline(grace)
	}
}

// finish reads the rest of a short body, if it has come.
func (u *upload) finish() {
	if !u.short || !u.http1 || u.ended.Load() {
		return
	}
	u.enter(answered, restTime)
	u.reading.Lock()
	defer u.reading.Unlock()
	_, err := io.CopyN(io.Discard, u.ReadCloser, restBytes+1)
	if errors.Is(err, io.EOF) {
		u.ended.Store(true)
	}
	u.deadline(0)
}

func (u *upload) deadline(d time.Duration) { _ = u.control.SetReadDeadline(after(d)) }

// Read implements [io.Reader].
func (u *upload) Read(b []byte) (int, error) {
	u.reading.Lock()
	defer u.reading.Unlock()
	if !u.mayRead() {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := u.ReadCloser.Read(b)
	switch {
	case errors.Is(err, io.EOF):
		u.ended.Store(true)
		u.deadline(0) // else net/http takes the time-out for the caller's leaving
	case err != nil && !errors.Is(err, http.ErrBodyReadAfterClose):
		u.broken.CompareAndSwap(nil, &err)
	case !u.http1:
		u.rest()
	}
	return n, err
}

// rest ends the bound of a Read that has returned. Over HTTP/2 a deadline that passes ends the body for good, even
// while nobody reads: an agent may take its time for what it has.
func (u *upload) rest() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.phase == awaited {
		u.deadline(0)
	}
}

func (u *upload) mayRead() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.phase == awaited {
		u.deadline(patience)
	}
	return u.phase != left && !u.closed.Load()
}

// Close implements [io.Closer]. net/http closes its body itself, and waits for the rest of it.
func (u *upload) Close() error {
	u.closed.Store(true)
	return nil
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
