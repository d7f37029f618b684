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

	mu    sync.Mutex
	timer *time.Timer          // runs while the agent is waited for, and nothing is owed to it
	waits bool                 // for the header, or for more of the body
	owing map[*uploadPart]bool // those whose Read waits for the caller: until it returns, the agent may have nothing to answer to
}

// newPatience begins with the wait for the header.
func newPatience(ctx context.Context, agent string, limit time.Duration) (context.Context, *patience) {
	p := &patience{limit: limit, over: &TimeoutError{Agent: agent, After: limit}, waits: true, owing: map[*uploadPart]bool{}}
	ctx, p.cancel = context.WithCancel(ctx)
	p.timer = time.AfterFunc(limit, func() {
		p.ranOut.Store(true)
		p.cancel()
	})
	return ctx, p
}

// wait begins a wait for the agent.
func (p *patience) wait() { p.turn(func() { p.waits = true }) }

// rest ends it: what was waited for is there.
func (p *patience) rest() { p.turn(func() { p.waits = false }) }

// owe says that the upload waits for the caller; paid, that it does so no more.
func (p *patience) owe(r *uploadPart) {
	p.turn(func() {
		if !r.closed.Load() { // Base does not wait for it
			p.owing[r] = true
		}
	})
}

func (p *patience) paid(r *uploadPart) { p.turn(func() { delete(p.owing, r) }) }

// turn makes a change, after which the clock stands still or begins anew.
func (p *patience) turn(change func()) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	if p.waits && len(p.owing) == 0 {
		p.timer.Reset(p.limit)
	} else {
		p.timer.Stop()
	}
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
	r.u.patience.owe(r)
	n, err := r.ReadCloser.Read(p)
	r.u.patience.paid(r)
	if err != nil && err != io.EOF && !r.closed.Load() { // a Read after Close, which is Base's, says nothing of the caller
		r.u.failed.Store(true)
	}
	return n, err
}

// Close implements io.Closer.
func (r *uploadPart) Close() error {
	r.closed.Store(true)
	r.u.patience.paid(r) // now, for some bodies' Close waits for their Read
	return r.ReadCloser.Close()
}
