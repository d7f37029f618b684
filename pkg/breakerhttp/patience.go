package breakerhttp

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// patience ends a call whose agent lets its caller wait for too long, by ending the context of the request. A nil patience waits
// for ever.
type patience struct {
	limit  time.Duration
	over   *TimeoutError // what the caller is told then
	ranOut atomic.Bool
	cancel context.CancelFunc

	mu       sync.Mutex
	timer    *time.Timer
	answered bool // the header is there
}

// newPatience begins with the wait for the header.
func newPatience(ctx context.Context, agent string, limit time.Duration) (context.Context, *patience) {
	p := &patience{limit: limit, over: &TimeoutError{Agent: agent, After: limit}}
	ctx, p.cancel = context.WithCancel(ctx)
	p.timer = time.AfterFunc(limit, func() {
		p.ranOut.Store(true)
		p.cancel()
	})
	return ctx, p
}

// wait begins a wait for the agent, rest ends it.
func (p *patience) wait() {
	if p != nil {
		p.timer.Reset(p.limit)
	}
}

func (p *patience) rest() {
	if p != nil {
		p.timer.Stop()
	}
}

// atUpload lets turn, wait or rest, have its way while the header is still waited for: later the clock is the response's.
func (p *patience) atUpload(turn func(*patience)) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.answered {
		turn(p)
	}
}

// answer ends the wait for the header.
func (p *patience) answer() {
	p.atUpload(func(p *patience) {
		p.answered = true
		p.rest()
	})
}

// release gives the context back; what still hangs on it ends.
func (p *patience) release() {
	if p != nil {
		p.rest()
		p.cancel()
	}
}

// explain is the error of a call whose time has run out, in place of what came of that.
func (p *patience) explain(err error) error {
	if p != nil && p.ranOut.Load() {
		return p.over
	}
	return err
}

// isTimeout says that somebody's patience ran out: ours, the caller's deadline, or Base's.
func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &t) && t.Timeout()
}

// upload watches the request's body: a caller that cannot send it is not the agent's fault, nor is one that takes its time.
// A nil upload sends nothing.
type upload struct {
	patience *patience
	failed   atomic.Bool
}

func (u *upload) broke() bool { return u != nil && u.failed.Load() }

func (u *upload) part(r io.ReadCloser) io.ReadCloser { return &uploadPart{ReadCloser: r, u: u} }

// uploadPart is the request's body, as Base sends it for the first time or once more.
type uploadPart struct {
	io.ReadCloser

	u      *upload
	closed atomic.Bool
}

// Read implements io.Reader.
func (r *uploadPart) Read(p []byte) (int, error) {
	r.u.patience.atUpload((*patience).rest)
	n, err := r.ReadCloser.Read(p)
	r.u.patience.atUpload((*patience).wait)
	if err != nil && err != io.EOF && !r.closed.Load() { // a Read after Close, which is Base's, says nothing of the caller
		r.u.failed.Store(true)
	}
	return n, err
}

// Close implements io.Closer.
func (r *uploadPart) Close() error {
	r.closed.Store(true)
	return r.ReadCloser.Close()
}
