package breakerhttp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// timeoutError says that an agent kept its caller waiting for longer than Transport.Timeout.
type timeoutError struct {
	agent string
	after time.Duration
}

func (e *timeoutError) Error() string {
	return fmt.Sprintf("agent %q sent nothing for %s", e.agent, e.after)
}

// Timeout makes it a net.Error's time-out.
func (*timeoutError) Timeout() bool { return true }

// Is makes it a context.DeadlineExceeded.
func (*timeoutError) Is(target error) bool { return target == context.DeadlineExceeded }

// isTimeout says that a time-out caused err: ours, the caller's deadline, or one of Base.
func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &t) && t.Timeout()
}

// timeout cancels a request whose agent keeps its caller waiting for longer than limit. A nil timeout never does.
//
// Its clock runs while the caller waits for the agent, unless the agent waits for the caller: as long as a Read of the
// request's body has not returned, the agent may have nothing to answer to.
type timeout struct {
	limit   time.Duration
	err     *timeoutError
	expired atomic.Bool
	cancel  context.CancelFunc

	mu      sync.Mutex
	timer   *time.Timer
	waiting bool                  // for the header, or for more of the body
	reading map[*watchedBody]bool // request bodies in which a Read waits
}

// startTimeout begins with the wait for the header.
func startTimeout(ctx context.Context, agent string, limit time.Duration) (context.Context, *timeout) {
	t := &timeout{
		limit: limit, err: &timeoutError{agent, limit}, waiting: true, reading: map[*watchedBody]bool{},
	}
	ctx, t.cancel = context.WithCancel(ctx)
	t.timer = time.AfterFunc(limit, func() {
		t.expired.Store(true)
		t.cancel()
	})
	return ctx, t
}

// start says that the caller waits for the agent, stop that it no longer does.
func (t *timeout) start() { t.update(func() { t.waiting = true }) }
func (t *timeout) stop()  { t.update(func() { t.waiting = false }) }

// beginRead says that a Read of b waits for the caller, endRead that it no longer does.
func (t *timeout) beginRead(b *watchedBody) {
	t.update(func() {
		if !b.closed.Load() { // Base does not wait for a Read after Close
			t.reading[b] = true
		}
	})
}
func (t *timeout) endRead(b *watchedBody) { t.update(func() { delete(t.reading, b) }) }

// update makes a change, after which the clock starts again from zero, or stops.
func (t *timeout) update(change func()) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	change()
	if t.waiting && len(t.reading) == 0 {
		t.timer.Reset(t.limit)
	} else {
		t.timer.Stop()
	}
}

// release ends the context, and with it all that still depends on it.
func (t *timeout) release() {
	if t != nil {
		t.stop()
		t.cancel()
	}
}

// explain replaces the error that the expired timeout has caused.
func (t *timeout) explain(err error) error {
	if t != nil && t.expired.Load() {
		return t.err
	}
	return err
}

// upload watches the sending of a request's body: a caller that fails to send it, or takes its time, is not the agent's
// fault. A nil upload sends nothing.
type upload struct {
	timeout *timeout
	failed  atomic.Bool
}

func (u *upload) broke() bool { return u != nil && u.failed.Load() }

func (u *upload) watch(r io.ReadCloser) io.ReadCloser { return &watchedBody{ReadCloser: r, u: u} }

// watchedBody is the request's body as Base sends it, for the first time or again.
type watchedBody struct {
	io.ReadCloser

	u      *upload
	closed atomic.Bool
}

// Read implements io.Reader.
func (b *watchedBody) Read(p []byte) (int, error) {
	b.u.timeout.beginRead(b)
	n, err := b.ReadCloser.Read(p)
	b.u.timeout.endRead(b)
	if err != nil && err != io.EOF && !b.closed.Load() { // after Close, the caller is not to blame
		b.u.failed.Store(true)
	}
	return n, err
}

// Close implements io.Closer.
func (b *watchedBody) Close() error {
	b.closed.Store(true)
	b.u.timeout.endRead(b) // first, because the Close of some bodies waits for their Read
	return b.ReadCloser.Close()
}
